"""What becomes of a message once it is here: refused, handed over at once, promised, kept or thrown away.

Knows the order: decide, record, act; 250 only after the primary's 250 or after the spool's commit. Does not know how a
message is transmitted or stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred

from inboundmx.model.address import Address, written
from inboundmx.model.custody import (
    Change,
    Content,
    DeliveryAttempt,
    Deposit,
    Handover,
    Parcel,
    SpoolEntry,
    SpoolRecipient,
    State,
)
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.message import Message
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, DomainSettings, Settings
from inboundmx.model.verdict import Verdict
from inboundmx.policy.grouping import groups
from inboundmx.policy.judging import disposition, judge, redirected
from inboundmx.policy.notices import may_notify
from inboundmx.policy.retrying import UNANSWERED, UNANSWERED_SECONDS, settle
from inboundmx.policy.routing import accepts, route_for
from inboundmx.policy.scoring import score
from inboundmx.policy.stamping import stamp
from inboundmx.ports import Chance, Clock, Courier, Deliveries, Journal, Spool, StorageFull, Unavailable, Unheard

# Facts which show that the envelope sender is who it says: its own domain's SPF, or an aligned DKIM signature.
AUTHENTICATES = frozenset({"spf_mailfrom", "dkim_sender"})


@dataclass(frozen=True, slots=True)
class Lot:
    """Recipients of one domain of whom the same was seen: they share a route, a verdict, the stamps and the fate."""

    domain: DomainSettings
    recipients: tuple[Address, ...]
    results: Sequence[CheckResult]
    verdict: Verdict
    fate: str


class Acceptance:
    def __init__(
        self, courier: Courier, spool: Spool, deliveries: Deliveries, journal: Journal, clock: Clock, chance: Chance
    ) -> None:
        self._courier = courier
        self._spool = spool
        self._deliveries = deliveries
        self._journal = journal
        self._clock = clock
        self._chance = chance
        self._turn = 0

    async def accept(
        self,
        settings: Settings,
        checks: Mapping[str, CheckSettings],
        session: Session,
        envelope: Envelope,
        accepted: Mapping[Address, DomainSettings],
        message: Message,
        results: Sequence[CheckResult],
    ) -> tuple[Reply, bool]:
        """The reply to the final dot, its last word the message's id, and whether the spool took the body over."""
        started = self._clock.monotonic()
        lots = self._lots(checks, accepted, results)
        facts = self._facts(session, envelope, message, lots[0])
        refusal = self._refusal(lots)
        if refusal is not None:
            return self._refused(message.id, refusal, facts), False
        now = self._clock.now()
        contents = [self._stamped(settings, session, envelope, message, lot, now) for lot in lots]
        if len(lots) == 1 and self._hands_over(lots[0]):
            lot, content = lots[0], contents[0]
            self._turn += 1
            parcel = Parcel(
                message.id, envelope.sender, lot.recipients, content, envelope.eight_bit, envelope.utf8,
                all_or_nothing=len(lot.recipients) > 1,
            )  # fmt: skip
            try:
                handover = await self._courier.hand_over(parcel, route_for(lot.domain, self._turn))
            except Unheard as gone:
                gone.late.addCallback(lambda attempt: self._answered_unheard(message.id, attempt, facts))
                raise
            facts["seconds"] = round(self._clock.monotonic() - started, 6)
            answer = self._answered(message.id, lot.domain, handover, facts)
            if answer is not None:
                return answer, False
            # A deferral's detail is the reply as it was said: once is enough.
            facts["reason"] = ": ".join(dict.fromkeys(filter(None, (handover.detail, str(handover.reply or "")))))
            return await self._promise(settings, session, envelope, message, lots, contents, facts, handover)
        return await self._promise(settings, session, envelope, message, lots, contents, facts, None)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _lots(
        self,
        checks: Mapping[str, CheckSettings],
        accepted: Mapping[Address, DomainSettings],
        results: Sequence[CheckResult],
    ) -> list[Lot]:
        lots = []
        for domain, recipients, seen in groups(results, checks, accepted):
            verdict = judge(score(seen, checks, domain.weights), domain.levels, domain.blocking.incoming_threshold)
            lots.append(Lot(domain, recipients, seen, verdict, disposition(verdict.actions)))
        return lots

    @staticmethod
    def _refusal(lots: Sequence[Lot]) -> Reply | None:
        """One final dot has one answer: all refuse, or any defers. A refusal for some alone quarantines for them."""
        replies = [lot.verdict.reply for lot in lots]
        deferring = next((reply for reply in replies if reply is not None and reply.temporary), None)
        if deferring is not None:
            return deferring
        return replies[0] if all(reply is not None for reply in replies) else None

    @staticmethod
    def _hands_over(lot: Lot) -> bool:
        domain = lot.domain
        return (
            lot.fate == "deliver"
            and domain.handover == "cut-through"
            and domain.delay == 0
            and not lot.verdict.has("redirect")
        )

    def _stamped(
        self,
        settings: Settings,
        session: Session,
        envelope: Envelope,
        message: Message,
        lot: Lot,
        now: float,
    ) -> Content:
        only = lot.recipients[0] if len(envelope.recipients) == 1 else None
        return stamp(message, session, envelope, lot.verdict, lot.results, settings, now, only)

    def _facts(self, session: Session, envelope: Envelope, message: Message, lot: Lot) -> dict[str, Any]:
        """What every event about this message tells. The same for the log, the ledger and ``explain``."""
        return {
            "session": session.id,
            "ip": session.peer_ip,
            "helo": session.hello,
            "tls": session.tls,
            "sender": written(envelope.sender),
            "recipients": [str(r) for r in envelope.recipients],
            "size": message.body.size,
            **_judged(lot),
        }

    # --- handed over --------------------------------------------------------------------------------------------------

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

    def _refused(self, id: str, reply: Reply, facts: Mapping[str, Any]) -> Reply:
        self._journal.record("refused", id, {"verb": "dot", **facts, "reply": str(reply)})
        return Reply(reply.code, reply.enhanced, f"{reply.text} {id}", reply.then_close)

    # --- promised -----------------------------------------------------------------------------------------------------

    async def _promise(
        self,
        settings: Settings,
        session: Session,
        envelope: Envelope,
        message: Message,
        lots: Sequence[Lot],
        contents: Sequence[Content],
        facts: dict[str, Any],
        handover: Handover | None,
    ) -> tuple[Reply, bool]:
        now = self._clock.now()
        late = handover.late if handover is not None else None
        deposits: list[Deposit] = []
        judged: list[Lot] = []
        for lot, content in zip(lots, contents, strict=True):
            for domain, recipients in self._destinations(settings, lot):
                entry = self._entry(settings, session, envelope, message, lot, domain, recipients, now, not deposits)
                if late is not None:
                    entry = replace(entry, next_attempt_at=now + UNANSWERED_SECONDS, cause=UNANSWERED)
                elif handover is not None and handover.kind == "deferred" and handover.attempt is not None:
                    # The primary has spoken: that was the first attempt of the retry list.
                    settled = settle(entry, handover.attempt, now, domain, settings.delivery, slot=True, jitter=0.0)
                    entry = settled.entry or entry
                deposits.append(Deposit(entry, content))
                judged.append(lot)
        entries = [deposit.entry for deposit in deposits]
        if not entries:
            self._journal.record("discarded", message.id, facts)
            return Reply(250, "2.0.0", f"accepted as {message.id}"), False
        committed = self._spool.commit(Change(add=tuple(deposits)))
        # What follows the commit must follow it even when the stranger hangs up while we wait: the wait is on a
        # Deferred of its own, so that cancelling it does not touch the promise.
        known: Deferred[None] = Deferred()
        committed.addCallbacks(
            lambda _: self._committed(message.id, entries, judged, lots, facts, late), lambda failure: failure
        )
        committed.addBoth(lambda result: None if known.called else known.callback(result))
        try:
            await known
        except StorageFull:
            return self._refused(message.id, Reply(452, "4.3.1", "no room on the disk, try again later"), facts), False
        except Unavailable as trouble:
            return self._refused(
                message.id, Reply(451, "4.3.0", "the message cannot be kept now, try again later"),
                facts | {"trouble": trouble.reason},
            ), False  # fmt: skip
        return Reply(250, "2.0.0", f"accepted as {message.id}"), True

    def _committed(
        self,
        id: str,
        entries: Sequence[SpoolEntry],
        judged: Sequence[Lot],
        lots: Sequence[Lot],
        facts: dict[str, Any],
        late: Deferred[DeliveryAttempt] | None,
    ) -> None:
        """``judged`` has the lot of each entry: what was decided for one domain is not what was for another."""
        for entry, lot in zip(entries, judged, strict=True):
            event = {State.ACTIVE: "spooled", State.HELD: "held"}.get(entry.state, "quarantined")
            told = facts
            if len(entries) > 1 or len(lots) > 1:
                told = facts | _judged(lot) | {"recipients": [str(r.address) for r in entry.recipients]}
            self._journal.record(event, id, {**told, "entry": entry.id, "cause": entry.cause, "domain": entry.domain})
        for lot in lots:
            if lot.fate == "discard":
                told = facts | _judged(lot) | {"recipients": [str(r) for r in lot.recipients]}
                self._journal.record("discarded", id, told)
        if late is not None:
            self._deliveries.claimed(entries[0], late)
        else:
            self._deliveries.deposited(entries)

    def _destinations(self, settings: Settings, lot: Lot) -> list[tuple[DomainSettings, tuple[Address, ...]]]:
        """Where a lot really goes: nowhere when discarded, elsewhere when an action redirects it."""
        if lot.fate == "discard":
            return []
        elsewhere = redirected(lot.verdict.actions) if lot.fate == "deliver" else ()
        if not elsewhere:
            return [(lot.domain, lot.recipients)]
        # An address of no domain of ours has no route yet: its entry is held until there is one.
        return [
            (accepts(address, settings) or replace(lot.domain, name=address.domain), (address,))
            for address in elsewhere
        ]

    def _entry(
        self,
        settings: Settings,
        session: Session,
        envelope: Envelope,
        message: Message,
        lot: Lot,
        domain: DomainSettings,
        recipients: Sequence[Address],
        now: float,
        first: bool,
    ) -> SpoolEntry:
        state, cause = State.ACTIVE, ""
        if lot.verdict.reply is not None:
            state, cause = State.QUARANTINED, lot.verdict.reason
        elif lot.fate in ("hold", "quarantine"):
            state = State.HELD if lot.fate == "hold" else State.QUARANTINED
            cause = lot.verdict.reason
        waits = state is State.ACTIVE
        authenticated = any(name in AUTHENTICATES for r in lot.results for name, _ in r.finding.facts)
        return SpoolEntry(
            id=message.id if first else make_id(now, self._chance.token(TOKEN_LENGTH)),
            message_id=message.id,
            body_id=message.id,
            received_at=now,
            sender=envelope.sender,
            recipients=tuple(SpoolRecipient(address) for address in recipients),
            size=message.body.size,
            domain=domain.name,
            priority=domain.priority,
            state=state,
            cause=cause,
            next_attempt_at=now + domain.delay if waits else None,
            expires_at=None if waits else now + settings.delivery.undeliverable_retention,
            eight_bit=envelope.eight_bit,
            utf8=envelope.utf8,
            may_notify=may_notify(
                domain.bounce, envelope.sender, authenticated, lot.verdict.level.word, _automatic(message)
            ),
            level=lot.verdict.level.word,
            peer_ip=session.peer_ip,
            hello=session.hello,
        )


def _judged(lot: Lot) -> dict[str, Any]:
    """What the checks said of a lot, and what follows for it."""
    total = lot.verdict.score
    return {
        "checks": [
            [line.check, line.outcome, line.weight, result.finding.detail]
            for line, result in zip(total.lines, lot.results, strict=True)
        ],
        "score": total.filtering,
        "blocking": total.blocking,
        "spam_level": lot.verdict.level.word,
        "actions": [str(action) for action in lot.verdict.actions],
    }


def _automatic(message: Message) -> bool:
    """Whether a program answered by itself (RFC 3834 5): such mail is never answered in turn."""
    # Most mail has no such field: seen in 1 us, where reading all fields costs 30.
    return b"auto-submitted" in message.body.head[: message.header_end].lower() and any(
        field.name == "auto-submitted" and field.text().split(";")[0].strip().lower() != "no"
        for field in message.fields
    )
