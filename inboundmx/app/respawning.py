"""When a worker that died is started anew, and what it had in hand again and again.

Knows instants and ids. Does not know a process.
"""

from __future__ import annotations

from collections.abc import Collection

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
# A worker that lived for so long is not one that cannot live.
SETTLED_SECONDS = 600.0
# Crashes one after the other with the same mail in hand, after which that mail is kept from doing it again.
CRASHES = 3


class Backoff:
    """At once the first time, then after 1 s, 2 s and so on up to a minute, and from the beginning once a life was
    long."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def died(self, lived_seconds: float) -> float:
        """Seconds to wait before the next start."""
        if lived_seconds >= SETTLED_SECONDS:
            self._seconds = 0.0
        wait = self._seconds
        self._seconds = min(LONGEST_SECONDS, wait * 2 or FIRST_SECONDS)
        return wait


class Suspects:
    """Which mail was in hand each time of late. What was not in hand at one crash is innocent of those before it."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def crashed(self, in_hand: Collection[str]) -> frozenset[str]:
        """Those that are to be parked now; they are forgotten with that."""
        self._times = {id: self._times.get(id, 0) + 1 for id in in_hand}
        guilty = frozenset(id for id, times in self._times.items() if times >= CRASHES)
        for id in guilty:
            del self._times[id]
        return guilty
