"""A spool in memory that passes the contract suite, forgets what was not committed, and fails on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.model.custody import Change, Content, SpoolEntry
from inboundmx.model.message import SMALL_BODY, Body
from inboundmx.ports import Damaged, StorageFull, Unavailable


class FakeSpool:
    """``automatic``: commits are on the disk at once; else they wait for ``sync``. ``failure``: what commits fail with
    while it is set. ``damaged``: ids whose content is found altered. ``free``: what ``free_octets`` says."""

    def __init__(self, automatic: bool = True) -> None:
        self.automatic = automatic
        self.failure: Unavailable | None = None
        self.damaged: set[str] = set()
        self.free = 1 << 40
        self.commits: list[Change] = []
        self._disk: dict[str, tuple[SpoolEntry, str, bytes, int]] = {}
        self._bodies: dict[str, Body] = {}
        self._index: dict[str, SpoolEntry] = {}
        self._waiting: list[tuple[Change, Deferred[None] | None]] = []
        self._owed: list[Change] = []

    def commit(self, change: Change) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._waiting.append((change, done))
        if self.automatic:
            self.sync()
        return done

    def remove_soon(self, id: str) -> None:
        self._index.pop(id, None)
        self._waiting.append((Change(remove=(id,)), None))

    def entries(self) -> Sequence[SpoolEntry]:
        return tuple(self._index.values())

    def entry(self, id: str) -> SpoolEntry | None:
        return self._index.get(id)

    def content(self, id: str) -> Deferred[Content]:
        if id not in self._index:
            return fail(KeyError(id))
        stored = self._disk.get(id)
        if stored is None or id in self.damaged:
            return fail(Damaged(f"entry {id}: what was stored is gone"))
        _, body_id, prefix, skip = stored
        return succeed(Content(prefix, skip, self._bodies[body_id]))

    def free_octets(self) -> int:
        return self.free

    # --- what a test does to it ---------------------------------------------------------------------------------------

    def sync(self) -> None:
        """One commit of all that waits, or its failure."""
        waiting, self._waiting = self._waiting, []
        if self.failure is None:
            for change in self._owed:
                self._write(change)
            self._owed = []
        for change, _ in waiting:
            if self.failure is None:
                self.commits.append(change)
                self._write(change)
            elif change.update or change.remove:
                self._owed.append(change)
                self._show(Change(update=change.update, remove=change.remove))
        for _, done in waiting:
            if done is not None and self.failure is None:
                done.callback(None)
            elif done is not None:
                done.errback(self.failure)

    def crash(self) -> None:
        """Power loss: only what is on the disk remains."""
        self._waiting, self._owed = [], []
        self._index = {id: stored[0] for id, stored in self._disk.items()}

    def _write(self, change: Change) -> None:
        for deposit in change.add:
            entry, content = deposit.entry, deposit.content
            self._bodies.setdefault(entry.body_id, content.body)
            self._disk[entry.id] = (entry, entry.body_id, content.prefix, content.skip)
        for entry in change.update:
            if entry.id in self._disk:
                self._disk[entry.id] = (entry, *self._disk[entry.id][1:])
        for id in change.remove:
            self._disk.pop(id, None)
        used = {stored[1] for stored in self._disk.values()}
        self._bodies = {id: body for id, body in self._bodies.items() if id in used}
        self._show(change)

    def _show(self, change: Change) -> None:
        removed = {id for other, _ in self._waiting for id in other.remove}
        for deposit in change.add:
            if deposit.entry.id not in removed:
                self._index[deposit.entry.id] = deposit.entry
        for entry in change.update:
            if entry.id in self._index:
                self._index[entry.id] = entry
        for id in change.remove:
            self._index.pop(id, None)


class MemoryDraft:
    """A draft that never touches a disk; ``room`` is how many octets it takes before it is full."""

    def __init__(self, room: float = float("inf")) -> None:
        self._chunks: list[bytes] = []
        self._room = room
        self._error: StorageFull | None = None
        self.discarded = False

    def write(self, chunk: bytes) -> None:
        if self._error is not None:
            return
        self._chunks.append(chunk)
        self._room -= len(chunk)
        if self._room < 0:
            self._error = StorageFull("no room on the disk")
            raise self._error

    def finish(self) -> Body:
        if self._error is not None:
            raise self._error
        whole = b"".join(self._chunks)
        path = None if len(whole) <= SMALL_BODY else "incoming/in-memory"
        return Body(len(whole), whole[:SMALL_BODY], path, hashlib.sha256(whole).digest())

    def discard(self) -> None:
        self.discarded = True


class FakeBodies:
    """ports.Bodies in memory. ``drafts`` are those it gave out."""

    def __init__(self) -> None:
        self.room = float("inf")
        self.drafts: list[MemoryDraft] = []

    def draft(self, id: str) -> MemoryDraft:
        draft = MemoryDraft(self.room)
        self.drafts.append(draft)
        return draft
