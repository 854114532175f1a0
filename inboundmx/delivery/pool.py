"""Connections to one host, kept open and shared out: live mail first, then what the spool holds.

Knows how many connections there may be, who waits for one, and how long a message takes. Does not know what a message
is, nor what an answer to it means.

A free connection is taken at once, the most recently used first. Below the cap one more is opened for the message that
found none. Else a live message joins the line only when it would probably be served within LINE_SECONDS, and leaves it
after that; what the spool holds waits behind it, and leaves it the last two connections while strangers come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from ipaddress import ip_address

from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.python.failure import Failure

from inboundmx.delivery.budget import Budget, Standing
from inboundmx.delivery.health import Breaker, Suspicion, as_refused
from inboundmx.delivery.line import Line
from inboundmx.model.custody import Host, Phase, Terms
from inboundmx.ports import Chance, Clock, Connection, Refused, Transmitter

LINE_SECONDS = 0.2
# While a stranger waits a host has so long for connect, banner and EHLO; else RFC 5321 4.5.3.2.1's time, of which the
# transmitter grants far less to a host that does not even take the connection.
LIVE_CONNECT_SECONDS = 5.0
CONNECT_SECONDS = 300.0
# An idle connection costs the host a process or a thread, and most hosts close it after some minutes anyway.
IDLE_SECONDS = 30.0
# A busy one is renewed now and then, so that a host that balances or drains its connections gets its way.
KEPT_SECONDS = 300.0
KEPT_MESSAGES = 500
# How long a cap learned from a host's "too many connections" holds.
LEARNED_SECONDS = 600.0
UNTOLD_SECONDS = 5.0
# Connections that only live mail may use, for so long after the last of it: with nobody there they would be idle.
RESERVED = 2
RESERVED_SECONDS = 1.0
# What one measurement of the service time is worth in the moving average.
WEIGHT = 0.1

STOPPING = Refused("abandoned", "connect", None, "stopping")


class Kept:
    """A connection with its history. ``messages`` is 0 on a fresh one."""

    __slots__ = ("connection", "live", "messages", "opened_at")

    def __init__(self, connection: Connection, opened_at: float) -> None:
        self.connection = connection
        self.opened_at = opened_at
        self.messages = 0
        self.live = True


Got = Kept | Refused | None


class Pool:
    """``cap`` is the most connections; ``came_back`` is told when the host answers again after it had been left alone,
    ``tripped`` when and why it is; ``wanted`` says whether the settings still name the host; ``greeted`` is told of
    each connection that came about. ``probes`` bounds how many hosts are probed at once."""

    def __init__(
        self,
        host: Host,
        terms: Terms,
        transmitter: Transmitter,
        clock: Clock,
        chance: Chance,
        budget: Budget,
        cap: Callable[[], int],
        came_back: Callable[[Pool], object],
        tripped: Callable[[Pool, Refused], object],
        wanted: Callable[[Host], bool],
        greeted: Callable[[Connection], object],
        probes: DeferredSemaphore,
    ) -> None:
        self.host = host
        self.terms = terms
        self.suspicion = Suspicion()
        self.service_seconds = 0.0
        self._transmitter = transmitter
        self._clock = clock
        self._budget = budget
        self._cap = cap
        self._learned = (0, 0.0)
        self._reserved_until = float("-inf")
        self._came_back = came_back
        self._greeted = greeted
        self._standing = Standing.NEW
        self._sources = matching(host, terms.sources)
        self._turn = 0
        self._idle: Line[Kept] = Line(clock, IDLE_SECONDS, self._close)
        self._line: Line[Deferred[Got]] = Line(clock, LINE_SECONDS, self._too_long)
        # Those a connection is being opened for: they may wait as long as that takes, and are served first.
        self._awaited: dict[Deferred[Got], None] = {}
        self._backlog: deque[Deferred[Got]] = deque()
        self._backlog_busy = 0
        # How much of the backlog goes out at once: it begins with one and doubles; None: as much as there is room for.
        self._allowance: int | None = 1
        self._busy = 0
        # With what each was taken from the budget; a live one is opened by the short clock.
        self._opening: dict[Deferred[Connection], Standing] = {}
        self._closed = False
        self.breaker = Breaker(
            clock,
            chance,
            lambda: probes.run(self._connect, CONNECT_SECONDS),
            self._back,
            lambda refused: tripped(self, refused),
            lambda: wanted(host),
        )
        budget.enter(self)

    # --- asking for a connection --------------------------------------------------------------------------------------

    @property
    def down(self) -> bool:
        return self.breaker.open or self._closed

    @property
    def unused(self) -> bool:
        """No connection, and nobody waits for one."""
        return not (
            self._busy or len(self._idle) or self._opening or self._backlog or len(self._line) or self.breaker.knocking
        )

    @property
    def cap(self) -> int:
        learned, until = self._learned
        cap = self._cap()
        return min(cap, learned) if learned and self._clock.monotonic() < until else cap

    def take(self) -> Kept | None:
        """A free connection for live mail, at once or not at all."""
        self._reserved_until = self._clock.monotonic() + RESERVED_SECONDS
        kept = self._free()
        if kept is not None:
            self._busy += 1
            kept.live = True
        return kept

    def join(self) -> Deferred[Got] | None:
        """For live mail that found none free. None: it would wait too long. Fires with a connection, with Refused when
        none can be had, or with None when it waited too long. May be cancelled."""
        total = self._busy + len(self._idle) + len(self._opening)
        if len(self._opening) <= len(self._awaited) and total < self.cap and self._budget.take(self):
            waiting: Deferred[Got] = Deferred(self._awaited_leaves)
            self._awaited[waiting] = None
            self._open(True, Standing.ANSWERS)
            return waiting
        waiters = len(self._line) + len(self._awaited)
        if not total or (waiters + 1) * self.service_seconds > LINE_SECONDS * total:
            return None
        waiting = Deferred(self._line.leave)
        self._line.join(waiting)
        return waiting

    def spare(self) -> Kept | None:
        """For what the spool holds: a connection at once, or not at all, and then it has to ``wait``."""
        if self._backlog or self._awaited or len(self._line) or self.down or not self._backlog_may():
            return None
        kept = self._free()
        if kept is not None:
            kept.live = False
            self._busy += 1
            self._backlog_busy += 1
        return kept

    def wait(self) -> Deferred[Got]:
        """For what the spool holds: fires with a connection, or with Refused. May be cancelled."""
        if self.down:
            return succeed(self.breaker.refused or STOPPING)
        waiting: Deferred[Got] = Deferred(self._backlog_leaves)
        self._backlog.append(waiting)
        if self._backlog_may():
            kept = self._free()
            if kept is not None:
                self._serve(kept)
                return waiting
        self.grow()
        return waiting

    # --- giving it back -----------------------------------------------------------------------------------------------

    def give_back(self, kept: Kept, seconds: float | None) -> None:
        """After a transmission of so many ``seconds``; None: it was not used, or did not end well."""
        self._busy -= 1
        kept.messages += 1
        if not kept.live:
            self._backlog_busy -= 1
        if seconds is not None:
            before = self.service_seconds
            self.service_seconds = before + WEIGHT * (seconds - before) if before else seconds
            if not kept.live and self._allowance is not None:
                self._allowance = min(self._allowance + 1, max(1, self._cap() // 2))
        if self._backlog_busy == 0 and not self._backlog and not self.breaker.open:
            self._allowance = None
        old = kept.messages >= KEPT_MESSAGES or self._clock.monotonic() - kept.opened_at >= KEPT_SECONDS
        if kept.connection.usable and not old and not self._closed:
            self._serve(kept)
            if self._backlog:
                self.grow()
            return
        kept.connection.close()
        self._budget.give()
        self.grow()

    def refused(self, refused: Refused) -> None:
        """A fresh connection did not come about, or was closed before it had taken a message."""
        others = self._busy + len(self._idle)
        if not others:
            self.trip(refused)
            return
        # The host talks to us, only not over one connection more. If it did not say why, that may soon be over; but it
        # is not tried again and again meanwhile.
        told = refused.reply is not None and refused.reply.code == 421
        self._learned = (others, self._clock.monotonic() + (LEARNED_SECONDS if told else UNTOLD_SECONDS))
        self._turn_away(refused)

    def heard(self, refused: Refused) -> None:
        """Another process finds the host down. We know better while we have a connection."""
        if not (self._busy or len(self._idle) or self.down):
            self.trip(refused, heard=True)

    def trip(self, refused: Refused, heard: bool = False) -> None:
        """The host is to be left alone for now: whoever waits for it goes elsewhere."""
        self.breaker.trip(refused, heard)
        self._standing = Standing.SILENT
        self._allowance = 1
        self._learned = (0, 0.0)
        waiting = [*self._awaited, *self._line, *self._backlog]
        self._awaited.clear()
        self._line.close()
        self._backlog.clear()
        for waiter in waiting:
            waiter.callback(refused)

    def spare_one(self) -> bool:
        """Closes the connection idle longest, because another host needs one more."""
        kept = self._idle.oldest()
        if kept is None:
            return False
        kept.connection.close()
        self._budget.moved()
        return True

    def grow(self) -> None:
        """Gives the backlog what is idle, and opens what those who wait need, as far as there is room."""
        if self.down:
            return
        # What the backlog may have now was perhaps idle all the time, kept for live mail.
        while self._backlog and self._backlog_may() and (kept := self._free()) is not None:
            self._serve(kept)
        while True:
            live = len(self._line) + len(self._awaited)
            behind = min(len(self._backlog), max(0, self._backlog_limit() - self._backlog_busy))
            total = self._busy + len(self._idle) + len(self._opening)
            standing = Standing.ANSWERS if live else self._standing
            if len(self._opening) >= live + behind or total >= self.cap or not self._budget.take(self, standing):
                return
            self._open(live > 0, standing)

    def close(self) -> None:
        """Nobody is served any more. What is in transmission goes on, and is closed when it is given back."""
        self._closed = True
        self.breaker.close()
        for opening in tuple(self._opening):
            opening.cancel()
        while (kept := self._idle.oldest()) is not None:
            self._close(kept)
        self._idle.close()
        self.trip(STOPPING)
        self._budget.leave(self)

    def status(self) -> Mapping[str, object]:
        return {
            "state": self.breaker.state,
            "last_error": self.breaker.last_error,
            "connections": self._busy + len(self._idle),
            "busy": self._busy,
            "opening": len(self._opening),
            "waiting": len(self._line) + len(self._awaited),
            "backlog_waiting": len(self._backlog),
            "service_seconds": round(self.service_seconds, 6),
        }

    # --- inside -------------------------------------------------------------------------------------------------------

    def _backlog_limit(self) -> int:
        reserved = RESERVED if self._clock.monotonic() < self._reserved_until else 0
        room = max(1, self.cap - reserved)
        return room if self._allowance is None else min(room, self._allowance)

    def _backlog_may(self) -> bool:
        return self._backlog_busy < self._backlog_limit()

    def _free(self) -> Kept | None:
        while (kept := self._idle.newest()) is not None:
            if kept.connection.usable:
                return kept
            self._close(kept)
        return None

    def _serve(self, kept: Kept) -> None:
        """A free connection: to the live, then to the backlog, else it is kept."""
        waiter: Deferred[Got] | None = None
        if self._awaited:
            waiter = next(iter(self._awaited))
            del self._awaited[waiter]
        elif len(self._line):
            waiter = self._line.oldest()
        kept.live = waiter is not None
        if waiter is None and self._backlog and self._backlog_may():
            waiter = self._backlog.popleft()
            self._backlog_busy += 1
        if waiter is None:
            self._idle.join(kept)
            return
        self._busy += 1
        waiter.callback(kept)

    def _connect(self, seconds: float) -> Deferred[Connection]:
        if not self._sources:
            return self._transmitter.connect(self.host, terms=self.terms, seconds=seconds)
        source = self._sources[self._turn % len(self._sources)]
        self._turn += 1
        connecting = self._transmitter.connect(self.host, terms=self.terms, seconds=seconds, source=source)
        connecting.addErrback(self._without_source, seconds)
        return connecting

    def _without_source(self, failure: Failure, seconds: float) -> Deferred[Connection]:
        """Perhaps it was our address that would not do: the system chooses one, once."""
        refused = as_refused(failure)
        if self._closed or refused.trouble != "refused" or refused.phase != Phase.CONNECT:
            return fail(failure)
        return self._transmitter.connect(self.host, terms=self.terms, seconds=seconds)

    def _open(self, live: bool, standing: Standing) -> None:
        opening = self._connect(LIVE_CONNECT_SECONDS if live else CONNECT_SECONDS)
        self._opening[opening] = standing
        opening.addCallbacks(self._opened, self._not_opened, (opening,), {}, (opening, live), {})

    def _opened(self, connection: Connection, opening: Deferred[Connection]) -> None:
        standing = self._opening.pop(opening)
        if self._closed:
            connection.close()
            self._budget.give(standing)
            return
        self._standing = Standing.ANSWERS
        self._greeted(connection)
        self._serve(Kept(connection, self._clock.monotonic()))
        self._budget.answered(standing)

    def _not_opened(self, failure: Failure, opening: Deferred[Connection], live: bool) -> None:
        standing = self._opening.pop(opening)
        refused = as_refused(failure)
        if self._closed:
            self._budget.give(standing)
            return
        if live and refused.trouble == "timeout":
            # Our clock was short, not the host slow beyond what is allowed: only this one goes elsewhere.
            self._turn_away(refused)
        else:
            self.refused(refused)
        # After that, lest it comes back to those who wait here.
        self._budget.give(standing)

    def _turn_away(self, refused: Refused) -> None:
        if self._awaited:
            waiter = next(iter(self._awaited))
            del self._awaited[waiter]
            waiter.callback(refused)
        self.grow()

    def _back(self, connection: Connection) -> None:
        """The probe found the host there: its connection is the first of the new ones."""
        self._standing = Standing.ANSWERS
        self._greeted(connection)
        if self._closed or not self._budget.take(self):
            connection.close()
        else:
            self._serve(Kept(connection, self._clock.monotonic()))
        self._came_back(self)

    def _close(self, kept: Kept) -> None:
        kept.connection.close()
        self._budget.give()

    def _too_long(self, waiter: Deferred[Got]) -> None:
        waiter.callback(None)

    def _awaited_leaves(self, waiter: Deferred[Got]) -> None:
        self._awaited.pop(waiter, None)

    def _backlog_leaves(self, waiter: Deferred[Got]) -> None:
        if waiter in self._backlog:
            self._backlog.remove(waiter)


def matching(host: Host, sources: tuple[str, ...]) -> tuple[str, ...]:
    """Those of our addresses a connection to ``host`` can come from: of its family, or all where it is a name."""
    try:
        version = ip_address(host.address).version
    except ValueError:
        return sources
    return tuple(source for source in sources if ip_address(source).version == version)
