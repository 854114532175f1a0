"""What goes into the spool for a message: one entry for each way it goes, all of them of one stored body.

Knows states, causes, priorities and who may be notified. Does not know the spool, nor when something is promised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from inboundmx.intake.arrival import Arrival, Judged, Lot
from inboundmx.model.address import Address
from inboundmx.model.custody import Content, Deposit, SpoolEntry, SpoolRecipient, State
from inboundmx.model.message import Message
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.archiving import archives_for
from inboundmx.policy.dsn import hears_of_success, without_success
from inboundmx.policy.judging import redirected
from inboundmx.policy.notices import may_notify
from inboundmx.policy.prioritising import at_reception

# Facts which show that the envelope sender is who it says: its own domain's SPF, or an aligned DKIM signature.
AUTHENTICATES = frozenset({"spf_mailfrom", "dkim_sender"})

_KEPT_BACK = {"hold": State.HELD, "quarantine": State.QUARANTINED}


class Kept(NamedTuple):
    """What one entry holds, and the lot it was judged with."""

    deposit: Deposit
    lot: Lot


def kept(judged: Judged, now: float, make_id: Callable[[], str]) -> list[Kept]:
    """The entries in the order of the recipients, copies for archives last; none when all of it is discarded and
    nobody archives it. The first has the id the sender is told. ``make_id`` makes those of the others."""
    arrival = judged.arrival
    entries: list[Kept] = []

    def add(lot: Lot, content: Content, domain: DomainSettings, recipients: tuple[SpoolRecipient, ...]) -> None:
        id = make_id() if entries else arrival.message.id
        entries.append(Kept(Deposit(_entry(arrival, lot, domain, recipients, now, id), content), lot))

    for lot, content in zip(judged.lots, judged.contents, strict=True):
        for domain, recipients in _destinations(arrival, lot):
            add(lot, content, domain, recipients)
    if archives := arrival.settings.archives:
        everybody = tuple(SpoolRecipient(address) for address in arrival.accepted)
        for archive, because_of in archives_for(archives, arrival.envelope.sender, arrival.accepted):
            for lot, content in zip(judged.lots, judged.contents, strict=True):
                if because_of in lot.recipients:
                    add(lot, content, replace(arrival.settings.archiving, name=archive.name), everybody)
    return entries


def heard(arrival: Arrival, lots: Sequence[Lot]) -> Arrival:
    """With the wishes of a sender that may be told: a stranger who may not be is promised no word of success, by us or
    by a primary that takes the wish over: a forged sender would get it. Whoever sends out through us is believed."""
    asked = arrival.envelope.dsn
    if arrival.relays or not any(hears_of_success(notify) for notify, _ in asked.values()):
        return arrival
    wishes = dict(asked)
    for lot in lots:
        if not _may_notify(arrival, lot, lot.domain):
            for recipient in lot.recipients:
                notify, original = wishes.get(recipient, ("", ""))
                if hears_of_success(notify):
                    wishes[recipient] = without_success(notify), original
    return arrival._replace(envelope=replace(arrival.envelope, dsn=wishes))


def _destinations(arrival: Arrival, lot: Lot) -> list[tuple[DomainSettings, tuple[SpoolRecipient, ...]]]:
    """Where a lot really goes: nowhere when discarded, elsewhere when an action redirects it."""
    if lot.fate == "discard":
        return []
    asked = arrival.envelope.dsn
    elsewhere = redirected(lot.verdict.actions) if lot.fate == "deliver" else ()
    if not elsewhere:
        return [(lot.domain, tuple(_recipient(each, asked.get(each)) for each in lot.recipients))]
    # What several asked for cannot be told of one address that takes the place of them all.
    wish = asked.get(lot.recipients[0]) if len(lot.recipients) == 1 else None
    return [(_domain_of(address, arrival.settings), (_recipient(address, wish),)) for address in elsewhere]


def _domain_of(address: Address, settings: Settings) -> DomainSettings:
    """A domain of ours that is switched off is one all the same: what is for it waits. Other mail leaves us."""
    return settings.domain(address.domain) or replace(settings.outgoing, name=address.domain)


def _recipient(address: Address, asked: tuple[str, str] | None) -> SpoolRecipient:
    notify, original = asked or ("", "")
    return SpoolRecipient(address, notify=notify, original=original)


def _entry(
    arrival: Arrival,
    lot: Lot,
    domain: DomainSettings,
    recipients: tuple[SpoolRecipient, ...],
    now: float,
    id: str,
) -> SpoolEntry:
    settings, session, envelope, message = arrival.settings, arrival.session, arrival.envelope, arrival.message
    copy = domain.via == "archive"
    state = State.ACTIVE if copy else _KEPT_BACK.get(lot.fate, State.ACTIVE)
    waits = state is State.ACTIVE
    unverified = not copy and _unverified(arrival, lot)
    return SpoolEntry(
        id=id,
        message_id=message.id,
        body_id=message.id,
        received_at=now,
        sender=envelope.sender,
        recipients=recipients,
        size=message.body.size,
        domain=domain.name,
        priority=at_reception(domain.priority, message.body.size, envelope.sender, settings.priority),
        state=state,
        cause="" if waits else lot.verdict.reason,
        next_attempt_at=now + domain.delay if waits else None,
        expires_at=None if waits else now + _retention(state, lot, settings),
        eight_bit=envelope.eight_bit,
        utf8=envelope.utf8,
        may_notify=not copy and not unverified and _may_notify(arrival, lot, domain),
        level=lot.verdict.level.word,
        peer_ip=session.peer_ip,
        hello=session.hello,
        via=domain.via,
        peer_name=session.reverse_name,
        ret=envelope.ret,
        envid=envelope.envid,
        unverified=unverified,
    )


def _retention(state: State, lot: Lot, settings: Settings) -> float:
    quarantined = state is State.QUARANTINED
    return lot.domain.quarantine_retention if quarantined else settings.delivery.undeliverable_retention


def _unverified(arrival: Arrival, lot: Lot) -> bool:
    """Whether it could not be asked if all of a lot's recipients exist. They share a lot with those who do."""
    return any(
        name == "unverified" and result.recipient in lot.recipients
        for result in arrival.results
        for name, _ in result.finding.facts
    )


def _may_notify(arrival: Arrival, lot: Lot, domain: DomainSettings) -> bool:
    if lot.verdict.has("redirect"):
        # A notice names the address that failed, and the sender never wrote to that one.
        return False
    sender = arrival.envelope.sender
    known = any(name in AUTHENTICATES for result in lot.results for name, _ in result.finding.facts)
    if not known and arrival.relays and sender is not None:
        # Whom we let send out through us, we believe the domains that we carry mail for; ``[domain *]`` is not a name.
        known = arrival.settings.section(sender.domain) is not None
    level = lot.verdict.level.word
    return may_notify(domain.bounce, sender, known, level, _automatic(arrival.message))


def _automatic(message: Message) -> bool:
    """Whether a program answered by itself (RFC 3834 5): such mail is never answered in turn."""
    # Most mail has no such field: seen in 1 us, where reading all fields costs 30.
    return b"auto-submitted" in message.body.head[: message.header_end].lower() and any(
        field.name == "auto-submitted" and field.text().split(";")[0].strip().lower() != "no"
        for field in message.fields
    )
