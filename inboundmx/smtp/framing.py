"""Where a command line ends, and where a message ends.

Knows RFC 5321 2.3.8 (only CRLF ends a line) and 4.5.2 (transparency). Does not know what a line means, nor who sent it.
Bare CR, bare LF and NUL never end anything: they make the line, or the content, unfit.
"""

from __future__ import annotations

import enum
import re
from io import IncrementalNewlineDecoder

# A longer command line is thrown away and answered 500 once its CRLF arrives (RFC 5321 4.5.3.1.4 asks for 512).
COMMAND_LIMIT = 2048
# A line longer than this ends the connection: nobody who means well sends it.
ENDLESS = 64 * 1024
# The line ends that content may have: none yet, or this one only.
_ENDS = (None, "\r\n")
# In half the time of bytes.find, whose algorithm is made for longer words: 20 us for 64 KB.
_DOT = re.compile(rb"\r\n\.").search


class Flaw(enum.Enum):
    """Why a line cannot be a command."""

    TOO_LONG = "line too long"
    STRAY = "bare CR, bare LF or NUL in a command"
    ENDLESS = "line without end"


class LineReader:
    """Command lines out of octets, in whatever pieces they come. Holds what has not been taken yet."""

    __slots__ = ("_at", "_buffer", "_dropped", "_limit")

    def __init__(self, limit: int = COMMAND_LIMIT) -> None:
        self._limit = limit
        self._buffer = b""
        self._at = 0
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        if self._at < len(self._buffer):
            self._buffer = self._buffer[self._at :] + data
        else:
            self._buffer = data
        self._at = 0

    def next(self) -> bytes | Flaw | None:
        """The next line without its CRLF, or its flaw: exactly one answer for each CRLF. None: not there yet.

        ``Flaw.ENDLESS`` comes before the CRLF, and nothing is to be read after it.
        """
        buffer, at = self._buffer, self._at
        if not buffer and not self._dropped:
            return None
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return self._unfinished()
        self._at = end + 2
        if self._at == len(buffer):
            self._buffer, self._at = b"", 0
        if self._dropped or end - at > self._limit - 2:
            endless = self._dropped + end - at > ENDLESS
            self._dropped = 0
            return Flaw.ENDLESS if endless else Flaw.TOO_LONG
        line = buffer[at:end]
        if b"\n" in line or b"\r" in line or b"\0" in line:
            return Flaw.STRAY
        return line

    def _unfinished(self) -> Flaw | None:
        waiting = len(self._buffer) - self._at
        if waiting > self._limit:
            # A last CR may be half of the CRLF that is to come.
            kept = b"\r" if self._buffer.endswith(b"\r") else b""
            self._dropped += waiting - len(kept)
            self._buffer, self._at = kept, 0
        return Flaw.ENDLESS if self._dropped > ENDLESS else None

    @property
    def waiting(self) -> int:
        """Octets held."""
        return len(self._buffer) - self._at

    @property
    def begun(self) -> bool:
        """Whether part of a line has come: asked after ``next`` has answered None."""
        return self._at < len(self._buffer) or self._dropped > 0

    def beginning(self, octets: int) -> bytes:
        """The first so many of them."""
        return self._buffer[self._at : self._at + octets]

    def take(self) -> bytes:
        """Gives away everything held: it is content, or it is to be forgotten (STARTTLS)."""
        rest = self._buffer[self._at :]
        self._buffer, self._at, self._dropped = b"", 0, 0
        return rest


class ContentReader:
    """Content out of octets after 354, up to CRLF.CRLF, dot-stuffing undone byte for byte.

    A line counts as begun where the content begins, so the carry starts as the CRLF before it. Of each piece only the
    few last octets that may belong to the end are held back.

    ``size`` counts octets of content given out; ``stray`` is set by a bare CR, a bare LF or a NUL among them;
    ``ended`` once CRLF.CRLF has come, and then ``rest`` is what followed it.
    """

    __slots__ = ("_carry", "_ends", "_lead", "ended", "rest", "size", "stray")

    def __init__(self) -> None:
        self._carry = b"\r\n"
        self._lead = 2
        # Made for universal newlines, it remembers which kinds of line ends it has seen: 37 us for 64 KB, where three
        # counts that have to agree (of CRLF, CR and LF) take 94.
        self._ends = IncrementalNewlineDecoder(None, False)
        self.size = 0
        self.stray = False
        self.ended = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The content that is certain now; perhaps none."""
        data = self._carry + data
        # Hardly any message has a line that begins with a dot before its last: then one search finds both, instead of
        # three passes. Base64 has no dot at all, which is known at once: half of what this function costs.
        found = _DOT(data) if b"." in data else None
        dot = -1 if found is None else found.start()
        end = data.find(b"\r\n.\r\n", dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            self.rest = data[end + 5 :]
            self._carry = b""
            data = data[: end + 2]
        else:
            held = _held_back(data)
            self._carry = data[len(data) - held :]
            data = data[: len(data) - held]
        if not self.stray:
            # What is given out never ends between CR and LF.
            self._ends.decode(data.decode("latin-1"))
            self.stray = self._ends.newlines not in _ENDS or b"\0" in data
        content = data.replace(b"\r\n.", b"\r\n") if dot >= 0 and dot != end else data
        if self._lead and content:
            # Either all of the CRLF that we put before the content has come out, or nothing at all.
            content = content[self._lead :]
            self._lead = 0
        self.size += len(content)
        return content


def _held_back(data: bytes) -> int:
    """How many last octets may be the beginning of CRLF.CRLF."""
    if data.endswith(b"\r"):
        return 4 if data.endswith(b"\r\n.\r") else 1
    if data.endswith(b"\r\n"):
        return 2
    return 3 if data.endswith(b"\r\n.") else 0
