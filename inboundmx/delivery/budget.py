"""How many connections there may be in all, whoever holds them.

Knows who holds some, who was refused one, and which hosts have not answered yet. Does not know what a connection is.

Hosts that do not answer hold what is opened to them for long: together never more than half of all there may be, and
those known to be silent never more than a quarter, so that neither a host that answers nor a new one waits for them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol


class Standing(enum.IntEnum):
    """What is known of a host, in the order they are served."""

    ANSWERS = 0
    NEW = 1
    SILENT = 2


class Holder(Protocol):
    def spare_one(self) -> bool:
        """Gives one up that is not in use, if there is one; then whoever asked counts as its holder."""

    def grow(self) -> None:
        """There may be one more."""


class Budget:
    """A pool that finds it spent takes another's idle connection, or is called when one comes free. What was taken for
    a host that is not known to answer is given up by ``answered`` or ``give`` with the same standing."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._used = 0
        self._opening = {Standing.NEW: 0, Standing.SILENT: 0}
        self._pools: dict[Holder, None] = {}
        self._refused: dict[Standing, dict[Holder, None]] = {standing: {} for standing in Standing}

    def enter(self, pool: Holder) -> None:
        self._pools[pool] = None

    def leave(self, pool: Holder) -> None:
        del self._pools[pool]
        for refused in self._refused.values():
            refused.pop(pool, None)

    def take(self, pool: Holder, standing: Standing = Standing.ANSWERS) -> bool:
        if not self._may(standing) or (self._used >= self._limit() and not self._spared(pool)):
            self._refused[standing][pool] = None
            return False
        self._used += 1
        if standing:
            self._opening[standing] += 1
        return True

    def answered(self, standing: Standing) -> None:
        """What was taken is a connection now."""
        if standing:
            self._opening[standing] -= 1
            self._offer()

    def give(self, standing: Standing = Standing.ANSWERS) -> None:
        self._used -= 1
        if standing:
            self._opening[standing] -= 1
        self._offer()

    def moved(self) -> None:
        """One was given up for a pool that takes it now."""
        self._used -= 1

    def _spared(self, pool: Holder) -> bool:
        return any(other.spare_one() for other in self._pools if other is not pool)

    def _may(self, standing: Standing) -> bool:
        if not standing:
            return True
        limit = self._limit()
        silent = self._opening[Standing.SILENT]
        if standing is Standing.SILENT and silent >= max(1, limit // 4):
            return False
        return self._opening[Standing.NEW] + silent < max(1, limit // 2)

    def _offer(self) -> None:
        # One that does not want it any more must not keep it from the next.
        for standing, refused in self._refused.items():
            for pool in tuple(refused):
                if self._used >= self._limit() or not self._may(standing):
                    break
                if pool in refused:
                    del refused[pool]
                    pool.grow()
