"""A notice as an entry of the spool: where it goes, and what is committed together with the end of what it speaks of.

Knows the sender's own route, and that a notice to anybody else leaves us as other mail does. Does not know how a notice
is worded, nor when one is due.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from inboundmx.model.custody import Content, DeliveryAttempt, Deposit, SpoolEntry, SpoolRecipient
from inboundmx.model.message import Body
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.dsn import hears_of_delay
from inboundmx.policy.notices import HEADERS_LIMIT, MESSAGE_LIMIT, Kind, compose
from inboundmx.policy.prioritising import at_reception
from inboundmx.policy.retrying import Settlement, given_up_after


def deposits_of(
    entry: SpoolEntry,
    settlement: Settlement,
    attempt: DeliveryAttempt | None,
    domain: DomainSettings | None,
    content: Content,
    settings: Settings,
    now: float,
    new_id: Callable[[], str],
) -> tuple[Deposit, ...]:
    """What is committed together with a settlement: what is kept of those who failed, then the notices, in the order of
    ``telling.NOTICES``. Without an ``attempt`` an operator gave up; ``domain`` is what the entry is delivered by."""
    deposits = []

    def tell(kind: Kind, recipients: Sequence[SpoolRecipient], retry_until: float | None = None) -> None:
        deposits.append(
            notice_of(
                kind,
                entry,
                recipients,
                content,
                settings,
                now,
                new_id(),
                attempt=attempt,
                retry_until=retry_until,
                held=domain is not None and domain.when_exhausted == "hold",
            )
        )

    if settlement.split is not None:
        deposits.append(Deposit(replace(settlement.split, id=new_id()), content))
    if settlement.fate == "notify":
        tell("failed", settlement.owed)
    if settlement.delayed and settlement.entry is not None and domain is not None:
        late = [recipient for recipient in settlement.entry.pending if hears_of_delay(recipient.notify)]
        tell("delayed", late, entry.received_at + given_up_after(domain.retry, domain.lifetime))
    if settlement.confirmed and attempt is not None:
        tell("delivered" if attempt.host.protocol == "lmtp" else "relayed", settlement.confirmed)
    return tuple(deposits)


def notice_of(
    kind: Kind,
    entry: SpoolEntry,
    recipients: Sequence[SpoolRecipient],
    content: Content,
    settings: Settings,
    now: float,
    notice_id: str,
    *,
    attempt: DeliveryAttempt | None,
    retry_until: float | None,
    held: bool = False,
) -> Deposit:
    """To the sender of ``entry``, by the route of the sender's domain when that is ours, else out. Its own sender is
    null (RFC 3464 2), and no host further on is to answer it (RFC 3461 6.1)."""
    sender = entry.sender
    if sender is None:
        raise ValueError("the null sender is never told anything")
    complete = content.size <= MESSAGE_LIMIT
    head = content.body.head[content.skip : content.skip + (MESSAGE_LIMIT if complete else HEADERS_LIMIT)]
    octets = compose(
        kind,
        entry,
        recipients,
        settings.gateway,
        now,
        notice_id,
        content.prefix + head,
        host=None if attempt is None or attempt.trouble else attempt.host,
        retry_until=retry_until,
        attempted_at=None if attempt is None else attempt.ended_at,
        complete=complete,
        held=held,
    )
    ours = settings.domain(sender.domain)
    domain = ours or settings.outgoing
    notice = SpoolEntry(
        id=notice_id,
        message_id=notice_id,
        body_id=notice_id,
        received_at=now,
        sender=None,
        recipients=(SpoolRecipient(sender, notify="NEVER"),),
        size=len(octets),
        domain=sender.domain,
        priority=at_reception(domain.priority, len(octets), None, settings.priority),
        next_attempt_at=now,
        eight_bit=not octets.isascii(),
        utf8=not sender.ascii,
        notice=True,
        via="" if ours is not None else "outbound",
    )
    return Deposit(notice, Content(b"", 0, Body(len(octets), octets, None, hashlib.sha256(octets).digest())))
