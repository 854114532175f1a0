"""Telling senders in time that their mail is late, whatever its schedule says.

Knows when it is looked who waits for too long, and what is committed with such a notice. Does not know attempts: one
that comes about the same time tells by itself (``retrying.settle``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.delivery.notice_limit import NoticeLimit
from inboundmx.delivery.notifying import deposits_of
from inboundmx.delivery.telling import tell_notices
from inboundmx.model.custody import Change, SpoolEntry
from inboundmx.model.settings import Settings
from inboundmx.policy.retrying import Settlement, is_late
from inboundmx.ports import Clock, Damaged, Journal, Spool, Timer, Unavailable
from inboundmx.prompt import promptly

# How often it is looked: a notice about hours need not be sharper.
LOOK_SECONDS = 60.0
# Entries looked at in one turn of the reactor.
TURN = 1000


class Delays:
    """``take`` reserves an entry that waits, so that nothing else is done with it until it is ``give_back``ed; False:
    it does not wait, or somebody else has it. ``deposited`` is told of notices that were committed."""

    def __init__(
        self,
        spool: Spool,
        settings: Callable[[], Settings],
        clock: Clock,
        journal: Journal,
        notices: NoticeLimit,
        new_id: Callable[[float], str],
        take: Callable[[str], bool],
        give_back: Callable[[str], object],
        deposited: Callable[[Sequence[SpoolEntry]], object],
    ) -> None:
        self._spool = spool
        self._settings = settings
        self._clock = clock
        self._journal = journal
        self._notices = notices
        self._new_id = new_id
        self._take = take
        self._give_back = give_back
        self._deposited = deposited
        self._timer: Timer | None = None
        self._looking: Deferred[None] | None = None
        self._stopped = False

    def watch(self) -> None:
        """Something waits: it is looked now and then, as long as anything does."""
        if self._timer is None and self._looking is None and not self._stopped:
            self._timer = self._clock.call_later(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Begins nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abandon(self) -> None:
        """What is still waited for is waited for no more."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._spool.entries():
            self._looking = promptly(self._look_through(), lambda _: self._looked(), self._failed)

    def _looked(self) -> None:
        self._looking = None
        self.watch()

    def _failed(self, failure: Failure) -> None:
        if not self._stopped:
            trouble = f"{type(failure.value).__name__}: {failure.value}"
            self._journal.record("fault", "", {"about": "notices of delay", "trouble": trouble}, level="error")
        self._looked()

    async def _look_through(self) -> None:
        if not self._settings().delivery.delay_notice:
            return
        entries = self._spool.entries()
        for at in range(0, len(entries), TURN):
            if at:
                await self._next_turn()
            now, delivery = self._clock.now(), self._settings().delivery
            for entry in entries[at : at + TURN]:
                if is_late(entry, now, delivery) and self._notices.room(entry.sender) and not self._stopped:
                    await self._tell(entry.id)

    async def _next_turn(self) -> None:
        turn: Deferred[None] = Deferred()
        self._timer = self._clock.call_later(0.0, turn.callback, None)
        await turn
        self._timer = None

    async def _tell(self, id: str) -> None:
        settings, now = self._settings(), self._clock.now()
        entry = self._spool.entry(id)
        if entry is None or not is_late(entry, now, settings.delivery):
            return
        domain = settings.domain(entry.domain, entry.via)
        if domain is None or not self._take(id):
            return
        told = Settlement(replace(entry, delay_notified=True), delayed=True)
        try:
            content = await self._spool.content(id)
            deposits = deposits_of(entry, told, None, domain, content, settings, now, lambda: self._new_id(now))
            await self._spool.commit(Change(deposits, (told.entry,) if told.entry is not None else ()))
        except (KeyError, Damaged, Unavailable):
            # The next attempt finds the same and says so; for this notice alone nobody is alarmed.
            return
        finally:
            self._give_back(id)
        self._notices.settled(entry, told)
        tell_notices(self._journal, entry, told, deposits)
        self._deposited([deposit.entry for deposit in deposits])
