"""The entries that a query means, looked up in the spool: the oldest first, and mail has its turn between the parts.

Knows how much of a spool may be looked at in one turn of the reactor, and what the mail itself says of why it was kept.
Does not know what is done with what is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter

from inboundmx.app.selecting import Selection
from inboundmx.model.custody import SpoolEntry, State
from inboundmx.policy.stamping import checks_against
from inboundmx.ports import Clock, Damaged, Spool
from inboundmx.prompt import passing

# Entries looked at before mail gets its turn again.
TURN = 1000
# Entries sorted in one turn.
SORTED = 10_000
# The longest that mail has its turn between two parts of a change.
TURN_SECONDS = 0.1


class Finder:
    """``alone``: on the files of a gateway that is stopped, nobody else waits for a turn."""

    def __init__(self, spool: Spool, clock: Clock, alone: bool) -> None:
        self._spool = spool
        self._clock = clock
        self._alone = alone

    async def meant(self, query: Selection) -> Sequence[SpoolEntry]:
        """The oldest first; found and sorted a part in a turn."""
        now = self._clock.now()
        entries = self._spool.entries()
        found: list[SpoolEntry] = []
        for start in range(0, len(entries), TURN):
            if start:
                await self.turn()
            found += [e for e in entries[start : start + TURN] if query.means(e, now)]
        meant: list[SpoolEntry] = []
        for _ in oldest_first(found, meant):
            await self.turn()
        return meant

    async def caused(self, query: Selection) -> Selection:
        """The query with ``only`` those of which ``cause`` is true. What a level kept has no one check for its cause,
        so the stamps on the mail are asked which spoke against it; of what is on its way nothing was the cause."""
        only = set()
        for entry in await self.meant(query):
            kept_by = entry.cause.lower()
            if query.cause in (kept_by, kept_by.rpartition(" ")[2]):
                only.add(entry.id)
                continue
            if entry.state is State.ACTIVE:
                continue
            try:
                content = await self._spool.content(entry.id)
            except (Damaged, KeyError):
                # Nobody knows what spoke against it.
                continue
            if query.cause in checks_against(content.prefix):
                only.add(entry.id)
        return replace(query, only=frozenset(only))

    async def turn(self, since: float | None = None) -> None:
        """Lets mail have its turn, for as long as we had ours ``since``: who records and writes what we do comes along,
        too. On files nobody else waits."""
        if self._alone:
            return
        took = 0.0 if since is None else self._clock.monotonic() - since
        await passing(self._clock, min(max(took, 0.0), TURN_SECONDS))


def oldest_first(entries: Sequence[SpoolEntry], ordered: list[SpoolEntry]) -> Iterator[None]:
    """Puts the entries into ``ordered``, the oldest first, a part of the work at each step."""
    key = attrgetter("received_at")
    for start in range(0, len(entries), SORTED):
        if start:
            yield
        ordered += sorted(entries[start : start + SORTED], key=key)
    # Runs that are sorted already are only merged.
    ordered.sort(key=key)
