"""The loop that delivers what the spool holds: due, attempted, settled, and due again.

Knows what is on its way, what must not be started, and what an operator or a stop wants of it. Does not know schedules,
routes or connections; what follows from an attempt, ``settling`` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from inboundmx.delivery.agenda import Agenda
from inboundmx.delivery.courier import Courier
from inboundmx.delivery.delaying import Delays
from inboundmx.delivery.notice_limit import NoticeLimit
from inboundmx.delivery.settling import TROUBLE_SECONDS, Settling
from inboundmx.delivery.telling import tell
from inboundmx.delivery.throttling import limited
from inboundmx.model.custody import Change, DeliveryAttempt, Host, Phase, Route, SpoolEntry, State
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.retrying import (
    CRASHES,
    DAMAGED,
    NO_ROUTE,
    UNANSWERED,
    UNANSWERED_SECONDS,
    due_in,
    settle,
    unanswered,
)
from inboundmx.ports import Archive, Chance, Clock, Damaged, Hand, Journal, NoRoute, Routes, Spool, Timer, Unavailable
from inboundmx.prompt import promptly

# How long a stop waits for what is being sent.
STOP_SECONDS = 5.0
# How often it is looked whether a domain is enabled again.
DISABLED_SECONDS = 60.0
# Entries or destinations looked at in one turn of the reactor.
TURN = 500
# Routes looked for at once.
LOOK_UPS = 100

# The host of an attempt that did not come as far as one.
NOWHERE = Host("", 0)
NOT_BACKUP = Reply(451, "4.4.4", "the domain's MX set names no mail server now that we are a backup of")


class NoHost(Exception):
    """A section without a primary."""


class DeliveryService:
    """Implements ports.Deliveries."""

    def __init__(
        self,
        spool: Spool,
        courier: Courier,
        routes: Routes,
        archive: Archive,
        settings: Callable[[], Settings],
        clock: Clock,
        chance: Chance,
        journal: Journal,
        paused: Callable[[str], bool] = lambda domain: False,
        hand: Hand | None = None,
    ) -> None:
        """``paused``: whether an operator stopped deliveries of a domain, or of all when it is empty. ``hand`` is told
        what is being attempted."""
        self._hand = hand
        self._spool = spool
        self._courier = courier
        self._routes = routes
        self._archive = archive
        self._paused = paused
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._journal = journal
        self.notices = NoticeLimit(settings, clock, journal)
        self._agenda = Agenda(clock, self._start, lambda: settings().delivery.max_connections_per_host, self._waits)
        self._looking_up = DeferredSemaphore(LOOK_UPS)
        self._running: dict[object, Deferred[Any] | None] = {}
        # On their way, and nothing decided yet.
        self._underway: set[str] = set()
        # Their final dot waits for its answer since before they were put into the spool.
        self._claimed: set[str] = set()
        # Set aside when they were due, perhaps before their time: they are not to wait for it again.
        self._aside_due: set[str] = set()
        # Destinations adopted with entries that failed before: whether they are back nobody has seen.
        self._unsure: set[tuple[str, str]] = set()
        # What goes on in the next turn of the reactor.
        self._turns: set[Timer] = set()
        # Runs while something waits because its domain is disabled.
        self._disabled: Timer | None = None
        self._stopping = False
        self._stopped: Deferred[None] | None = None
        courier.came_back = self._came_back
        # Reserved while their senders are told of the delay; True: it was due, perhaps before its time.
        self._reserved: dict[str, bool] = {}
        self._settling = Settling(spool, settings, clock, chance, journal, self.notices, self.deposited)
        self._delays = Delays(
            spool, settings, clock, journal, self.notices, self._settling.new_id, self._take, self._give_back,
            self.deposited,
        )  # fmt: skip

    # --- ports.Deliveries ---------------------------------------------------------------------------------------------

    def deposited(self, entries: Sequence[SpoolEntry]) -> None:
        for entry in entries:
            self._schedule(entry)

    def foreseen(self, entry: SpoolEntry, route: Route) -> tuple[SpoolEntry, Callable[[], None]] | None:
        """While a primary is down, what comes for it costs one commit and no errand: 0.10 ms of 0.33 a message, and a
        third of the writing."""
        now = self._clock.now()
        if entry.state is not State.ACTIVE or entry.via or (entry.next_attempt_at or now) > now or self._stopping:
            return None
        attempt = self._courier.foreseen(entry, route)
        if attempt is None:
            # Nearly always, so it comes first.
            return None
        domain = self._settings().domain(entry.domain)
        if domain is None or limited(domain) or self._waits(entry.domain, ""):
            return None
        settlement = settle(
            entry, attempt, now, domain, self._settings().delivery, slot=True, jitter=self._chance.uniform(0.0, 1.0)
        )
        if settlement.entry is None or settlement.failed or settlement.delayed or settlement.exhausted:
            # More follows than waiting: that is for a real attempt.
            return None
        kept = self._settling.ranked(settlement.entry)

        def committed() -> None:
            tell(self._journal, entry, settlement, attempt, ())
            self._schedule(kept)
            if not self._courier.down(route):
                # It came back while this was written.
                self._agenda.now(kept.id)

        return kept, committed

    def claimed(self, entry: SpoolEntry, late: Deferred[DeliveryAttempt]) -> None:
        self._claimed.add(entry.id)
        late.addCallback(self._answered_late, entry.id)
        late.addErrback(self._fault, entry.id)

    # --- operators ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Adopts what the spool holds, a part in a turn, and then starts with the most urgent. Of each destination that
        failed before one entry is tried out of turn: perhaps it came back while we were away."""
        self._courier.start()
        self._agenda.hold()
        self._adopt([entry.id for entry in self._spool.entries()], 0)

    def _adopt(self, ids: Sequence[str], at: int) -> None:
        end = min(len(ids), at + TURN)
        for id in ids[at:end]:
            entry = self._spool.entry(id)
            if entry is None or self._agenda.running(id):
                continue
            self._schedule(entry)
            if entry.state is State.ACTIVE and entry.attempts and entry.via in ("", "backup"):
                self._unsure.add((entry.domain, entry.via))
        if end < len(ids):
            self._next_turn(self._adopt, ids, end)
            return
        self._agenda.begin()
        for key in tuple(self._unsure):
            if not self._agenda.knock(*key):
                self._unsure.discard(key)

    def park(self, ids: Collection[str]) -> None:
        """Before ``start``: these are not tried any more, for we died whenever they were in hand."""
        for id in ids:
            entry = self._spool.entry(id)
            if entry is not None and entry.state is State.ACTIVE:
                detail = "it was in hand each time a worker died; look at it before it is released"
                parking = self._settling.park(entry, CRASHES, detail, "error")
                self._run(("guilty", id), parking, lambda seconds: None)

    def changed(self, ids: Sequence[str]) -> None:
        """These entries are not what they were, or are gone."""
        self._in_parts(self._changed, ids, 0)

    def _changed(self, id: str) -> None:
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
        self._in_parts(self._agenda.now, ids, 0)

    def _in_parts(self, work: Callable[[Any], object], over: Sequence[Any], at: int) -> None:
        """Does it for each, so many in a turn of the reactor."""
        end = at + TURN
        for each in over[at:end]:
            work(each)
        if end < len(over):
            self._next_turn(self._in_parts, work, over, end)

    def _next_turn(self, call: Callable[..., object], *arguments: object) -> None:
        def due() -> None:
            self._turns.discard(timer)
            call(*arguments)

        timer = self._clock.call_later(0.0, due)
        self._turns.add(timer)

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
        running; ``claimed``: messages whose final dot still waits for its answer; ``throttled`` by domain: limit,
        seconds. Hosts and queues are the most remarkable ones where there are many."""
        return {
            "hosts": self._courier.status(),
            "queues": self._agenda.counts(),
            "claimed": len(self._claimed),
            "throttled": self._courier.throttling.status(),
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
        self._settling.stop()
        self._delays.stop()
        for timer in (self._disabled, *self._turns):
            if timer is not None:
                timer.cancel()
        self._courier.close()
        if self._running or self._claimed:
            self._stopped = Deferred()
            timer = self._clock.call_later(seconds, self._all_ended)
            await self._stopped
            timer.cancel()
        self._courier.abandon()
        self._settling.abandon()
        now = self._clock.now()
        unheard = tuple(
            replace(entry, cause=UNANSWERED, next_attempt_at=now + UNANSWERED_SECONDS)
            for entry in map(self._spool.entry, self._underway)
            if entry is not None and entry.state is State.ACTIVE
        )
        self._delays.abandon()
        running, self._running = self._running, {}
        if unheard:
            try:
                await self._spool.commit(Change(update=unheard))
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
        if entry.state is not State.ACTIVE or entry.id in self._claimed or ("guilty", entry.id) in self._running:
            return
        self._delays.watch()
        early = entry.attempts > 0 and entry.cause != UNANSWERED
        self._agenda.again(entry, self._seconds(entry), early=early)

    def _seconds(self, entry: SpoolEntry) -> float:
        """Until its slot."""
        domain = self._settings().domain(entry.domain, entry.via)
        return due_in(entry, self._clock.now(), domain) if domain is not None else 0.0

    def _waits(self, name: str, via: str) -> bool:
        """Whether nothing is tried for a destination: an operator stopped it, or its domain is switched off."""
        if self._paused("" if via == "archive" else name):
            return True
        domain = self._settings().domain(name, via)
        if domain is None or domain.enabled:
            return False
        if self._disabled is None and not self._stopping:
            self._disabled = self._clock.call_later(DISABLED_SECONDS, self._look_again)
        return True

    def _look_again(self) -> None:
        self._disabled = None
        self._agenda.go_on("")

    def _came_back(self, host: Host) -> None:
        """Brings forward what waits where the last route named the host, or if none was found yet, the section does."""
        self._in_parts(lambda key: self._bring(host, *key), self._agenda.destinations(), 0)

    def _bring(self, host: Host, name: str, via: str) -> None:
        hosts = self._agenda.hosts((name, via))
        if not hosts and not via:
            domain = self._settings().domain(name)
            hosts = domain.primary if domain is not None else ()
        if host in hosts:
            self._agenda.bring_forward(name, via)

    def _take(self, id: str) -> bool:
        """Reserves one that waits, as if it were on its way."""
        due = self._agenda.due(id)
        if self._stopping or id in self._running or not self._agenda.take(id):
            return False
        self._reserved[id] = due
        self._running[id] = None
        return True

    def _give_back(self, id: str) -> None:
        due = self._reserved.pop(id)
        self._running.pop(id, None)
        self._ended(id, True, None)
        if due and not self._agenda.due(id):
            self._agenda.now(id)
        self._perhaps_all_ended()

    def _start(self, id: str, slot: bool, asked: bool) -> None:
        if self._hand is not None:
            self._hand.take(id)
        self._run(id, self._attend(id, slot, asked), lambda seconds: self._ended(id, slot, seconds))

    def _ended(self, id: str, slot: bool, seconds: float | None) -> None:
        """Notes the entry anew, as it is now; after ``seconds`` where its own time does not count."""
        if self._hand is not None:
            self._hand.drop(id)
        entry = self._spool.entry(id)
        if entry is None or self._stopping or entry.state is not State.ACTIVE:
            self._agenda.finished(id)
        elif seconds is None:
            self._schedule(entry)
        else:
            self._agenda.again(entry, seconds, slot=slot or self._seconds(entry) <= seconds)

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

    async def _attend(self, id: str, slot: bool, asked: bool) -> float | None:
        entry = self._spool.entry(id)
        if entry is None or entry.state is not State.ACTIVE or not entry.pending:
            return None
        domain = self._settings().domain(entry.domain, entry.via)
        if domain is None:
            detail = f"there is no [domain {entry.domain}] to deliver it by"
            await self._settling.park(entry, NO_ROUTE, detail, "warning")
            return None
        if entry.via == "archive":
            return await self._keep(entry, domain, slot)
        payer, outgoing = self._payer(entry, domain)
        seconds = self._courier.throttling.take(payer, outgoing, entry.size, entry.sender is None)
        if seconds:
            return seconds
        attempt: DeliveryAttempt | None = None
        try:
            attempt = await self._attempt(entry, domain)
        except NoHost:
            await self._settling.park(entry, NO_ROUTE, f"[domain {entry.domain}] has no primary", "warning")
            return None
        except Damaged as damage:
            await self._settling.park(entry, DAMAGED, str(damage), "error")
            return None
        except KeyError:
            return None
        except Unavailable as trouble:
            self._settling.trouble(entry.message_id, id, trouble)
            return TROUBLE_SECONDS
        finally:
            if attempt is None or not (unanswered(attempt) or any(reply.positive for _, reply in attempt.replies)):
                self._courier.throttling.give_back(payer, outgoing, entry.size, entry.sender is None)
        if attempt.trouble == "damaged":
            await self._settling.park(entry, DAMAGED, "the content could not be read whole", "error")
            return None
        if attempt.trouble == "abandoned" and not attempt.dot_sent:
            return TROUBLE_SECONDS
        self._seen(entry, attempt)
        if slot or asked or attempt.offered:
            await self._settling.settle(entry, attempt, domain, slot)
        # Else the host only seemed to be back. One that turns the first message away each time it is probed would have
        # all that waits for it written anew every half minute.
        return None

    async def _attempt(self, entry: SpoolEntry, domain: DomainSettings) -> DeliveryAttempt:
        started = self._clock.now()
        try:
            route = await self._route(entry, domain)
        except NoRoute as nowhere:
            # Whom we are backup of is for the domain and for [backup] to say, and both can be mistaken for a while:
            # what is in custody waits its list out. It goes nowhere else meanwhile, and nobody is told it failed.
            reply = NOT_BACKUP if entry.via == "backup" else nowhere.reply
            return self._not_tried(entry, started, "no_route", reply)
        except Unavailable as trouble:
            return self._not_tried(entry, started, "dns", Reply(451, "4.4.3", trouble.reason))
        hosts = route.hosts if route.fallback is None else tuple(host for way in route.ways() for host in way.hosts)
        if not hosts:
            raise NoHost
        self._agenda.goes_to(entry.id, hosts)
        self._underway.add(entry.id)
        try:
            return await self._courier.attempt(entry, lambda: self._spool.content(entry.id), route)
        finally:
            self._underway.discard(entry.id)

    async def _route(self, entry: SpoolEntry, domain: DomainSettings) -> Route:
        if not entry.via:
            return await self._routes.find(domain, entry.sender, entry.priority)
        # What must be looked up does not take all the questions there may be from the mail that comes in.
        await self._looking_up.acquire()
        try:
            return await self._routes.find(domain, entry.sender, entry.priority)
        finally:
            self._looking_up.release()

    def _not_tried(self, entry: SpoolEntry, started: float, trouble: str, reply: Reply) -> DeliveryAttempt:
        replies = tuple((recipient.address, reply) for recipient in entry.pending)
        return DeliveryAttempt(NOWHERE, started, self._clock.now(), Phase.CONNECT, replies, "", trouble)

    def _payer(self, entry: SpoolEntry, domain: DomainSettings) -> tuple[DomainSettings, bool]:
        """Whose limits an hour hold: those of the domain it is for; of mail that leaves us, of the sender's."""
        if entry.via != "outbound" or entry.sender is None:
            return domain, False
        return self._settings().domain(entry.sender.domain) or domain, True

    def _seen(self, entry: SpoolEntry, attempt: DeliveryAttempt) -> None:
        """The first attempt since we started: a destination that answers gets what waited for it. One that does not is
        the breaker's."""
        key = (entry.domain, entry.via)
        if key in self._unsure:
            self._unsure.discard(key)
            if not attempt.trouble:
                self._agenda.bring_forward(*key)

    async def _keep(self, entry: SpoolEntry, domain: DomainSettings, slot: bool) -> float | None:
        """A copy for an archive: written, or tried again like any delivery."""
        started = self._clock.now()
        try:
            content = await self._spool.content(entry.id)
        except Damaged as damage:
            await self._settling.park(entry, DAMAGED, str(damage), "error")
            return None
        except KeyError:
            return None
        except Unavailable as trouble:
            self._settling.trouble(entry.message_id, entry.id, trouble)
            return TROUBLE_SECONDS
        try:
            path = await self._archive.keep(entry, content)
        except Damaged as damage:
            await self._settling.park(entry, DAMAGED, str(damage), "error")
            return None
        except Unavailable as trouble:
            attempt = self._not_tried(entry, started, "archive", Reply(451, "4.3.0", trouble.reason))
            await self._settling.settle(entry, attempt, domain, slot)
            return None
        self._spool.remove_soon(entry.id)
        fields = {"entry": entry.id, "archive": entry.domain, "path": path}
        self._journal.record("archived", entry.message_id, fields)
        return None

    def _answered_late(self, attempt: DeliveryAttempt, id: str) -> None:
        """The answer to a final dot whose sender heard long ago that we keep the message; or there is none."""
        self._claimed.discard(id)
        entry = self._spool.entry(id)
        if entry is None:
            self.changed([id])
            self._perhaps_all_ended()
            return
        # Its section may be gone by now; who has the mail has it all the same.
        domain = self._settings().domain(entry.domain, entry.via) or self._settings().outgoing
        settling = self._settling.settle(entry, attempt, domain, slot=True)
        self._run(("late", id), settling, lambda seconds: self._ended(id, True, seconds))
