"""How much may be unpacked of what a stranger sends, and streams that are unpacked piece by piece within it.

Knows budgets and the compressions of the standard library. Does not know archives.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

# Octets that are put in and taken out at once: between two of them the budget is asked, and other threads have a turn.
PIECE = 64 * 1024
# Below so many octets no ratio is held against an archive: a spreadsheet of blanks packs well.
SMALL = 1024 * 1024
# What xz and lzma may ask for in memory.
DICTIONARY = 64 * 1024 * 1024


class TooDeep(Exception):
    """A limit was met. Its text says which."""


class Broken(Exception):
    """It is not what it says it is. Its text says why."""


class Sealed(Exception):
    """It is encrypted, the list of its files included."""


class Entry(NamedTuple):
    """A file in an archive. ``names``: every name it is given there. ``content``: its octets in pieces, or None where
    they cannot be read, then ``wrong`` is empty and the kind of archive unknown to us; ``encrypted``; ``wrong``: what
    readers of the archive disagree about."""

    names: tuple[str, ...]
    content: Callable[[], Iterator[bytes]] | None
    encrypted: bool = False
    wrong: str = ""


class Budget:
    """What is left of the limits of one message. ``now`` and ``deadline`` in seconds, of one clock."""

    __slots__ = ("_deadline", "_files", "_left", "_now", "_packed", "_ratio", "_size", "_unpacked")

    def __init__(self, size: int, files: int, ratio: int, now: Callable[[], float], deadline: float) -> None:
        self._size = self._left = size
        self._files = files
        self._ratio = ratio
        self._now = now
        self._deadline = deadline
        self._packed = self._unpacked = 0

    def begin(self, packed: int) -> None:
        """From here on it is the ratio to so many octets that counts."""
        self._packed = packed
        self._unpacked = 0

    @property
    def files(self) -> int:
        """How many more may be looked at."""
        return self._files

    def file(self) -> None:
        self.tick()
        self._files -= 1
        if self._files < 0:
            raise TooDeep("too many files")

    def take(self, octets: int) -> None:
        self.tick()
        self._left -= octets
        self._unpacked += octets
        if self._left < 0:
            raise TooDeep("too much to unpack")
        if self._unpacked > SMALL and self._unpacked > self._packed * self._ratio:
            raise TooDeep(f"more than {self._ratio} times as large as it was packed")

    def tick(self) -> None:
        if self._now() > self._deadline:
            raise TooDeep("no time to look at all of it")


class Decompressor(Protocol):
    """As those of bz2 and lzma are."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Inflater:
    """zlib's, with the same face."""

    __slots__ = ("_made",)

    def __init__(self, window: int) -> None:
        self._made: Any = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return bool(self._made.eof)

    @property
    def needs_input(self) -> bool:
        return not self._made.unconsumed_tail and not self._made.eof

    @property
    def unused_data(self) -> bytes:
        return bytes(self._made.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return bytes(self._made.decompress(self._made.unconsumed_tail + data, max_length))


def gzip() -> Decompressor:
    return Inflater(31)


def deflate() -> Decompressor:
    return Inflater(-15)


def bzip2() -> Decompressor:
    return bz2.BZ2Decompressor()


def xz() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=DICTIONARY)


def stream(
    octets: bytes | memoryview, make: Callable[[], Decompressor], several: bool = True, marked: bool = True
) -> Iterator[bytes]:
    """The content in pieces. ``several``: one stream may follow another. ``marked``: its end is within it, else it is
    where the octets end. Raises Broken, and ValueError where ``make`` does."""
    at, members = 0, 0
    while at < len(octets):
        unpacking = make()
        try:
            while not unpacking.eof:
                data = b""
                if unpacking.needs_input:
                    data = bytes(octets[at : at + PIECE])
                    at += len(data)
                piece = unpacking.decompress(data, PIECE)
                if piece:
                    yield piece
                elif not data and at >= len(octets) and not unpacking.eof:
                    if marked:
                        raise Broken("it ends too early")
                    return
        except (zlib.error, OSError, EOFError, MemoryError, lzma.LZMAError) as error:
            if members:
                # What follows a whole stream and is none itself: padding, a signature.
                return
            raise Broken("its compression is damaged") from error
        at -= len(unpacking.unused_data)
        members += 1
        if not several or not bytes(octets[at : at + PIECE]).strip(b"\0"):
            return


def stored(octets: bytes | memoryview) -> Iterator[bytes]:
    for start in range(0, len(octets), PIECE):
        yield bytes(octets[start : start + PIECE])


def raw_lzma(properties: bytes) -> Decompressor:
    """LZMA with its five octets of properties beside it. Raises ValueError for such as are none, or want too much."""
    if len(properties) != 5 or properties[0] >= 225:
        raise ValueError("no properties of LZMA")
    rest, lc = divmod(properties[0], 9)
    pb, lp = divmod(rest, 5)
    dictionary = int.from_bytes(properties[1:], "little")
    if dictionary > DICTIONARY or lc + lp > 4:
        raise ValueError("more memory than is given")
    chosen = {"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": max(4096, dictionary)}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[chosen])
