"""What an operator does to entries of the spool: many of them at a time, a part in a turn, each on record.

Knows what an entry becomes by each command, when it stays as it is and what is said then, and that every change is
recorded with who asked for it. Does not know how mail is given up; ``app.bouncing`` does.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from json import JSONEncoder
from typing import Any, Protocol

from inboundmx.app.answers import Row
from inboundmx.app.finding import Finder
from inboundmx.app.selecting import Selection
from inboundmx.model.address import written
from inboundmx.model.custody import Change, SpoolEntry, State, Status
from inboundmx.ports import Clock, Journal, Spool, Unavailable

# Entries changed by one commit, and in one turn of the reactor, whatever number of them a query means.
BATCH = 200
# A change of so many entries is kept from the collector of garbage.
MANY = 10 * BATCH
# Why an entry is held that an operator stopped.
OPERATOR = "operator"
ON_ITS_WAY = "is on its way to a primary just now; ask again in a moment"

_text = JSONEncoder(separators=(",", ":"), check_circular=False).encode

# Which entries, who asks, and whether it is a dry run.
Changer = Callable[[Selection, str, bool], Awaitable[Iterable[Row | str]]]


class DeliveryService(Protocol):
    """The part of the delivery loop that operators touch."""

    def changed(self, ids: Sequence[str]) -> None:
        """These entries are not what they were, or are gone."""

    def force(self, ids: Sequence[str]) -> None:
        """Tries these entries now, whatever their schedule and their primary's health say."""

    def set_aside(self, ids: Sequence[str]) -> Set[str]:
        """Those that are not on their way just now; of them none is started until it is said to have ``changed``."""

    def status(self) -> Mapping[str, Any]:
        """``hosts``: each primary's health by its name; and what else there is to know of deliveries."""


class Changing:
    """``deliveries`` is None when the gateway is stopped. ``paused``: whether nothing of a domain is delivered now."""

    def __init__(
        self,
        spool: Spool,
        deliveries: DeliveryService | None,
        journal: Journal,
        clock: Clock,
        finder: Finder,
        paused: Callable[[str], bool],
    ) -> None:
        self._spool = spool
        self._deliveries = deliveries
        self._journal = journal
        self._clock = clock
        self._finder = finder
        self._paused = paused

    async def force(self, query: Selection, asked_by: str, dry_run: bool) -> Sequence[str]:
        """Makes the next attempt now. Only of what is delivered at all: ACTIVE."""

        def due(entry: SpoolEntry, now: float) -> SpoolEntry | str:
            if entry.state is not State.ACTIVE:
                return _not_active(entry)
            if self._paused(entry.domain):
                return "is of a domain whose deliveries are paused; resume them first"
            # While deliveries run an active entry is theirs: what they are just writing of it must not be undone.
            return entry if self._deliveries is not None else replace(entry, next_attempt_at=now)

        return await self._change(query, asked_by, dry_run, "forced", due)

    async def release(self, query: Selection, asked_by: str, dry_run: bool) -> Sequence[str]:
        """Sends on what a level's action or a lost delivery had stopped, by a schedule begun anew."""

        def freed(entry: SpoolEntry, now: float) -> SpoolEntry | str:
            if entry.state is State.ACTIVE:
                return "is not held"
            if entry.state is State.QUARANTINED and not query.quarantined:
                return "is quarantined; use quarantine release"
            return replace(
                entry,
                state=State.ACTIVE,
                cause="",
                next_attempt_at=now,
                expires_at=None,
                slots_used=0,
                recipients=tuple(
                    replace(recipient, status=Status.PENDING) if recipient.status is Status.FAILED else recipient
                    for recipient in entry.recipients
                ),
            )

        return await self._change(query, asked_by, dry_run, "released", freed)

    async def delete(self, query: Selection, asked_by: str, dry_run: bool) -> Sequence[str]:
        """Gone for good; nobody is notified."""
        return await self._change(query, asked_by, dry_run, "deleted", lambda entry, now: None)

    async def reset_retries(self, query: Selection, asked_by: str, dry_run: bool) -> Sequence[str]:
        """Begins the schedule anew: all counts are zero, and the first attempt is now."""

        def fresh(entry: SpoolEntry, now: float) -> SpoolEntry | str:
            if entry.state is not State.ACTIVE:
                return _not_active(entry)
            return replace(
                entry,
                cause="",
                attempts=0,
                slots_used=0,
                dns_errors=0,
                next_attempt_at=now,
                recipients=tuple(replace(recipient, attempts=0) for recipient in entry.recipients),
            )

        return await self._change(query, asked_by, dry_run, "retries_reset", fresh, aside=True)

    async def hold(self, query: Selection, asked_by: str, dry_run: bool) -> Sequence[str]:
        """Keeps mail from being delivered until it is released, however long that takes."""

        def kept(entry: SpoolEntry, now: float) -> SpoolEntry | str:
            if entry.state is not State.ACTIVE:
                return f"is {entry.state.value} already"
            return replace(entry, state=State.HELD, cause=OPERATOR, next_attempt_at=None, expires_at=None)

        return await self._change(query, asked_by, dry_run, "held", kept, aside=True)

    def prioritising(self, priority: Any) -> Changer:
        """Says which mail goes first: 10 before 1."""

        async def prioritise(query: Selection, asked_by: str, dry_run: bool) -> Sequence[str]:
            return await self._change(
                query,
                asked_by,
                dry_run,
                "prioritised",
                lambda entry, now: replace(entry, priority=priority),
                aside=True,
                priority=priority,
            )

        return prioritise

    async def _change(
        self,
        query: Selection,
        asked_by: str,
        dry_run: bool,
        event: str,
        become: Callable[[SpoolEntry, float], SpoolEntry | str | None],
        *,
        aside: bool = False,
        **facts: Any,
    ) -> Sequence[str]:
        """``become`` says what an entry turns into: another, nothing, or a reason why it stays as it is. ``aside``:
        entries that may be on their way to a primary are changed only when they are not, so that what comes of the
        attempt and what the operator wants do not undo each other. ``facts`` go on record with each."""
        meant = [entry.id for entry in await self._finder.meant(query)]
        told: list[str] = []
        since = self._clock.monotonic()
        with _only_young_garbage(len(meant) >= MANY and not dry_run) as sweep:
            for start in range(0, len(meant), BATCH):
                if start:
                    await self._finder.turn(since)
                    since = self._clock.monotonic()
                sweep()
                now = self._clock.now()
                before: list[SpoolEntry] = []
                update: list[SpoolEntry] = []
                remove: list[str] = []
                for id in meant[start : start + BATCH]:
                    # Looked at again: the commits before this one took their time, and mail goes on meanwhile.
                    entry = self._spool.entry(id)
                    if entry is None or not query.means(entry, now):
                        continue
                    after = become(entry, now)
                    if isinstance(after, str):
                        # Who names an entry hears why it stays; a query means those it can be done to.
                        if query.ids:
                            told.append(_text(outcome_of(entry, "skipped", after)))
                        continue
                    if aside and not dry_run and is_on_its_way(entry, self._deliveries):
                        told.append(_text(outcome_of(entry, "skipped", ON_ITS_WAY)))
                        continue
                    told.append(_text(outcome_of(entry, event, "" if not dry_run else "dry run: nothing was done")))
                    before.append(entry)
                    if after is None:
                        remove.append(entry.id)
                    elif after is not entry:
                        update.append(after)
                if dry_run or not before:
                    continue
                trouble = ""
                try:
                    if update or remove:
                        await self._spool.commit(Change(update=tuple(update), remove=tuple(remove)))
                        since = self._clock.monotonic()
                except Unavailable as error:
                    trouble = error.reason
                    raise
                finally:
                    # A change that could not be written is remembered until it can be, so it is on record either way.
                    for entry in before:
                        self._journal.record(event, entry.message_id, audit(entry, asked_by, trouble) | facts)
                    self._tell_deliveries(event, before)
        return told

    def _tell_deliveries(self, event: str, entries: Sequence[SpoolEntry]) -> None:
        if self._deliveries is not None:
            tell = self._deliveries.force if event == "forced" else self._deliveries.changed
            tell([entry.id for entry in entries])


