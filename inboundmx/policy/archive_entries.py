"""The files in archives other than zip: tar, RAR (their names alone), Outlook's envelope, and what is only compressed.

Knows these formats as far as finding files asks for. Does not know what is allowed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import partial

from inboundmx.policy.unpacking import (
    Broken,
    Budget,
    Decompressor,
    Entry,
    Sealed,
    bzip2,
    gzip,
    stored,
    stream,
    xz,
)

_BLOCK = 512
# Entries of a tar archive that only tell of the next one, by what they are, and octets of such.
_ABOUT_NEXT = (b"L", b"K", b"x", b"X", b"g")
_LONGEST_NAME = 64 * 1024
# Links, devices and folders. Whatever else there may be is a file to most readers.
_NO_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
_NAMES = (b"path", b"GNU.sparse.name", b"")
_TOLD = (*_NAMES, b"size", b"GNU.sparse.major")
_RECORD = re.compile(rb"([0-9]{1,9}) ([^=\n]{1,100})=")
# Attributes of a TNEF stream: the title of an attachment, its content, and its properties.
_TITLE, _DATA = 0x00018010, 0x0006800F
# Levels of a RAR header that are read.
_RAR4, _RAR5 = b"Rar!\x1a\x07\0", b"Rar!\x1a\x07\x01\0"


def compressed(
    octets: bytes, kind: str, name: str, budget: Budget, more: dict[str, Callable[[], Decompressor]]
) -> Iterator[Entry]:
    """One file, named as the archive without its last extension."""
    make = ({"gzip": gzip, "bzip2": bzip2, "xz": xz} | more).get(kind)
    budget.file()
    inner = name.rpartition(".")[0] or name
    if inner != name and name.lower().endswith((".tgz", ".tbz", ".tbz2", ".txz", ".tzst")):
        inner += ".tar"
    names = [inner]
    if kind == "gzip" and octets[3:4] and octets[3] & 8:
        names.append(_gzip_name(octets))
    yield Entry(tuple(dict.fromkeys(filter(None, names))), make and partial(stream, octets, make))


def _gzip_name(octets: bytes) -> str:
    """The name that gzip keeps of the file (RFC 1952 2.3)."""
    at = 10
    if octets[3] & 4:
        at += 2 + int.from_bytes(octets[at : at + 2], "little")
    end = octets.find(b"\0", at, at + 1000)
    return octets[at:end].decode("utf-8", "replace") if end > at else ""


def tar(octets: bytes, budget: Budget) -> Iterator[Entry]:
    at, seen = 0, False
    # What pax headers say of all files that follow, and of the next one; its long name stands under no keyword.
    of_all: dict[bytes, bytes] = {}
    of_next: dict[bytes, bytes] = {}
    view = memoryview(octets)
    while at + _BLOCK <= len(octets):
        block = octets[at : at + _BLOCK]
        if not block.strip(b"\0"):
            at += _BLOCK
            budget.tick()
            continue
        size = _tar_number(block[124:136])
        said = _tar_number(block[148:156])
        if size < 0 or said != sum(block) - sum(block[148:156]) + 8 * 32:
            if seen:
                raise Broken("a tar archive that goes on with something else")
            raise Broken("a tar archive with a bad header")
        seen = True
        begin, kind = at + _BLOCK, block[156:157]
        budget.file()
        if kind in _ABOUT_NEXT:
            if size > _LONGEST_NAME:
                raise Broken("a tar archive that says more of a file than is read")
            text = octets[begin : begin + size]
            if kind == b"L":
                of_next[b""] = text.rstrip(b"\0")
            elif kind != b"K":
                (of_all if kind == b"g" else of_next).update(_pax(text))
            at = _after(begin, size)
            continue
        more = kind == b"S" and block[482]
        while more and begin + _BLOCK <= len(octets):
            # Where the pieces of a sparse file belong.
            more = octets[begin + 504]
            begin += _BLOCK
        described, of_next = of_all | of_next, {}
        name = block[:100].partition(b"\0")[0]
        prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
        short = prefix + b"/" + name if prefix else name
        names = [*(described.get(keyword, b"") for keyword in _NAMES), short]
        empty = kind in _NO_CONTENT or name.endswith(b"/")
        number = described.get(b"size", b"")
        stated = int(number) if number.isdigit() else size
        # Not all who read it take the same octets for the file.
        twofold = stated != size or (empty and size) or b"GNU.sparse.major" in described
        wrong = "a file that is described in two ways" if twofold else ""
        at = _after(begin, stated)
        if begin + stated > len(octets):
            wrong = "a file that ends too early"
        if wrong or not empty:
            found = dict.fromkeys(name.decode("utf-8", "replace") for name in names if name)
            yield Entry(tuple(found), partial(stored, view[begin : begin + stated]), False, wrong)


def _after(begin: int, size: int) -> int:
    return begin + (size + _BLOCK - 1) // _BLOCK * _BLOCK


def _tar_number(field: bytes) -> int:
    """Octal digits, or base 256 where the first bit is set; -1 for neither."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return -1


