"""What an operator may ask of the greylist, live and on the file of a stopped gateway alike.

Knows how a remembered triplet is told, and that forgetting is recorded with who asked for it. Does not know a socket, a
file or a terminal: arguments and answers are values that JSON can write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inboundmx.app.answers import NotUnderstood, Row
from inboundmx.checks.greylist import SPACE
from inboundmx.model.settings import Settings
from inboundmx.policy.greylisting import SEPARATOR, searched
from inboundmx.ports import Clock, Fact, Journal, StateStore

# Rows told when nobody says how many, and at most: a table of a million helps nobody.
USUAL_LIMIT = 1000
LARGEST_LIMIT = 10_000


class GreylistOperations:
    """The noun ``greylist`` of ``app.operations``."""

    def __init__(self, state: StateStore, journal: Journal, clock: Clock, settings: Callable[[], Settings]) -> None:
        """``settings`` gives those in force: periods may change with a reload."""
        self._state = state
        self._journal = journal
        self._clock = clock
        self._settings = settings

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> list[Row] | None:
        """The rows of the answer, None when there is no such verb. ``matching`` is text that a triplet contains
        literally, case aside; ``limit`` how many rows are told, the newest first. A dry run of ``forget`` tells what
        it would forget. Raises NotUnderstood and Unavailable."""
        if verb == "list":
            return await self._listed(*_asked(arguments, {"matching", "limit"}))
        if verb == "forget":
            matching, limit = _asked(arguments, {"matching", "limit", "all", "dry_run"})
            if not matching and arguments.get("all") is not True:
                raise NotUnderstood("greylist forget needs a text that triplets contain; nothing was done")
            if arguments.get("dry_run"):
                return await self._listed(matching, limit)
            count = 0
            for text in searched(matching, self._settings().greylisting):
                count += await self._state.forget(SPACE, text)
            fields = {"matching": matching, "count": count, "asked_by": asked_by}
            self._journal.record("greylist_forgotten", "", fields)
            return [{"forgotten": count}]
        return None

    async def _listed(self, matching: str, limit: int) -> list[Row]:
        found: dict[str, Fact] = {}
        for text in searched(matching, self._settings().greylisting):
            found.update(await self._state.facts(SPACE, text, limit))
        newest = sorted(found.items(), key=lambda pair: (-pair[1].written_at, pair[0]))
        return [self._row(key, fact) for key, fact in newest[:limit]]

    def _row(self, key: str, fact: Fact) -> Row:
        """Every key always: ``state`` is waiting or known, instants in seconds since the epoch; ``passes_at`` is when a
        retry will pass, None when it has."""
        network, sender, recipient = (*key.split(SEPARATOR), "", "")[:3]
        passed = len(fact.values) > 1
        return {
            "network": network,
            "sender": None if sender == "<>" else sender,
            "recipient": recipient,
            "state": "known" if passed else "waiting",
            "first_seen_at": fact.values[0] if fact.values else None,
            "passed_at": fact.values[1] if passed else None,
            "passes_at": fact.values[0] + self._settings().greylisting.block if fact.values and not passed else None,
            "expires_at": fact.expires_at,
        }


def _asked(arguments: Mapping[str, Any], known: set[str]) -> tuple[str, int]:
    if unknown := sorted(set(arguments) - known):
        raise NotUnderstood(f"this takes no {unknown[0]!r}")
    matching, limit = arguments.get("matching") or "", arguments.get("limit", USUAL_LIMIT)
    if not isinstance(matching, str):
        raise NotUnderstood("matching must be text")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= LARGEST_LIMIT:
        raise NotUnderstood(f"limit must be a whole number from 1 to {LARGEST_LIMIT}")
    return matching, limit
