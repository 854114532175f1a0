"""One message at its final dot: what is known of it, and what was decided of it for whom.

Knows how recipients are judged together, and what every event tells of a message. Does not know what is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from inboundmx.intake.admission import Way
from inboundmx.model.address import Address, written
from inboundmx.model.custody import Content
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult
from inboundmx.model.message import Message
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, DomainSettings, Settings
from inboundmx.model.verdict import Score, Verdict
from inboundmx.policy.grouping import groups
from inboundmx.policy.judging import blocking_threshold, disposition, judge
from inboundmx.policy.scoring import score
from inboundmx.policy.stamping import stamp
from inboundmx.policy.walking import Walk


class Arrival(NamedTuple):
    """What reception hands over. ``relays``: the client may send out through us. ``accepted`` are the recipients with
    the settings of their domains, ``ways`` those domains with their routes, ``results`` those of all stages;
    ``spared``: why checks about spam do not count, empty when they do; ``walk``: who stands behind a bypass gateway
    that brought it; ``order``: where each recipient is to hear his own answer (PRDR), the recipients in the order in
    which they were accepted, each time that one was."""

    settings: Settings
    checks: Mapping[str, CheckSettings]
    session: Session
    relays: bool
    envelope: Envelope
    accepted: Mapping[Address, DomainSettings]
    ways: Mapping[str, Way]
    message: Message
    results: Sequence[CheckResult]
    spared: str = ""
    walk: Walk | None = None
    order: Sequence[Address] = ()


class Lot(NamedTuple):
    """Recipients of one domain of whom the same was seen: they share a route, a verdict, the stamps and the fate: what
    is done if the message is not refused as a whole. ``doubted``: it is kept only because a cause is not believed;
    ``settings_of``: whose settings of their own they were judged by, in words; empty where it is by their domain's."""

    domain: DomainSettings
    recipients: tuple[Address, ...]
    results: Sequence[CheckResult]
    verdict: Verdict
    fate: str
    settings_of: str = ""
    doubted: bool = False


class Judged(NamedTuple):
    """The message, judged: its lots, and what is to be transmitted to each; ``facts`` is what every event tells."""

    arrival: Arrival
    lots: Sequence[Lot]
    contents: Sequence[Content]
    facts: dict[str, Any]


def lots_of(arrival: Arrival) -> list[Lot]:
    lots = []
    for domain, recipients, seen in groups(arrival.results, arrival.checks, arrival.accepted):
        verdict = judge(score(seen, arrival.checks, domain.weights), domain.levels, blocking_threshold(domain))
        # Where it is refused, the actions do not matter; refused to some alone, it is quarantined for them.
        fate = disposition(verdict.actions) if verdict.reply is None else "quarantine"
        lots.append(Lot(domain, recipients, seen, verdict, fate, domain.apart))
    return _joined(lots) if len(lots) > 1 and any(lot.domain.apart for lot in lots) else lots


def _joined(lots: Sequence[Lot]) -> list[Lot]:
    """Those whose settings differ, and whose verdicts do not, are one: the stamps say nothing of whose settings they
    are."""
    alike: dict[tuple[str, str, Verdict], list[Lot]] = {}
    for lot in lots:
        alike.setdefault((lot.domain.name, lot.domain.via, lot.verdict), []).append(lot)
    return [
        some[0]._replace(recipients=tuple(r for lot in some for r in lot.recipients), settings_of=_whose(some))
        for some in alike.values()
    ]


def _whose(lots: Sequence[Lot]) -> str:
    names = {lot.settings_of for lot in lots}
    if len(names) == 1:
        return names.pop()
    apart = (lot for lot in lots if lot.settings_of)
    return ", ".join(f"{lot.settings_of} for {' '.join(str(r) for r in lot.recipients)}" for lot in apart)


def refusing(lots: Sequence[Lot]) -> tuple[Lot, Reply] | None:
    """The lot whose answer is everybody's, and that answer. One final dot has one: all refuse, or any defers."""
    answers = [(lot, lot.verdict.reply) for lot in lots if lot.verdict.reply is not None]
    for lot, reply in answers:
        if reply.temporary:
            return lot, reply
    return answers[0] if len(answers) == len(lots) else None


def for_lots(arrival: Arrival, lots: Sequence[Lot]) -> Arrival:
    """The same message for the recipients of some lots alone, as if nobody else had been named."""
    concerned = {recipient for lot in lots for recipient in lot.recipients}
    accepted = {recipient: domain for recipient, domain in arrival.accepted.items() if recipient in concerned}
    dsn = {recipient: wish for recipient, wish in arrival.envelope.dsn.items() if recipient in concerned}
    envelope = replace(arrival.envelope, recipients=tuple(accepted), dsn=dsn)
    results = [result for result in arrival.results if result.recipient is None or result.recipient in concerned]
    return arrival._replace(envelope=envelope, accepted=accepted, results=results)


def stamped(arrival: Arrival, lots: Sequence[Lot], now: float) -> list[Content]:
    only = arrival.envelope.recipients[0] if len(arrival.envelope.recipients) == 1 else None
    return [
        stamp(arrival.message, arrival.session, arrival.envelope, lot.verdict, lot.results, arrival.settings, now, only)
        for lot in lots
    ]


def facts_of(arrival: Arrival, lots: Sequence[Lot]) -> dict[str, Any]:
    """What every event about this message tells; where there is one lot alone, what was said of that as well. The same
    for the log, the ledger and ``explain``."""
    session, envelope = arrival.session, arrival.envelope
    facts = {
        "session": session.id,
        "ip": session.peer_ip,
        "helo": session.hello,
        "tls": session.tls,
        "sender": written(envelope.sender),
        "recipients": [str(r) for r in envelope.recipients],
        "size": arrival.message.body.size,
        **(_judged(lots[0]) if len(lots) == 1 else {}),
    }
    if session.sni:
        facts["sni"] = session.sni
    if len(lots) == 1 and lots[0].domain.via:
        facts["via"] = lots[0].domain.via
    if arrival.spared:
        facts["spared"] = arrival.spared
    if arrival.walk is not None:
        facts.update(arrival.walk.told())
    if arrival.relays:
        facts["relay"] = f"granted to {session.authenticated_as or 'its address'}"
    return facts


def told_of(facts: Mapping[str, Any], lot: Lot) -> dict[str, Any]:
    """What an event about one of several lots tells: whom it was named for, even where it goes to somebody else."""
    return {**facts, "recipients": [str(each) for each in lot.recipients], **_judged(lot)}


def _judged(lot: Lot) -> dict[str, Any]:
    """What the checks said of a lot, and what follows for it."""
    told = summed(lot.verdict.score, lot.results)
    told["spam_level"] = lot.verdict.level.word
    told["actions"] = [str(action) for action in lot.verdict.actions]
    if lot.settings_of:
        told["settings_of"] = lot.settings_of
    return told


def summed(total: Score, results: Sequence[CheckResult]) -> dict[str, Any]:
    """What the checks said, and what it comes to; ``total`` is that of ``results``."""
    return {
        "checks": [
            [line.check, line.outcome, line.weight, result.finding.detail]
            for line, result in zip(total.lines, results, strict=True)
        ],
        "score": total.filtering,
        "blocking": total.blocking,
    }
