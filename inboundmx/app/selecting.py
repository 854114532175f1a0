"""Which entries of the spool an operator means: a query, read from what was asked, and held against entries.

Knows what a query can hold, and what fits it. Does not know the spool, nor what is done with those that fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import idna

from inboundmx.app.answers import NotUnderstood
from inboundmx.model.address import written
from inboundmx.model.custody import SpoolEntry, State


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are meant: any of ``ids`` (an entry's own or the one the stranger was told), and all else that is
    given. Empty means everything; ``older`` counts seconds since reception, ``since`` is an instant before it.
    ``cause`` is a check that spoke against the mail, or what else kept it; ``only`` are the ids of those of which that
    is known to be true. ``quarantined``: only what is in the quarantine.

    A copy on its way to an archive is meant by its own id and by the archive's name, never by whose mail it is: who
    deletes mail does not mean the record of it."""

    ids: frozenset[str] = frozenset()
    domain: str = ""
    recipient: str = ""
    sender: str | None = None
    state: str = ""
    older: float | None = None
    since: float | None = None
    cause: str = ""
    only: frozenset[str] | None = None
    quarantined: bool = False

    @property
    def empty(self) -> bool:
        """All of the spool, or all of the quarantine."""
        return self == Selection(quarantined=self.quarantined)

    def means(self, entry: SpoolEntry, now: float) -> bool:
        if entry.via == "archive" and not self._means_copy(entry):
            return False
        if self.quarantined and entry.state is not State.QUARANTINED:
            return False
        if self.ids and entry.id not in self.ids and entry.message_id not in self.ids:
            return False
        if self.state and entry.state.value != self.state:
            return False
        if self.older is not None and now - entry.received_at < self.older:
            return False
        if self.since is not None and entry.received_at < self.since:
            return False
        if self.only is not None and entry.id not in self.only:
            return False
        if self.sender is not None and not _fits(self.sender, written(entry.sender)):
            return False
        if self.domain and self.domain != entry.domain and not any(
            recipient.address.domain == self.domain for recipient in entry.recipients
        ):
            return False
        return not self.recipient or any(_fits(self.recipient, str(r.address)) for r in entry.recipients)

    def _means_copy(self, entry: SpoolEntry) -> bool:
        if self.ids and entry.id not in self.ids:
            return False
        return self.domain in ("", entry.domain) and not self.recipient and self.sender is None


def selection(arguments: Mapping[str, Any], quarantined: bool = False) -> Selection:
    """Raises NotUnderstood on what no query can hold."""
    known = {"ids", "domain", "recipient", "sender", "state", "older", "since", "cause", "dry_run"}
    if unknown := sorted(set(arguments) - known):
        raise NotUnderstood(f"a query has no {unknown[0]!r}")
    ids, older, since = arguments.get("ids") or [], arguments.get("older"), arguments.get("since")
    if not isinstance(ids, list) or not all(isinstance(id, str) and id for id in ids):
        raise NotUnderstood("ids must be a list of words")
    if older is not None and (isinstance(older, bool) or not isinstance(older, int | float)):
        raise NotUnderstood("older must be a number of seconds")
    if since is not None and (isinstance(since, bool) or not isinstance(since, int | float)):
        raise NotUnderstood("since must be an instant in seconds since the epoch")
    texts: dict[str, str | None] = {}
    for name in ("domain", "recipient", "sender", "state", "cause"):
        texts[name] = arguments.get(name)
        if texts[name] is not None and not isinstance(texts[name], str):
            raise NotUnderstood(f"{name} must be text")
    state = texts["state"] or ""
    if state and state not in set(State):
        raise NotUnderstood(f"no state is called {state!r}: it is one of {', '.join(State)}")
    sender = texts["sender"]
    return Selection(
        frozenset(id.lower() for id in ids),
        a_label((texts["domain"] or "").lower().rstrip(".")),
        texts["recipient"] or "",
        "" if sender == "<>" else sender,
        state,
        older,
        since,
        (texts["cause"] or "").lower(),
        quarantined=quarantined,
    )


def a_label(domain: str) -> str:
    """Entries know domains as A-labels; an operator may write what people read."""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise NotUnderstood(f"{domain!r} is no domain name: {error}") from error


def _fits(wanted: str, address: str) -> bool:
    """Addresses compared without case; a leading ``*@`` or ``@`` means a whole domain."""
    wanted, address = wanted.lower(), address.lower()
    if wanted.startswith(("*@", "@")):
        return bool(address) and address.rpartition("@")[2] == wanted.rpartition("@")[2]
    return wanted == address
