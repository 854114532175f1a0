"""Content-Transfer-Encoding undone (RFC 2045 6), uuencode with it, as leniently as the most lenient reader.

Knows octets. Does not know parts. What is decoded is never longer than what it was decoded from.
"""

from __future__ import annotations

import binascii
import re

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BLANK = b" \t\r\n"
_NOT_BASE64 = bytes(sorted(set(range(256)) - set(_BASE64 + b"=")))
# Octets decoded at once, so that other threads get their turn in between; whole groups of four.
_STEP = 1024 * 1024
# Paddings after which something else begins; those that follow are passed over.
_PADDINGS = 1000
_LINE = re.compile(rb"[^\r\n]+")
_BAD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*(?:\r?\n|\Z))")


def bad_base64(octets: bytes) -> bool:
    """Whether it holds anything but the alphabet, blanks and one padding at the end, or too few letters."""
    padding = octets.translate(None, _BASE64 + _BLANK)
    if padding and (padding not in (b"=", b"==") or not _ends_with(octets, padding)):
        return True
    letters = len(octets.translate(None, _BLANK)) - len(padding)
    return letters % 4 == 1 or (bool(padding) and (letters + len(padding)) % 4 != 0)


def bad_quoted_printable(octets: bytes) -> bool:
    return _BAD_ESCAPE.search(octets) is not None


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
            run = run.replace(b"=", b"")
        if len(run) % 4 == 1:
            run = run[:-1]
        for start in range(0, len(run), _STEP):
            piece = run[start : start + _STEP]
            found += binascii.a2b_base64(piece + b"=" * (-len(piece) % 4))
    return bytes(found)


def _from_uuencode(octets: bytes) -> bytes:
    found = bytearray()
    for match in _LINE.finditer(octets):
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
