"""What an operator may ask of the blocks, live and on the file of a stopped gateway alike.

Knows that a block is kept as an entry of a list is, and that a customer of IPv6 is blocked by his network. Does not
know a socket, a file or a terminal: arguments and answers are values that JSON can write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from inboundmx.app import arguments as read
from inboundmx.app.answers import Row
from inboundmx.app.list_operations import ListOperations
from inboundmx.intake.blocking import Blocks
from inboundmx.intake.live_lists import LiveLists
from inboundmx.model.settings import Settings
from inboundmx.policy.limiting import subject
from inboundmx.ports import Clock, Journal, Unavailable

# What there is to say of a block; the rest of an entry is of lists alone.
_KEYS = ("value", "reason", "author", "since_at", "until_at", "outcome")
_TAKES = {
    "list": {"matching", "limit"},
    "add": {"values", "reason", "for"},
    "remove": {"values", "dry_run"},
    "forget": {"values", "dry_run"},
}


class BlockOperations:
    """The noun ``blocks`` of ``app.operations``. ``forget`` forgets what rules have counted about clients; ``blocks``:
    those in force, of a running gateway."""

    def __init__(
        self,
        kept: LiveLists,
        journal: Journal,
        clock: Clock,
        forget: Callable[[Collection[str]], Awaitable[object]],
        blocks: Blocks | None = None,
    ) -> None:
        nothing = Settings()
        self._entries = ListOperations(kept, journal, clock, lambda: nothing, ("block",))
        self._kept = kept
        self._forget = forget
        self._blocks = blocks

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> list[Row] | None:
        """The rows of the answer, None when there is no such verb; ``look`` as of lists. ``forget`` is what all
        processes do before one may ``remove``: were a block to end first, what another has counted could begin the next
        one at once. Raises NotUnderstood and Unavailable."""
        if verb == "look":
            return await self._entries.perform(verb, arguments, asked_by)
        if verb not in _TAKES:
            return None
        read.only(arguments, _TAKES[verb])
        asked: dict[str, Any] = {**arguments, "kind": "block"}
        if verb in ("remove", "forget"):
            # What another process has just blocked is meant too.
            await self._kept.look()
            if isinstance(asked.get("values"), list):
                asked["values"] = [self._meant(value) for value in asked["values"]]
            if not arguments.get("dry_run"):
                await self._forget_counted(asked, asked_by)
            if verb == "forget":
                return []
        rows = await self._entries.perform(verb, asked, asked_by)
        if rows is None:
            return None
        return [{key: row[key] for key in _KEYS if key in row} for row in rows]

    async def _forget_counted(self, asked: Mapping[str, Any], asked_by: str) -> None:
        rows = await self._entries.perform("remove", {**asked, "dry_run": True}, asked_by) or []
        values = [row["value"] for row in rows]
        # Without the state store the block ends all the same, and may begin anew.
        with contextlib.suppress(Unavailable):
            await self._forget({subject(value) or value for value in values})
        if self._blocks is not None:
            self._blocks.forget(values)

    def _meant(self, value: Any) -> Any:
        """An IPv6 address that is blocked by its network alone means that."""
        if isinstance(value, str) and ":" in value and self._kept.entry(("block", value)) is None:
            network = subject(value)
            if self._kept.entry(("block", network)) is not None:
                return network
        return value
