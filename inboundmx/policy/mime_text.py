"""What a reader of a message would see of it: its text, and its links with what they are shown by.

Knows which parts are read, and the bounds. Does not know what is looked for in them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from inboundmx.policy import html_text
from inboundmx.policy.encoded_words import text_of
from inboundmx.policy.html_text import LINK_LIMIT, Link
from inboundmx.policy.mime import Part, Walked, decoded

_HTML = frozenset({"text/html", "application/xhtml+xml"})
# Text that nobody reads as such.
_UNREAD = frozenset({"text/css", "text/javascript", "text/x-amp-html", "text/calendar", "text/vcard", "text/x-vcard"})
# What mail software makes a link of where it stands in text.
_BARE = re.compile(
    r"(?:(?:https?|ftp):[/\\]{2}|(?<![\w@.-])www[0-9]{0,3}\.)[^\s<>\"'`{}|\x00-\x20\x7f]++", re.IGNORECASE
)
# Signs behind a link that belong to the sentence.
_BEHIND = ".,;:!?)]}>\u2026\u201d\u2019"
# Take no room, and hide words from who looks for them.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)


class Bounds(NamedTuple):
    """``octets`` of all parts together that are read, ``tags`` of all their HTML, ``links`` that are kept."""

    octets: int = 512 * 1024
    tags: int = 50_000
    links: int = 1000


BOUNDS = Bounds()


class Text(NamedTuple):
    """``plain``: of all parts of text, as far as it is shown, in the order of the parts. ``links``: each pair once.
    ``complete``: no bound ended the reading."""

    plain: str
    links: tuple[Link, ...]
    complete: bool


def text(walked: Walked, bounds: Bounds = BOUNDS) -> Text:
    """Raises nothing."""
    octets, tags = bounds.octets, bounds.tags
    complete = walked.complete
    pieces: list[str] = []
    links: dict[Link, None] = {}
    for part in walked.parts:
        if part.container or not _is_read(part):
            continue
        if octets <= 0:
            complete = False
            break
        # Encoded text may be several times as long as what it says.
        most = part.start + 4 * octets
        content = decoded(part if part.end <= most else part._replace(end=most))
        complete = complete and len(content) <= octets and part.end <= most
        content = content[:octets]
        octets -= len(content)
        read = text_of(content, part.charset)
        if part.type in _HTML:
            page = html_text.shown(read, tags, bounds.links)
            # As many as it may have had: the next page begins with what is left.
            tags -= min(tags, read.count("<"))
            complete = complete and page.complete
            links.update(dict.fromkeys(page.links))
            read = page.text
        read = _INVISIBLE.sub("", read)
        for found in _BARE.finditer(read):
            links[Link(found[0][:LINK_LIMIT].rstrip(_BEHIND), "")] = None
            if len(links) > bounds.links:
                break
        pieces.append(read)
    complete = complete and len(links) <= bounds.links
    return Text("\n".join(pieces), tuple(links)[: bounds.links], complete)


def _is_read(part: Part) -> bool:
    return part.type in _HTML or (part.type.startswith("text/") and part.type not in _UNREAD)
