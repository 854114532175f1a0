"""The words of a message, as a filter that learns from mail looks at them.

Knows what of the header, the text and the links tells spam from other mail, and the bounds. Does not know what was
learned. What filters and mail servers write into the header is left out: it would be learned in place of the mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from inboundmx.model.message import Field
from inboundmx.policy.encoded_words import decoded
from inboundmx.policy.mime import Walked
from inboundmx.policy.mime_text import Text

# Different words of one message; letters of text and of one field that are looked at, links, parts, and fields.
MOST = 1500
TEXT_LIMIT = 200_000
FIELD_LIMIT = 1000
LINKS_LIMIT = 100
PARTS_LIMIT = 50
FIELDS_LIMIT = 200
# A longer word is told by its beginning and about its length; a shorter one tells nothing.
SHORTEST, LONGEST = 3, 20

_WORD = re.compile(r"[^\W_][\w'\u2019$-]*+")
# Scripts without blanks between words: pairs of letters stand for words.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]{2,}"
)
_MONEY = re.compile(r"[$\u20ac\u00a3]\s?[0-9][0-9.,]{0,15}|[0-9]{1,3}%|!{2,}")
_HOST = re.compile(r"(?:https?|ftp):[/\\]{1,3}([^/\\?#\s]{1,255})([^?#\s]{0,200})|()(mailto|cid|data):?", re.IGNORECASE)
_PIECES = re.compile(r"[A-Za-z0-9]{3,30}")
_ADDRESS = re.compile(r"([^\s<>@,;:\"]{1,64})@([A-Za-z0-9.-]{1,255})")
# Fields whose words count, by the letter that marks them.
_WORDED = {
    "subject": "s", "from": "f", "reply-to": "r", "x-mailer": "m", "user-agent": "m", "organization": "o",
    "list-id": "l", "content-type": "c", "x-priority": "x", "importance": "x", "precedence": "x", "mime-version": "v",
}  # fmt: skip
_ADDRESSED = frozenset({"from", "reply-to"})
# Fields that tell something by being there.
_TELLING = frozenset(
    {
        "in-reply-to",
        "references",
        "list-unsubscribe",
        "list-post",
        "sender",
        "cc",
        "errors-to",
        "x-mimeole",
        "thread-index",
    }
    | {
        "x-msmail-priority",
        "content-language",
        "disposition-notification-to",
        "dkim-signature",
        "autocrypt",
        "to",
        "date",
    }
)


def tokens(fields: Iterable[Field], walked: Walked, text: Text) -> tuple[str, ...]:
    """Each once, at most MOST: those of the header first, then links, then the text in its order. Raises nothing."""
    found: dict[str, None] = {}
    for token in _all(fields, walked, text):
        found[token] = None
        if len(found) == MOST:
            break
    return tuple(found)


def _all(fields: Iterable[Field], walked: Walked, text: Text) -> Iterator[str]:
    yield from _header(fields)
    for part in walked.parts[:PARTS_LIMIT]:
        yield f"p:{part.type}"
        if part.name:
            yield f"n:{part.name.rpartition('.')[2][:10].lower()}"
    for link in text.links[:LINKS_LIMIT]:
        yield from _of_link(link.href)
    plain = text.plain[:TEXT_LIMIT]
    yield from _words("", plain)
    for money in _MONEY.findall(plain):
        yield "$:" + money[:1] + str(len(money))


def _header(fields: Iterable[Field]) -> Iterator[str]:
    for number, field in enumerate(fields):
        if number == FIELDS_LIMIT:
            break
        name = field.name
        if name in _TELLING:
            yield f"h:{name}"
            continue
        mark = _WORDED.get(name)
        if mark is None:
            continue
        value = decoded(field.value[:FIELD_LIMIT].replace(b"\r\n", b"").decode("utf-8", "replace"))
        if name in _ADDRESSED:
            for local, domain in _ADDRESS.findall(value)[:5]:
                yield f"{mark}@{domain.lower()}"
                yield f"{mark}@{local.lower()}@{domain.lower()}"
        if name == "subject":
            letters = [sign for sign in value if sign.isalpha()]
            if len(letters) > 5 and sum(map(str.isupper, letters)) * 2 > len(letters):
                yield "s:loud"
        elif name == "content-type":
            # A boundary is new each time.
            value = value.partition("boundary")[0]
        yield from _words(f"{mark}:", value)


def _words(mark: str, text: str) -> Iterator[str]:
    for word in _WORD.findall(text):
        length = len(word)
        if length < SHORTEST:
            continue
        if length > LONGEST:
            if not word.isascii() and (runs := _UNSPACED.findall(word[:500])):
                for run in runs:
                    yield from (f"{mark}{run[at : at + 2]}" for at in range(len(run) - 1))
            else:
                yield f"{mark}long:{word[0].lower()}{length // 10}"
        else:
            yield mark + word.lower()
            if not word.isascii():
                for run in _UNSPACED.findall(word):
                    yield from (f"{mark}{run[at : at + 2]}" for at in range(len(run) - 1))


def _of_link(href: str) -> Iterator[str]:
    found = _HOST.match(href)
    if found is None:
        return
    host, path = found[1], found[2]
    if not host:
        yield f"u:{found[4].lower()}"
        return
    host = host.rpartition("@")[2].lower()
    labels = host.split(".")
    for depth in range(2, min(len(labels), 5) + 1):
        yield "u:" + ".".join(labels[-depth:])
    if host.replace(".", "").replace(":", "").isdigit():
        yield "u:address"
    for piece in _PIECES.findall(path or "")[:10]:
        yield "u/" + piece.lower()
