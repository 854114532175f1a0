"""The model that a Bayesian filter judges by: a file that every process maps into memory, and so has but once.

Knows how it is laid out, and that words stand in it as hashes under a secret of this gateway, so that nobody can read
in it what was in people's mail. Does not know what is made of the counts, nor where they come from.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable

from inboundmx.storage.disk import refuse_odd, replace_file, sync_folder
from inboundmx.storage.owner import give_to_owner_of

FILE_NAME = "bayes.model"
SECRET_OCTETS = 32
# Of each word: its number, and in how many messages of spam and of ham it was.
OCTETS_OF_WORD = 16
# Rows stand as this kind of machine has them in memory.
_MAGIC = b"bayes-1" + sys.byteorder[:1].encode()
# Magic, secret, messages of spam and of ham, words, checksum of what follows.
_HEAD = struct.Struct("<8s32sIIQI4x")


def number_of(secret: bytes, word: str) -> int:
    """64 bits of a keyed hash."""
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8, key=secret).digest()
    return int.from_bytes(digest, "big", signed=True)


class Model:
    """Implements ports.Learned. ``stamp`` tells this file from another of the same name."""

    def __init__(self, path: str) -> None:
        """Blocks. Raises OSError, and ValueError for what is no such file or damaged."""
        refuse_odd(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            self.stamp = stamp_of(found)
            if found.st_size < _HEAD.size:
                raise ValueError("it is cut short")
            self._mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        whole = memoryview(self._mapped)
        magic, self._secret, self.spam, self.ham, self.words, checksum = _HEAD.unpack_from(whole)
        if magic != _MAGIC or len(whole) != _HEAD.size + self.words * OCTETS_OF_WORD:
            raise ValueError("it is no model of this machine, or cut short")
        if zlib.crc32(whole[_HEAD.size :]) != checksum:
            raise ValueError("its checksum is another")
        spam_at = _HEAD.size + 8 * self.words
        ham_at = spam_at + 4 * self.words
        self._numbers = whole[_HEAD.size : spam_at].cast("q")
        self._spam = whole[spam_at:ham_at].cast("I")
        self._ham = whole[ham_at:].cast("I")

    def counts(self, words: Iterable[str]) -> list[tuple[int, int]]:
        numbers, secret, most = self._numbers, self._secret, self.words
        found = []
        for word in words:
            number = number_of(secret, word)
            place = bisect_left(numbers, number)
            if place < most and numbers[place] == number:
                found.append((self._spam[place], self._ham[place]))
        return found


def write(
    path: str, secret: bytes, messages: tuple[int, int], words: tuple[array[int], array[int], array[int]]
) -> None:
    """``messages``: of spam and of ham. ``words``: numbers in ascending order ("q"), and how often each was in spam and
    in ham ("I"). All of it or nothing; synced. Raises OSError."""
    body = b"".join(column.tobytes() for column in words)
    head = _HEAD.pack(_MAGIC, secret, *messages, len(words[0]), zlib.crc32(body))
    replace_file(path, head + body)
    folder = os.path.dirname(path)
    give_to_owner_of(folder, (path,))
    sync_folder(folder)


def stamp_of(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns
