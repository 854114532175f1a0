"""The files in a zip archive, and where its two tables of contents tell different stories.

Knows the central directory and local headers (zip64 as well). Does not know what is allowed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from inboundmx.policy.unpacking import (
    Broken,
    Budget,
    Decompressor,
    Entry,
    Sealed,
    bzip2,
    deflate,
    raw_lzma,
    stored,
    stream,
    xz,
)

_END = b"PK\x05\x06"
_LOCAL = b"PK\x03\x04"
_CENTRAL = b"PK\x01\x02"
_END_64 = b"PK\x06\x06"
_LOCATOR_64 = b"PK\x06\x07"
_SEALED = b"PK\x06\x08"
# Octets behind the end record: its comment.
_COMMENT = 65535 + 22
_MAX = 0xFFFFFFFF

# Further compressions by number, where a library brings them.
Methods = dict[int, Callable[[], Decompressor]]


class _Listed(NamedTuple):
    """One entry of the central directory, or a local header that stands there alone."""

    name: bytes
    flags: int
    method: int
    packed: int
    size: int
    at: int


def entries(octets: bytes, budget: Budget, methods: Methods) -> Iterator[Entry]:
    """Raises Broken, Sealed, TooDeep, and struct.error where it is damaged; entries before that notwithstanding."""
    listed, shift, wrong = _central(octets, budget)
    covered: list[tuple[int, int]] = []
    for each in listed:
        budget.file()
        at = each.at + shift
        local = _local(octets, at)
        if local is None:
            yield Entry((_text(each),), None, bool(each.flags & 1), "a file that is not where it should be")
            continue
        covered.append((at, local.at + each.packed))
        yield _entry(octets, each, local, methods, wrong)
    yield from _unlisted(octets, covered, budget, methods)


def _central(octets: bytes, budget: Budget) -> tuple[list[_Listed], int, str]:
    """What is listed, and by how much all places are moved: something may stand before the archive."""
    end = octets.rfind(_END, max(0, len(octets) - _COMMENT))
    if end < 0 or len(octets) - end < 22:
        if octets.find(_SEALED) >= 0:
            raise Sealed
        return [], 0, ""
    disk, _, _, count, size, start = struct.unpack_from("<HHHHII", octets, end + 4)
    wrong = "two tables of contents" if octets.rfind(_END, max(0, end - _COMMENT), end) >= 0 else ""
    place = end
    if octets[max(0, end - 20) : end][:4] == _LOCATOR_64:
        found = octets.rfind(_END_64, 0, end)
        if found < 0 or len(octets) - found < 56:
            raise Broken("its large table of contents is missing")
        big = struct.unpack_from("<QQQ", octets, found + 32)
        for small, large in zip((count, size, start), big, strict=True):
            if small not in (large, 0xFFFF, _MAX):
                wrong = "two tables of contents"
        count, size, start = big
        place = found
    elif disk not in (0, 0xFFFF):
        raise Broken("a piece of an archive")
    begin = place - size
    if begin < 0 or (count and octets[begin : begin + 4] != _CENTRAL):
        begin = start
        if count and octets[begin : begin + 4] != _CENTRAL:
            if octets.find(_SEALED) >= 0 or octets.find(b"PK", begin, begin + 4) < 0 <= octets.find(_LOCAL):
                raise Sealed
            raise Broken("its table of contents is missing")
    listed: list[_Listed] = []
    at = begin
    while octets[at : at + 4] == _CENTRAL and at + 46 <= len(octets):
        budget.tick()
        flags, method = struct.unpack_from("<HH", octets, at + 8)
        packed, full, name, extra, comment = struct.unpack_from("<IIHHH", octets, at + 20)
        (offset,) = struct.unpack_from("<I", octets, at + 42)
        after = at + 46 + name
        full, packed, offset = _large(octets[after : after + extra], full, packed, offset)
        if flags & 0x2000:
            raise Sealed
        listed.append(_Listed(octets[at + 46 : after], flags, method, packed, full, offset))
        at = after + extra + comment
    if len(listed) != count and (place != end or len(listed) & 0xFFFF != count):
        wrong = "a table of contents that is wrong about itself"
    return listed, begin - start, wrong


def _large(extra: bytes, *fields: int) -> list[int]:
    """Fields that do not fit into 32 bits stand in an extra field (zip64)."""
    found = list(fields)
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            place = at + 4
            for number, field in enumerate(found):
                if field == _MAX and place + 8 <= min(len(extra), at + 4 + length):
                    (found[number],) = struct.unpack_from("<Q", extra, place)
                    place += 8
            break
        at += 4 + length
    return found


def _local(octets: bytes, at: int) -> _Listed | None:
    """The header in front of a file; ``at`` of it is where its content begins."""
    if at < 0 or octets[at : at + 4] != _LOCAL or at + 30 > len(octets):
        return None
    flags, method = struct.unpack_from("<HH", octets, at + 6)
    packed, size, name, extra = struct.unpack_from("<IIHH", octets, at + 18)
    begin = at + 30 + name
    size, packed = _large(octets[begin : begin + extra], size, packed)
    return _Listed(octets[at + 30 : begin], flags, method, packed, size, begin + extra)


def _entry(octets: bytes, said: _Listed, local: _Listed, methods: Methods, wrong: str) -> Entry:
    names = tuple(dict.fromkeys((_text(said), _text(local))))
    if len(names) > 1:
        wrong = "a file with two names"
    elif said.method != local.method or (not local.flags & 8 and local.packed != said.packed):
        wrong = "a file that is described in two ways"
    encrypted = bool((said.flags | local.flags) & 1) or said.method == 99
    packed = memoryview(octets)[local.at : local.at + said.packed]
    if len(packed) < said.packed and not encrypted:
        wrong = "a file that ends too early"
    return Entry(names, None if encrypted else _content(packed, said, methods), encrypted, wrong)


def _content(packed: memoryview, said: _Listed, methods: Methods) -> Callable[[], Iterator[bytes]] | None:
    known: Methods = {8: deflate, 12: bzip2, 95: xz} | methods
    if said.method == 0:
        return partial(_measured, partial(stored, packed), said.size)
    if said.method == 14:
        return partial(_measured, partial(_lzma, packed), said.size)
    make = known.get(said.method)
    return None if make is None else partial(_measured, partial(stream, packed, make, False), said.size)


def _measured(pieces: Callable[[], Iterator[bytes]], size: int) -> Iterator[bytes]:
    """A file that is not as large as is said is one that somebody else may unpack otherwise."""
    found = 0
    for piece in pieces():
        found += len(piece)
        yield piece
    if found != size:
        raise Broken("a file that is not as large as it says")


def _lzma(packed: memoryview) -> Iterator[bytes]:
    """Two octets of version, two of length, and the properties (APPNOTE 5.8.8)."""
    if len(packed) < 9:
        raise Broken("it ends too early")
    (length,) = struct.unpack_from("<H", packed, 2)
    return stream(packed[4 + length :], partial(raw_lzma, bytes(packed[4 : 4 + length])), False, False)


def _unlisted(octets: bytes, covered: list[tuple[int, int]], budget: Budget, methods: Methods) -> Iterator[Entry]:
    """Files that the central directory does not tell of; some readers find them all the same."""
    covered.sort()
    place, reached = 0, 0
    at = octets.find(_LOCAL)
    while at >= 0:
        budget.tick()
        while place < len(covered) and covered[place][0] <= at:
            reached = max(reached, covered[place][1])
            place += 1
        if at < reached:
            at = octets.find(_LOCAL, max(at + 4, min(reached, len(octets))))
            if at < 0:
                return
            # What begins between here and there was skipped together with it.
            continue
        local = _local(octets, at)
        if local is None or local.at > len(octets):
            at = octets.find(_LOCAL, at + 4)
            continue
        budget.file()
        if local.flags & 8:
            # How long it is stands behind it: the stream itself knows its end.
            local = local._replace(packed=len(octets) - local.at)
            content = None if local.method != 8 else partial(stream, memoryview(octets)[local.at :], deflate, False)
            yield Entry((_text(local),), content, bool(local.flags & 1), "a file that its table of contents hides")
            at = octets.find(_LOCAL, local.at)
        else:
            yield _entry(octets, local, local, methods, "a file that its table of contents hides")
            at = octets.find(_LOCAL, max(at + 4, min(len(octets), local.at + local.packed)))


def _text(said: _Listed) -> str:
    """UTF-8 where it says so or is so; else as DOS wrote."""
    try:
        return said.name.decode("utf-8")
    except UnicodeDecodeError:
        return said.name.decode("cp437", "replace")
