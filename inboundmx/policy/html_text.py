"""What a browser would show of HTML, and where its links lead: by the rules of HTML for broken documents, in one pass.

Knows tags, comments, entities and what is hidden. Does not know mail. Whatever the text is, nothing is raised, and the
work grows with its length alone: every search begins where the last one ended, and what has no end ends the reading.
"""

from __future__ import annotations

import html
import re
from html.entities import html5
from typing import NamedTuple

# A letter begins a tag, "!" or "?" or "/" something that is never shown; any other "<" is text.
_OPEN = re.compile(r"<(?:(!--)|([!?]|/[^a-zA-Z])|(/?)([a-zA-Z][^\s/>]*+))")
_ATTRIBUTES = re.compile(r"""(?:[\s/]++|[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>]*+))?+)*+(>?)""")
_ATTRIBUTE = re.compile(r"""([^\s/>=][^\s/>=]*+)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+))""")
_COMMENT_END = re.compile(r"--!?>")
# What follows these is no text of the page: it ends with the same name alone.
_UNSHOWN = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "template", "iframe", "noembed", "noframes")
}
# Between what stands on two sides of any other tag there is no blank.
_BLOCK = (
    "address article aside blockquote body br button caption center dd details dialog dir div dl dt fieldset figcaption"
    " figure footer form frame h1 h2 h3 h4 h5 h6 head header hr html iframe img input legend li main map menu nav ol"
    " optgroup option p pre section select summary table tbody td textarea tfoot th thead title tr ul"
)
_BLOCKS = frozenset(_BLOCK.split())
_NEVER_CLOSED = frozenset(["area", "base", "br", "col", "embed", "frame", "hr", "img", "input", "link", "meta", "wbr"])
_LINKING = ("href", "src", "action", "formaction", "background", "data")
_HIDING = re.compile(
    r"(?:^|;)\s*+(?:display\s*+:\s*+none|visibility\s*+:\s*+hidden|font-size\s*+:\s*+0(?:\.0*+)?(?:px|pt|em|%)?\s*+(?:;|!|$)"
    r"|opacity\s*+:\s*+0(?:\.0*+)?\s*+(?:;|!|$)|mso-hide\s*+:\s*+all)"
)
_REFRESH = re.compile(r"url\s*+=\s*+[\"']?([^\"'\s;]++)", re.IGNORECASE)
_ENTITY = re.compile(
    r"&(?:#0*+([0-9]{1,7})(?![0-9]);?|#[xX]0*+([0-9a-fA-F]{1,6})(?![0-9a-fA-F]);?|[a-zA-Z][a-zA-Z0-9]{1,31};?)"
)
_ENDLESS = re.compile("|".join(sorted((name for name in html5 if not name.endswith(";")), key=len, reverse=True)))
_BLANKS_OF_LINKS = re.compile(r"[\t\r\n]")
# Letters of a link, of the text it is shown by, and of a tag that are kept: longer ones are cut.
LINK_LIMIT, SHOWN_LIMIT, TAG_LIMIT = 2000, 1000, 20_000


# Entities for each tag.
ENTITIES = 3


class Link(NamedTuple):
    """``href`` as a browser takes it, entities decoded; ``shown``: the text that is clicked, empty where there is
    none, as with pictures."""

    href: str
    shown: str


class Shown(NamedTuple):
    """``complete``: no bound ended the reading."""

    text: str
    links: tuple[Link, ...]
    complete: bool


def shown(source: str, tags: int, links: int) -> Shown:
    """Reads at most so many ``tags`` and ``links``, and what of entities there is in a page of so many tags."""
    pieces = source.split("&", ENTITIES * tags)
    within = len(pieces) <= ENTITIES * tags
    reading = _Reading(source if within else "&".join(pieces[:-1]), tags, links)
    reading.read()
    return Shown(without_entities("".join(reading.pieces)), tuple(reading.links), reading.complete and within)


def without_entities(text: str) -> str:
    return _ENTITY.sub(_letter, text) if "&" in text else text


def _letter(match: re.Match[str]) -> str:
    if match[1]:
        return html.unescape(f"&#{match[1]};")
    if match[2]:
        return html.unescape(f"&#x{match[2]};")
    name = match[0][1:]
    found = html5.get(name)
    if found is None:
        # Some are known without their end, whatever follows.
        known = _ENDLESS.match(name)
        return match[0] if known is None else html5[known[0]] + name[known.end() :]
    return found


