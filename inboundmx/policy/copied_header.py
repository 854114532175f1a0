"""The header of a copy of a message that a program may add a field to: what stood there is taken out first, so that
whatever is found afterwards is the program's.

Knows fields and their continuation lines. Does not know the program, nor what its number is worth.
"""

from __future__ import annotations

import re
from functools import lru_cache

# What does not come within so many octets is not looked for.
HEADER_LIMIT = 64 * 1024

_NUMBER = re.compile(rb"[-+]?[0-9]{1,9}(?:\.[0-9]{1,9})?")


def header_end(octets: bytes) -> int:
    """Where the empty line after the header begins; the end when there is none. Lines end with CRLF or LF."""
    found = re.match(rb"\r?\n", octets) or re.search(rb"(?<=\n)\r?\n", octets)
    return len(octets) if found is None else found.start()


def without(octets: bytes, name: str) -> bytes:
    """``octets``, a message or its beginning, without the fields of that name."""
    end = header_end(octets)
    return _fields(name).sub(b"", octets[:end]) + octets[end:]


def numbers(octets: bytes, name: str) -> list[float | None]:
    """What fields of that name say, in order: a number, None for anything else."""
    header = octets[: header_end(octets)]
    found = [match[0].partition(b":")[2].strip() for match in _fields(name).finditer(header)]
    return [float(value) if _NUMBER.fullmatch(value) else None for value in found]


@lru_cache(maxsize=64)
def _fields(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"^%b[ \t]*:[^\n]*(?:\n|\Z)(?:[ \t][^\n]*(?:\n|\Z))*" % re.escape(name.encode()), re.I | re.M)
