"""Deliveries that an operator stopped: of one domain or of all, why, and until when.

Knows pauses and when they end. Does not know how they are kept, nor what waits behind them: it tells whoever delivers
that one has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import DeferredLock

from inboundmx.model.custody import Handover, Parcel, Route
from inboundmx.model.reply import Reply
from inboundmx.ports import Clock, Courier, Journal, Timer

# A clock that was put forward ends a pause at once, and what waited behind it is told of that as soon.
LOOK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pause:
    """``domain`` is empty when all are meant. ``until_at`` None: until somebody resumes. Instants are seconds since the
    epoch."""

    domain: str
    reason: str
    asked_by: str
    since_at: float
    until_at: float | None


class Pauses:
    """``keep`` writes all of them so that they survive a restart; it fires when that is on the disk, and fails with
    Unavailable. ``kept`` is what it wrote last. ``ended`` is told the domain of each pause that ends, empty for that of
    all."""

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        keep: Callable[[Sequence[Pause]], Awaitable[None]],
        kept: Sequence[Pause] = (),
    ) -> None:
        self.ended: Callable[[str], object] = lambda domain: None
        self._clock = clock
        self._journal = journal
        self._keep = keep
        self._pauses = {pause.domain: pause for pause in kept}
        # One after the other, so that the last one written is the last one asked for.
        self._writing = DeferredLock()
        self._timer: Timer | None = None
        self._started = False

    def start(self) -> None:
        """From now on pauses end by themselves. What is paused still is told."""
        for pause in self.all():
            self._record("still_paused", pause, pause.asked_by, level="warning")
        self._started = True
        self._look()

    def stop(self) -> None:
        self._started = False
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def of(self, domain: str) -> Pause | None:
        """Why nothing of this domain is delivered now; None: it is."""
        if not self._pauses:
            return None
        now = self._clock.now()
        for pause in (self._pauses.get(""), self._pauses.get(domain)):
            if pause is not None and not _over(pause, now):
                return pause
        return None

    def all(self) -> list[Pause]:
        """By domain, that of all first."""
        now = self._clock.now()
        return [pause for _, pause in sorted(self._pauses.items()) if not _over(pause, now)]

    async def pause(self, pause: Pause) -> None:
        """In place of the one its domain has, if any. Raises Unavailable; then nothing has changed."""
        async with self._writing:
            await self._keep([p for p in self.all() if p.domain != pause.domain] + [pause])
            self._pauses[pause.domain] = pause
        self._record("paused", pause, pause.asked_by)
        self._look()

    async def resume(self, domain: str, asked_by: str) -> Pause | None:
        """The pause that ended, None when there was none. Raises Unavailable; then nothing has changed."""
        async with self._writing:
            pause = next((pause for pause in self.all() if pause.domain == domain), None)
            if pause is None:
                return None
            await self._keep([p for p in self.all() if p.domain != domain])
            ended = self._pauses.pop(domain, None)
        if ended is not None:
            self._end(ended, asked_by)
        return pause

    def _look(self) -> None:
        """Ends what is over and waits for what comes next."""
        self._disarm()
        now = self._clock.now()
        for pause in [pause for pause in self._pauses.values() if _over(pause, now)]:
            # What was kept says itself when it ends: it need not be written anew.
            del self._pauses[pause.domain]
            self._end(pause, "its time is over")
        ends = [pause.until_at for pause in self._pauses.values() if pause.until_at is not None]
        if ends and self._started:
            self._timer = self._clock.call_later(min(min(ends) - now, LOOK_SECONDS), self._look)

    def _end(self, pause: Pause, asked_by: str) -> None:
        self._record("resumed", pause, asked_by)
        self.ended(pause.domain)

    def _record(self, event: str, pause: Pause, asked_by: str, level: str = "info") -> None:
        fields = {
            "domain": pause.domain or "all",
            "asked_by": asked_by,
            "reason": pause.reason,
            "since_at": pause.since_at,
            "until_at": pause.until_at,
        }
        self._journal.record(event, "", fields, level=level)


def _over(pause: Pause, now: float) -> bool:
    return pause.until_at is not None and pause.until_at <= now


class PausingCourier:
    """Implements ports.Courier: mail of a paused domain is not handed over but spooled at once."""

    def __init__(self, courier: Courier, pauses: Pauses) -> None:
        self._courier = courier
        self._pauses = pauses

    def hand_over(self, parcel: Parcel, route: Route) -> Awaitable[Handover]:
        pause = self._pauses.of(route.domain)
        return self._courier.hand_over(parcel, route) if pause is None else _postponed(pause)

    def unable(self, route: Route, size: int, utf8: bool) -> Reply | None:
        return self._courier.unable(route, size, utf8)


async def _postponed(pause: Pause) -> Handover:
    return Handover("postponed", detail=f"paused by {pause.asked_by}" + (f": {pause.reason}" if pause.reason else ""))
