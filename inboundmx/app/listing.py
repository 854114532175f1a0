"""Entries as rows of a list: JSON text at once, because there may be a hundred thousand of them.

Knows the keys that ``spool list --json`` promises and how a route is told. Does not know which entries are meant.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, SpoolRecipient
from inboundmx.model.settings import Settings
from inboundmx.policy.outbound import gateways_for


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
        recipients = ",".join([_recipient(recipient) for recipient in entry.recipients])
        return (
            f'{{"id":"{entry.id}","sender":{sender},"recipients":[{recipients}],"size":{entry.size},'
            f'"state":"{entry.state.value}","priority":{entry.priority},'
            f'"attempts":{entry.attempts},"next_attempt_at":{"null" if due is None else repr(due)},'
            f'"age_seconds":{round(age, 3) if age > 0.0 else 0.0!r},'
            f'"domain":{quoted(entry.domain) if entry.domain else "null"},"route":{self._route(entry)}}}'
        )

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


def _recipient(recipient: SpoolRecipient) -> str:
    reply = recipient.last_reply
    return (
        f'{{"address":{quoted(str(recipient.address))},"status":"{recipient.status.value}",'
        f'"attempts":{recipient.attempts},"last_reply":{quoted(reply) if reply else "null"}}}'
    )
