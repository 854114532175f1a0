"""What an operator may ask of the spool and the quarantine, live and on the files of a stopped gateway alike.

Knows which noun and verb goes where and what may not be asked of it, and how the gateway is as a whole. Does not know
how a thing is done, nor a socket, a file or a terminal: arguments and answers are values that JSON can write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from inboundmx.app.answers import NotUnderstood, Row, Told
from inboundmx.app.bouncing import Bouncing
from inboundmx.app.changing import Changer, Changing, DeliveryService
from inboundmx.app.exporting import Exporting
from inboundmx.app.finding import Finder
from inboundmx.app.learning import ReleasedMail
from inboundmx.app.selecting import selection
from inboundmx.app.showing import Showing
from inboundmx.delivery.notice_limit import NoticeLimit
from inboundmx.model.custody import State
from inboundmx.model.settings import Settings
from inboundmx.net.chance import SystemChance
from inboundmx.ports import Chance, Clock, Journal, Spool
from inboundmx.spool.bodies import BodyContents

# Priorities of SmarterMail: 10 goes first.
LOWEST, HIGHEST = 1, 10


class Noun(Protocol):
    """Operations on something else than the spool, by a name of its own."""

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Row] | None:
        """As ``Operations.perform``; None when there is no such verb."""


class Operations:
    """``deliveries`` is None when the gateway is stopped. ``facts`` adds to ``status`` what only the assembly knows:
    workers, connections, the health of services. ``nouns`` are further things to operate on, by name, or do what is not
    done to entries. ``paused``: whether nothing of a domain is delivered now. ``notices`` counts those of a running
    gateway; ``released`` learns from what is released."""

    def __init__(
        self,
        spool: Spool,
        deliveries: DeliveryService | None,
        journal: Journal,
        clock: Clock,
        settings: Settings,
        facts: Callable[[], Mapping[str, Any]] = dict,
        nouns: Mapping[str, Noun] | None = None,
        paused: Callable[[str], bool] = lambda domain: False,
        chance: Chance | None = None,
        notices: NoticeLimit | None = None,
        released: ReleasedMail | None = None,
    ) -> None:
        self._spool = spool
        self._deliveries = deliveries
        self._journal = journal
        self._clock = clock
        self.settings = settings
        self._facts = facts
        self._released = released
        self._nouns = nouns or {}
        self._finder = finder = Finder(spool, clock, alone=deliveries is None)
        self._showing = Showing(spool, journal, clock, finder, self._in_force)
        self._exporting = Exporting(spool, BodyContents(settings.gateway.data), journal, finder)
        self._changing = Changing(spool, deliveries, journal, clock, finder, paused)
        notices = notices or NoticeLimit(self._in_force, clock, journal)
        self._bouncing = Bouncing(
            spool, deliveries, journal, clock, finder, self._in_force, chance or SystemChance(), notices
        )

    async def perform(self, operation: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Told]:
        """``operation`` is a noun and a verb, ``spool.list``. The rows may be made while they are read.

        Raises NotUnderstood for what cannot be asked, and Unavailable when the disk says so.
        """
        self._journal.record("asked", "", {"operation": operation, "asked_by": asked_by, **arguments}, level="debug")
        if operation == "status":
            return [self.status()]
        noun, _, verb = operation.partition(".")
        if noun in self._nouns:
            rows = await self._nouns[noun].perform(verb, arguments, asked_by)
            if rows is not None:
                return rows
        if noun not in ("spool", "quarantine"):
            raise NotUnderstood(f"no operation is called {operation!r}")
        quarantine = noun == "quarantine"
        dry_run = bool(arguments.get("dry_run"))
        told = dict(arguments)
        exact = bool(told.pop("exact", False)) if operation == "spool.export" else False
        priority = told.pop("priority", None) if operation == "spool.priority" else None
        limit = told.pop("limit", None) if verb == "list" else None
        columns = bool(told.pop("columns", False)) if verb == "list" else False
        query = selection(told, quarantine)
        if query.cause:
            query = await self._finder.caused(query)
        if verb == "list":
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
                raise NotUnderstood("limit must be a whole number, 1 or more")
            return self._showing.list(query, limit, columns)
        if verb == "show":
            return await self._showing.show(query, asked_by)
        if verb == "export" and not quarantine:
            if query.empty:
                raise NotUnderstood("spool export needs ids or a query; nothing was done")
            if exact:
                query = replace(query, ids=frozenset(), only=query.ids)
            return await self._exporting.export(query, asked_by, dry_run)
        changes: dict[str, Changer] = {"release": self._changing.release, "delete": self._changing.delete}
        if not quarantine:
            changes |= {
                "force": self._changing.force,
                "reset-retries": self._changing.reset_retries,
                "hold": self._changing.hold,
                "bounce": self._bouncing.bounce,
                "priority": self._changing.prioritising(priority),
            }
        if verb not in changes:
            raise NotUnderstood(f"no operation is called {operation!r}")
        if query.empty:
            raise NotUnderstood(f"{noun} {verb} needs ids or a query; nothing was done")
        if verb == "priority" and not _is_priority(priority):
            raise NotUnderstood(f"priority is a whole number from {LOWEST} to {HIGHEST}; nothing was done")
        if operation == "quarantine.release" and self._released is not None and not dry_run:
            lessons = await self._released.read(query.ids)
            changed = await self._changing.release(query, asked_by, dry_run)
            await self._released.learn(lessons, asked_by)
            return changed
        return await changes[verb](query, asked_by, dry_run)

    def _in_force(self) -> Settings:
        return self.settings

    def status(self) -> Row:
        """One process. ``spool`` counts entries by state; ``primaries`` is empty when the gateway is stopped, or none
        has been spoken to yet."""
        states = {state.value: 0 for state in State}
        octets = 0
        now = oldest = self._clock.now()
        for entry in self._spool.entries():
            states[entry.state.value] += 1
            octets += entry.size
            oldest = min(oldest, entry.received_at)
        delivery = {} if self._deliveries is None else dict(self._deliveries.status())
        hosts = delivery.pop("hosts", {})
        return {
            "running": self._deliveries is not None,
            "spool": states,
            "spool_octets": octets,
            "oldest_seconds": max(0.0, round(now - oldest, 3)),
            "free_octets": self._spool.free_octets(),
            "primaries": [{"host": host, **health} for host, health in hosts.items()],
            "settings": self.settings.fingerprint,
            **delivery,
            **self._facts(),
        }


def _is_priority(priority: object) -> bool:
    return isinstance(priority, int) and not isinstance(priority, bool) and LOWEST <= priority <= HIGHEST
