"""What is due when: the entries that wait for their time, and those whose time has come, by destination.

Knows ids, domains, priorities and time by a clock that does not jump. Does not know what delivering is, nor whether
anybody is there: it starts what is due, so many at once for each destination, so that none delays another.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import count

from inboundmx.model.custody import SpoolEntry
from inboundmx.ports import Clock, Timer

# Entries looked at in one turn of the reactor; a wave of a hundred thousand takes several.
TURN = 1000


class _Item:
    __slots__ = ("domain", "early", "id", "order", "place", "slot")

    def __init__(self, id: str, domain: str, order: tuple[int, float, int], early: bool) -> None:
        self.id = id
        self.domain = domain
        self.order = order
        # Whether it may go as soon as its primary is back.
        self.early = early
        self.slot = True
        self.place = "later"


class _Destination:
    __slots__ = ("due", "items", "running", "starting")

    def __init__(self) -> None:
        self.items: dict[str, _Item] = {}
        self.due: list[tuple[tuple[int, float, int], _Item]] = []
        self.running = 0
        self.starting = False


class Agenda:
    """``start`` is called with an id and whether its slot has come; it must call ``finished`` once. ``room`` is how
    many of one destination may run at once. Of a destination that is ``paused`` nothing is started, and so no slot is
    used up, until ``go_on``."""

    def __init__(
        self,
        clock: Clock,
        start: Callable[[str, bool], object],
        room: Callable[[], int],
        paused: Callable[[str], bool] = lambda domain: False,
    ) -> None:
        self._clock = clock
        self._start = start
        self._room = room
        self._paused = paused
        self._items: dict[str, _Item] = {}
        self._running: dict[str, _Item] = {}
        self._later: list[tuple[float, int, _Item]] = []
        self._destinations: dict[str, _Destination] = {}
        self._count = count()
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._stopped = False

    def put(self, entry: SpoolEntry, seconds: float, *, early: bool = True) -> None:
        """``entry`` is due after so many seconds, whatever was noted of it before. Nothing is noted of one that is
        running: its end decides."""
        if self._stopped or entry.id in self._running:
            return
        self.drop(entry.id)
        number = next(self._count)
        item = _Item(entry.id, entry.domain, (-entry.priority, entry.received_at, number), early)
        self._items[item.id] = item
        destination = self._destinations.get(item.domain)
        if destination is None:
            destination = self._destinations[item.domain] = _Destination()
        destination.items[item.id] = item
        if seconds <= 0:
            self._make_due(item, slot=True)
            self._go(item.domain)
            return
        at = self._clock.monotonic() + seconds
        if len(self._later) > 2 * len(self._items) + TURN:
            # What was replaced or brought forward is left behind here until its time; not for ever more of it.
            self._later = [waiting for waiting in self._later if waiting[2].place == "later"]
            heapq.heapify(self._later)
        heapq.heappush(self._later, (at, number, item))
        self._arm(at)

    def drop(self, id: str) -> None:
        """Forgets it. What runs goes on running."""
        item = self._items.pop(id, None)
        if item is not None:
            item.place = ""
            self._destinations[item.domain].items.pop(id, None)

    def now(self, id: str) -> None:
        """Due at once, out of turn: uses up no slot."""
        item = self._items.get(id)
        if item is not None:
            if item.place == "later":
                self._make_due(item, slot=False)
            else:
                item.slot = False
            self._go(item.domain)

    def bring_forward(self, domain: str) -> None:
        """The destination is back: what waits for it and may come early is due, and uses up no slot."""
        destination = self._destinations.get(domain)
        if destination is not None:
            for item in tuple(destination.items.values()):
                if item.early and item.place == "later":
                    self._make_due(item, slot=False)
            self._go(domain)

    def go_on(self, domain: str) -> None:
        """What has become due while it was paused is started; of all destinations, when ``domain`` is empty."""
        for name in [domain] if domain else tuple(self._destinations):
            if name in self._destinations:
                self._go(name)

    def finished(self, id: str) -> None:
        """What was started has ended; noted anew only by ``put``."""
        item = self._running.pop(id, None)
        if item is not None:
            self._destinations[item.domain].running -= 1
            self._go(item.domain)

    def due(self, id: str) -> bool:
        """It only waits for room."""
        item = self._items.get(id)
        return item is not None and item.place == "due"

    def running(self, id: str) -> bool:
        return id in self._running

    def stop(self) -> None:
        """Starts nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """By domain: how many wait for their time, are due, run."""
        told = {}
        for domain, destination in self._destinations.items():
            due = sum(item.place == "due" for item in destination.items.values())
            told[domain] = {
                "later": len(destination.items) - due,
                "due": due,
                "running": destination.running,
            }
        return told

    def _make_due(self, item: _Item, slot: bool) -> None:
        item.place = "due"
        item.slot = slot
        heapq.heappush(self._destinations[item.domain].due, (item.order, item))

    def _go(self, domain: str) -> None:
        """Starts what is due, the highest priority first, then the oldest."""
        destination = self._destinations[domain]
        # ``start`` may end at once and come back here.
        if destination.starting or self._paused(domain):
            return
        destination.starting = True
        try:
            while destination.due and destination.running < self._room() and not self._stopped:
                _, item = heapq.heappop(destination.due)
                if item.place != "due":
                    continue
                self.drop(item.id)
                item.place = "running"
                destination.running += 1
                self._running[item.id] = item
                self._start(item.id, item.slot)
        finally:
            destination.starting = False

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.call_later(max(0.0, at - self._clock.monotonic()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        woken = set()
        for _ in range(TURN):
            if not self._later or self._later[0][0] > now:
                break
            _, _, item = heapq.heappop(self._later)
            if item.place == "later":
                self._make_due(item, slot=True)
                woken.add(item.domain)
        for domain in woken:
            self._go(domain)
        if self._later and not self._stopped:
            self._arm(self._later[0][0])
