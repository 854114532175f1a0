"""What is due when: the entries that wait for their time, and those whose time has come, by destination.

Knows ids, destinations, priorities and time by a clock that does not jump. Does not know what delivering is, nor
whether anybody is there: it starts what is due, so many at once for each destination and in all, so that none delays
another, and a wave of a hundred thousand is spread over some time instead of stopping everything else.

An entry costs one small item: heaps hold items themselves, ordered by what they wait for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import count, islice

from inboundmx.delivery.line import SLACK_SECONDS
from inboundmx.model.custody import Host, SpoolEntry
from inboundmx.ports import Clock, Timer

# Entries moved in one turn of the reactor; a wave of a hundred thousand takes several.
TURN = 1000
# So many are started within so many seconds: 8,000 a second, where one worker delivers 4,000 to 5,000 from its spool.
# With half of it a spool on a free machine emptied at 3,500 a second, with time to spare; now at 4,100. A hundred that
# start together hold up whoever comes meanwhile for 4 ms.
BURST, BURST_SECONDS = 100, 0.0125
# When so many could not start, neither could the next.
REFUSALS = 8
# How many run at once in all. Beyond it a destination may still start its first, as often again.
AT_ONCE = 1000
# Destinations told of in the status.
TOLD = 1000
# More than any time of reception, so that the priority comes first and the age after it.
PRIORITY = 1e11

# Where an item is: waiting for its time, waiting for room; and whether it may go early, whether it uses up a slot,
# whether somebody asked for it.
LATER, DUE, EARLY, SLOT, ASKED = 1, 2, 4, 8, 16

Key = tuple[str, str]


class _Item:
    """``key`` orders it in the heap it is in: the time it is due, or its ``rank`` once it is."""

    __slots__ = ("destination", "id", "key", "rank", "state")

    def __init__(self, id: str, destination: _Destination, rank: float, state: int) -> None:
        self.id = id
        self.destination = destination
        self.rank = self.key = rank
        self.state = state

    def __lt__(self, other: _Item) -> bool:
        return self.key < other.key or (self.key == other.key and self.id < other.id)


class _Destination:
    """``later`` and ``due`` are heaps; what was dropped stays in them until its turn. ``waiting`` and ``ready`` count
    what was not."""

    __slots__ = ("due", "hosts", "key", "later", "moving", "ready", "running", "starting", "waiting", "wakes_at")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.hosts: tuple[Host, ...] = ()
        self.later: list[_Item] = []
        self.due: list[_Item] = []
        self.waiting = 0
        self.ready = 0
        self.running = 0
        self.wakes_at: float | None = None
        self.starting = False
        self.moving = False

    @property
    def empty(self) -> bool:
        return not (self.waiting or self.ready or self.running)


class Agenda:
    """``start`` is called with an id, whether its slot has come and, where it has not, whether somebody asked for it
    rather than that its destination seems to be back; it must call ``finished`` or ``again`` once.
    ``room`` is how many of one destination may run at once. Of a destination (domain, via) that is ``paused`` nothing
    is started, and so no slot is used up, until ``go_on``. Nothing is started before ``begin``."""

    def __init__(
        self,
        clock: Clock,
        start: Callable[[str, bool, bool], object],
        room: Callable[[], int],
        paused: Callable[[str, str], bool] = lambda domain, via: False,
    ) -> None:
        self._clock = clock
        self._start = start
        self._room = room
        self._paused = paused
        self._items: dict[str, _Item] = {}
        self._running: dict[str, _Item] = {}
        self._destinations: dict[Key, _Destination] = {}
        self._wakes: list[tuple[float, int, _Destination]] = []
        self._count = count()
        self._timer: Timer | None = None
        self._timer_at = 0.0
        # Destinations that have something due and were not let: too much runs, or was started just now.
        self._blocked: dict[_Destination, None] = {}
        self._burst = 0
        self._burst_ends = 0.0
        self._more: Timer | None = None
        self._moves: dict[_Destination, Timer] = {}
        self._unblocking = False
        self._holding = False
        self._stopped = False

    # --- what is noted ------------------------------------------------------------------------------------------------

    def put(self, entry: SpoolEntry, seconds: float, *, early: bool = True, slot: bool = True) -> None:
        """``entry`` is due after so many seconds, whatever was noted of it before. Nothing is noted of one that is
        running: its end decides. ``early``: it may go as soon as its destination is back; ``slot``: a slot of its
        schedule comes with that time."""
        if not self._stopped and entry.id not in self._running:
            self._put(entry, seconds, early, slot)

    def drop(self, id: str) -> None:
        """Forgets it. What runs goes on running."""
        item = self._items.get(id)
        if item is not None:
            self._take_out(item)
            self._tidy(item.destination)

    def now(self, id: str) -> None:
        """Due at once, out of turn: uses up no slot."""
        item = self._items.get(id)
        if item is not None:
            if item.state & DUE:
                item.state = DUE | ASKED
            else:
                self._call(item)
            self._go(item.destination)

    def knock(self, domain: str, via: str) -> bool:
        """One of those that wait for a destination and may come early is due, and uses up no slot; whether there is
        one."""
        destination = self._destinations.get((domain, via))
        found = None
        if destination is not None:
            found = next((item for item in destination.later if item.state & LATER and item.state & EARLY), None)
        if destination is None or found is None:
            return False
        self._call(found)
        self._go(destination)
        return True

    def bring_forward(self, domain: str, via: str = "") -> None:
        """The destination is back: what waits for it and may come early is due, and uses up no slot."""
        destination = self._destinations.get((domain, via))
        if destination is None or destination.moving:
            return
        destination.moving = True
        moving, destination.later = destination.later, []
        self._move(destination, moving, 0)

    def go_on(self, domain: str) -> None:
        """What has become due while it was paused is started; of all destinations, when ``domain`` is empty."""
        for destination in self._destinations.values():
            if destination.ready and (not domain or destination.key[0] == domain):
                self._blocked[destination] = None
        self._unblock()

    def take(self, id: str) -> bool:
        """It is as if it had been started, for something else than its time: ``finished`` or ``again`` end that. False:
        nothing is noted of it, or it runs."""
        item = self._items.get(id)
        if item is None:
            return False
        self._take_out(item)
        item.destination.running += 1
        self._running[id] = item
        return True

    def goes_to(self, id: str, hosts: tuple[Host, ...]) -> None:
        """The hosts that what runs under ``id``, and so its destination, was last to go to."""
        item = self._running.get(id)
        if item is not None:
            item.destination.hosts = hosts

    def finished(self, id: str) -> None:
        """What was started has ended, for good."""
        self._end(id, None, 0.0, True, True)

    def again(self, entry: SpoolEntry, seconds: float, *, early: bool = True, slot: bool = True) -> None:
        """What was started has ended, and is noted anew as by ``put``."""
        if entry.id in self._running:
            self._end(entry.id, entry, seconds, early, slot)
        else:
            self.put(entry, seconds, early=early, slot=slot)

    def hold(self) -> None:
        """What is put meanwhile is not started, so that the most urgent of all is first."""
        self._holding = True

    def begin(self) -> None:
        self._holding = False
        self._unblock()

    def stop(self) -> None:
        """Starts nothing more."""
        self._stopped = True
        for timer in (self._timer, self._more, *self._moves.values()):
            if timer is not None:
                timer.cancel()
        self._timer = self._more = None
        self._moves.clear()

    # --- what is told -------------------------------------------------------------------------------------------------

    def due(self, id: str) -> bool:
        """It only waits for room."""
        item = self._items.get(id)
        return item is not None and bool(item.state & DUE)

    def running(self, id: str) -> bool:
        return id in self._running

    def destinations(self) -> Sequence[Key]:
        """Domain and via of each."""
        return tuple(self._destinations)

    def hosts(self, key: Key) -> tuple[Host, ...]:
        """Of the destination's last route; none, if none was found yet."""
        destination = self._destinations.get(key)
        return destination.hosts if destination is not None else ()

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """By domain, of the fullest: how many wait for their time, are due, run."""
        told: dict[str, dict[str, int]] = {}
        fullest = heapq.nlargest(TOLD, self._destinations.values(), key=lambda d: d.waiting + d.ready + d.running)
        for destination in fullest:
            domain, via = destination.key
            name = f"archive {domain}" if via == "archive" else domain
            row = told.setdefault(name, {"later": 0, "due": 0, "running": 0})
            row["later"] += destination.waiting
            row["due"] += destination.ready
            row["running"] += destination.running
        return told

    # --- inside -------------------------------------------------------------------------------------------------------

    def _put(self, entry: SpoolEntry, seconds: float, early: bool, slot: bool) -> None:
        key = (entry.domain, entry.via)
        destination = self._destinations.get(key)
        if destination is None:
            destination = self._destinations[key] = _Destination(key)
        known = self._items.get(entry.id)
        if known is not None:
            self._take_out(known)
            if known.destination is not destination:
                self._tidy(known.destination)
        state = (EARLY if early else 0) | (SLOT if slot else 0)
        item = _Item(entry.id, destination, entry.received_at - PRIORITY * entry.priority, state)
        self._items[item.id] = item
        if seconds <= 0:
            self._make_due(item, slot)
            self._go(destination)
            return
        item.key = self._clock.monotonic() + seconds
        item.state |= LATER
        destination.waiting += 1
        destination.later = _cleared(destination.later, destination.waiting, LATER)
        heapq.heappush(destination.later, item)
        self._wake_at(destination, item.key)

    def _take_out(self, item: _Item) -> None:
        """It stays where it is in its heap, as nothing."""
        if item.state & LATER:
            item.destination.waiting -= 1
        else:
            item.destination.ready -= 1
        item.state = 0
        del self._items[item.id]

    def _call(self, item: _Item) -> None:
        """One that waits for its time is due without it."""
        self._take_out(item)
        called = _Item(item.id, item.destination, item.rank, 0)
        self._items[item.id] = called
        self._make_due(called, slot=False)
        called.state |= ASKED

    def _make_due(self, item: _Item, slot: bool) -> None:
        destination = item.destination
        item.state = DUE | (SLOT if slot else 0)
        item.key = item.rank
        destination.ready += 1
        destination.due = _cleared(destination.due, destination.ready, DUE)
        heapq.heappush(destination.due, item)

    def _move(self, destination: _Destination, moving: list[_Item], at: int) -> None:
        """Goes on bringing forward, a part in a turn; nothing is started before the most urgent is known."""
        end = min(len(moving), at + TURN)
        for item in moving[at:end]:
            if item.state & LATER and item.state & EARLY:
                destination.waiting -= 1
                destination.ready += 1
                item.state = DUE
                item.key = item.rank
                destination.due.append(item)
            elif item.state:
                destination.later.append(item)
        if end < len(moving):
            self._moves[destination] = self._clock.call_later(0.0, self._move, destination, moving, end)
            return
        self._moves.pop(destination, None)
        heapq.heapify(destination.due)
        heapq.heapify(destination.later)
        destination.moving = False
        if destination.later:
            self._wake_at(destination, destination.later[0].key)
        self._go(destination)

    def _tidy(self, destination: _Destination) -> None:
        if destination.empty and not destination.moving:
            self._destinations.pop(destination.key, None)
            self._blocked.pop(destination, None)

    def _end(self, id: str, entry: SpoolEntry | None, seconds: float, early: bool, slot: bool) -> None:
        item = self._running.pop(id, None)
        if item is None:
            return
        destination = item.destination
        destination.running -= 1
        if entry is not None and not self._stopped:
            self._put(entry, seconds, early, slot)
        if self._blocked:
            self._unblock()
        self._go(destination)
        self._tidy(destination)

    def _go(self, destination: _Destination) -> bool:
        """Starts what is due, the highest priority first, then the oldest. False: it was not let start all it may."""
        # ``start`` may end at once and come back here.
        if not destination.ready or destination.starting or destination.moving or self._paused(*destination.key):
            return True
        destination.starting = True
        try:
            while destination.due and destination.running < self._room() and not self._stopped:
                if not self._may_start(destination):
                    self._blocked[destination] = None
                    return False
                item = heapq.heappop(destination.due)
                if not item.state:
                    continue
                slot, asked = bool(item.state & SLOT), bool(item.state & ASKED)
                self._take_out(item)
                destination.running += 1
                self._running[item.id] = item
                self._burst += 1
                self._start(item.id, slot, asked)
        finally:
            destination.starting = False
        return True

    def _may_start(self, destination: _Destination) -> bool:
        if self._holding or len(self._running) >= (AT_ONCE if destination.running else 2 * AT_ONCE):
            return False
        now = self._clock.monotonic()
        if now >= self._burst_ends:
            self._burst, self._burst_ends = 0, now + BURST_SECONDS
        if self._burst < BURST:
            return True
        if self._more is None:
            self._more = self._clock.call_later(self._burst_ends - now, self._go_on_starting)
        return False

    def _go_on_starting(self) -> None:
        self._more = None
        if self._clock.monotonic() >= self._burst_ends - SLACK_SECONDS:
            self._burst = 0
        self._unblock()

    def _unblock(self) -> None:
        """Those that were not let are let in their turn."""
        # What is started may end at once and come back here.
        if self._unblocking:
            return
        self._unblocking = True
        refusals = REFUSALS
        for destination in list(islice(self._blocked, BURST + refusals)):
            if self._more is not None or self._holding or refusals <= 0:
                break
            before = destination.running
            if destination not in self._blocked:
                continue
            if self._go(destination):
                self._blocked.pop(destination, None)
            elif destination.running > before:
                # It had its turn.
                self._blocked[destination] = self._blocked.pop(destination)
            else:
                refusals -= 1
        self._unblocking = False
        if self._blocked and self._more is None and not self._holding and len(self._running) < AT_ONCE:
            self._more = self._clock.call_later(0.0, self._go_on_starting)

    def _wake_at(self, destination: _Destination, at: float) -> None:
        if destination.wakes_at is not None and destination.wakes_at <= at:
            return
        destination.wakes_at = at
        if len(self._wakes) > 2 * len(self._destinations) + TURN:
            self._wakes = [wake for wake in self._wakes if wake[2].wakes_at == wake[0]]
            heapq.heapify(self._wakes)
        heapq.heappush(self._wakes, (at, next(self._count), destination))
        self._arm(at)

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
        turn = TURN
        woken = []
        while self._wakes and self._wakes[0][0] <= now and turn > 0:
            at, _, destination = heapq.heappop(self._wakes)
            if destination.wakes_at != at:
                continue
            destination.wakes_at = None
            later = destination.later
            while later and later[0].key <= now and turn > 0:
                item = heapq.heappop(later)
                if item.state:
                    destination.waiting -= 1
                    self._make_due(item, bool(item.state & SLOT))
                turn -= 1
            if later:
                self._wake_at(destination, later[0].key)
            woken.append(destination)
            turn -= 1
        for destination in woken:
            self._go(destination)
        if self._wakes and not self._stopped:
            self._arm(self._wakes[0][0])


def _cleared(heap: list[_Item], living: int, where: int) -> list[_Item]:
    """The heap without what was dropped from it, once that is most of it."""
    if len(heap) <= 2 * living + TURN:
        return heap
    heap = [item for item in heap if item.state & where]
    heapq.heapify(heap)
    return heap
