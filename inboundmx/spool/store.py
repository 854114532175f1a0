"""How an entry is written down. Knows the JSON of an entry, its version and its check sum; does not know a file.

Every store keeps an entry's ``id``, ``body_id``, ``state`` and ``next_attempt_at`` as columns, to be asked for, and the
rest of it, its *facts*, as JSON that people can read.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from functools import lru_cache
from sys import intern
from typing import Any

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, SpoolRecipient, State, Status
from inboundmx.ports import Damaged

FACTS_VERSION = 1
_SHARED = ("domain", "level", "cause", "peer_ip", "hello", "via", "peer_name", "ret")
_STATES = {state.value: state for state in State}
_STATUSES = {status.value: status for status in Status}

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def facts_of(entry: SpoolEntry) -> str:
    """The facts as ASCII JSON. What most mail has nothing to say of is left out when it is empty."""
    sender = entry.sender
    facts: dict[str, object] = {
        "v": FACTS_VERSION,
        "message_id": entry.message_id,
        "received_at": entry.received_at,
        "sender": None if sender is None else (sender.local, sender.domain),
        "recipients": [_recipient(recipient) for recipient in entry.recipients],
        "size": entry.size,
        "domain": entry.domain,
        "priority": entry.priority,
        "cause": entry.cause,
        "attempts": entry.attempts,
        "slots_used": entry.slots_used,
        "dns_errors": entry.dns_errors,
        "expires_at": entry.expires_at,
        "eight_bit": entry.eight_bit,
        "utf8": entry.utf8,
        "may_notify": entry.may_notify,
        "delay_notified": entry.delay_notified,
        "notice": entry.notice,
        "level": entry.level,
        "peer_ip": entry.peer_ip,
        "hello": entry.hello,
    }
    if entry.via:
        facts["via"] = entry.via
    if entry.peer_name:
        facts["peer_name"] = entry.peer_name
    if entry.ret:
        facts["ret"] = entry.ret
    if entry.envid:
        facts["envid"] = entry.envid
    return _encode(facts)


def _recipient(recipient: SpoolRecipient) -> tuple[object, ...]:
    address = recipient.address
    told = (address.local, address.domain, recipient.status.value, recipient.attempts, recipient.last_reply)
    return (*told, recipient.notify, recipient.original) if recipient.notify or recipient.original else told


def sum_of(*parts: bytes | str) -> int:
    """CRC-32 of the parts: tells a row that the disk has altered from a good one, so that an altered recipient or
    header is never acted upon. (The body has a SHA-256 of its own.)"""
    value = 0
    for part in parts:
        value = zlib.crc32(part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass"), value)
    return value


def content_sum(id: str, skip: int, digest: bytes, prefix: bytes) -> int:
    """The sum kept beside the prefix. It ties entry and body to each other: where an index is damaged, SQLite may well
    answer with somebody else's row, in itself in order."""
    return sum_of(id, str(skip), digest, prefix)


def facts_sum(id: str, body_id: str, state: str, next_attempt_at: float | None, facts: str) -> int:
    """The sum kept beside the facts; the columns are in it."""
    return sum_of(id, body_id, state, repr(next_attempt_at), facts)


def entry_of(id: str, body_id: str, state: str, next_attempt_at: float | None, facts: str, sum: int) -> SpoolEntry:
    """The entry again. Raises Damaged when the sum is wrong or the facts are not what ``facts_of`` wrote."""
    try:
        if facts_sum(id, body_id, state, next_attempt_at, facts) != sum:
            raise Damaged(f"entry {id!s:.40}: check sum is wrong")
        read = json.loads(facts)
        if read.pop("v") != FACTS_VERSION:
            raise Damaged(f"entry {id:.40}: facts of an unknown version")
        sender = read.pop("sender")
        recipients = tuple([_recipient_of(*told) for told in read.pop("recipients")])
        # A hundred thousand entries that wait for one primary say the same of themselves a hundred thousand times.
        for name in _SHARED:
            if name in read:
                read[name] = intern(read[name])
        if read["message_id"] == id:
            read["message_id"] = id
        return SpoolEntry(
            id=id,
            body_id=id if body_id == id else body_id,
            state=_STATES[state],
            next_attempt_at=next_attempt_at,
            sender=None if sender is None else _address(*sender),
            recipients=recipients,
            **read,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"entry {id!s:.40}: {error}") from error


# Most mail that waits is for few mailboxes, so their recipients are the same objects.
@lru_cache(maxsize=8192)
def _recipient_of(
    local: str, domain: str, status: str, attempts: int, last_reply: str, notify: str = "", original: str = ""
) -> SpoolRecipient:
    address = _address(local, domain)
    return SpoolRecipient(address, _STATUSES[status], attempts, intern(last_reply), intern(notify), original)


@lru_cache(maxsize=8192)
def _address(local: str, domain: str) -> Address:
    return Address(local, intern(domain))


def shared(entry: SpoolEntry) -> SpoolEntry:
    """The same entry, which shares with others what it says like them: a connection, and an attempt, each make strings
    of their own."""
    sender = entry.sender
    words: dict[str, Any] = {name: intern(getattr(entry, name)) for name in _SHARED}
    return replace(
        entry,
        sender=None if sender is None else _address(sender.local, sender.domain),
        recipients=tuple([
            _recipient_of(
                r.address.local, r.address.domain, r.status.value, r.attempts, r.last_reply, r.notify, r.original
            )
            for r in entry.recipients
        ]),
        **words,
    )  # fmt: skip
