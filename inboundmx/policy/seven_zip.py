"""The files in a 7z archive.

Knows its header and the compressions of the standard library. Does not know what is allowed.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from inboundmx.policy.unpacking import (
    DICTIONARY,
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
)

# Octets of a header, and numbers of what it may list.
_LARGEST_HEADER = 8 * 1024 * 1024
_MOST = 100_000
_MOST_CODERS = 32
_AES = b"\x06\xf1\x07\x01"
_COPY, _LZMA, _LZMA2, _DEFLATE, _BZIP2 = b"\0", b"\x03\x01\x01", b"\x21", b"\x04\x01\x08", b"\x04\x02\x02"
# Branch converters do not alter what a file is called, nor most of its beginning.
_FILTERS = {b"\x03\x03\x01\x03": lzma.FILTER_X86, b"\x04": lzma.FILTER_X86}


class _Folder(NamedTuple):
    """Coders with their properties; the sizes of what comes of each, of which ``main`` is the content's; the number of
    packed streams; whether there is a digest of the content."""

    coders: list[tuple[bytes, bytes]]
    sizes: list[int]
    main: int
    packs: int
    checked: bool

    @property
    def size(self) -> int:
        return self.sizes[self.main]


class _Streams(NamedTuple):
    begin: int
    packed: list[int]
    folders: list[_Folder]
    files: list[list[int]]


def seven_zip(octets: bytes, budget: Budget) -> Iterator[Entry]:
    """Raises Broken, Sealed (its names are encrypted), TooDeep, and IndexError, ValueError or struct.error where it is
    damaged."""
    offset, size = struct.unpack_from("<QQ", octets, 12)
    header = octets[32 + offset : 32 + offset + size]
    if len(header) < size or size > _LARGEST_HEADER:
        raise Broken("a 7z archive whose table of contents is missing")
    for _ in range(4):
        if header[:1] != b"\x17":
            break
        packed = _Reader(header, 1).streams()
        if any(coder == _AES for folder in packed.folders for coder, _ in folder.coders):
            raise Sealed
        found = bytearray()
        for piece in _unpacked(octets, packed, 0):
            budget.tick()
            found += piece
            if len(found) > _LARGEST_HEADER:
                raise Broken("a 7z archive with too large a table of contents")
        header = bytes(found)
    if not header:
        return
    if header[:1] != b"\x01":
        raise Broken("a 7z archive that is damaged")
    streams, names, empty = _Reader(header, 1).header()
    owners = [(folder, size) for folder, sizes in enumerate(streams.files) for size in sizes]
    place, current, rest = 0, -1, _Rest(iter(()))
    for name, without in zip(names, empty, strict=True):
        budget.file()
        if without:
            continue
        if place >= len(owners):
            raise Broken("a 7z archive that lists more files than it has")
        folder, size = owners[place]
        place += 1
        coders = streams.folders[folder].coders
        if any(coder == _AES for coder, _ in coders):
            yield Entry((name,), None, True)
        elif not _readable(streams.folders[folder]):
            yield Entry((name,), None)
        else:
            if folder != current:
                # Files of one folder are one stream.
                current, rest = folder, _Rest(_unpacked(octets, streams, folder))
            rest.next_file(size, budget)
            yield Entry((name,), rest.file)


class _Rest:
    """What is left of a stream that several files share."""

    __slots__ = ("_kept", "_left", "_pieces")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._kept = b""
        self._left = 0

    def next_file(self, size: int, budget: Budget) -> None:
        """What was not read of the last one is passed over."""
        for piece in self.file():
            budget.take(len(piece))
        self._left = size

    def file(self) -> Iterator[bytes]:
        while self._left > 0:
            piece = self._kept or next(self._pieces, b"")
            if not piece:
                raise Broken("a file that ends too early")
            taken, self._kept = piece[: self._left], piece[self._left :]
            self._left -= len(taken)
            yield taken


def _readable(folder: _Folder) -> bool:
    return folder.packs == 1 and all(coder in (_COPY, _LZMA, _LZMA2, _DEFLATE, _BZIP2, *_FILTERS) for coder, _ in
                                     folder.coders)  # fmt: skip


def _unpacked(octets: bytes, streams: _Streams, number: int) -> Iterator[bytes]:
    """The content of a folder; branch converters are left undone."""
    begin = 32 + streams.begin + sum(streams.packed[: sum(folder.packs for folder in streams.folders[:number])])
    folder = streams.folders[number]
    if not _readable(folder):
        raise Broken("a 7z archive that is packed in an unknown way")
    packed = memoryview(octets)[begin : begin + streams.packed[sum(each.packs for each in streams.folders[:number])]]
    coders = [(coder, properties) for coder, properties in folder.coders if coder not in (_COPY, *_FILTERS)]
    if not coders:
        return stored(packed)
    if len(coders) > 1:
        raise Broken("a 7z archive that is packed in an unknown way")
    return stream(packed, partial(_decompressor, *coders[0]), False, False)


def _decompressor(coder: bytes, properties: bytes) -> Decompressor:
    if coder == _LZMA:
        return raw_lzma(properties)
    if coder == _LZMA2:
        bits = properties[0]
        size = 0xFFFFFFFF if bits == 40 else (2 | bits & 1) << (bits // 2 + 11)
        if bits > 40 or size > DICTIONARY:
            raise ValueError("more memory than is given")
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": size}])
    return deflate() if coder == _DEFLATE else bzip2()


class _Reader:
    """Reads a header (7zFormat.txt of the LZMA SDK). Raises IndexError and ValueError at whatever is none."""

    __slots__ = ("_at", "_octets")

    def __init__(self, octets: bytes, at: int) -> None:
        self._octets = octets
        self._at = at

    def byte(self) -> int:
        self._at += 1
        return self._octets[self._at - 1]

    def take(self, length: int) -> bytes:
        self._at += length
        if length < 0 or self._at > len(self._octets):
            raise IndexError
        return self._octets[self._at - length : self._at]

    def number(self) -> int:
        first, mask, value = self.byte(), 0x80, 0
        for place in range(8):
            if not first & mask:
                return value | (first & (mask - 1)) << 8 * place
            value |= self.byte() << 8 * place
            mask >>= 1
        return value

    def count(self) -> int:
        value = self.number()
        if value > _MOST:
            raise ValueError("too many")
        return value

    def bits(self, count: int) -> list[bool]:
        octets = self.take((count + 7) // 8)
        return [bool(octets[place // 8] & 0x80 >> place % 8) for place in range(count)]

    def end(self, kind: int, count: int) -> list[bool]:
        """The end, or digests first; which of ``count`` there are digests of."""
        known = [False] * count
        if kind == 10:
            known = [True] * count if self.byte() else self.bits(count)
            self.take(4 * sum(known))
            kind = self.byte()
        if kind != 0:
            raise ValueError("no end")
        return known

    def header(self) -> tuple[_Streams, list[str], list[bool]]:
        streams = _Streams(0, [], [], [])
        names: list[str] = []
        empty: list[bool] = []
        kind = self.byte()
        if kind == 2:
            while self.number():
                self.take(self.number())
            kind = self.byte()
        if kind == 3:
            self.streams()
            kind = self.byte()
        if kind == 4:
            streams = self.streams()
            kind = self.byte()
        if kind == 5:
            names, empty = self.files()
        return streams, names, empty

    def streams(self) -> _Streams:
        begin, packed, folders = 0, [], []
        files: list[list[int]] = []
        kind = self.byte()
        if kind == 6:
            begin, count = self.number(), self.count()
            kind = self.byte()
            if kind == 9:
                packed = [self.number() for _ in range(count)]
                kind = self.byte()
            self.end(kind, count)
            kind = self.byte()
        if kind == 7:
            folders = self.folders()
            files = [[folder.size] for folder in folders]
            kind = self.byte()
        if kind == 8:
            files = self.substreams(folders)
            kind = self.byte()
        if kind != 0 or len(packed) < sum(folder.packs for folder in folders):
            raise ValueError("no end")
        return _Streams(begin, packed, folders, files)

    def folders(self) -> list[_Folder]:
        if self.byte() != 11:
            raise ValueError("no folders")
        count = self.count()
        if self.byte():
            raise ValueError("folders elsewhere")
        found = [self.folder() for _ in range(count)]
        if self.byte() != 12:
            raise ValueError("no sizes")
        for folder in found:
            folder.sizes[:] = [self.number() for _ in folder.sizes]
        known = self.end(self.byte(), count)
        return [folder._replace(checked=checked) for folder, checked in zip(found, known, strict=True)]

    def folder(self) -> _Folder:
        coders, inputs, outputs = [], 0, 0
        count = self.count()
        if count > _MOST_CODERS:
            raise ValueError("too many")
        for _ in range(count):
            flags = self.byte()
            name = self.take(flags & 15)
            taken, given = (self.count(), self.count()) if flags & 16 else (1, 1)
            if flags & 0x80:
                raise ValueError("another way to pack")
            coders.append((name, self.take(self.number()) if flags & 32 else b""))
            inputs += taken
            outputs += given
        packs = inputs - outputs + 1
        if not 0 < outputs <= _MOST_CODERS or not 0 < packs <= _MOST_CODERS:
            raise ValueError("a folder of nothing")
        # Pairs of an input and the output that goes into it; the output that is in none is the content.
        bound = {pair[1] for pair in [(self.number(), self.number()) for _ in range(outputs - 1)]}
        if packs > 1:
            for _ in range(packs):
                self.number()
        [main] = set(range(outputs)) - bound
        return _Folder(coders, [0] * outputs, main, packs, False)

    def substreams(self, folders: list[_Folder]) -> list[list[int]]:
        counts = [1] * len(folders)
        kind = self.byte()
        if kind == 13:
            counts = [self.count() for _ in folders]
            kind = self.byte()
        found = []
        sized = kind == 9
        for folder, count in zip(folders, counts, strict=True):
            sizes = [self.number() for _ in range(count - 1)] if sized else []
            last = folder.size - sum(sizes)
            if last < 0 or (count > 1 and not sized):
                raise ValueError("sizes that are wrong")
            found.append([*sizes, last] if count else [])
        if sized:
            kind = self.byte()
        # The digest of a folder is that of its only file.
        checked = sum(folder.checked and count == 1 for folder, count in zip(folders, counts, strict=True))
        self.end(kind, sum(counts) - checked)
        return found

    def files(self) -> tuple[list[str], list[bool]]:
        count = self.count()
        names, empty = [""] * count, [False] * count
        while kind := self.number():
            size = self.number()
            end = self._at + size
            if kind == 14:
                empty = self.bits(count)
            elif kind == 17 and not self.byte():
                text = self.take(size - 1).decode("utf-16-le", "replace")
                found = text.split("\0")[:count]
                names = found + [""] * (count - len(found))
            self._at = end
        return names, empty
