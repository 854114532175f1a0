"""Carries one message to one of its route's hosts: while the stranger waits, or out of the spool.

Knows which host is tried, when another is, the fallback after the last, and the one clock of a stranger's patience.
Does not know the spool, the schedule or the wire; what an answer means, ``answers`` knows.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterator, Mapping

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore

from inboundmx.delivery.answers import elsewhere, meaning, not_connected, refuses_us, stale, turned_away, unfinished
from inboundmx.delivery.budget import Budget
from inboundmx.delivery.capabilities import Capabilities
from inboundmx.delivery.line import Line
from inboundmx.delivery.pool import STOPPING, Kept, Pool
from inboundmx.delivery.throttling import Throttling, limited
from inboundmx.model.custody import Client, Content, DeliveryAttempt, Handover, Host, Parcel, Route, SpoolEntry, Terms
from inboundmx.model.reply import Reply
from inboundmx.model.settings import Settings
from inboundmx.policy.relaying import within
from inboundmx.ports import Chance, Clock, Connection, Journal, Refused, StateStore, Transmission, Transmitter, Unheard

# From MAIL to 354 while a stranger waits; abandoning here duplicates nothing.
LIVE_ANSWER_SECONDS = 10.0
# RFC 5321 4.5.3.2.6: giving up earlier than this after the final dot breeds duplicates (RFC 1047).
DOT_SECONDS = 600.0
# So many hosts may take a message of the spool and not finish with it before the next ones wait for the next attempt:
# each may have taken all the time there is for an answer.
FAULTS = 2
# Hosts that are probed at once; the others' probes wait for that.
PROBES = 25
# Pools of strangers' hosts are looked through for unused ones when there are so many.
POOLS = 1000
# Hosts told of in the status.
TOLD = 500

NO_HOST = Handover("postponed", detail="no host")


class _Errand:
    """A message on its way out. ``woken`` fires with the attempt, or with None when patience ended after the dot."""

    __slots__ = ("attempt", "expired", "late", "transmission", "waiting", "woken")

    def __init__(self) -> None:
        self.transmission: Transmission | None = None
        self.waiting: Deferred[Kept | Refused | None] | None = None
        self.woken: Deferred[DeliveryAttempt | None] | None = None
        self.late: Deferred[DeliveryAttempt] | None = None
        self.attempt: DeliveryAttempt | None = None
        self.expired = False

    def ended(self, attempt: DeliveryAttempt) -> None:
        self.attempt = attempt
        if self.late is not None:
            late, self.late = self.late, None
            late.callback(attempt)
        elif self.woken is not None:
            woken, self.woken = self.woken, None
            woken.callback(attempt)

    def expire(self) -> None:
        """The stranger has waited long enough."""
        self.expired = True
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.cancel()
        elif self.woken is not None and self.transmission is not None:
            if self.transmission.dot_sent:
                woken, self.woken = self.woken, None
                self.late = Deferred()
                woken.callback(None)
            else:
                self.transmission.abandon()


class Courier:
    """Implements ports.Courier. ``came_back`` is told which host answers again after it had been down. ``throttling``
    is that of what is handed over and of what is delivered out of the spool."""

    def __init__(
        self,
        transmitter: Transmitter,
        settings: Callable[[], Settings],
        clock: Clock,
        chance: Chance,
        journal: Journal,
        state: StateStore,
        came_back: Callable[[Host], object] = lambda host: None,
    ) -> None:
        self.came_back = came_back
        self.spread: Callable[[str, Refused | None], object] = lambda host, refused: None
        """Told which host is down, and why, or answers again: for other processes that deliver to it."""
        self.answered: Callable[[DeliveryAttempt, bool], object] = lambda attempt, live: None
        """Told what a host answered to a message, and whether its sender still waits."""
        self._heard: dict[str, Refused] = {}
        self.throttling = Throttling(clock, journal)
        self._transmitter = transmitter
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._journal = journal
        self._budget = Budget(lambda: self._settings().delivery.max_connections)
        self._capabilities = Capabilities(state, clock)
        self._probes = DeferredSemaphore(PROBES)
        self._pools: dict[tuple[Host, Terms], Pool] = {}
        self._pools_limit = POOLS
        self._named: tuple[Settings | None, frozenset[Host]] = (None, frozenset())
        self._patience: dict[float, Line[_Errand]] = {}
        self._errands: set[_Errand] = set()
        self._stopping = False

    def start(self) -> None:
        """Recalls what hosts could take."""
        self._capabilities.recall()

    # --- while the stranger waits -------------------------------------------------------------------------------------

    async def hand_over(self, parcel: Parcel, route: Route) -> Handover:
        settings = self._settings()
        domain = settings.domain(route.domain, route.via)
        if domain is None or self._stopping:
            return Handover("postponed", detail="no such domain" if domain is None else "stopping")
        throttled = limited(domain)
        if throttled and self.throttling.take(domain, False, parcel.content.size, parcel.sender is None):
            return Handover("postponed", detail="throttled")
        patience = self._patience.get(domain.handover_deadline)
        if patience is None:
            patience = Line(self._clock, domain.handover_deadline, _Errand.expire)
            self._patience[domain.handover_deadline] = patience
        errand = _Errand()
        patience.join(errand)
        kind = ""
        try:
            handover = await self._through(errand, parcel, route)
            kind = handover.kind
            return handover
        except CancelledError as gone:
            if errand.woken is None or errand.transmission is None:
                raise
            errand.woken = None
            if errand.transmission.dot_sent:
                late = errand.late = Deferred()
                raise Unheard(late) from gone
            # The stranger is gone; a message not yet sent whole need not go.
            errand.transmission.abandon()
            raise
        finally:
            patience.leave(errand)
            if throttled and kind not in ("delivered", "uncertain"):
                self.throttling.give_back(domain, False, parcel.content.size, parcel.sender is None)

    async def _through(self, errand: _Errand, parcel: Parcel, route: Route) -> Handover:
        handover = NO_HOST
        for way in route.ways():
            handover = NO_HOST
            for host in way.hosts:
                handover, final = await self._offer(errand, parcel, way.terms, host)
                if final:
                    return handover
                if handover.host is not None:
                    # It was there, and has answered for its route.
                    break
            if errand.expired:
                break
        return handover

    async def _offer(self, errand: _Errand, parcel: Parcel, terms: Terms, host: Host) -> tuple[Handover, bool]:
        """One host: what came of it, and whether nobody else is to be asked."""
        pool = self._pools.get((host, terms)) or self.pool(host, terms)
        replaced = False
        while True:
            if pool.down:
                return Handover("postponed", detail=f"{host} is down: {pool.breaker.last_error}"), False
            kept = None if replaced else pool.take()
            if kept is None:
                got = await self._wait(errand, pool)
                if got is None:
                    return Handover("postponed", host, detail="deadline" if errand.expired else "busy"), True
                if isinstance(got, Refused):
                    if got.trouble == "rejects_us":
                        return Handover("postponed", host, got.reply, got.detail), False
                    return Handover("postponed", detail=f"{host}: {got.detail}"), False
                kept = got
            reused = kept.messages > 0
            attempt = await self._transmit(errand, pool, kept, parcel, LIVE_ANSWER_SECONDS)
            if attempt is None:
                return Handover("uncertain", host, detail="no answer to the final dot yet", late=errand.late), True
            if reused and stale(attempt) and not errand.expired:
                replaced = True
                continue
            away = turned_away(attempt)
            if away is None:
                return meaning(attempt), not elsewhere(attempt)
            if not reused:
                pool.refused(away)
            return Handover("postponed", detail=f"{host}: {away.reply}"), False

    async def _wait(self, errand: _Errand, pool: Pool) -> Kept | Refused | None:
        waiting = None if errand.expired else pool.join()
        if waiting is None:
            return None
        errand.waiting = waiting
        try:
            return await waiting
        except CancelledError:
            if not errand.expired:
                raise
            return None
        finally:
            errand.waiting = None

    # --- out of the spool ---------------------------------------------------------------------------------------------

    async def attempt(
        self, entry: SpoolEntry, content: Callable[[], Awaitable[Content]], route: Route
    ) -> DeliveryAttempt:
        """Tries the pending recipients of ``entry``, each to be settled alone. ``content`` is asked for once there is a
        connection to send it over; what it raises is raised.

        Hosts that are down are passed over, whichever way they are of, unless none is up: a silent one would cost each
        message the time of a connect before the way that works is taken."""
        recipients = tuple(recipient.address for recipient in entry.pending)
        started = self._clock.now()
        knocks = self.down(route)
        attempt: DeliveryAttempt | None = None
        faults, further = 0, True
        for way in route.ways():
            if not further:
                break
            for host in way.hosts:
                if self._stopping:
                    return not_connected(host, STOPPING, recipients, started, self._clock.now())
                if not knocks and self._down(host, way.terms):
                    continue
                got = await self._try(entry, content, way.terms, host)
                if isinstance(got, Refused):
                    offered = attempt is not None and attempt.offered
                    attempt = not_connected(host, got, recipients, started, self._clock.now(), offered)
                    further = got.trouble != "abandoned"
                    if got.trouble in ("rejects_us", "abandoned"):
                        break
                    continue
                attempt = got
                if unfinished(attempt):
                    faults += 1
                    if faults == FAULTS:
                        return attempt
                    continue
                further = elsewhere(attempt)
                if turned_away(attempt) is None:
                    break
        if attempt is None:
            raise ValueError(f"the route of {route.domain} has no host")
        return attempt

    async def _try(
        self, entry: SpoolEntry, content: Callable[[], Awaitable[Content]], terms: Terms, host: Host
    ) -> DeliveryAttempt | Refused:
        """One host. Refused: there was no connection to send anything over."""
        pool = self.pool(host, terms)
        if pool.breaker.open:
            refused = await pool.breaker.knock()
            if refused is not None:
                return refused
        while True:
            got: Kept | Refused | None = pool.spare() or await pool.wait()
            if not isinstance(got, Kept):
                return got or STOPPING
            reused = got.messages > 0
            try:
                parcel = _parcel(entry, await content(), terms)
            except BaseException:
                pool.give_back(got, None)
                raise
            errand = _Errand()
            attempt = await self._transmit(errand, pool, got, parcel, self._settings().delivery.command_timeout)
            assert attempt is not None  # nobody's patience ends here
            if reused and stale(attempt):
                continue
            away = turned_away(attempt)
            if away is not None and not reused:
                pool.refused(away)
            return attempt

    def foreseen(self, entry: SpoolEntry, route: Route) -> DeliveryAttempt | None:
        """The attempt, when it is known without one: every host of the route was just found not to be there."""
        found = None
        for way in route.ways():
            for host in way.hosts:
                pool = self._pools.get((host, way.terms))
                refused = pool.breaker.just_refused if pool is not None else None
                if refused is None or self._stopping:
                    return None
                found = host, refused
                if refused.trouble == "rejects_us":
                    break
        if found is None:
            return None
        now = self._clock.now()
        return not_connected(*found, [recipient.address for recipient in entry.pending], now, now)

    # --- what is known of hosts ---------------------------------------------------------------------------------------

    def unable(self, route: Route, size: int, utf8: bool) -> Reply | None:
        if route.hosts and not self._down(route.hosts[0], route.terms):
            # Nearly always, so it comes first.
            return None
        said = None
        for way in route.ways():
            for host in way.hosts:
                reply = self._capabilities.unable(host, size, utf8) if self._down(host, way.terms) else None
                if reply is None:
                    return None
                said = said or reply
        return said

    def down(self, route: Route) -> bool:
        """Whether no host of the route is there."""
        if route.hosts and not self._down(route.hosts[0], route.terms):
            # Nearly always, so it comes first.
            return False
        return all(self._down(host, way.terms) for way in route.ways() for host in way.hosts)

    def _down(self, host: Host, terms: Terms) -> bool:
        pool = self._pools.get((host, terms))
        return pool is not None and pool.down

    # --- both ---------------------------------------------------------------------------------------------------------

    def pool(self, host: Host, terms: Terms) -> Pool:
        pool = self._pools.get((host, terms))
        if pool is None:
            if len(self._pools) >= self._pools_limit:
                self._drop_unused()
            pool = self._pools[host, terms] = Pool(
                host,
                terms,
                self._transmitter,
                self._clock,
                self._chance,
                self._budget,
                lambda: self._settings().delivery.max_connections_per_host,
                self._back,
                self._tripped,
                self._wanted,
                lambda connection: self._greeted(host, connection),
                self._probes,
            )
            if self._heard and (refused := self._heard.get(str(host))) is not None:
                pool.heard(refused)
        return pool

    def heard(self, host: str, refused: Refused | None) -> None:
        """What another process was told to ``spread``."""
        pools = [pool for pool in self._pools.values() if str(pool.host) == host]
        if refused is None:
            self._heard.pop(host, None)
            for pool in pools:
                pool.breaker.look()
        elif len(self._heard) < TOLD and not self._stopping:
            self._heard[host] = refused
            for pool in pools:
                pool.heard(refused)

    def _drop_unused(self) -> None:
        """Pools of hosts that nothing is sent to now, unless it is known that one the settings name is down."""
        for key, pool in tuple(self._pools.items()):
            if pool.unused and not (pool.down and self._wanted(pool.host)):
                pool.close()
                del self._pools[key]
        self._pools_limit = max(POOLS, 2 * len(self._pools))

    def status(self) -> Mapping[str, Mapping[str, object]]:
        """By host, those that are down or busy before others when there are many: state, last error, connections, who
        waits."""
        pools = heapq.nlargest(TOLD, self._pools.values(), key=lambda pool: (pool.down, not pool.unused))
        return {str(pool.host): pool.status() for pool in pools}

    def hurry(self) -> None:
        """We are stopping: strangers who wait are answered as if their patience had ended, and so is whoever comes."""
        self._stopping = True
        for patience in tuple(self._patience.values()):
            while (errand := patience.oldest()) is not None:
                errand.expire()
            patience.close()

    def close(self) -> None:
        """Nothing new is sent and idle connections are closed. What is in transmission goes on, until ``abandon``."""
        self.hurry()
        for pool in tuple(self._pools.values()):
            pool.close()

    def abandon(self) -> None:
        """What has not been sent whole ends now."""
        for errand in tuple(self._errands):
            if errand.transmission is not None:
                errand.transmission.abandon()

    async def _transmit(
        self, errand: _Errand, pool: Pool, kept: Kept, parcel: Parcel, answer_seconds: float
    ) -> DeliveryAttempt | None:
        """One transmission, its connection given back when it ends. None: patience ended after the final dot."""
        clock = self._clock
        started = clock.monotonic()

        def ended(attempt: DeliveryAttempt) -> None:
            self._errands.discard(errand)
            attempt = self._judged(pool, attempt)
            self.answered(attempt, kept.live)
            pool.give_back(kept, None if attempt.trouble else clock.monotonic() - started)
            errand.ended(attempt)

        errand.attempt = None
        errand.transmission = transmission = kept.connection.transmit(
            parcel, answer_seconds=answer_seconds, dot_seconds=DOT_SECONDS
        )
        self._errands.add(errand)
        transmission.done.addCallback(ended)
        if errand.attempt is not None:
            return errand.attempt
        errand.woken = Deferred()
        return await errand.woken

    def _judged(self, pool: Pool, attempt: DeliveryAttempt) -> DeliveryAttempt:
        """The attempt, unless it is us who are refused: then it is no answer to the message."""
        if attempt.trouble:
            if attempt.trouble == "rejects_us":
                said = str(attempt.replies[0][1]) if attempt.replies else ""
                pool.trip(Refused("rejects_us", attempt.phase, None, said))
            return attempt
        definite = [reply for _, reply in attempt.replies if not reply.temporary]
        if not definite:
            return attempt
        # One that was taken for anybody shows that it is not us who are refused, and must not be undone.
        reply = next((reply for reply in definite if reply.positive), definite[0])
        if pool.suspicion.heard(reply):
            self._journal.record("rejects_us", "", {"host": str(pool.host), "reply": str(reply)}, level="error")
        if reply.positive or not pool.suspicion.certain:
            return attempt
        return refuses_us(attempt)

    def _wanted(self, host: Host) -> bool:
        """Whether the settings name it: the others are strangers' hosts, which nobody waits for but what is due."""
        settings = self._settings()
        if self._named[0] is not settings:
            self._named = settings, frozenset(_named(settings))
        return host in self._named[1] or within(host.address, settings.backup.primaries)

    def _greeted(self, host: Host, connection: Connection) -> None:
        if self._wanted(host):
            self._capabilities.greeted(host, connection.extensions)

    def _back(self, pool: Pool) -> None:
        self._journal.record("host_up", "", {"host": str(pool.host)})
        self._heard.pop(str(pool.host), None)
        self.spread(str(pool.host), None)
        self.came_back(pool.host)

    def _tripped(self, pool: Pool, refused: Refused) -> None:
        if self._stopping:
            return
        event, level = ("rejects_us", "error") if refused.trouble == "rejects_us" else ("host_down", "warning")
        fields = {"host": str(pool.host), "trouble": refused.trouble, "phase": str(refused.phase)}
        self._journal.record(event, "", fields | {"detail": refused.detail}, level=level)
        self.spread(str(pool.host), refused)


def _parcel(entry: SpoolEntry, content: Content, terms: Terms) -> Parcel:
    pending = entry.pending
    dsn = tuple((recipient.notify, recipient.original) for recipient in pending)
    tells = terms.client_facts != "none"
    return Parcel(
        entry.message_id,
        entry.sender,
        tuple(recipient.address for recipient in pending),
        content,
        entry.eight_bit,
        entry.utf8,
        ret=entry.ret,
        envid=entry.envid,
        dsn=dsn if any(notify or original for notify, original in dsn) else (),
        client=Client(entry.peer_ip, entry.peer_name, entry.hello) if entry.peer_ip and tells else None,
    )


def _named(settings: Settings) -> Iterator[Host]:
    for domain in settings.sections:
        if domain.enabled:
            yield from domain.primary
    for gateway in settings.outbound:
        if gateway.enabled:
            yield from gateway.server
