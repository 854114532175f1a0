"""A notice as an entry of the spool: where it goes, and what is kept of it when it goes nowhere.

Knows the sender's own route, when we have one. Does not know how a notice is worded, nor when one is due.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from inboundmx.model.custody import Content, DeliveryAttempt, Deposit, Host, SpoolEntry, SpoolRecipient, State
from inboundmx.model.message import Body
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.notices import HEADERS_LIMIT, Kind, compose
from inboundmx.policy.retrying import UNDELIVERABLE, Settlement, given_up_after


def deposits_of(
    entry: SpoolEntry,
    settlement: Settlement,
    attempt: DeliveryAttempt,
    domain: DomainSettings,
    content: Content,
    settings: Settings,
    now: float,
    new_id: Callable[[], str],
) -> tuple[Deposit, ...]:
    """What is committed together with the end of what failed: its notice, or what is kept of it."""
    deposits = []
    host = None if attempt.trouble else attempt.host
    if settlement.split is not None:
        deposits.append(Deposit(replace(settlement.split, id=new_id()), content))
    if settlement.fate == "notify":
        deposits.append(
            notice_of("failed", entry, settlement.failed, content, settings, now, new_id(), host=host, retry_until=None)
        )
    if settlement.delayed and settlement.entry is not None:
        deposits.append(
            notice_of(
                "delayed", entry, settlement.entry.pending, content, settings, now, new_id(),
                host=host, retry_until=entry.received_at + given_up_after(domain.retry, domain.lifetime),
            )
        )  # fmt: skip
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
    host: Host | None,
    retry_until: float | None,
) -> Deposit:
    """To the sender of ``entry``, by the route of the sender's domain; held as undeliverable when that is none of
    ours. Its own sender is null (RFC 3464 2)."""
    sender = entry.sender
    if sender is None:
        raise ValueError("the null sender is never told anything")
    header_section = content.prefix + content.body.head[content.skip : content.skip + HEADERS_LIMIT]
    octets = compose(
        kind,
        entry,
        recipients,
        settings.gateway,
        now,
        notice_id,
        header_section,
        host=host,
        retry_until=retry_until,
    )
    domain = settings.domain(sender.domain)
    notice = SpoolEntry(
        id=notice_id,
        message_id=notice_id,
        body_id=notice_id,
        received_at=now,
        sender=None,
        recipients=(SpoolRecipient(sender),),
        size=len(octets),
        domain=sender.domain,
        priority=entry.priority if domain is None else domain.priority,
        state=State.HELD if domain is None else State.ACTIVE,
        cause=UNDELIVERABLE if domain is None else "",
        next_attempt_at=None if domain is None else now,
        expires_at=now + settings.delivery.undeliverable_retention if domain is None else None,
        eight_bit=not octets.isascii(),
        utf8=not sender.ascii,
        notice=True,
    )
    return Deposit(notice, Content(b"", 0, Body(len(octets), octets, None, hashlib.sha256(octets).digest())))
