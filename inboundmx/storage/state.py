"""The state store: facts we may forget, in one SQLite file that all processes share (ports.StateStore).

Knows what is read at once and what is written later. Does not know what a fact means, nor SQL beyond one look-up.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred

from inboundmx.ports import Clock, Fact, Timer, Unavailable
from inboundmx.storage.counting import Addition, Additions, Name, added, under_way
from inboundmx.storage.sqlite_file import uri
from inboundmx.storage.state_file import BATCH_FACTS, Damage, StateFile, fact_of, is_broken, lenient, number_of
from inboundmx.storage.writer import FromThread, Lane, ThreadLane, Writer

FILE_NAME = "state.sqlite"
FLUSH_SECONDS = 0.2
# Until a file that could not be written is tried again.
RETRY_SECONDS = 5.0
# Facts that wait for the disk; past it the oldest are forgotten, which is what facts are for.
WAITING_FACTS = 20_000
REMEMBERED = 10_000
# How old a remembered answer may be; other processes write too.
FRESH_SECONDS = 30.0
FRESH_ABSENT_SECONDS = 1.0
FRESH_COUNTER_SECONDS = 1.0
_SELECT = "SELECT space, key, data, written_at, expires_at FROM fact WHERE number = ?"

# Says what happened to the store itself: an event's name and its fields.
Report = Callable[[str, Mapping[str, object]], object]
# What the lane does beside writing: the work, and who waits for it.
_Errand = tuple[Callable[[], Any], "Deferred[Any]"]
_Batch = tuple[dict[Name, Fact], Mapping[Name, Addition], list[_Errand]]
# What came of it: the counters as they are now, damages found, and for each errand its result or what it raised.
_Done = tuple[dict[Name, Fact], list[Damage], list[Any]]


class SqliteStateStore:
    """``DATA/state.sqlite``. Reads happen on the caller's side: one look-up by an integer key, some microseconds, and a
    file that is locked is given up at once. Writes go to a thread, a batch every 200 ms."""

    def __init__(
        self,
        data_folder: str,
        clock: Clock,
        from_thread: FromThread,
        report: Report,
        lane: Callable[[str], Lane] = ThreadLane,
    ) -> None:
        """``report`` is called on the reactor's side. Does not raise: a file that cannot be opened is reported and
        tried again, and until then ``get`` raises Unavailable."""
        self._clock = clock
        self._report = report
        self._file = StateFile(os.path.join(data_folder, FILE_NAME))
        self._reader: sqlite3.Connection | None = None
        self._reading = 0
        self._waiting: dict[Name, Fact] = {}
        self._writing: dict[Name, Fact] = {}
        self._additions = Additions()
        self._errands: list[_Errand] = []
        self._known: OrderedDict[Name, tuple[float, Fact | None]] = OrderedDict()
        self._timer: Timer | None = None
        self._due = False
        self._closing = False
        self._failing = ""
        self.dropped = 0
        self._writer: Writer[_Batch, _Done] = Writer(
            self._take, self._execute, self._settled, lane("state-writer"), from_thread
        )
        try:
            damages = self._file.make(clock.now())
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        else:
            self._tell(damages)
            self._read_anew()

    # --- ports.StateStore ---------------------------------------------------------------------------------------------

    async def get(self, space: str, key: str) -> Fact | None:
        name = (space, key)
        fact = self._waiting.get(name) or self._writing.get(name)
        if fact is None:
            remembered = self._known.get(name)
            if remembered is not None and remembered[0] > self._clock.monotonic():
                fact = remembered[1]
            else:
                fact = self._look_up(name)
                self._remember(name, fact)
        return fact if fact is not None and fact.expires_at > self._clock.now() else None

    def put(self, space: str, key: str, fact: Fact) -> None:
        if self._closing:
            return
        name = (space, key)
        waiting = self._waiting
        waiting.pop(name, None)
        waiting[name] = fact
        if len(waiting) > WAITING_FACTS:
            del waiting[next(iter(waiting))]
            self.dropped += 1
        self._remember(name, fact)
        self._write_soon(len(waiting))

    def add(self, space: str, key: str, amount: float, window_seconds: float) -> float:
        if self._failing or self._closing:
            raise Unavailable(f"nothing can be counted: {self._failing or 'the state store is closed'}")
        name, now, additions = (space, key), self._clock.now(), self._additions
        remembered = self._known.get(name)
        if remembered is not None and (remembered[0] > self._clock.monotonic() or name in additions):
            fact = remembered[1]
        else:
            fact = self._look_up(name)
        began = fact is None or not under_way(fact, window_seconds, now)
        fact = added(fact, Addition(amount, window_seconds, now))
        additions.add(name, amount, window_seconds, now, began)
        self._remember(name, fact, FRESH_COUNTER_SECONDS)
        self._write_soon(len(additions))
        return fact.values[0]

    def forget(self, space: str, *matching: str) -> Deferred[int]:
        # What waits is written first, and so is among what is counted; what is on its way is before it in the lane.
        self._known.clear()
        done: Deferred[int] = self._errand(partial(self._file.forget, space, matching))
        return done.addCallback(self._forgotten)

    def facts(
        self, space: str, matching: str, limit: int, numbers: int | None = None
    ) -> Deferred[Sequence[tuple[str, Fact]]]:
        return self._errand(partial(self._file.facts, space, matching, limit, numbers, self._clock.now()))

    def close(self) -> Deferred[None]:
        """Writes what waits. Fires when the file is closed."""
        self._closing = self._due = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_reader()
        return self._writer.close(self._file.close)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _look_up(self, name: Name) -> Fact | None:
        if self._reader is None:
            raise Unavailable(f"the state store cannot be read: {self._failing or 'it is closed'}")
        try:
            row = self._reader.execute(_SELECT, (number_of(name),)).fetchone()
        except sqlite3.Error as error:
            if is_broken(error):
                # The writer sets the file aside and begins a new one.
                self._close_reader()
                self._file.condemned = str(error)
                self._flush()
            raise Unavailable(f"the state store cannot be read: {error}") from None
        # Another name with the same number is none of ours.
        return fact_of(*row[2:]) if row is not None and row[:2] == name else None

    def _remember(self, name: Name, fact: Fact | None, fresh: float = FRESH_SECONDS) -> None:
        known = self._known
        if fact is None:
            fresh = FRESH_ABSENT_SECONDS
        known[name] = (self._clock.monotonic() + fresh, fact)
        known.move_to_end(name)
        if len(known) > REMEMBERED:
            known.popitem(last=False)

    def _read_anew(self) -> None:
        self._close_reader()
        self._reading = self._file.opened
        try:
            self._reader = lenient(
                sqlite3.connect(uri(self._file.path, "ro"), uri=True, isolation_level=None, timeout=0.0)
            )
        except sqlite3.Error as error:
            self._failed(error)

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(sqlite3.Error):
                reader.close()

    # --- writing ------------------------------------------------------------------------------------------------------

    def _errand(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        if self._closing:
            done.errback(Unavailable("the state store is closed"))
            return done
        self._errands.append((work, done))
        self._flush()
        return done

    def _write_soon(self, waiting: int) -> None:
        if waiting >= BATCH_FACTS and not self._failing:
            self._flush()
        elif self._timer is None:
            self._set_timer(FLUSH_SECONDS)

    def _set_timer(self, seconds: float) -> None:
        self._timer = self._clock.call_later(seconds, self._flush_later)

    def _flush_later(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        self._due = True
        self._writer.wake()

    def _take(self) -> _Batch | None:
        """Errands go with the batch after which nothing waits that was put before them."""
        waiting, additions = self._waiting, self._additions
        many = max(len(waiting), len(additions)) >= BATCH_FACTS
        if not (self._due or (many and not self._failing)):
            return None
        names = list(islice(waiting, BATCH_FACTS))
        self._writing = {name: waiting.pop(name) for name in names}
        adding = additions.take(BATCH_FACTS)
        errands: list[_Errand] = []
        if not (waiting or additions):
            errands, self._errands = self._errands, []
            self._due = False
        if not (self._writing or adding or errands or self._failing or self._file.condemned):
            return None
        return self._writing, adding, errands

    def _execute(self, batch: _Batch) -> _Done:
        facts, adding, errands = batch
        counters, damages = self._file.write(facts, adding, self._clock.now())
        results: list[Any] = []
        for work, _ in errands:
            try:
                results.append(work())
            except (sqlite3.Error, OSError) as error:
                results.append(Unavailable(f"the state store cannot be used: {error}"))
        return counters, damages, results

    def _settled(self, batch: _Batch, done: _Done | Exception) -> None:
        facts, _, errands = batch
        self._writing = {}
        if isinstance(done, Exception):
            # What was put since is newer.
            self._waiting = facts | self._waiting
            self._additions.came_back()
            self._failed(done)
            errands, self._errands = errands + self._errands, []
            for _, waiter in errands:
                waiter.errback(Unavailable(f"the state store cannot be used: {done}"))
            return
        counters, damages, results = done
        self._tell(damages)
        if self._failing and not damages:
            self._report("state_recovered", {"what": "the state store works again", "done": "facts are kept"})
        self._failing = ""
        if self._file.opened != self._reading or self._reader is None:
            # The file is another than it was, or readable again.
            self._known.clear()
            if not self._closing:
                self._read_anew()
        self._additions.arrived()
        for name, fact in counters.items():
            # Others have added to it as well.
            total = fact.values[0] + self._additions.since(name, fact)
            self._remember(name, Fact((total,), fact.written_at, fact.expires_at), FRESH_COUNTER_SECONDS)
        for (_, waiter), result in zip(errands, results, strict=True):
            if isinstance(result, Exception):
                waiter.errback(result)
            else:
                waiter.callback(result)

    def _forgotten(self, count: int) -> int:
        self._known.clear()
        return count

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._report("state_failing", {"what": str(error), "done": "facts are kept in memory until it works"})
        self._failing = str(error) or type(error).__name__
        self._due = False
        if self._timer is None and not self._closing:
            self._set_timer(RETRY_SECONDS)

    def _tell(self, damages: Sequence[Damage]) -> None:
        for what, done in damages:
            self._report("state_damaged", {"what": what, "done": done})
