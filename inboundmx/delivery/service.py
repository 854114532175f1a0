"""The loop that delivers what the spool holds: due, attempted, settled, recorded, acted upon.

Knows the order: an attempt's consequences are committed before anything else follows from them, and a notice and the
end of what it speaks of are one commit. Does not know schedules, connections or how a notice is worded.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.delivery.agenda import Agenda
from inboundmx.delivery.courier import Courier
from inboundmx.delivery.notice_limit import NoticeLimit
from inboundmx.delivery.notifying import deposits_of
from inboundmx.delivery.telling import tell
from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, DeliveryAttempt, Deposit, Host, SpoolEntry, State, Status
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.retrying import (
    DAMAGED,
    NO_ROUTE,
    UNANSWERED,
    UNANSWERED_SECONDS,
    Settlement,
    due_in,
    park,
    settle,
)
from inboundmx.policy.routing import route_for
from inboundmx.ports import Chance, Clock, Damaged, Journal, Spool, Timer, Unavailable
from inboundmx.prompt import promptly

# When the spool could not be read, or not even remember what is to be written.
TROUBLE_SECONDS = 60.0
# How long a stop waits for what is being sent.
STOP_SECONDS = 5.0


class DeliveryService:
    """Implements ports.Deliveries."""

    def __init__(
        self,
        spool: Spool,
        courier: Courier,
        settings: Callable[[], Settings],
        clock: Clock,
        chance: Chance,
        journal: Journal,
        paused: Callable[[str], bool] = lambda domain: False,
    ) -> None:
        """``paused``: whether an operator stopped deliveries of a domain."""
        self._spool = spool
        self._courier = courier
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._journal = journal
        self._notices = NoticeLimit(settings, clock, journal)
        self._agenda = Agenda(clock, self._start, lambda: settings().delivery.max_connections_per_host, paused)
        self._running: dict[object, Deferred[Any] | None] = {}
        # On their way, and nothing decided yet.
        self._underway: set[str] = set()
        # Their final dot waits for its answer since before they were put into the spool.
        self._claimed: set[str] = set()
        # Set aside when they were due, perhaps before their time: they are not to wait for it again.
        self._aside_due: set[str] = set()
        self._pauses: dict[Deferred[None], Timer] = {}
        self._stopping = False
        self._stopped: Deferred[None] | None = None
        self._turn = 0
        courier.came_back = self._came_back

    # --- ports.Deliveries ---------------------------------------------------------------------------------------------

    def deposited(self, entries: Sequence[SpoolEntry]) -> None:
        for entry in entries:
            self._schedule(entry)

    def claimed(self, entry: SpoolEntry, late: Deferred[DeliveryAttempt]) -> None:
        self._claimed.add(entry.id)
        late.addCallback(self._answered_late, entry.id)
        late.addErrback(self._fault, entry.id)

    # --- operators ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Adopts what the spool holds."""
        for entry in sorted(self._spool.entries(), key=lambda entry: (-entry.priority, entry.received_at)):
            self._schedule(entry)

    def changed(self, ids: Sequence[str]) -> None:
        """These entries are not what they were, or are gone."""
        for id in ids:
            entry = self._spool.entry(id)
            if entry is None or entry.state is not State.ACTIVE:
                self._agenda.drop(id)
            else:
                self._schedule(entry)
                if id in self._aside_due:
                    self._agenda.now(id)
            self._aside_due.discard(id)

    def force(self, ids: Sequence[str]) -> None:
        """Tries these now, whatever their schedule and their primary's health say; no slot is used up."""
        for id in ids:
            self._agenda.now(id)

    def resumed(self, domain: str) -> None:
        """Deliveries of this domain, or of all when it is empty, are not paused any more."""
        self._agenda.go_on(domain)

    def set_aside(self, ids: Sequence[str]) -> Set[str]:
        """Those that are not on their way just now; of them none is started until it is said to have ``changed``."""
        free = {id for id in ids if not (id in self._running or ("late", id) in self._running or id in self._claimed)}
        for id in free:
            if self._agenda.due(id):
                self._aside_due.add(id)
            self._agenda.drop(id)
        return free

    def status(self) -> Mapping[str, Any]:
        """``hosts`` by host: state, last_error, connections, waiting and more; ``queues`` by domain: later, due,
        running; ``claimed``: messages whose final dot still waits for its answer."""
        return {
            "hosts": self._courier.status(),
            "queues": self._agenda.counts(),
            "claimed": len(self._claimed),
        }

    def hurry(self) -> None:
        """The first part of a stop, while strangers are still served: none waits for a primary any more. What was sent
        whole is committed and claimed, all else is spooled."""
        self._courier.hurry()

    def stop(self, seconds: float = STOP_SECONDS) -> Deferred[None]:
        """Starts nothing more and waits so long for what is being sent. Then what was not sent whole is abandoned and
        stays due; what was, and has no answer yet, is due again in ten minutes. Fires when that is on the disk."""
        return Deferred.fromCoroutine(self._stop(seconds))

    async def _stop(self, seconds: float) -> None:
        self._stopping = True
        self._agenda.stop()
        self._courier.close()
        if self._running or self._claimed:
            self._stopped = Deferred()
            timer = self._clock.call_later(seconds, self._all_ended)
            await self._stopped
            timer.cancel()
        self._courier.abandon()
        for pause, timer in tuple(self._pauses.items()):
            timer.cancel()
            pause.callback(None)
        now = self._clock.now()
        unanswered = tuple(
            replace(entry, cause=UNANSWERED, next_attempt_at=now + UNANSWERED_SECONDS)
            for entry in map(self._spool.entry, self._underway)
            if entry is not None and entry.state is State.ACTIVE
        )
        running, self._running = self._running, {}
        if unanswered:
            try:
                await self._spool.commit(Change(update=unanswered))
            except Unavailable as trouble:
                self._journal.record("spool_trouble", "", {"trouble": trouble.reason}, level="error")
        for waiting in running.values():
            if waiting is not None:
                waiting.cancel()

    def _perhaps_all_ended(self) -> None:
        if not self._running and not self._claimed:
            self._all_ended()

    def _all_ended(self) -> None:
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.callback(None)

    # --- due ----------------------------------------------------------------------------------------------------------

    def _schedule(self, entry: SpoolEntry) -> None:
        if entry.state is not State.ACTIVE or entry.id in self._claimed:
            return
        domain = self._settings().domain(entry.domain)
        seconds = due_in(entry, self._clock.now(), domain) if domain is not None else 0.0
        self._agenda.put(entry, seconds, early=entry.attempts > 0 and entry.cause != UNANSWERED)

    def _came_back(self, host: Host) -> None:
        for domain in self._settings().domains.values():
            if host in domain.primary:
                self._agenda.bring_forward(domain.name)

    def _start(self, id: str, slot: bool) -> None:
        self._run(id, self._attend(id, slot), lambda seconds: self._ended(id, seconds))

    def _ended(self, id: str, seconds: float | None) -> None:
        """Notes the entry anew, as it is now; after ``seconds`` where its own time does not count."""
        self._agenda.finished(id)
        entry = self._spool.entry(id)
        if entry is None or self._stopping:
            return
        if seconds is None:
            self._schedule(entry)
        elif entry.state is State.ACTIVE:
            self._agenda.put(entry, seconds)

    def _run(
        self, key: object, work: Coroutine[Any, Any, float | None], ended: Callable[[float | None], object]
    ) -> None:
        """Runs ``work`` and keeps it until it has ended."""

        def done(seconds: float | None) -> None:
            over.append(True)
            self._running.pop(key, None)
            ended(seconds)
            self._perhaps_all_ended()

        def failed(failure: Failure) -> None:
            if not self._stopping:
                self._fault(failure, str(key))
            done(TROUBLE_SECONDS)

        over: list[bool] = []
        self._running[key] = None
        waiting = promptly(work, done, failed)
        if waiting is not None and not over:
            self._running[key] = waiting

    def _fault(self, failure: Failure, about: str) -> None:
        fields = {"entry": about, "trouble": f"{type(failure.value).__name__}: {failure.value}"}
        self._journal.record("fault", "", fields, level="error")

    # --- attempted ----------------------------------------------------------------------------------------------------

    async def _attend(self, id: str, slot: bool) -> float | None:
        entry = self._spool.entry(id)
        if entry is None or entry.state is not State.ACTIVE or not entry.pending:
            return None
        domain = self._settings().domain(entry.domain)
        if domain is None or not domain.primary:
            return await self._park(entry, NO_ROUTE, f"there is no [domain {entry.domain}] to deliver it by", "warning")
        self._turn += 1
        self._underway.add(id)
        try:
            attempt = await self._courier.attempt(entry, lambda: self._spool.content(id), route_for(domain, self._turn))
        except Damaged as damage:
            return await self._park(entry, DAMAGED, str(damage), "error")
        except KeyError:
            return None
        except Unavailable as trouble:
            self._journal.record(
                "spool_trouble", entry.message_id, {"entry": id, "trouble": trouble.reason}, level="error"
            )
            return TROUBLE_SECONDS
        finally:
            self._underway.discard(id)
        if attempt.trouble == "damaged":
            return await self._park(entry, DAMAGED, "the content could not be read whole", "error")
        if attempt.trouble == "abandoned" and not attempt.dot_sent:
            return TROUBLE_SECONDS
        return await self._settle(entry, attempt, domain, slot)

    def _answered_late(self, attempt: DeliveryAttempt, id: str) -> None:
        """The answer to a final dot whose sender heard long ago that we keep the message; or there is none."""
        self._claimed.discard(id)
        entry = self._spool.entry(id)
        domain = self._settings().domain(entry.domain) if entry is not None else None
        if domain is None or entry is None:
            self.changed([id])
            self._perhaps_all_ended()
            return
        settling = self._settle(entry, attempt, domain, slot=True)
        self._run(("late", id), settling, lambda seconds: self._ended(id, seconds))

    # --- settled ------------------------------------------------------------------------------------------------------

    async def _settle(
        self, sent: SpoolEntry, attempt: DeliveryAttempt, domain: DomainSettings, slot: bool
    ) -> float | None:
        id = sent.id
        entry = self._spool.entry(id)
        if entry is None:
            # An operator deleted it while it was on its way.
            if attempt.delivered:
                tell(
                    self._journal, sent, Settlement(None, delivered=tuple(to for to, _ in attempt.replies)), attempt, ()
                )
            return None
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
            return None
        deposits: tuple[Deposit, ...] = ()
        if settlement.split is not None or settlement.fate == "notify" or settlement.delayed or settlement.confirmed:
            try:
                content = await self._content(id)
            except KeyError:
                return None
            except Damaged as damage:
                return await self._park(_without(entry, settlement.delivered), DAMAGED, str(damage), "error")
            deposits = deposits_of(
                entry, settlement, attempt, domain, content, self._settings(), now, lambda: self._new_id(now)
            )
        kept = settlement.entry
        await self._commit(Change(deposits, () if kept is None else (kept,), (id,) if kept is None else ()), id, kept)
        tell(self._journal, entry, settlement, attempt, deposits)
        self.deposited([deposit.entry for deposit in deposits])
        return None

    async def _park(self, entry: SpoolEntry, cause: str, detail: str, level: str) -> float | None:
        held = park(entry, cause, self._clock.now(), self._settings().delivery)
        await self._commit(Change(update=(held,)), entry.id, held)
        self._journal.record(
            "held", entry.message_id, {"entry": entry.id, "cause": cause, "detail": detail}, level=level
        )
        return None

    async def _commit(self, change: Change, id: str, kept: SpoolEntry | None) -> None:
        """Returns when what was decided is on the disk, or when the spool remembers it until it can be."""
        while True:
            try:
                await self._spool.commit(change)
                return
            except Unavailable as trouble:
                self._journal.record("spool_trouble", "", {"entry": id, "trouble": trouble.reason}, level="error")
                if self._stopping or self._spool.entry(id) == kept:
                    return
            await self._pause()

    async def _content(self, id: str) -> Content:
        while True:
            try:
                return await self._spool.content(id)
            except Unavailable as trouble:
                self._journal.record("spool_trouble", "", {"entry": id, "trouble": trouble.reason}, level="error")
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

    def _new_id(self, now: float) -> str:
        return make_id(now, self._chance.token(TOKEN_LENGTH))


def _without(entry: SpoolEntry, delivered: Sequence[Address]) -> SpoolEntry:
    """The entry with these recipients settled."""
    recipients = tuple(
        replace(recipient, status=Status.DELIVERED) if recipient.address in delivered else recipient
        for recipient in entry.recipients
    )
    return replace(entry, recipients=recipients)
