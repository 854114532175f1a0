"""Entries as rows of a list, or as columns of a table: JSON text at once, for there may be a hundred thousand of them.

Knows the keys that ``spool list --json`` promises, what its table is made of, and how a route is told. Does not know
which entries are meant, nor how a table looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from json import JSONEncoder
from json.encoder import encode_basestring_ascii as quoted

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, SpoolRecipient, Status
from inboundmx.model.settings import Settings
from inboundmx.policy.outbound import gateways_for

_DELIVERED = Status.DELIVERED
_encode = JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Listing:
    """The rows of one list. Where mail of a domain goes is looked up once."""

    def __init__(self, settings: Settings, now: float) -> None:
        self._settings = settings
        self._now = now
        self._routes: dict[object, str] = {}

    def row(self, entry: SpoolEntry) -> str:
        """Every key, always; null when unknown."""
        due = entry.next_attempt_at
        age = self._now - entry.received_at
        sender = "null" if entry.sender is None else quoted(str(entry.sender))
        recipients = ",".join(map(_recipient, entry.recipients))
        # Most of a long list goes one way.
        route = self._routes.get((entry.via, entry.domain)) or self._route(entry)
        return (
            f'{{"id":"{entry.id}","sender":{sender},"recipients":[{recipients}],"size":{entry.size},'
            f'"state":"{entry.state}","priority":{entry.priority},'
            f'"attempts":{entry.attempts},"next_attempt_at":{"null" if due is None else repr(due)},'
            f'"age_seconds":{round(age, 3) if age > 0.0 else 0.0!r},'
            f'"domain":{quoted(entry.domain) if entry.domain else "null"},"route":{route}}}'
        )

    def columns(self, entries: Sequence[SpoolEntry]) -> str:
        """What a table for people shows of all these, each column a list: much sooner written and read than rows.

        ``age`` and ``due`` are whole seconds; ``due`` is null for never and negative when its time has come. ``sender``
        is empty for the null sender. ``recipient`` is one that is still waited for if there is any, ``recipients`` and
        ``delivered`` how many there are in all and have it.
        """
        now = self._now
        dues = [entry.next_attempt_at for entry in entries]
        whom = [entry.recipients for entry in entries]
        return _encode({
            "id": [entry.id for entry in entries],
            "state": [entry.state for entry in entries],
            "age": [max(0, int(now - entry.received_at)) for entry in entries],
            "size": [entry.size for entry in entries],
            "attempts": [entry.attempts for entry in entries],
            "due": [None if due is None else int(due - now) if due > now else -1 for due in dues],
            "domain": [entry.domain for entry in entries],
            "sender": _written([entry.sender for entry in entries]),
            "recipient": _written([each[0].address if len(each) == 1 else _waited_for(each) for each in whom]),
            "recipients": list(map(len, whom)),
            "delivered": [
                int(each[0].status is _DELIVERED) if len(each) == 1 else sum(one.status is _DELIVERED for one in each)
                for each in whom
            ],
        })  # fmt: skip

    def _route(self, entry: SpoolEntry) -> str:
        leaves = entry.via == "outbound"
        # Which outbound gateway takes a message depends on who sent it, and how urgent it is.
        sender = entry.sender.domain if leaves and entry.sender is not None else None
        key = ("outbound", sender, entry.priority) if leaves else (entry.via, entry.domain)
        told = self._routes.get(key)
        if told is None:
            found = route_of(self._settings, entry.domain, entry.via, entry.sender, entry.priority)
            told = self._routes[key] = "null" if found is None else quoted(found)
        return told


def route_of(settings: Settings, domain: str, via: str, sender: Address | None, priority: int) -> str | None:
    """Where mail goes by the settings of now, in words: primaries, names of outbound gateways, ``direct`` and ``mx``
    for what the DNS says, ``archive NAME``; None when it goes nowhere."""
    if via == "outbound":
        gateways = gateways_for(settings, sender, priority)
        names = [gateway.name for gateway in gateways]
        return " ".join(names if any(gateway.exclusive for gateway in gateways) else ["direct", *names])
    if via == "archive":
        return f"archive {domain}" if any(archive.name == domain for archive in settings.archives) else None
    if via == "backup":
        return "mx" if settings.backup.primaries else None
    found = settings.domain(domain, via)
    return None if found is None else " ".join(map(str, found.primary)) or None


def _written(addresses: Sequence[Address | None]) -> list[str]:
    """``written`` of each, without a call for each."""
    return [
        "" if address is None else f"{address.local}@{address.domain}" if address.domain else address.local
        for address in addresses
    ]


def _waited_for(recipients: Sequence[SpoolRecipient]) -> Address | None:
    first = next((each for each in recipients if each.status is Status.PENDING), recipients[0] if recipients else None)
    return None if first is None else first.address


def _recipient(recipient: SpoolRecipient) -> str:
    reply = recipient.last_reply
    return (
        f'{{"address":{quoted(str(recipient.address))},"status":"{recipient.status}",'
        f'"attempts":{recipient.attempts},"last_reply":{quoted(reply) if reply else "null"}}}'
    )
