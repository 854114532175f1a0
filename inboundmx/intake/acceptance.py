"""What becomes of a message once it is here: refused, handed over at once, promised, kept or thrown away.

Knows the order: decide, record, act; 250 only after the primary's 250 or after the spool's commit. Does not know how a
message is transmitted or stored, nor what is written into the entries of the spool (``deposits``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.intake.arrival import Arrival, Judged, Lot, facts_of, for_lots, lots_of, refusing, stamped, told_of
from inboundmx.intake.deposits import Kept, heard, kept
from inboundmx.intake.doubting import Doubts
from inboundmx.intake.goodwill import Goodwill
from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Client, Content, DeliveryAttempt, Deposit, Handover, Parcel, Route, State
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.reply import Replies, Reply
from inboundmx.model.settings import DomainSettings
from inboundmx.model.verdict import Level
from inboundmx.policy.archiving import archives_for
from inboundmx.policy.prioritising import after_attempt
from inboundmx.policy.retrying import UNANSWERED, UNANSWERED_SECONDS, settle
from inboundmx.ports import (
    Chance,
    Clock,
    Courier,
    Deliveries,
    Journal,
    NoRoute,
    Routes,
    Spool,
    StorageFull,
    Unavailable,
    Unheard,
)


class Taken(NamedTuple):
    """The reply to the final dot, its last word the message's id; whether the spool took the body over; whether the
    mail is good: taken, and nothing speaks against it; and what was decided for whom."""

    reply: Reply | Replies
    keeps_body: bool
    good: bool
    lots: Sequence[Lot]


class Acceptance:
    def __init__(
        self,
        routes: Routes,
        courier: Courier,
        spool: Spool,
        deliveries: Deliveries,
        journal: Journal,
        clock: Clock,
        chance: Chance,
        goodwill: Goodwill,
        doubts: Doubts,
    ) -> None:
        self.goodwill = goodwill
        self._doubts = doubts
        self._routes = routes
        self._courier = courier
        self._spool = spool
        self._deliveries = deliveries
        self._journal = journal
        self._clock = clock
        self._chance = chance

    async def accept(self, arrival: Arrival) -> Taken:
        lots = self._doubts.weighed(arrival, lots_of(arrival))
        reply: Reply | Replies
        if arrival.order and len(lots) > 1 and any(lot.verdict.reply is not None for lot in lots):
            reply, keeps_body = await self._each_accepted(arrival, lots)
        else:
            reply, keeps_body = await self._accepted(arrival, lots)
        good = reply.positive and all(lot.verdict.level is Level.NONE and lot.fate == "deliver" for lot in lots)
        return Taken(reply, keeps_body, good, lots)

    async def _each_accepted(self, arrival: Arrival, lots: Sequence[Lot]) -> tuple[Reply | Replies, bool]:
        """Each recipient hears what becomes of the message for him. Those of whom it is taken share one answer, which
        is given by the same rules as to a message for them alone, as is each refusal."""
        taken = [lot for lot in lots if lot.verdict.reply is None]
        refused = [[lot] for lot in lots if lot.verdict.reply is not None]
        answers: dict[Address, Reply] = {}
        keeps_body = False
        for some in [taken, *refused] if taken else refused:
            part = for_lots(arrival, some)
            answer, kept = await self._accepted(part, some)
            keeps_body = keeps_body or kept
            answers |= dict.fromkeys(part.accepted, answer)
        return in_one(tuple([answers[recipient] for recipient in arrival.order])), keeps_body

    async def _accepted(self, arrival: Arrival, lots: Sequence[Lot]) -> tuple[Reply, bool]:
        started = self._clock.monotonic()
        message = arrival.message
        facts = facts_of(arrival, lots)
        refused = refusing(lots)
        if refused is not None:
            decisive, reply = refused
            if reply.permanent:
                self.goodwill.refused(
                    arrival.settings, arrival.session, arrival.envelope.sender, decisive.results, decisive.verdict.score
                )
            return self._refused(message.id, reply, facts, lots, decisive), False
        if arrival.envelope.dsn:
            arrival = heard(arrival, lots)
        verdict = Judged(arrival, lots, stamped(arrival, lots, self._clock.now()), facts)
        handover: Handover | None = None
        if _hands_over(arrival, lots):
            lot = lots[0]
            route: Route | str = arrival.ways[lot.domain.name].route or "no route"
            if lot.domain.via == "backup":
                # Looked up anew: much may have happened since RCPT.
                route = await self._backed_up(lot.domain, arrival)
            if isinstance(route, Route):
                try:
                    handover = await self._courier.hand_over(_parcel(arrival, lot, verdict.contents[0]), route)
                except Unheard as gone:
                    gone.late.addCallback(lambda attempt: self._answered_unheard(message.id, attempt, facts))
                    raise
                facts["seconds"] = round(self._clock.monotonic() - started, 6)
                answer = self._answered(message.id, lot.domain, handover, facts)
                if answer is not None:
                    if handover.kind == "delivered":
                        self.goodwill.accepted(arrival, lots)
                    return answer, False
                # A deferral's detail is the reply as it was said: once is enough.
                facts["reason"] = ": ".join(dict.fromkeys(filter(None, (handover.detail, str(handover.reply or "")))))
            else:
                facts["reason"] = route
        if handover is None or handover.kind == "postponed":
            unable = self._unable(verdict)
            if unable is not None:
                return self._refused(message.id, unable, facts, lots), False
        return await self._promise(verdict, handover)

    # --- handed over --------------------------------------------------------------------------------------------------

    async def _backed_up(self, domain: DomainSettings, arrival: Arrival) -> Route | str:
        """The route of a domain whose MX set makes us its backup, or why there is none now."""
        try:
            return await self._routes.find(domain, arrival.envelope.sender)
        except NoRoute as nowhere:
            return str(nowhere.reply)
        except Unavailable as trouble:
            return trouble.reason

    def _unable(self, verdict: Judged) -> Reply | None:
        """Why nobody who is to get the message can take it, now that its true size is known: a host that is down said
        so while it was up. What somebody can take, or is kept for an operator, is promised."""
        replies = []
        for lot, content in zip(verdict.lots, verdict.contents, strict=True):
            route = verdict.arrival.ways[lot.domain.name].route
            if route is None or lot.fate != "deliver" or lot.verdict.has("redirect"):
                return None
            reply = self._courier.unable(route, content.size, verdict.arrival.envelope.utf8)
            if reply is None:
                return None
            replies.append(reply)
        return replies[0]

    def _answered(self, id: str, domain: DomainSettings, handover: Handover, facts: dict[str, Any]) -> Reply | None:
        """The reply when the primary has spoken, None when the message must be promised."""
        reply = handover.reply
        if handover.host is not None:
            facts["host"] = str(handover.host)
        if handover.kind == "delivered":
            self._journal.record("handed_over", id, facts | {"reply": str(reply)})
            return Reply(250, "2.0.0", f"handed over as {id}")
        passed_on = handover.kind == "refused" or (handover.kind == "deferred" and domain.tempfail == "pass")
        if passed_on and reply is not None:
            return self._refused(id, reply, facts | {"by": "primary"})
        return None

    def _answered_unheard(self, id: str, attempt: DeliveryAttempt, facts: Mapping[str, Any]) -> None:
        """The primary's answer to a message whose sender did not wait for it, and who will probably send it again."""
        told = {**facts, "host": str(attempt.host), "unheard": "the sender had hung up"}
        if attempt.delivered:
            self._journal.record("handed_over", id, told | {"reply": str(attempt.replies[0][1])})
        else:
            self._refused(id, attempt.replies[0][1], told | {"by": "primary"})

    def _refused(
        self,
        id: str,
        reply: Reply,
        facts: Mapping[str, Any],
        lots: Sequence[Lot] = (),
        decisive: Lot | None = None,
    ) -> Reply:
        """Where there are several ``lots`` each is told of, and whose verdict the answer is that all of them hear."""
        said = {"verb": "dot", **facts, "reply": str(reply)}
        if len(lots) < 2:
            self._journal.record("refused", id, said)
        else:
            for lot in lots:
                told = told_of(said, lot)
                if decisive is not None and lot is not decisive and lot.verdict.reply != reply:
                    told["because_of"] = ", ".join(str(each) for each in decisive.recipients)
                self._journal.record("refused", id, told)
        return Reply(reply.code, reply.enhanced, f"{reply.text} {id}", reply.then_close)

    # --- promised -----------------------------------------------------------------------------------------------------

    async def _promise(self, verdict: Judged, handover: Handover | None) -> tuple[Reply, bool]:
        arrival, facts = verdict.arrival, verdict.facts
        id = arrival.message.id
        now = self._clock.now()
        entries = kept(verdict, now, lambda: make_id(now, self._chance.token(TOKEN_LENGTH)))
        if not entries:
            self._discarded(verdict)
            self.goodwill.accepted(arrival, verdict.lots)
            return Reply(250, "2.0.0", f"accepted as {id}"), False
        follow: Callable[[], None] | None = None
        late = handover.late if handover is not None else None
        if handover is None or handover.kind == "postponed":
            if len(entries) == 1:
                entries[0], follow = self._foreseen(entries[0], arrival)
        else:
            entries = [_tried(each, handover, arrival, now) for each in entries]
        committed = self._spool.commit(Change(add=tuple([each.deposit for each in entries])))
        # What follows the commit must follow it even when the stranger hangs up while we wait: the wait is on a
        # Deferred of its own, so that cancelling it does not touch the promise.
        known: Deferred[None] = Deferred()

        def ended(failed: Failure | None) -> None:
            try:
                if failed is None:
                    self._record(verdict, entries)
                    self.goodwill.accepted(arrival, verdict.lots)
            finally:
                # The sender hears before the delivery begins, and goes on meanwhile: a lone one had to wait 0.25 ms
                # of 1.9 for the first words to the primary.
                if not known.called:
                    known.callback(failed)
                if failed is None:
                    self._follow(entries, late, follow)

        committed.addBoth(ended)
        try:
            await known
        except StorageFull:
            return self._refused(
                id, Reply(452, "4.3.1", "no room on the disk, try again later"), facts, verdict.lots
            ), False
        except Unavailable as trouble:
            return self._refused(
                id, Reply(451, "4.3.0", "the message cannot be kept now, try again later"),
                facts | {"trouble": trouble.reason}, verdict.lots,
            ), False  # fmt: skip
        return Reply(250, "2.0.0", f"accepted as {id}"), True

    def _record(self, verdict: Judged, entries: Sequence[Kept]) -> None:
        """What was decided for one domain is not what was for another: each entry is told with its lot."""
        id, facts, lots = verdict.arrival.message.id, verdict.facts, verdict.lots
        for deposit, lot in entries:
            entry = deposit.entry
            event = {State.ACTIVE: "spooled", State.HELD: "held"}.get(entry.state, "quarantined")
            told = facts if len(lots) == 1 else told_of(facts, lot)
            if entry.via == "archive":
                told = told | {"recipients": [str(r.address) for r in entry.recipients]}
            more = {"entry": entry.id, "cause": entry.cause, "domain": entry.domain, "via": entry.via}
            if entry.unverified:
                more["unverified"] = "delivering it is the question whether its recipients exist"
            self._journal.record(event, id, {**told, **more})
        self._discarded(verdict)

    def _discarded(self, verdict: Judged) -> None:
        for lot in verdict.lots:
            if lot.fate == "discard":
                told = verdict.facts if len(verdict.lots) == 1 else told_of(verdict.facts, lot)
                self._journal.record("discarded", verdict.arrival.message.id, told)

    def _foreseen(self, each: Kept, arrival: Arrival) -> tuple[Kept, Callable[[], None] | None]:
        """The only entry of a message, after its first attempt when that is known not to come far."""
        deposit, lot = each
        way = arrival.ways.get(deposit.entry.domain)
        if way is None or way.route is None:
            return each, None
        foreseen = self._deliveries.foreseen(deposit.entry, way.route)
        if foreseen is None:
            return each, None
        entry, follow = foreseen
        return Kept(Deposit(entry, deposit.content), lot), follow

    def _follow(
        self,
        entries: Sequence[Kept],
        late: Deferred[DeliveryAttempt] | None,
        foreseen: Callable[[], None] | None,
    ) -> None:
        if late is not None:
            self._deliveries.claimed(entries[0].deposit.entry, late)
        elif foreseen is not None:
            foreseen()
        else:
            self._deliveries.deposited([each.deposit.entry for each in entries])


