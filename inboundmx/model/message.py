"""The content of a message: octets that are never altered, and the header fields found in them."""

from __future__ import annotations

import re
from typing import NamedTuple

from inboundmx.model.record import record

# A body up to this many octets lives in memory; a larger one is a file.
SMALL_BODY = 256 * 1024
# The header section must end within this many octets; intake refuses what goes on longer.
HEADER_LIMIT = SMALL_BODY

_FIELD = re.compile(rb"([^\x00-\x20:\x7f-\xff]+)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)\r\n")


@record(frozen=True, slots=True)
class Body:
    """All octets between DATA and the final dot (RFC 5321 calls them mail data), CRLF lines, dot-stuffing undone.

    Small: ``path`` is None and ``head`` is everything. Large: ``path`` names the file relative to the data folder and
    ``head`` is its first SMALL_BODY octets. ``digest`` is the SHA-256 of all of it; empty while nobody needs that of a
    small one: most are handed over, and never kept.
    """

    size: int
    head: bytes
    path: str | None
    digest: bytes


class Field(NamedTuple):
    """A header field: ``name`` in lower case; ``value`` raw, folds included; ``start`` and ``end`` (past its CRLF)
    count octets from the start of the message."""

    name: str
    value: bytes
    start: int
    end: int

    def text(self) -> str:
        """The value unfolded, read as UTF-8, undecodable octets replaced."""
        return self.value.replace(b"\r\n", b"").strip().decode("utf-8", "replace")


class Message:
    """One message: its id and body; ``fields`` are scanned once, when first asked for.

    Scanning stops at the blank line, at the first line that is no field (RFC 5322 2.2), or at the end of ``head``.
    """

    __slots__ = ("__weakref__", "_fields", "_header_end", "body", "id")

    def __init__(self, id: str, body: Body) -> None:
        self.id = id
        self.body = body
        self._fields: tuple[Field, ...] | None = None
        self._header_end: int | None = None

    @property
    def header_end(self) -> int:
        """Octets before the blank line that ends the header section; 0 when there is no header section,
        the size of what is at hand when no blank line is in it."""
        if self._header_end is None:
            head = self.body.head
            if head.startswith(b"\r\n"):
                self._header_end = 0
            else:
                found = head.find(b"\r\n\r\n")
                self._header_end = len(head) if found < 0 else found + 2
        return self._header_end

    @property
    def fields(self) -> tuple[Field, ...]:
        if self._fields is None:
            head, end = self.body.head, self.header_end
            found: list[Field] = []
            at = 0
            # As the constructor of a named tuple does it, without its frame: half of 1.7 us a field.
            make, match_at = tuple.__new__, _FIELD.match
            while at < end and (match := match_at(head, at, end)) is not None:
                name, value = match.groups()
                after = match.end()
                found.append(make(Field, (name.decode("ascii").lower(), value, at, after)))
                at = after
            self._fields = tuple(found)
        return self._fields

    @property
    def whole_header(self) -> bool:
        """Whether the header section is fields and nothing else, and holds one at least: behind a line that is none
        some readers go on, and see fields that are none for us."""
        return bool(self.fields) and self.fields[-1].end == self.header_end