def _pax(text: bytes) -> dict[bytes, bytes]:
    """Keywords that matter and what they say: records with their length in front. What is none of them ends it."""
    said: dict[bytes, bytes] = {}
    at = 0
    while found := _RECORD.match(text, at):
        at += int(found[1])
        if at < found.end():
            break
        if found[2] in _TOLD:
            said[found[2]] = text[found.end() : at - 1]
    return said


def tnef(octets: bytes, budget: Budget) -> Iterator[Entry]:
    """Level, attribute, length, the data and a checksum of two octets, one after the other (MS-OXTNEF 2.1)."""
    at, name = 6, ""
    view = memoryview(octets)
    while at + 11 <= len(octets):
        level, attribute, length = struct.unpack_from("<BII", octets, at)
        begin = at + 9
        if level not in (1, 2) or begin + length > len(octets):
            raise Broken("an envelope of Outlook that is damaged")
        if attribute == _TITLE:
            name = octets[begin : begin + min(length, 1000)].rstrip(b"\0").decode("utf-8", "replace")
        elif attribute == _DATA:
            budget.file()
            yield Entry((name,), partial(stored, view[begin : begin + length]))
        budget.tick()
        at = begin + length + 2


def rar(octets: bytes, budget: Budget) -> Iterator[Entry]:
    """Names and whether they are encrypted: what packs them is no open format."""
    if octets.startswith(_RAR5):
        return _rar5(octets, budget)
    if octets.startswith(_RAR4):
        return _rar4(octets, budget)
    raise Broken("a RAR archive of another kind")


def _rar4(octets: bytes, budget: Budget) -> Iterator[Entry]:
    at = len(_RAR4)
    while at + 7 <= len(octets):
        kind, flags, size = struct.unpack_from("<BHH", octets, at + 2)
        if size < 7:
            raise Broken("a RAR archive that is damaged")
        if kind == 0x73 and flags & 0x80:
            raise Sealed
        if kind == 0x7B:
            return
        added = 0
        if flags & 0x8000 or kind in (0x74, 0x7A):
            if at + 11 > len(octets):
                raise Broken("a RAR archive that is damaged")
            (added,) = struct.unpack_from("<I", octets, at + 7)
        if kind == 0x74 and at + 32 <= len(octets):
            budget.file()
            length = int.from_bytes(octets[at + 26 : at + 28], "little")
            begin = at + 32
            if flags & 0x100:
                added |= int.from_bytes(octets[at + 32 : at + 36], "little") << 32
                begin += 8
            name = octets[begin : begin + length].partition(b"\0")[0]
            yield Entry((name.decode("utf-8", "replace"),), None, bool(flags & 4))
        budget.tick()
        at += size + added


def _rar5(octets: bytes, budget: Budget) -> Iterator[Entry]:
    at = len(_RAR5)
    while at + 7 <= len(octets):
        size, begin = _rar_number(octets, at + 4)
        kind, place = _rar_number(octets, begin)
        flags, place = _rar_number(octets, place)
        extra = data = 0
        if flags & 1:
            extra, place = _rar_number(octets, place)
        if flags & 2:
            data, place = _rar_number(octets, place)
        if not size:
            raise Broken("a RAR archive that is damaged")
        if kind == 4:
            raise Sealed
        if kind == 5:
            return
        if kind == 2:
            budget.file()
            yield _rar5_file(octets, place, begin + size - extra, begin + size)
        budget.tick()
        at = begin + size + data


def _rar5_file(octets: bytes, place: int, extra: int, end: int) -> Entry:
    flags, place = _rar_number(octets, place)
    for _ in range(2):
        _, place = _rar_number(octets, place)
    place += 4 * bool(flags & 2) + 4 * bool(flags & 4)
    for _ in range(2):
        _, place = _rar_number(octets, place)
    length, place = _rar_number(octets, place)
    name = octets[place : min(end, place + length)].decode("utf-8", "replace")
    encrypted = False
    while extra < end:
        size, after = _rar_number(octets, extra)
        kind, _ = _rar_number(octets, after)
        encrypted = encrypted or kind == 1
        extra = after + max(1, size)
    return Entry((name,), None, encrypted)


def _rar_number(octets: bytes, at: int) -> tuple[int, int]:
    """Seven bits an octet, the lowest first; and where it ends."""
    value = 0
    for number in range(10):
        if at + number >= len(octets):
            break
        octet = octets[at + number]
        value |= (octet & 0x7F) << 7 * number
        if not octet & 0x80:
            return value, at + number + 1
    raise Broken("a RAR archive that is damaged")
