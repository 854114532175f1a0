"""Canonical forms of header and body (RFC 6376 3.4), and what is hashed of them.

Knows octets. Works through a body in pieces, so that no single step holds up other threads, in time that grows with its
length alone. Does not know keys.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from inboundmx.checks.dkim_signature import Signature
from inboundmx.model.message import Field, Message

PIECE = 64 * 1024
SINGLE = (
    *("from", "subject", "to", "date", "reply-to", "sender", "cc", "message-id", "in-reply-to", "references"),
    *("mime-version", "content-type", "content-transfer-encoding", "content-disposition"),
)

_BLANKS = re.compile(rb"[ \t]{2,}|\t")


class BodyForm(NamedTuple):
    """What a signature says of the body: ``simple`` or ``relaxed``, and l=."""

    form: str
    length: int | None


class BodyHash(NamedTuple):
    """``digest`` is SHA-256 of so much as was asked for; ``size`` of the whole canonical body."""

    digest: bytes
    size: int


def body_hashes(octets: bytes, start: int, wanted: Iterable[BodyForm]) -> dict[BodyForm, BodyHash]:
    """The hashes of the body that begins at ``start``; each canonical form is made once."""
    made: dict[BodyForm, BodyHash] = {}
    by_form: dict[str, list[_Sink]] = {}
    for want in dict.fromkeys(wanted):
        by_form.setdefault(want.form, []).append(_Sink(want))
    for form, sinks in by_form.items():
        size = 0
        for piece in _canonical(octets, start, form == "relaxed"):
            size += len(piece)
            for sink in sinks:
                sink.write(piece)
        made |= {sink.want: BodyHash(sink.hash.digest(), size) for sink in sinks}
    return made


class _Sink:
    __slots__ = ("hash", "left", "want")

    def __init__(self, want: BodyForm) -> None:
        self.want = want
        self.hash = hashlib.sha256()
        self.left = want.length

    def write(self, piece: bytes) -> None:
        if self.left is None:
            self.hash.update(piece)
        elif self.left:
            piece = piece[: self.left]
            self.left -= len(piece)
            self.hash.update(piece)


def _canonical(octets: bytes, start: int, relaxed: bool) -> Iterator[bytes]:
    """The canonical body in pieces. Empty lines are held back until something follows them."""
    held = 0
    any_line = False
    for text in _pieces(octets, start, relaxed):
        core = text.rstrip(b"\r\n")
        ends = _line_ends(text, len(core))
        core = text[: len(text) - 2 * ends]
        if core:
            yield from _empty_lines(held)
            yield core
            held = 0
            any_line = True
        held += ends
    if any_line or not relaxed:
        yield b"\r\n"


def _pieces(octets: bytes, start: int, relaxed: bool) -> Iterator[bytes]:
    """The body cut where no line end, and no run of blanks, is cut through; blanks reduced where ``relaxed``."""
    carried = b""
    for at in range(start, len(octets), PIECE):
        text = carried + octets[at : at + PIECE]
        if relaxed:
            text = _reduced(text).replace(b" \r\n", b"\r\n")
        keep = len(text)
        if text.endswith(b"\r"):
            keep -= 1
        if relaxed and text.endswith(b" ", 0, keep):
            keep -= 1
        carried = text[keep:]
        yield text[:keep]
    if carried and carried != b" ":
        yield carried


def _line_ends(text: bytes, start: int) -> int:
    """How many CRLF ``text`` ends in; from ``start`` on it holds only CR and LF."""
    tail = text[start:]
    whole = len(tail) // 2
    if tail == b"\r\n" * whole:
        return whole
    count = 0
    while tail.endswith(b"\r\n", 0, len(tail) - 2 * count):
        count += 1
    return count


def _empty_lines(count: int) -> Iterator[bytes]:
    most = PIECE // 2
    while count > 0:
        yield b"\r\n" * min(count, most)
        count -= most


def fields_named(message: Message, names: Set[str]) -> dict[str, list[Field]]:
    """The fields of these names, from the top down."""
    found: dict[str, list[Field]] = {}
    for field in message.fields:
        if field.name in names:
            found.setdefault(field.name, []).append(field)
    return found


class Header:
    """The header section as signatures see it: ``head`` is the beginning of the message, ``fields`` are those with
    names that are signed. The relaxed form of a field is made once, however many signatures name it."""

    __slots__ = ("_relaxed", "fields", "head")

    def __init__(self, head: bytes, fields: Mapping[str, Sequence[Field]]) -> None:
        self.head = head
        self.fields = fields
        self._relaxed: dict[int, bytes] = {}

    def relaxed(self, field: Field) -> bytes:
        form = self._relaxed.get(field.start)
        if form is None:
            form = self._relaxed[field.start] = relaxed_field(field.name, field.value) + b"\r\n"
        return form


def signed_header(signature: Signature, header: Header) -> bytes:
    """What b= signs (RFC 6376 3.7): of each name in h= the fields from the last one up, then the signature itself."""
    head, fields = header.head, header.fields
    relaxed = signature.header_form == "relaxed"
    used: dict[str, int] = {}
    parts = []
    for name in signature.names:
        named = fields.get(name, ())
        taken = used.get(name, 0)
        if taken < len(named):
            field = named[-1 - taken]
            used[name] = taken + 1
            parts.append(header.relaxed(field) if relaxed else head[field.start : field.end])
    own = signature.field
    if relaxed:
        parts.append(relaxed_field(own.name, signature.unsigned_value))
    else:
        # As it was written, up to the colon.
        parts.append(head[own.start : own.end - 2 - len(own.value)] + signature.unsigned_value)
    return b"".join(parts)


def unsigned_field(signature: Signature, fields: Mapping[str, Sequence[Field]]) -> str:
    """A field that must be there only once (RFC 5322 3.6, RFC 2045), is signed, and stands there once more, unsigned:
    readers may be shown the other one (RFC 6376 8.15). Empty: there is none."""
    signed = signature.names
    return next((name for name in SINGLE if name in signed and len(fields.get(name, ())) > signed.count(name)), "")


def relaxed_field(name: str, value: bytes) -> bytes:
    """A field's relaxed form (RFC 6376 3.4.2), without its CRLF."""
    return name.encode("ascii") + b":" + _reduced(value.replace(b"\r\n", b"")).strip(b" ")


def _reduced(text: bytes) -> bytes:
    """Each run of blanks is one space."""
    if b"  " in text or b"\t" in text:
        return _BLANKS.sub(b" ", text)
    return text
