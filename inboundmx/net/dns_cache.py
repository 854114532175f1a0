"""What DNS said, for as long as it said it holds. Bounded in entries and in octets; the least used goes first.

Knows keys, deadlines and sizes. Does not know what it keeps, nor who asked.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")

ENTRIES_LIMIT = 20_000
OCTETS_LIMIT = 16 * 2**20


class Cache(Generic[V]):
    """``now`` is a clock that never jumps, in seconds."""

    def __init__(self, entries: int = ENTRIES_LIMIT, octets: int = OCTETS_LIMIT) -> None:
        self._entries = entries
        self._room = octets
        self._kept: OrderedDict[tuple[str, str], tuple[V, float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: tuple[str, str], now: float) -> V | None:
        found = self._kept.get(key)
        if found is None:
            return None
        if found[1] <= now:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: tuple[str, str], value: V, until: float, octets: int) -> None:
        if key in self._kept:
            self._drop(key)
        self._kept[key] = (value, until, octets)
        self._room -= octets
        while self._kept and (len(self._kept) > self._entries or self._room < 0):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, str]) -> None:
        self._room += self._kept.pop(key)[2]
