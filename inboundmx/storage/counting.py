"""What was added to counters and is not on the disk yet.

Knows how additions to one counter become one, and which belong to a window that is over. Does not know SQL, nor how a
total is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from inboundmx.ports import Fact

# Counters that wait for the disk; past it the oldest additions are forgotten.
WAITING_COUNTERS = 20_000
# Other processes' clocks may be this far behind ours: a window that began so much later is still under way.
CLOCK_SECONDS = 1.0

Name = tuple[str, str]


class Addition(NamedTuple):
    """``at``: when the first of it was added, seconds since the epoch."""

    amount: float
    window_seconds: float
    at: float


def under_way(fact: Fact, window_seconds: float, now: float) -> bool:
    """Whether a counter's window is not over at ``now``. One that would last longer than a window does began before the
    clock was put back, or when windows were longer."""
    return bool(fact.values) and now < fact.expires_at <= now + window_seconds + CLOCK_SECONDS


def added(fact: Fact | None, addition: Addition) -> Fact:
    """A counter with something added to it, in the window under way or in one that begins with it."""
    if fact is not None and under_way(fact, addition.window_seconds, addition.at):
        return Fact((fact.values[0] + addition.amount,), fact.written_at, fact.expires_at)
    return Fact((addition.amount,), addition.at, addition.at + addition.window_seconds)


class Additions:
    """Those that wait, one for each counter, and those that are on their way to the disk."""

    def __init__(self) -> None:
        self._waiting: dict[Name, Addition] = {}
        self._leaving: dict[Name, Addition] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, name: Name) -> bool:
        return name in self._waiting or name in self._leaving

    def add(self, name: Name, amount: float, window_seconds: float, now: float, began: bool) -> None:
        """``began``: the window did with this, so what was added before counts no more."""
        waiting = self._waiting
        before = None if began else waiting.get(name)
        if before is not None:
            waiting[name] = Addition(before.amount + amount, before.window_seconds, before.at)
            return
        waiting[name] = Addition(amount, window_seconds, now)
        self._bound()

    def take(self, most: int) -> Mapping[Name, Addition]:
        """The oldest, which are on their way from now on."""
        waiting = self._waiting
        names = list(islice(waiting, most))
        self._leaving = {name: waiting.pop(name) for name in names}
        return self._leaving

    def arrived(self) -> None:
        self._leaving = {}

    def came_back(self) -> None:
        """They did not get there: they wait again, before what was added since."""
        waiting, self._waiting, self._leaving = self._waiting, self._leaving, {}
        for name, addition in waiting.items():
            before = self._waiting.get(name)
            if before is None or addition.at >= before.at + before.window_seconds:
                self._waiting[name] = addition
            else:
                self._waiting[name] = Addition(before.amount + addition.amount, addition.window_seconds, before.at)
        self._bound()

    def since(self, name: Name, counted: Fact) -> float:
        """What was added to a counter after what is ``counted`` there, in the same window."""
        addition = self._waiting.get(name)
        return addition.amount if addition is not None and addition.at < counted.expires_at else 0.0

    def _bound(self) -> None:
        while len(self._waiting) > WAITING_COUNTERS:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