def in_one(each: tuple[Reply, ...]) -> Reply | Replies:
    """One answer where all are the same. The last one speaks for the message: taken where anybody takes it, else put
    off where anybody does: to a client that takes it for all of them, nobody's mail is done with who did not get it."""
    first = each[0]
    if all(reply == first for reply in each):
        return first
    for fits in (lambda reply: reply.positive, lambda reply: reply.temporary):
        last = next(filter(fits, each), None)
        if last is not None:
            return Replies(each, last)
    return Replies(each, first)


def _hands_over(arrival: Arrival, lots: Sequence[Lot]) -> bool:
    """Whether the primary may be asked while the stranger waits: one route, delivered as it is and at once, nobody to
    be told of success if the primary does not tell, and no copy to be kept."""
    if len(lots) > 1:
        return False
    lot, envelope = lots[0], arrival.envelope
    domain = lot.domain
    return (
        lot.fate == "deliver"
        and domain.handover == "cut-through"
        and domain.via in ("", "backup")
        and domain.delay == 0
        and not lot.verdict.has("redirect")
        and not (envelope.dsn and any("SUCCESS" in notify.upper() for notify, _ in envelope.dsn.values()))
        and not (
            arrival.settings.archives and archives_for(arrival.settings.archives, envelope.sender, arrival.accepted)
        )
    )