class _Reading:
    __slots__ = ("anchor", "anchor_at", "complete", "deep", "hidden", "links", "most_links", "pieces", "source", "tags")

    def __init__(self, source: str, tags: int, links: int) -> None:
        self.source = source
        self.tags = tags
        self.most_links = links
        self.pieces: list[str] = []
        self.links: list[Link] = []
        self.complete = True
        # The link whose text is being read, and the piece that it begins with.
        self.anchor = ""
        self.anchor_at = 0
        # The name of an element that is not shown, and how many of that name are open within it.
        self.hidden = ""
        self.deep = 0

    def read(self) -> None:
        source, pieces = self.source, self.pieces
        at, end = 0, len(source)
        while at < end:
            found = _OPEN.search(source, at)
            start = end if found is None else found.start()
            if start > at and not self.hidden:
                pieces.append(source[at:start])
            if found is None:
                break
            self.tags -= 1
            if self.tags < 0:
                self.complete = False
                break
            comment, odd, slash, name = found.groups()
            at = found.end()
            if comment:
                # "<!-->" is a whole comment.
                at = at + 1 if source.startswith(">", at) else _after(_COMMENT_END, source, at)
            elif odd:
                at = source.find(">", at - 1) + 1 or end
            else:
                at = self._tag(name.lower(), bool(slash), at)
        self._close_anchor()

    def _tag(self, name: str, closing: bool, at: int) -> int:
        source = self.source
        if source.startswith(">", at):
            at, inside = at + 1, ""
        else:
            whole = _ATTRIBUTES.match(source, at)
            assert whole is not None
            inside, at = source[at : min(whole.end(), at + TAG_LIMIT)], whole.end()
        if name in _BLOCKS:
            self.pieces.append(" ")
        if closing:
            if name == "a":
                self._close_anchor()
            elif name == self.hidden:
                self.deep -= 1
                if not self.deep:
                    self.hidden = ""
            return at
        attributes = _attributes(inside) if "=" in inside else {}
        if attributes:
            self._links_of(name, attributes)
        if name == "a" and "href" in attributes:
            self._close_anchor()
            self.anchor, self.anchor_at = _link(attributes["href"]), len(self.pieces)
        if name in _UNSHOWN:
            ending = _UNSHOWN[name].search(source, at)
            return len(source) if ending is None else ending.start()
        if self.hidden:
            self.deep += name == self.hidden
        elif name not in _NEVER_CLOSED and (_hides(attributes) or ("hidden" in inside and _is_hidden(inside))):
            self.hidden, self.deep = name, 1
        return at

    def _links_of(self, name: str, attributes: dict[str, str]) -> None:
        for each in _LINKING:
            if each in attributes and not (name == "a" and each == "href"):
                self._keep(Link(_link(attributes[each]), ""))
        if name == "meta" and (refresh := _REFRESH.search(without_entities(attributes.get("content", "")))):
            self._keep(Link(_link(refresh[1]), ""))
        if name == "img" and attributes.get("alt") and not self.hidden:
            self.pieces.append(attributes["alt"])

    def _close_anchor(self) -> None:
        if self.anchor:
            text = without_entities("".join(self.pieces[self.anchor_at :]))
            self._keep(Link(self.anchor, " ".join(text[:SHOWN_LIMIT].split())))
            self.anchor = ""

    def _keep(self, link: Link) -> None:
        if len(self.links) < self.most_links:
            self.links.append(link)
        else:
            self.complete = False


def _after(ending: re.Pattern[str], source: str, at: int) -> int:
    found = ending.search(source, at)
    return len(source) if found is None else found.end()


def _attributes(inside: str) -> dict[str, str]:
    """The first of each name counts. Entities are not decoded."""
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(inside):
        found.setdefault(name.lower(), double or single or bare)
    return found


def _link(value: str) -> str:
    return _BLANKS_OF_LINKS.sub("", without_entities(value[: 4 * LINK_LIMIT])).strip(" \f\0")[:LINK_LIMIT]


def _hides(attributes: dict[str, str]) -> bool:
    style = attributes.get("style")
    return style is not None and _HIDING.search(without_entities(style).lower()) is not None


def _is_hidden(inside: str) -> bool:
    """Whether one of the attributes is ``hidden`` itself."""
    return re.search(r"(?:^|[\s/\"'])hidden(?:$|[\s/>=])", inside) is not None
