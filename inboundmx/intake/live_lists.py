"""What operators added to the lists while the gateway runs: heard by all workers, kept, and over when its time is.

Knows which entries hold now, and when to look for what other processes changed. Does not know how they are kept, nor
what stands in the INI.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

from inboundmx.model.address import Address
from inboundmx.model.listing import OF_SENDERS, Key, Listed, News
from inboundmx.policy.listing import Listing, is_loose, word_of
from inboundmx.ports import Clock, Journal, Timer, Unavailable

# Workers are told of each change; one that was just starting then finds out by itself.
LOOK_SECONDS = 5.0
ALONE_SECONDS = 60.0
# More cannot be added.
MOST_ENTRIES = 100_000


class Kept(Protocol):
    """Where entries are kept. ``look`` and ``change`` tell what is not there any more and what has come, and what was
    damaged; they block, and raise Unavailable."""

    def look(self, now: float) -> News: ...

    def change(self, come: Sequence[Listed], gone: Collection[Key], now: float) -> News: ...


class LiveLists:
    """Implements ports.Lists. ``run`` calls what blocks, elsewhere or at once."""

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        kept: Kept,
        run: Callable[..., Awaitable[Any]],
        what: str = "lists",
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """``what`` they are, in events."""
        self._what = what
        self._look_seconds = look_seconds
        self._clock = clock
        self._journal = journal
        self._kept = kept
        self._run = run
        self._listing = Listing()
        self._entries: dict[Key, Listed] = {}
        self._ends: list[tuple[float, Key]] = []
        # One after the other: what is kept is told as differences to what was told before.
        self._asking = DeferredLock()
        self._timer: Timer | None = None
        self._looking: Deferred[None] | None = None
        self._trouble = ""
        self._alone = False
        self.loose = 0

    # --- ports.Lists --------------------------------------------------------------------------------------------------

    def whitelisted(self, ip: str, for_: str) -> bool:
        return bool(self._entries) and self._listing.whitelisted(ip, for_, self._clock.now())

    def blacklisted(self, ip: str) -> str:
        return self._listing.blacklisted(ip, self._clock.now()) if self._entries else ""

    def bypasses(self, ip: str) -> bool:
        return bool(self._entries) and self._listing.bypasses(ip, self._clock.now())

    def sender(self, address: Address | None, authenticated: Collection[str]) -> str:
        return word_of(self.sender_entry(address, authenticated))

    def sender_entry(self, address: Address | None, authenticated: Collection[str]) -> Listed | None:
        return self._listing.sender_entry(address, authenticated, self._clock.now()) if self._entries else None

    def block(self, ip: str) -> Listed | None:
        return self._listing.block(ip, self._clock.now()) if self._entries else None

    # --- for operators ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> Iterator[Listed]:
        """Those that hold now, what was added last first."""
        now = self._clock.now()
        return (entry for entry in reversed(self._entries.values()) if not entry.over(now))

    def concerning(self, text: str) -> list[Listed]:
        return self._listing.concerning(text, self._clock.now())

    def entry(self, key: Key) -> Listed | None:
        found = self._entries.get(key)
        return None if found is None or found.over(self._clock.now()) else found

    async def change(self, come: Sequence[Listed] = (), gone: Collection[Key] = ()) -> None:
        """Fires when it is on the disk. Raises Unavailable; then nothing has changed."""
        async with self._asking:
            self._heard(await self._run(self._kept.change, come, gone, self._clock.now()))

    async def look(self) -> None:
        """Learns what other processes changed. Raises Unavailable."""
        async with self._asking:
            self._heard(await self._run(self._kept.look, self._clock.now()))

    # --- from the start to the end ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """What was kept holds. Blocks. What cannot be read now is told, and looked for again."""
        try:
            self._heard(self._kept.look(self._clock.now()))
        except Unavailable as trouble:
            self._failed(trouble)

    def start(self, alone: bool = False) -> None:
        """From now on looks by itself. ``alone``: nobody else changes what is kept, so there is only to look for when
        something is over, or could not be read."""
        self._alone = alone
        self._wait()

    def _wait(self) -> None:
        if self._alone and not self._trouble:
            if self._ends and self._timer is None:
                # A clock that is put forward is noticed in time.
                seconds = min(max(0.0, self._ends[0][0] - self._clock.now()), ALONE_SECONDS)
                self._timer = self._clock.call_later(seconds, self._end)
        else:
            self._timer = self._clock.call_later(self._look_seconds, self._look)

    def _wait_anew(self) -> None:
        if self._looking is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._wait()

    def _end(self) -> None:
        self._timer = None
        self._end_those_that_are_over()
        self._wait()

    def stop(self) -> None:
        self._alone = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        self._end_those_that_are_over()
        self._timer = None
        self._looking = Deferred.fromCoroutine(self.look())
        self._looking.addBoth(self._looked)

    def _looked(self, result: Failure | None) -> None:
        self._looking = None
        if isinstance(result, Failure):
            if not isinstance(result.value, Unavailable):
                # Cancelled: we stop.
                return
            self._failed(result.value)
        self._wait()

    # --- parts --------------------------------------------------------------------------------------------------------

    def _failed(self, trouble: Unavailable) -> None:
        """The same trouble is told once."""
        if trouble.reason != self._trouble:
            self._trouble = trouble.reason
            what = f"the {self._what} cannot be read: {trouble.reason}"
            fields = {"what": what, "done": "what was read before holds"}
            self._journal.record(f"{self._what}_unreadable", "", fields, level="error")

    def _heard(self, news: News) -> None:
        self._trouble = ""
        if news.damage:
            self._journal.record(f"{self._what}_damaged", "", {"what": news.damage, "done": news.done}, level="error")
        now = self._clock.now()
        for gone, come in news.differences:
            for entry in (gone, come):
                if entry is not None:
                    self._remove(entry.key)
            if come is not None and not come.over(now):
                self._add(come)

    def _add(self, entry: Listed) -> None:
        self._listing.add(entry)
        self._entries[entry.key] = entry
        self.loose += _loose([entry])
        if entry.until_at is not None:
            heapq.heappush(self._ends, (entry.until_at, entry.key))
            if self._alone and self._ends[0][1] == entry.key:
                self._wait_anew()

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._listing.remove(entry)
            self.loose -= _loose([entry])

    def _end_those_that_are_over(self) -> None:
        """They do not count from the very moment; here they are forgotten, and it is told."""
        now = self._clock.now()
        while self._ends and self._ends[0][0] <= now:
            _, key = heapq.heappop(self._ends)
            entry = self._entries.get(key)
            if entry is not None and entry.over(now):
                self._remove(key)
                fields = {"kind": entry.kind, "value": entry.value, "reason": entry.reason, "author": entry.author}
                self._journal.record("list_entry_over", "", fields)


def _loose(entries: Iterable[Listed]) -> int:
    return sum(entry.kind in OF_SENDERS and is_loose(entry.value) for entry in entries)