def _parcel(arrival: Arrival, lot: Lot, content: Content) -> Parcel:
    envelope, session, asked = arrival.envelope, arrival.session, arrival.envelope.dsn
    return Parcel(
        arrival.message.id,
        envelope.sender,
        lot.recipients,
        content,
        envelope.eight_bit,
        envelope.utf8,
        len(lot.recipients) > 1,
        envelope.ret,
        envelope.envid,
        tuple(asked.get(recipient, ("", "")) for recipient in lot.recipients) if asked else (),
        None if lot.domain.client_facts == "none" else Client(session.peer_ip, session.reverse_name, session.hello),
    )


def _tried(each: Kept, handover: Handover, arrival: Arrival, now: float) -> Kept:
    """The only entry of a message that could not be handed over, after what the primary said or did not say."""
    entry, lot = each.deposit.entry, each.lot
    if handover.late is not None:
        entry = replace(entry, next_attempt_at=now + UNANSWERED_SECONDS, cause=UNANSWERED)
    elif handover.kind == "deferred" and handover.attempt is not None:
        # The primary has spoken: that was the first attempt of the retry list.
        delivery = arrival.settings.delivery
        settled = settle(entry, handover.attempt, now, lot.domain, delivery, slot=True, jitter=0.0)
        entry = settled.entry or entry
        entry = replace(entry, priority=after_attempt(entry, arrival.settings))
    return Kept(Deposit(entry, each.deposit.content), lot)
