"""A stop, part by part, within a time: one that does not end keeps the others from ending no longer.

Knows how much of the time is left. Does not know the parts, nor in which order they are to end.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from inboundmx.ports import Clock, Journal

# What the disk takes in the end.
COMMIT_SECONDS = 1.5
# Given to each part, however late it is.
LEAST_SECONDS = 0.5


class Stopping:
    """Begins now, and has so many seconds. ``reactor`` is what ``clock`` goes by."""

    def __init__(self, clock: Clock, reactor: Any, journal: Journal, seconds: float) -> None:
        self._clock = clock
        self._reactor = reactor
        self._journal = journal
        self._end = clock.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds for a part until it has to commit what came of it."""
        return max(LEAST_SECONDS, self._end - self._clock.monotonic() - COMMIT_SECONDS)

    async def ended(self, part: str, ending: Deferred[Any]) -> None:
        """Once it has, well or not, or had its time: what matters is on the disk."""
        try:
            await ending.addTimeout(self.left + COMMIT_SECONDS, self._reactor)
        except Exception as error:  # noqa: BLE001 - whatever keeps one part from ending well, the rest has to end
            trouble = f"{type(error).__name__}: {error}"
            self._journal.record("stop_incomplete", "", {"part": part, "trouble": trouble}, level="error")
