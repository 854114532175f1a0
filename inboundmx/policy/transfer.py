"""Content-Transfer-Encoding undone (RFC 2045 6), uuencode with it, as leniently as the most lenient reader.

Knows octets. Does not know parts. What is decoded is never longer than what it was decoded from.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from itertools import islice

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BLANK = b" \t\r\n"
_NOT_BASE64 = bytes(sorted(set(range(256)) - set(_BASE64 + b"=")))
# Octets worked on at once, so that other threads get their turn in between; whole groups of four.
_STEP = 1024 * 1024
# Paddings after which something else begins; those that follow are passed over.
_PADDINGS = 1000
_LINE = re.compile(rb"[^\r\n]+")
# Lines of uuencode that are read: 45 MB of honest ones.
_LINES = 1_000_000
_BAD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*(?:\r?\n|\Z))")


def bad_base64(octets: bytes) -> bool:
    """Whether it holds anything but the alphabet, blanks and one padding at the end, or too few letters."""
    padding = octets.translate(None, _BASE64 + _BLANK)
    if padding and (padding not in (b"=", b"==") or not _ends_with(octets, padding)):
        return True
    letters = len(octets.translate(None, _BLANK)) - len(padding)
    return letters % 4 == 1 or (bool(padding) and (letters + len(padding)) % 4 != 0)


def bad_quoted_printable(octets: bytes) -> bool:
    return next(found_in_lines(_BAD_ESCAPE, octets, 0, len(octets)), None) is not None


def found_in_lines(pattern: re.Pattern[bytes], octets: bytes, start: int, end: int) -> Iterator[re.Match[bytes]]:
    """All matches, looked for in pieces of whole lines: one long search would hold up every other thread. Those that
    go over the end of a piece are found when they begin within the last lines of it."""
    while start < end:
        stop = min(end, (octets.find(b"\n", start + _STEP, end) + 1) or end)
        reach = min(end, (octets.find(b"\n", stop, end) + 1) or end)
        for match in pattern.finditer(octets, start, reach):
            if match.start() < stop:
                yield match
        start = stop


def undone(octets: bytes, encoding: str) -> bytes:
    """``encoding`` is ``base64``, ``quoted-printable``, ``uuencode`` or empty. Raises nothing."""
    if encoding == "base64":
        return _from_base64(octets)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(octets)
    return _from_uuencode(octets) if encoding == "uuencode" else octets


def _ends_with(octets: bytes, padding: bytes) -> bool:
    # "= =" is written by some that fold their lines badly.
    return octets[-100:].rstrip(_BLANK)[-1:] == b"=" and octets.count(b"=", max(0, len(octets) - 100)) == len(padding)


def _from_base64(octets: bytes) -> bytes:
    """Signs that do not belong there are passed over, and what follows a padding is read on."""
    letters = octets.translate(None, _NOT_BASE64)
    found = bytearray()
    for run in letters.split(b"=", _PADDINGS):
        if b"=" in run:
            run = run.translate(None, b"=")
        if len(run) % 4 == 1:
            run = run[:-1]
        for start in range(0, len(run), _STEP):
            piece = run[start : start + _STEP]
            found += binascii.a2b_base64(piece + b"=" * (-len(piece) % 4))
    return bytes(found)


def _from_uuencode(octets: bytes) -> bytes:
    found = bytearray()
    for match in islice(_LINE.finditer(octets), _LINES):
        line = match[0]
        if line.startswith(b"begin "):
            continue
        if line in (b"end", b"`"):
            break
        # No more than the line says it has: some lines end in a checksum.
        wanted = 1 + ((line[0] - 32 & 63) + 2) // 3 * 4
        try:
            found += binascii.a2b_uu(line[:wanted])
        except binascii.Error:
            continue
    return bytes(found)
