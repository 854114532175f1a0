"""Carries one message to one of its route's hosts: while the stranger waits, or out of the spool.

Knows which host is tried, when another is, what an answer means for the message, and the one clock of a stranger's
patience. Does not know the spool, the schedule or the wire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred, succeed

from inboundmx.delivery.line import Line
from inboundmx.delivery.pool import Budget, Kept, Pool
from inboundmx.model.address import Address
from inboundmx.model.custody import Content, DeliveryAttempt, Handover, Host, Parcel, Phase, Route, SpoolEntry
from inboundmx.model.reply import Reply
from inboundmx.model.settings import Settings
from inboundmx.ports import Chance, Clock, Journal, Refused, Transmission, Transmitter

# From MAIL to 354 while a stranger waits; abandoning here duplicates nothing.
LIVE_ANSWER_SECONDS = 10.0
# RFC 5321 4.5.3.2.6: giving up earlier than this after the final dot breeds duplicates (RFC 1047).
DOT_SECONDS = 600.0
TEXT_LIMIT = 400

# What a host's refusal without an enhanced code says in RFC 3463's terms, as far as phase and code tell.
ENHANCED = {
    (Phase.MAIL, 552): "5.3.4",
    (Phase.RECIPIENT, 550): "5.1.1",
    (Phase.RECIPIENT, 551): "5.1.6",
    (Phase.RECIPIENT, 552): "5.2.2",
    (Phase.RECIPIENT, 553): "5.1.3",
    (Phase.DATA, 552): "5.3.4",
    (Phase.DOT, 552): "5.3.4",
}


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
        self._pools: dict[tuple[Host, str], Pool] = {}
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
        finally:
            patience.leave(errand)
            if errand.woken is not None and errand.transmission is not None:
                # The stranger is gone; a message not yet sent whole need not go.
                errand.transmission.abandon()

    async def _through(self, errand: _Errand, parcel: Parcel, route: Route) -> Handover:
        detail = "no host"
        for host in route.hosts:
            pool = self._pools.get((host, route.tls)) or self.pool(host, route.tls)
            stale = False
            while True:
                if pool.down:
                    detail = f"{host} is down: {pool.breaker.last_error}"
                    break
                kept = None if stale else pool.take()
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
                if reused and _stale(attempt) and not errand.expired:
                    stale = True
                    continue
                turned_away = _turned_away(attempt)
                if turned_away is not None:
                    detail = f"{host}: {turned_away.reply}"
                    if not reused:
                        pool.refused(turned_away)
                    break
                return self._meaning(attempt)
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

    def _meaning(self, attempt: DeliveryAttempt) -> Handover:
        """What an answer means for a message whose sender still waits."""
        host, (_, reply) = attempt.host, attempt.replies[0]
        if attempt.trouble:
            if attempt.dot_sent and attempt.trouble != "rejects_us":
                return Handover("uncertain", host, detail=attempt.trouble, attempt=attempt, late=succeed(attempt))
            if attempt.trouble == "unable" and all(r.permanent for _, r in attempt.replies):
                return Handover("refused", host, passed_on(reply, attempt.phase), attempt=attempt)
            detail = "deadline" if attempt.trouble == "abandoned" else f"{attempt.trouble} at {attempt.phase}: {reply}"
            return Handover("postponed", host, detail=detail, attempt=attempt)
        if attempt.delivered:
            return Handover("delivered", host, reply, attempt=attempt)
        if all(r.permanent for _, r in attempt.replies):
            return Handover("refused", host, passed_on(reply, attempt.phase), attempt=attempt)
        if all(r.temporary for _, r in attempt.replies):
            return Handover("deferred", host, passed_on(reply, attempt.phase), str(reply), attempt)
        return Handover("postponed", host, detail="recipients were answered differently", attempt=attempt)

    # --- out of the spool ---------------------------------------------------------------------------------------------

    async def attempt(
        self, entry: SpoolEntry, content: Callable[[], Awaitable[Content]], route: Route
    ) -> DeliveryAttempt:
        """Tries the pending recipients of ``entry``, each to be settled alone. ``content`` is asked for once there is a
        connection to send it over; what it raises is raised. A host that is down is tried when no other is up."""
        started = self._clock.now()
        recipients = tuple(recipient.address for recipient in entry.pending)
        pools = [self.pool(host, route.tls) for host in route.hosts]
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
                if not (reused and _stale(attempt)):
                    break
            if refused is not None:
                attempt = _not_connected(pool.host, refused, recipients, started, self._clock.now())
                if refused.trouble in ("rejects_us", "abandoned"):
                    break
                continue
            turned_away = _turned_away(attempt) if attempt is not None else None
            if turned_away is None:
                break
            if not reused:
                pool.refused(turned_away)
        if attempt is None:
            raise ValueError(f"the route of {route.domain} has no host")
        return attempt

    # --- both ---------------------------------------------------------------------------------------------------------

    def pool(self, host: Host, tls: str) -> Pool:
        pool = self._pools.get((host, tls))
        if pool is None:
            pool = self._pools[host, tls] = Pool(
                host,
                tls,
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

    def close(self) -> None:
        """We are stopping: strangers are answered as if their patience had ended, nothing new is sent, idle connections
        are closed. What is in transmission goes on, until ``abandon``."""
        self._stopping = True
        for patience in tuple(self._patience.values()):
            while (errand := patience.oldest()) is not None:
                errand.expire()
            patience.close()
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
        ours = Reply(451, "4.7.0", f"{pool.host} refuses all our mail")
        return replace(attempt, trouble="rejects_us", replies=tuple((address, ours) for address, _ in attempt.replies))

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


def passed_on(reply: Reply, phase: Phase) -> Reply:
    """A host's answer as the stranger may hear it: its code, one line of printable text, an enhanced code."""
    text = "".join(c if c.isprintable() else " " for c in reply.text)
    enhanced = reply.enhanced or ENHANCED.get((phase, reply.code), f"{reply.code // 100}.0.0")
    return Reply(reply.code, enhanced, " ".join(text.split())[:TEXT_LIMIT] or "refused by the mail server")


def _stale(attempt: DeliveryAttempt) -> bool:
    """A kept connection that was gone, or closing, before it had heard of this message."""
    return attempt.trouble == "lost" and attempt.phase is Phase.MAIL and not attempt.dot_sent


def _turned_away(attempt: DeliveryAttempt) -> Refused | None:
    """421 before the body was sent: the host closes, and another may be tried."""
    if attempt.trouble != "lost" or attempt.dot_sent:
        return None
    reply = next((reply for _, reply in attempt.replies if reply.code == 421), None)
    return None if reply is None else Refused("lost", attempt.phase, reply, str(reply))


def _not_connected(
    host: Host, refused: Refused, recipients: Sequence[Address], started: float, ended: float
) -> DeliveryAttempt:
    said = f": {refused.reply}" if refused.reply is not None else ""
    reply = Reply(451, "4.4.1", f"{refused.detail or refused.trouble}{said}"[:TEXT_LIMIT])
    phase = Phase(refused.phase) if refused.phase in Phase._value2member_map_ else Phase.CONNECT
    return DeliveryAttempt(host, started, ended, phase, tuple((r, reply) for r in recipients), "", refused.trouble)
