"""How an entry is written down. Knows the JSON of an entry, its version and its check sum; does not know a file.

Every store keeps an entry's ``id``, ``body_id``, ``state`` and ``next_attempt_at`` as columns, to be asked for, and the
rest of it, its *facts*, as JSON that people can read.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from sys import intern
from zlib import crc32

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, SpoolRecipient, State, Status
from inboundmx.model.message import Body
from inboundmx.ports import Damaged

FACTS_VERSION = 1
_SHARED = ("domain", "level", "cause", "peer_ip", "hello", "via", "peer_name", "ret")
_SELDOM = ("via", "peer_name", "ret", "envid")
_STATES = {state.value: state for state in State}
_STATUSES = {status.value: status for status in Status}

_TRUTH = {False: "false", True: "true"}


def facts_of(entry: SpoolEntry) -> str:
    """The facts as ASCII JSON. What most mail has nothing to say of is left out when it is empty."""
    # Put together by hand: a third of the time of a dictionary and an encoder, 7 us less a message.
    quoted, truth = encode_basestring_ascii, _TRUTH
    sender, expires_at = entry.sender, entry.expires_at
    said = "null" if sender is None else f"[{quoted(sender.local)},{quoted(sender.domain)}]"
    more = "".join([f',"{name}":{quoted(value)}' for name in _SELDOM if (value := getattr(entry, name))])
    if entry.unverified:
        more += ',"unverified":true'
    return (
        f'{{"v":{FACTS_VERSION},"message_id":{quoted(entry.message_id)},"received_at":{entry.received_at!r},'
        f'"sender":{said},"recipients":[{",".join([_recipient(each) for each in entry.recipients])}],'
        f'"size":{entry.size},"domain":{quoted(entry.domain)},"priority":{entry.priority},'
        f'"cause":{quoted(entry.cause)},"attempts":{entry.attempts},"slots_used":{entry.slots_used},'
        f'"dns_errors":{entry.dns_errors},"expires_at":{"null" if expires_at is None else repr(expires_at)},'
        f'"eight_bit":{truth[entry.eight_bit]},"utf8":{truth[entry.utf8]},"may_notify":{truth[entry.may_notify]},'
        f'"delay_notified":{truth[entry.delay_notified]},"notice":{truth[entry.notice]},'
        f'"level":{quoted(entry.level)},"peer_ip":{quoted(entry.peer_ip)},"hello":{quoted(entry.hello)}{more}}}'
    )


def _recipient(recipient: SpoolRecipient) -> str:
    quoted, address = encode_basestring_ascii, recipient.address
    told = (
        f'{quoted(address.local)},{quoted(address.domain)},"{recipient.status._value_}",{recipient.attempts},'
        f"{quoted(recipient.last_reply)}"
    )
    if recipient.notify or recipient.original:
        return f"[{told},{quoted(recipient.notify)},{quoted(recipient.original)}]"
    return f"[{told}]"


def digest_of(body: Body) -> bytes:
    """The SHA-256 of a body, made now if nobody needed it so far: in the writer's thread, which lets others go on
    meanwhile; 57 us for 100 KB."""
    return body.digest or hashlib.sha256(body.head).digest()


def content_sum(id: str, skip: int, digest: bytes, prefix: bytes) -> int:
    """The CRC-32 kept beside the prefix: tells a row that the disk has altered from a good one, so that an altered
    header is never acted upon. (The body has a SHA-256 of its own.) It ties entry and body to each other: where an
    index is damaged, SQLite may well answer with somebody else's row, in itself in order."""
    return crc32(b"%b%d%b%b" % (id.encode("utf-8", "surrogatepass"), skip, digest, prefix))


def facts_sum(id: str, body_id: str, state: str, next_attempt_at: float | None, facts: str) -> int:
    """The CRC-32 kept beside the facts; the columns are in it."""
    return crc32(f"{id}{body_id}{state}{next_attempt_at!r}{facts}".encode("utf-8", "surrogatepass"))


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
    of their own. It is given equal values in place of its own, which nobody can tell: a copy of it costs 20 us."""
    for name in _SHARED:
        word = getattr(entry, name)
        if (one := intern(word)) is not word:
            object.__setattr__(entry, name, one)
    sender = entry.sender
    if sender is not None:
        object.__setattr__(entry, "sender", _address(sender.local, sender.domain))
    recipients = tuple([
        _recipient_of(
            r.address.local, r.address.domain, r.status._value_, r.attempts, r.last_reply, r.notify, r.original
        )
        for r in entry.recipients
    ])  # fmt: skip
    object.__setattr__(entry, "recipients", recipients)
    return entry
