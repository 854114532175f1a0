"""A line of things that may wait so long and no longer: one timer for its head, none for each that waits.

Knows order and time. Does not know what waits: messages for a connection, connections for a message, strangers for an
answer. All share one span, so whoever came first is the first to be sent away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from inboundmx.ports import Clock, Timer

T = TypeVar("T")

# A timer may fire this much early by the arithmetic of floating point.
SLACK_SECONDS = 1e-6


class Line(Generic[T]):
    """``expired`` is called with whatever waited ``seconds``, after it left. Items are told apart by their hash."""

    __slots__ = ("_clock", "_due", "_expired", "_seconds", "_timer")

    def __init__(self, clock: Clock, seconds: float, expired: Callable[[T], object]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self._due: dict[T, float] = {}
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._due))

    def join(self, item: T) -> None:
        self._due[item] = self._clock.monotonic() + self._seconds
        if self._timer is None:
            self._timer = self._clock.call_later(self._seconds, self._sweep)

    def leave(self, item: T) -> None:
        """Harmless for what has left already."""
        self._due.pop(item, None)

    def oldest(self) -> T | None:
        """Takes out what has waited longest."""
        for item in self._due:
            del self._due[item]
            return item
        return None

    def newest(self) -> T | None:
        """Takes out what came last."""
        return self._due.popitem()[0] if self._due else None

    def close(self) -> None:
        """Forgets everything, and its timer."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.monotonic() + SLACK_SECONDS
        for item, due in tuple(self._due.items()):
            if due > now:
                break
            # An earlier one's leaving may have served this one.
            if self._due.pop(item, None) is not None:
                self._expired(item)
        if self._timer is None:
            for due in self._due.values():
                self._timer = self._clock.call_later(max(due - self._clock.monotonic(), 0.0), self._sweep)
                break
