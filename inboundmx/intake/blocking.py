"""Clients that are blocked for a while, by a rule or by an operator.

Knows that a block holds here at once, is kept so that all workers see it and it outlives a restart, and that there may
be only so many. Does not know why anybody is blocked, nor what a blocked client is told.
"""

from __future__ import annotations

from heapq import nsmallest

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.intake.live_lists import LiveLists
from inboundmx.model.listing import Listed
from inboundmx.policy.limiting import subject
from inboundmx.ports import Clock, Journal, Unavailable

# Of rules, kept for all workers; beyond, those that end first are forgotten.
MOST_BLOCKS = 20_000
# Begun here and not kept yet.
MOST_WAITING = 1000
# Until blocks that could not be kept are tried again, with the next one.
RETRY_SECONDS = 5.0


class Blocks:
    """``kept``: those of all workers; without it a block holds in this process alone."""

    def __init__(self, clock: Clock, journal: Journal, kept: LiveLists | None = None) -> None:
        self._clock = clock
        self._journal = journal
        self.kept = kept
        self._waiting: dict[str, Listed] = {}
        self._writing: Deferred[None] | None = None
        self._retry_at = 0.0

    def find(self, ip: str) -> Listed | None:
        if self._waiting:
            block = self._waiting.get(subject(ip))
            if block is not None and not block.over(self._clock.now()):
                return block
        return self.kept.block(ip) if self.kept is not None else None

    def begin(self, who: str, seconds: float, reason: str, author: str) -> Listed:
        """``who`` as ``subject`` says. It holds when this returns."""
        now = self._clock.now()
        block = Listed("block", who, (), reason, author, now, now + seconds)
        waiting = self._waiting
        waiting[who] = block
        if len(waiting) > MOST_WAITING:
            del waiting[next(iter(waiting))]
        self._journal.record("blocked", "", {"ip": who, "reason": reason, "author": author, "until_at": block.until_at})
        if self.kept is not None and self._writing is None and self._clock.monotonic() >= self._retry_at:
            self._writing = Deferred.fromCoroutine(self._keep(self.kept))
            if self._writing.called:
                self._writing = None
            else:
                self._writing.addBoth(self._written)
        return block

    def forget(self, values: list[str]) -> None:
        """An operator has removed these: they hold no more, kept or not."""
        for value in values:
            self._waiting.pop(value, None)

    async def _keep(self, kept: LiveLists) -> None:
        while batch := list(self._waiting.values()):
            try:
                await kept.change(batch, self._surplus(kept, len(batch)))
            except Unavailable as trouble:
                self._retry_at = self._clock.monotonic() + RETRY_SECONDS
                fields = {"what": trouble.reason, "done": "new blocks hold in one worker, until they can be kept"}
                self._journal.record("blocks_not_kept", "", fields, level="error")
                return
            for block in batch:
                if self._waiting.get(block.value) is block:
                    del self._waiting[block.value]

    def _surplus(self, kept: LiveLists, more: int) -> list[tuple[str, str]]:
        over = len(kept) + more - MOST_BLOCKS
        if over <= 0:
            return []
        ending = [entry for entry in kept.entries() if entry.until_at is not None]
        first = nsmallest(over + MOST_BLOCKS // 20, ending, key=lambda entry: entry.until_at or 0.0)
        return [entry.key for entry in first]

    def _written(self, result: Failure | None) -> None:
        self._writing = None
        if isinstance(result, Failure):
            self._journal.record("fault", "", {"about": "blocks", "trouble": str(result.value)}, level="error")
