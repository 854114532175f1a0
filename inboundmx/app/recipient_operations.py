"""What an operator may ask of the recipients that are known, live and on the file of a stopped gateway alike.

Knows how a remembered recipient is told, and that forgetting and importing are recorded with who asked. Does not know a
socket, a file or a terminal: arguments and answers are values that JSON can write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inboundmx.app import arguments as read
from inboundmx.app.answers import NotUnderstood, Row
from inboundmx.directory.memory import SPACE, Memory, memo_of
from inboundmx.model.address import Address
from inboundmx.model.settings import Settings
from inboundmx.ports import Clock, Fact, Journal, StateStore

# Addresses of one request; whoever has more asks again.
IMPORTED_AT_ONCE = 500


class RecipientOperations:
    """The noun ``recipients`` of ``app.operations``."""

    def __init__(
        self, state: StateStore, memory: Memory, journal: Journal, clock: Clock, settings: Callable[[], Settings]
    ) -> None:
        self._state = state
        self._memory = memory
        self._journal = journal
        self._clock = clock
        self._settings = settings

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> list[Row] | None:
        """The rows of the answer, None when there is no such verb. ``matching`` is text that an address contains
        literally; ``limit`` how many rows are told, the newest first; ``addresses`` those to be imported. A dry run
        tells what would be forgotten. Raises NotUnderstood and Unavailable."""
        if verb == "list":
            return await self._told(*read.matching(arguments, {"matching", "limit"}))
        if verb == "forget":
            matching, limit = read.matching(arguments, {"matching", "limit", "all", "dry_run"})
            if not matching and arguments.get("all") is not True:
                raise NotUnderstood("recipients forget needs a text that addresses contain; nothing was done")
            if arguments.get("dry_run"):
                return await self._told(matching, limit)
            count = 0
            for text in _searched(matching):
                count += await self._state.forget(SPACE, text)
            self._memory.forgotten()
            fields = {"matching": matching, "count": count, "asked_by": asked_by}
            self._journal.record("recipients_forgotten", "", fields)
            return [{"forgotten": count}]
        if verb == "import":
            read.only(arguments, {"addresses"})
            return [self._imported(arguments.get("addresses"), asked_by)]
        return None

    def _imported(self, written: object, asked_by: str) -> Row:
        if not isinstance(written, list) or len(written) > IMPORTED_AT_ONCE:
            raise NotUnderstood(f"addresses must be a list of at most {IMPORTED_AT_ONCE} texts; nothing was done")
        found = []
        for each in written:
            local, at, domain = each.rpartition("@") if isinstance(each, str) else ("", "", "")
            if not (local and at and domain) or not each.isprintable():
                raise NotUnderstood(f"{str(each)[:100]!r} is no address; nothing was done")
            found.append(Address(local, domain.lower()))
        settings = self._settings()
        ours = [address for address in found if settings.section(address.domain) is not None]
        for address in ours:
            self._memory.note(address, True, "import")
        if ours:
            fields = {"count": len(ours), "first": str(ours[0]), "last": str(ours[-1]), "asked_by": asked_by}
            self._journal.record("recipients_imported", "", fields)
        return {"imported": len(ours), "elsewhere": len(found) - len(ours)}

    async def _told(self, matching: str, limit: int) -> list[Row]:
        found: dict[str, Fact] = {}
        for text in _searched(matching):
            found.update(await self._state.facts(SPACE, text, limit))
        newest = sorted(found.items(), key=lambda pair: (-pair[1].written_at, pair[0]))
        return [row for key, fact in newest[:limit] if (row := self._row(key, fact)) is not None]

    def _row(self, key: str, fact: Fact) -> Row | None:
        """Every key always; instants in seconds since the epoch. ``state`` is exists, unknown, or of a domain's
        primary: ``takes any`` or ``asks``. ``fresh``: whether it answers by itself, without anybody being asked."""
        now = self._clock.now()
        if key.startswith("@"):
            state = "takes any" if fact.values[:1] == (1.0,) else "can be asked"
            told: Row = {"address": f"*{key}", "state": state, "source": "callout", "confidence": None, "fresh": True}
        elif (memo := memo_of(fact)) is not None:
            state = "exists" if memo.exists else "unknown"
            told = {
                "address": key,
                "state": state,
                "source": memo.source,
                "confidence": memo.confidence,
                "fresh": memo.fresh(now),
            }
        else:
            return None
        age = max(0.0, round(now - fact.written_at, 3))
        return told | {"heard_at": fact.written_at, "age_seconds": age, "expires_at": fact.expires_at}


def _searched(matching: str) -> Sequence[str]:
    """Who exists stands in lower case, who does not as he was asked for."""
    return tuple(dict.fromkeys((matching, matching.lower())))