@contextmanager
def _only_young_garbage(many: bool) -> Iterator[Callable[[], None]]:
    """What takes the place of many entries is no garbage, and to look for it there again and again stops mail for some
    tenths of a second each time. So the collector rests, and a call of what this gives looks through what is new since
    the one before. What lives at the end is kept from the collector for good: a cycle that mail has in hand at that
    moment is lost to it, which is why this happens once, and not for a few entries."""
    if not many:
        yield lambda: None
        return

    def sweep() -> None:
        # Each time anew: another change that has come to its end meanwhile has set it going again.
        gc.disable()
        gc.collect(1)

    try:
        yield sweep
    finally:
        sweep()
        gc.freeze()
        gc.enable()


def is_on_its_way(entry: SpoolEntry, deliveries: DeliveryService | None) -> bool:
    """False: it is not, nor will it be before the delivery loop is told that it changed."""
    return deliveries is not None and entry.id not in deliveries.set_aside([entry.id])


def outcome_of(entry: SpoolEntry, outcome: str, reason: str) -> Row:
    """The row of an entry that was meant: what became of it, and why."""
    return {
        "id": entry.id,
        "message_id": entry.message_id,
        "sender": None if entry.sender is None else str(entry.sender),
        "recipients": [str(recipient.address) for recipient in entry.recipients],
        "state": entry.state.value,
        "outcome": outcome,
        "reason": reason or None,
    }


def audit(entry: SpoolEntry, asked_by: str, trouble: str) -> Row:
    """What is on record of an entry as it was, and ``trouble`` when the change could not be written yet."""
    fields = {
        "entry": entry.id,
        "asked_by": asked_by,
        "was": entry.state.value,
        "cause": entry.cause,
        "sender": written(entry.sender),
        "recipients": [str(recipient.address) for recipient in entry.recipients],
        "size": entry.size,
    }
    return fields | {"not_written_yet": trouble} if trouble else fields


def _not_active(entry: SpoolEntry) -> str:
    return f"is {entry.state.value}; release it first"
