"""How many connections there may be in all, whoever holds them.

Knows who holds some and who was refused one. Does not know what a connection is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Holder(Protocol):
    def spare_one(self) -> bool:
        """Gives one up that is not in use, if there is one; then whoever asked counts as its holder."""

    def grow(self) -> None:
        """There may be one more."""


class Budget:
    """How many connections there may be in all. A pool that finds it spent takes another's idle one, or is called when
    one comes free."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._used = 0
        self._pools: list[Holder] = []
        self._refused: dict[Holder, None] = {}

    def enter(self, pool: Holder) -> None:
        self._pools.append(pool)

    def leave(self, pool: Holder) -> None:
        self._pools.remove(pool)
        self._refused.pop(pool, None)

    def take(self, pool: Holder) -> bool:
        if self._used >= self._limit() and not any(other.spare_one() for other in self._pools if other is not pool):
            self._refused[pool] = None
            return False
        self._used += 1
        return True

    def give(self) -> None:
        self._used -= 1
        # One that does not want it any more must not keep it from the next.
        for pool in tuple(self._refused):
            if self._used >= self._limit():
                break
            if pool in self._refused:
                del self._refused[pool]
                pool.grow()

    def moved(self) -> None:
        """One was given up for a pool that takes it now."""
        self._used -= 1
