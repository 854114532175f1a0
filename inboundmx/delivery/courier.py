"""Carries one message to one of its route's hosts: while the stranger waits, or out of the spool.

Knows which host is tried, when another is, and the one clock of a stranger's patience. Does not know the spool, the
schedule or the wire; what an answer means, ``answers`` knows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.defer import CancelledError, Deferred

from inboundmx.delivery.answers import meaning, not_connected, refuses_us, stale, turned_away
from inboundmx.delivery.budget import Budget
from inboundmx.delivery.line import Line
from inboundmx.delivery.pool import Kept, Pool
from inboundmx.model.custody import Content, DeliveryAttempt, Handover, Host, Parcel, Route, SpoolEntry, Terms
from inboundmx.model.settings import Settings
from inboundmx.ports import Chance, Clock, Journal, Refused, Transmission, Transmitter, Unheard

# From MAIL to 354 while a stranger waits; abandoning here duplicates nothing.
LIVE_ANSWER_SECONDS = 10.0
# RFC 5321 4.5.3.2.6: giving up earlier than this after the final dot breeds duplicates (RFC 1047).
DOT_SECONDS = 600.0


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
    """Implements ports.Courier. ``came_back`` is told which host answers again after it had been down."""

    def __init__(
        self,
        transmitter: Transmitter,
        settings: Callable[[], Settings],
        clock: Clock,
        chance: Chance,
        journal: Journal,
        came_back: Callable[[Host], object] = lambda host: None,
    ) -> None:
        self.came_back = came_back
        self._transmitter = transmitter
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._journal = journal
        self._budget = Budget(lambda: self._settings().delivery.max_connections)
        self._pools: dict[tuple[Host, Terms], Pool] = {}
        self._patience: dict[float, Line[_Errand]] = {}
        self._errands: set[_Errand] = set()
        self._stopping = False

    # --- while the stranger waits -------------------------------------------------------------------------------------

    async def hand_over(self, parcel: Parcel, route: Route) -> Handover:
        domain = self._settings().domain(route.domain)
        if domain is None or self._stopping:
            return Handover("postponed", detail="no such domain" if domain is None else "stopping")
        patience = self._patience.get(domain.handover_deadline)
        if patience is None:
            patience = Line(self._clock, domain.handover_deadline, _Errand.expire)
            self._patience[domain.handover_deadline] = patience
        errand = _Errand()
        patience.join(errand)
        try:
            return await self._through(errand, parcel, route)
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

    async def _through(self, errand: _Errand, parcel: Parcel, route: Route) -> Handover:
        detail = "no host"
        for host in route.hosts:
            pool = self._pools.get((host, route.terms)) or self.pool(host, route.terms)
            replaced = False
            while True:
                if pool.down:
                    detail = f"{host} is down: {pool.breaker.last_error}"
                    break
                kept = None if replaced else pool.take()
                if kept is None:
                    got = await self._wait(errand, pool)
                    if not isinstance(got, Kept):
                        if got is None:
                            return Handover("postponed", host, detail="deadline" if errand.expired else "busy")
                        if got.trouble == "rejects_us":
                            return Handover("postponed", host, got.reply, got.detail)
                        detail = f"{host}: {got.detail}"
                        break
                    kept = got
                reused = kept.messages > 0
                attempt = await self._transmit(errand, pool, kept, parcel, LIVE_ANSWER_SECONDS)
                if attempt is None:
                    return Handover("uncertain", host, detail="no answer to the final dot yet", late=errand.late)
                if reused and stale(attempt) and not errand.expired:
                    replaced = True
                    continue
                away = turned_away(attempt)
                if away is not None:
                    detail = f"{host}: {away.reply}"
                    if not reused:
                        pool.refused(away)
                    break
                return meaning(attempt)
        return Handover("postponed", detail=detail)

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
        connection to send it over; what it raises is raised. A host that is down is tried when no other is up."""
        started = self._clock.now()
        recipients = tuple(recipient.address for recipient in entry.pending)
        pools = [self.pool(host, route.terms) for host in route.hosts]
        attempt: DeliveryAttempt | None = None
        for pool in [pool for pool in pools if not pool.down] or pools:
            refused = await pool.breaker.knock()
            reused = False
            while refused is None:
                got = await pool.wait()
                if not isinstance(got, Kept):
                    refused = got
                    break
                reused = got.messages > 0
                try:
                    parcel = Parcel(
                        entry.message_id, entry.sender, recipients, await content(), entry.eight_bit, entry.utf8
                    )
                except BaseException:
                    pool.give_back(got, None)
                    raise
                errand = _Errand()
                attempt = await self._transmit(errand, pool, got, parcel, self._settings().delivery.command_timeout)
                assert attempt is not None  # nobody's patience ends here
                if not (reused and stale(attempt)):
                    break
            if refused is not None:
                attempt = not_connected(pool.host, refused, recipients, started, self._clock.now())
                if refused.trouble in ("rejects_us", "abandoned"):
                    break
                continue
            away = turned_away(attempt) if attempt is not None else None
            if away is None:
                break
            if not reused:
                pool.refused(away)
        if attempt is None:
            raise ValueError(f"the route of {route.domain} has no host")
        return attempt

    # --- both ---------------------------------------------------------------------------------------------------------

    def pool(self, host: Host, terms: Terms) -> Pool:
        pool = self._pools.get((host, terms))
        if pool is None:
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
            )
        return pool

    def status(self) -> Mapping[str, Mapping[str, object]]:
        """By host: state, last error, connections, who waits."""
        return {str(host): pool.status() for (host, _), pool in self._pools.items()}

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
        reply = next((reply for _, reply in attempt.replies if not reply.temporary), None)
        if reply is None:
            return attempt
        if pool.suspicion.heard(reply):
            self._journal.record("rejects_us", "", {"host": str(pool.host), "reply": str(reply)}, level="error")
        if reply.positive or not pool.suspicion.certain:
            return attempt
        return refuses_us(attempt)

    def _wanted(self, host: Host) -> bool:
        return any(host in domain.primary for domain in self._settings().domains.values())

    def _back(self, pool: Pool) -> None:
        self._journal.record("host_up", "", {"host": str(pool.host)})
        self.came_back(pool.host)

    def _tripped(self, pool: Pool, refused: Refused) -> None:
        if self._stopping:
            return
        event, level = ("rejects_us", "error") if refused.trouble == "rejects_us" else ("host_down", "warning")
        fields = {"host": str(pool.host), "trouble": refused.trouble, "phase": str(refused.phase)}
        self._journal.record(event, "", fields | {"detail": refused.detail}, level=level)
