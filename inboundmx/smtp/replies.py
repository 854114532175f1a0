"""What a server answers, read as values (RFC 5321 4.2, RFC 2034).

Knows how replies look on the wire, how long they may get, and how a stranger's text is made harmless. Does not know
which command was answered, nor what becomes of a mail.
"""

from __future__ import annotations

import re
from functools import lru_cache

from inboundmx.model.reply import Reply

# RFC 5321 4.5.3.1.5 allows 512 octets a line; real servers write longer ones, nobody writes such as these.
LINE_LIMIT = 4096
LINES_LIMIT = 100
# What is kept of the words of a reply: one line that fits into a log, a header or a reply of ours.
TEXT_LIMIT = 400

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")
# Controls (CR and LF among them) become blanks, octets that are not ASCII question marks.
_HARMLESS = bytes(0x20 if octet < 0x20 or octet == 0x7F else octet if octet < 0x7F else 0x3F for octet in range(256))


class Garbage(Exception):
    """What was heard is no SMTP reply. The message is a short printable phrase that holds nothing of it."""


def harmless(octets: bytes, limit: int = TEXT_LIMIT) -> str:
    """One line of printable ASCII, single blanks, at most ``limit`` characters."""
    text = " ".join(octets[: 4 * limit].translate(_HARMLESS).decode("ascii").split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


class ReplyParser:
    """Octets in, replies out: ``feed``, then ``next`` until it returns None. Only CRLF ends a line; a lone CR or LF is
    a blank in the text. ``lines`` are the texts of the reply last returned, one for each line."""

    __slots__ = ("_buffer", "_code", "_texts", "lines")

    def __init__(self) -> None:
        self._buffer = b""
        self._code = b""
        self._texts: list[str] = []
        self.lines: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing was heard beyond the reply last returned."""
        return not self._buffer and not self._texts

    def feed(self, octets: bytes) -> None:
        self._buffer = self._buffer + octets if self._buffer else octets

    def next(self) -> Reply | None:
        """The next whole reply, or None until more is heard. Raises Garbage; then the parser is of no more use."""
        while True:
            line, end, rest = self._buffer.partition(b"\r\n")
            if len(line) > LINE_LIMIT:
                raise Garbage("a line without an end")
            if not end:
                return None
            self._buffer = rest
            match = _LINE.fullmatch(line)
            if match is None:
                raise Garbage("something that is no SMTP reply")
            code, mark, text = match.groups()
            if self._texts and code != self._code:
                raise Garbage("a reply whose lines have different codes")
            if mark == b"-":
                self._code = code
                self._texts.append(harmless(text))
                if len(self._texts) >= LINES_LIMIT:
                    raise Garbage("a reply of too many lines")
            elif self._texts:
                self.lines = (*self._texts, harmless(text or b""))
                self._texts = []
                return _joined(int(code), self.lines)
            else:
                reply = _single(code, text or b"")
                self.lines = (reply.text,)
                return reply


def _joined(code: int, lines: tuple[str, ...]) -> Reply:
    """Several lines as one reply of one line. Servers repeat the enhanced code on each."""
    enhanced, first = _split(code, lines[0])
    texts = [first]
    for line in lines[1:]:
        again, text = _split(code, line)
        texts.append(text if again == enhanced else line)
    return Reply(code, enhanced, harmless(" ".join(texts).encode("ascii")))


# The same few replies are heard all day; those that differ (queue ids) push each other out.
@lru_cache(maxsize=64)
def _single(code: bytes, octets: bytes) -> Reply:
    number = int(code)
    return Reply(number, *_split(number, harmless(octets)))


def _split(code: int, text: str) -> tuple[str, str]:
    """The enhanced code and the rest. One that speaks of another class than the code is only words (RFC 2034 4)."""
    match = _ENHANCED.match(text)
    if match is None or int(text[0]) != code // 100:
        return "", text
    return match[1], text[match.end() :]
