"""What follows from an attempt: decided, committed, told, and only then acted upon.

Knows the order: an attempt's consequences are committed before anything else follows from them, and a notice and the
end of what it speaks of are one commit; what cannot be written is tried again. Does not know schedules, routes,
connections or how a notice is worded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from inboundmx.delivery.notice_limit import NoticeLimit
from inboundmx.delivery.notifying import deposits_of
from inboundmx.delivery.telling import tell
from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, DeliveryAttempt, Deposit, SpoolEntry, State, Status
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.record import replace
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.prioritising import after_attempt
from inboundmx.policy.retrying import DAMAGED, Settlement, park, settle
from inboundmx.ports import Chance, Clock, Damaged, Journal, Spool, Timer, Unavailable

# When the spool could not be read, or not even remember what is to be written.
TROUBLE_SECONDS = 60.0


class Settling:
    """``deposited`` is given what an attempt has put into the spool, once it is there."""

    def __init__(
        self,
        spool: Spool,
        settings: Callable[[], Settings],
        clock: Clock,
        chance: Chance,
        journal: Journal,
        notices: NoticeLimit,
        deposited: Callable[[Sequence[SpoolEntry]], None],
    ) -> None:
        self._spool = spool
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._journal = journal
        self._notices = notices
        self._deposited = deposited
        self._pauses: dict[Deferred[None], Timer] = {}
        self._stopping = False

    def stop(self) -> None:
        """What cannot be written or read from now on is not tried again."""
        self._stopping = True

    def abandon(self) -> None:
        """After ``stop``: what waits to be tried again is tried for the last time."""
        for pause, timer in tuple(self._pauses.items()):
            timer.cancel()
            pause.callback(None)

    async def settle(self, sent: SpoolEntry, attempt: DeliveryAttempt, domain: DomainSettings, slot: bool) -> None:
        """``sent`` is the entry as it was attempted."""
        id = sent.id
        entry = self._spool.entry(id)
        if entry is None:
            # An operator deleted it while it was on its way.
            if attempt.delivered:
                tell(
                    self._journal, sent, Settlement(None, delivered=tuple(to for to, _ in attempt.replies)), attempt, ()
                )
            return
        now = self._clock.now()
        delivery = self._settings().delivery
        settlement = settle(
            entry, attempt, now, domain, delivery,
            slot=slot, jitter=self._chance.uniform(0.0, 1.0), notices=self._notices.room(entry.sender),
        )  # fmt: skip
        self._notices.settled(entry, settlement)
        if settlement.entry is None and not settlement.failed and not settlement.confirmed:
            self._spool.remove_soon(id)
            tell(self._journal, entry, settlement, attempt, ())
            return
        deposits: tuple[Deposit, ...] = ()
        if settlement.split is not None or settlement.fate == "notify" or settlement.delayed or settlement.confirmed:
            try:
                content = await self._content(id)
            except KeyError:
                return
            except Damaged as damage:
                left = _without(entry, settlement.delivered)
                if left.pending:
                    await self.park(left, DAMAGED, str(damage), "error")
                    return
                # They have it; only the notice of that cannot be written.
                settlement = replace(settlement, confirmed=(), unconfirmed=settlement.confirmed)
                self._spool.remove_soon(id)
                tell(self._journal, entry, settlement, attempt, ())
                return
            deposits = deposits_of(
                entry, settlement, attempt, domain, content, self._settings(), now, lambda: self.new_id(now)
            )
        kept = settlement.entry
        if kept is not None and kept.state is State.ACTIVE:
            kept = self.ranked(kept)
        await self._commit(Change(deposits, () if kept is None else (kept,), (id,) if kept is None else ()), id, kept)
        tell(self._journal, entry, settlement, attempt, deposits)
        self._deposited([deposit.entry for deposit in deposits])

    def ranked(self, entry: SpoolEntry) -> SpoolEntry:
        """The entry after an attempt. Mostly its priority is what it was: a copy costs 10 us."""
        priority = after_attempt(entry, self._settings())
        return entry if priority == entry.priority else replace(entry, priority=priority)

    async def park(self, entry: SpoolEntry, cause: str, detail: str, level: str) -> None:
        held = park(entry, cause, self._clock.now(), self._settings().delivery)
        await self._commit(Change(update=(held,)), entry.id, held)
        self._journal.record(
            "held", entry.message_id, {"entry": entry.id, "cause": cause, "detail": detail}, level=level
        )

    def trouble(self, message_id: str, id: str, trouble: Unavailable) -> None:
        """The spool could not be read or written."""
        self._journal.record("spool_trouble", message_id, {"entry": id, "trouble": trouble.reason}, level="error")

    def new_id(self, now: float) -> str:
        return make_id(now, self._chance.token(TOKEN_LENGTH))

    async def _commit(self, change: Change, id: str, kept: SpoolEntry | None) -> None:
        """Returns when what was decided is on the disk, or when the spool remembers it until it can be."""
        while True:
            try:
                await self._spool.commit(change)
                return
            except Unavailable as trouble:
                self.trouble("", id, trouble)
                if self._stopping or self._spool.entry(id) == kept:
                    return
            await self._pause()

    async def _content(self, id: str) -> Content:
        while True:
            try:
                return await self._spool.content(id)
            except Unavailable as trouble:
                self.trouble("", id, trouble)
                if self._stopping:
                    raise
            await self._pause()

    async def _pause(self) -> None:
        pause: Deferred[None] = Deferred()
        self._pauses[pause] = self._clock.call_later(TROUBLE_SECONDS, pause.callback, None)
        try:
            await pause
        finally:
            self._pauses.pop(pause).cancel()


def _without(entry: SpoolEntry, delivered: Sequence[Address]) -> SpoolEntry:
    """The entry with these recipients settled."""
    recipients = tuple(
        replace(recipient, status=Status.DELIVERED) if recipient.address in delivered else recipient
        for recipient in entry.recipients
    )
    return replace(entry, recipients=recipients)
