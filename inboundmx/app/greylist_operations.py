"""What an operator may ask of the greylist, live and on the file of a stopped gateway alike.

Knows how what is remembered is told, how one that waits is let through, and that both this and forgetting are recorded
with who asked. Does not know a socket, a file or a terminal: arguments and answers are values that JSON can write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inboundmx.app import arguments as read
from inboundmx.app.answers import NotUnderstood, Row
from inboundmx.checks.greylist import COUNTED, GOOD, SPACE, WRITTEN
from inboundmx.model.address import Address
from inboundmx.model.settings import GreylistingSettings, Settings
from inboundmx.policy.greylisting import (
    SEPARATOR,
    STATES,
    allowed,
    names,
    parts_of,
    released,
    searched,
    state_of,
    triplet,
)
from inboundmx.ports import Clock, Fact, Journal, StateStore

AUTO_ALLOWED, WRITTEN_TO = "auto-allowed", "written-to"
ALL_STATES = (*STATES, AUTO_ALLOWED, WRITTEN_TO)
# A client, sender and recipient as a refusal tells them; a message has no more recipients than that by far.
MOST_VISITS = 1000
# Is in no key.
_NOWHERE = SEPARATOR * 3


class GreylistOperations:
    """The noun ``greylist`` of ``app.operations``."""

    def __init__(self, state: StateStore, journal: Journal, clock: Clock, settings: Callable[[], Settings]) -> None:
        """``settings`` gives those in force: periods may change with a reload."""
        self._state = state
        self._journal = journal
        self._clock = clock
        self._settings = settings

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> list[Row] | None:
        """The rows of the answer, None when there is no such verb. ``matching`` is text that what is remembered
        contains literally, case aside; ``limit`` how many rows are told, the newest first; ``state`` one of ALL_STATES.
        ``release`` takes ``matching``, or the ``id`` of a refusal with its ``visits``: lists of client address, sender
        and recipient as text; once one process has done it, the others are to ``look``. A dry run tells what would be
        forgotten or released. Raises NotUnderstood and Unavailable."""
        if verb == "list":
            state = arguments.get("state")
            if state is not None and state not in ALL_STATES:
                raise NotUnderstood(f"state must be one of {' '.join(ALL_STATES)}")
            return await self._listed(*read.matching(arguments, {"matching", "limit", "state"}), state)
        if verb == "forget":
            matching, limit = read.matching(arguments, {"matching", "limit", "all", "dry_run"})
            if not matching and arguments.get("all") is not True:
                raise NotUnderstood("greylist forget needs a text that triplets contain; nothing was done")
            if arguments.get("dry_run"):
                return await self._listed(matching, limit, None)
            count = 0
            for text in searched(matching, self._greylisting):
                for space in (SPACE, GOOD, COUNTED, WRITTEN):
                    count += await self._state.forget(space, text)
            fields = {"matching": matching, "count": count, "asked_by": asked_by}
            self._journal.record("greylist_forgotten", "", fields)
            return [{"forgotten": count}]
        if verb == "release":
            matching, _ = read.matching(arguments, {"matching", "id", "visits", "dry_run"})
            id, visits = arguments.get("id", ""), _visits(arguments.get("visits", ()))
            if bool(matching) == bool(visits) or not isinstance(id, str):
                raise NotUnderstood("greylist release needs an id, or a text that triplets contain; nothing was done")
            found = await (self._visited(visits) if visits else self._waiting(matching))
            return await self._release(found, bool(arguments.get("dry_run")), matching, id, asked_by)
        if verb == "look":
            await self._state.forget(SPACE, _NOWHERE)
            return []
        return None

    @property
    def _greylisting(self) -> GreylistingSettings:
        return self._settings().greylisting

    # --- listing ------------------------------------------------------------------------------------------------------

    async def _listed(self, matching: str, limit: int, state: str | None) -> list[Row]:
        found: list[tuple[Fact, Row]] = []
        for text in searched(matching, self._greylisting):
            if state is None or state in STATES:
                numbers = None if state is None else STATES[state]
                for key, fact in await self._state.facts(SPACE, text, limit, numbers):
                    found.append((fact, self._row(key, fact)))
            if state in (None, AUTO_ALLOWED):
                for name, fact in await self._state.facts(GOOD, text, limit):
                    if count := allowed(fact, self._greylisting):
                        found.append((fact, _row(AUTO_ALLOWED, fact, name, None, None, deliveries=count)))
            if state in (None, WRITTEN_TO):
                for key, fact in await self._state.facts(WRITTEN, text, limit):
                    stranger, _, users = key.partition(SEPARATOR)
                    found.append((fact, _row(WRITTEN_TO, fact, "", stranger, users)))
        found.sort(key=lambda pair: (-pair[0].written_at, str(pair[1])))
        rows: list[Row] = []
        for _, row in found:
            # Found by more than one text.
            if row not in rows[-1:]:
                rows.append(row)
        return rows[:limit]

    def _row(self, key: str, fact: Fact) -> Row:
        name, sender, recipient = (*key.split(SEPARATOR), "", "")[:3]
        state = state_of(fact)
        first_seen = fact.values[0] if fact.values else None
        passes_at = {"released": fact.values[-1] if fact.values else None, "known": None}.get(
            state, None if first_seen is None else first_seen + self._greylisting.block
        )
        return _row(
            state, fact, name, None if sender == "<>" else sender, recipient, first_seen_at=first_seen,
            passed_at=fact.values[1] if state == "known" else None, passes_at=passes_at,
        )  # fmt: skip

    # --- letting through ----------------------------------------------------------------------------------------------

    async def _waiting(self, matching: str) -> dict[str, Fact | None]:
        found: dict[str, Fact | None] = {}
        for text in searched(matching, self._greylisting):
            found.update(await self._state.facts(SPACE, text, read.LARGEST_LIMIT, STATES["waiting"]))
        return found

    async def _visited(self, visits: Sequence[tuple[str, Address | None, Address]]) -> dict[str, Fact | None]:
        """What is kept of these by any of the client's names; by its network, which is always looked at, where nothing
        is kept any more."""
        found: dict[str, Fact | None] = {}
        for ip, sender, recipient in visits:
            keys = [triplet(name, sender, recipient) for name in names(ip, sender, True, self._greylisting)]
            kept = {key: await self._state.get(SPACE, key) for key in keys}
            network = triplet(names(ip, sender, False, self._greylisting)[0], sender, recipient)
            found |= {key: fact for key, fact in kept.items() if fact is not None}
            if not any(kept.values()):
                found[network] = None
        return found

    async def _release(
        self, found: Mapping[str, Fact | None], dry_run: bool, matching: str, id: str, asked_by: str
    ) -> list[Row]:
        """Rows as ``list`` tells them, what passed long ago among them: it needs nothing."""
        now, settings = self._clock.now(), self._greylisting
        rows: list[Row] = []
        count = 0
        for key, fact in found.items():
            state = None if fact is None else state_of(fact)
            if state == "known" or (dry_run and fact is not None):
                assert fact is not None
                rows.append(self._row(key, fact))
                continue
            after = fact if fact is not None and state == "released" else released(fact, now, settings)
            rows.append(self._row(key, after))
            if not dry_run:
                self._state.put(SPACE, key, after)
                count += state != "released"
        if count:
            fields = {"matching": matching, "count": count, "asked_by": asked_by}
            self._journal.record("greylist_released", id, {name: value for name, value in fields.items() if value})
        if not dry_run:
            # Answered in its turn, once all of it is on the disk, where the next process finds it.
            await self._state.facts(SPACE, _NOWHERE, 1)
        return rows


def _row(
    state: str,
    fact: Fact,
    name: str,
    sender: str | None,
    recipient: str | None,
    *,
    deliveries: int | None = None,
    first_seen_at: float | None = None,
    passed_at: float | None = None,
    passes_at: float | None = None,
) -> Row:
    """Every key always: the client's ``network`` or ``domain``, or both; instants in seconds since the epoch;
    ``passes_at`` is when a retry will pass, None when it has."""
    network, domain = parts_of(name)
    return {
        "network": network or None,
        "domain": domain or None,
        "sender": sender,
        "recipient": recipient,
        "state": state,
        "deliveries": deliveries,
        "first_seen_at": first_seen_at,
        "passed_at": passed_at,
        "passes_at": passes_at,
        "expires_at": fact.expires_at,
    }


def _visits(given: Any) -> list[tuple[str, Address | None, Address]]:
    if not isinstance(given, list | tuple) or len(given) > MOST_VISITS:
        raise NotUnderstood(f"visits are a list of at most {MOST_VISITS}")
    found = []
    for each in given:
        if not isinstance(each, list | tuple) or len(each) != 3 or not all(isinstance(text, str) for text in each):
            raise NotUnderstood("a visit is a client's address, a sender and a recipient")
        ip, sender, recipient = each
        found.append((ip, _address(sender) if sender else None, _address(recipient)))
    return found


def _address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain.lower())
