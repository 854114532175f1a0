"""The spool of one worker (ports.Spool) over a folder of its own. Knows what is promised, what is in memory and what
still has to be written; does not know SQL, nor when or to whom an entry is delivered.

The folder holds the SQLite file, ``bodies/``, ``incoming/`` and ``lock``, which is held by flock while it is open.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, State
from inboundmx.ports import Clock, Journal, StorageFull, Timer, Unavailable
from inboundmx.spool.bodies import BodyFiles
from inboundmx.spool.file import FAILS, Batch, Note, Result, SpoolFile
from inboundmx.spool.locking import take_lock
from inboundmx.spool.reader import SpoolReader
from inboundmx.spool.store import shared
from inboundmx.storage.owner import give_to_owner_of
from inboundmx.storage.writer import AtLeisure, FromThread, Lane, ThreadLane, Writer, at_once

REMOVE_SECONDS = 0.2
# Before that, so many go together with a commit: with each lone message one had to go, which made half of its writing.
REMOVE_TOGETHER = 16
# So many wait for nobody: each is a message that comes twice if we are killed now, and a spool that empties delivers
# hundreds within REMOVE_SECONDS.
REMOVE_AT_ONCE = 64
OWED_SECONDS = 1.0
VACUUM_SECONDS = 5.0
# A commit that failed speaks of so long, unless others follow: who is told of it may send nothing more to try again.
TROUBLE_SECONDS = 30.0
FREE_SECONDS = 1.0
# Bounds of what waits: changes for the disk, contents to be read.
WAITING_CHANGES = 5000
WAITING_CONTENTS = 1000
BATCH_CHANGES = 500
# What was just committed is mostly delivered at once: so much of it need not be read back.
FRESH_OCTETS = 1024 * 1024
FRESH_SECONDS = 1.0

_Waiting = tuple[Change, Deferred[None] | None]
_Work = tuple[Batch, list[_Waiting]]
_Asked = list[tuple[str, Deferred[Content]]]


class SqliteSpool:
    """Made by ``open``. Everything is called on the reactor's side; ``close`` before the process ends."""

    def __init__(
        self,
        folder: str,
        file: SpoolFile,
        files: BodyFiles,
        entries: Sequence[SpoolEntry],
        lock: int,
        clock: Clock,
        journal: Journal,
        from_thread: FromThread,
        lanes: tuple[Lane, Lane],
        at_leisure: AtLeisure,
    ) -> None:
        self._folder = folder
        self._file = file
        self._lock = lock
        self._clock = clock
        self._journal = journal
        self._index = {entry.id: entry for entry in entries}
        self._fresh: dict[str, Content] = {}
        self._fresh_octets = 0
        self._waiting: list[_Waiting] = []
        self._removed: list[str] = []
        # Removed while the commit that adds or updates them was out: it must not bring them back into memory.
        self._buried: set[str] = set()
        # What could not be written: whole changes that also add something, and for all other entries how they should be
        # (None: gone).
        self._owed: list[Change] = []
        self._owed_entries: dict[str, SpoolEntry | None] = {}
        self._asked: _Asked = []
        self._timers: dict[str, Timer] = {}
        self._retry = False
        self._flush = False
        self._vacuum = False
        self._full = False
        self._trouble = ""
        self._trouble_until = float("-inf")
        self._closing = False
        self._free = 0
        self._free_until = float("-inf")
        self.written_late: Callable[[Sequence[SpoolEntry]], object] | None = None
        """Called with entries that were owed (``commit``) and are on the disk at last."""
        self._reader_file = SpoolReader(lambda: file.path, files)
        self._writer: Writer[_Work, Result] = Writer(
            self._take, lambda work: file.execute(work[0]), self._settled, lanes[0], from_thread, at_leisure
        )
        self._reader: Writer[_Asked, list[Content | Exception]] = Writer(
            self._take_asked,
            lambda asked: self._reader_file.execute([id for id, _ in asked]),
            self._answered,
            lanes[1],
            from_thread,
            at_leisure,
        )

    @classmethod
    def open(
        cls,
        folder: str,
        data_folder: str,
        *,
        clock: Clock,
        journal: Journal,
        from_thread: FromThread,
        at_leisure: AtLeisure = at_once,
        lane: Callable[[str], Lane] = ThreadLane,
        adopt: bool = True,
        keep_off: Collection[str] = (),
    ) -> SqliteSpool:
        """Takes the lock, makes, migrates or mends the file, and reads the entries; blocks meanwhile, so call it before
        anything is served. ``adopt``: takes over what folders beside it hold that nobody else does, but for those named
        in ``keep_off``, whose owners are only away. Raises ``Locked``, ``schema.Newer`` or another
        Unavailable, each with a sentence for the operator."""
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            lock = take_lock(folder)
        except OSError as error:
            raise Unavailable(f"cannot use the spool {folder}: {os.strerror(error.errno or 0)}") from error
        notes: list[Note] = []
        try:
            files = BodyFiles(folder, data_folder)
            files.prepare()
            file = SpoolFile(folder, files, clock.now, clock.monotonic)
            entries = file.open(notes, adopt=adopt, keep_off=keep_off)
            give_to_owner_of(folder, (item.path for item in os.scandir(folder)))
        except OSError as error:
            os.close(lock)
            raise Unavailable(f"cannot use the spool {folder}: {error}") from error
        except StorageFull as full:
            os.close(lock)
            raise StorageFull(
                f"no room on the disk for the spool {folder}: make some and try again; what it holds is safe"
            ) from full
        except BaseException:
            os.close(lock)
            raise
        for event, fields in notes:
            journal.record(event, "", fields, level="error")
        lanes = (lane("spool-writer"), lane("spool-reader"))
        return cls(folder, file, files, entries, lock, clock, journal, from_thread, lanes, at_leisure)

    # --- ports.Spool --------------------------------------------------------------------------------------------------

    def commit(self, change: Change) -> Deferred[None]:
        """As ports.Spool says. A change that adds and also updates or removes (a notice and the end of its entry) is
        owed whole when it fails: it will be written, and need not be repeated."""
        if self._closing:
            return fail(Unavailable("the spool is closing"))
        if len(self._waiting) >= WAITING_CHANGES:
            return fail(Unavailable("too much waits for the disk"))
        done: Deferred[None] = Deferred()
        self._waiting.append((change, done))
        self._writer.soon()
        return done

    def remove_soon(self, id: str) -> None:
        if self._index.pop(id, None) is None or not self._writer.idle:
            self._buried.add(id)
        self._forget_fresh(id)
        self._removed.append(id)
        if len(self._removed) == REMOVE_AT_ONCE:
            self._remove_now()
        else:
            self._start("flush", REMOVE_SECONDS, self._remove_now)

    def entries(self) -> Sequence[SpoolEntry]:
        return tuple(self._index.values())

    def entry(self, id: str) -> SpoolEntry | None:
        return self._index.get(id)

    def content(self, id: str) -> Deferred[Content]:
        if id not in self._index:
            return fail(KeyError(id))
        fresh = self._fresh.get(id)
        if fresh is not None:
            return succeed(fresh)
        if self._closing:
            return fail(Unavailable("the spool is closing"))
        if len(self._asked) >= WAITING_CONTENTS:
            return fail(Unavailable("too much waits to be read"))
        content: Deferred[Content] = Deferred()
        self._asked.append((id, content))
        # A spool that empties asks for many at once: read together they cost a quarter less CPU a message, all counted.
        self._reader.soon()
        return content

    def free_octets(self) -> int:
        now = self._clock.monotonic()
        if now >= self._free_until:
            self._free_until = now + FREE_SECONDS
            try:
                # Of the lock, which is open: a folder that was moved away is not a disk without room.
                room = os.fstatvfs(self._lock)
                # A disk may be out of inodes long before it is out of blocks.
                self._free = 0 if room.f_files and not room.f_favail else room.f_bavail * room.f_frsize
            except OSError:
                self._free = 0
        return self._free

    @property
    def trouble(self) -> str:
        """Why commits fail, a word: ``disk-full`` or ``disk-fails``; empty when they do not, or none failed lately."""
        return self._trouble if self._clock.monotonic() < self._trouble_until else ""

    def close(self) -> Deferred[None]:
        """Writes what waits, checkpoints, closes and unlocks. Fires when that is done."""
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._retry = True
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        try:
            # The last connection to close makes the checkpoint, which is the writer's work.
            await self._reader.close(self._reader_file.close)
            await self._writer.close(self._file.close)
        finally:
            os.close(self._lock)

    # --- the writer's side --------------------------------------------------------------------------------------------

    def _take(self) -> _Work | None:
        waiting = self._waiting[:BATCH_CHANGES]
        del self._waiting[:BATCH_CHANGES]
        if self._removed and (self._flush or self._closing or len(self._removed) >= REMOVE_TOGETHER):
            waiting.append((Change(remove=tuple(self._removed)), None))
            self._removed = []
        owed = self._owed_changes() if waiting or self._retry else ()
        vacuum = self._vacuum and not waiting and not self._closing
        self._retry = self._flush = self._vacuum = False
        if not waiting and not owed and not vacuum:
            return None
        return Batch(owed, [change for change, _ in waiting], vacuum), waiting

    def _settled(self, work: _Work, result: Result | Exception) -> None:
        batch, waiting = work
        if isinstance(result, Exception):
            fault = Unavailable(f"a fault in the spool: {type(result).__name__}: {result}")
            notes: list[Note] = [("spool_fault", {"what": fault.reason, "done": "mail is answered 451"})]
            result = Result([fault] * len(waiting), fault, notes)
        failing = self.trouble == "disk-fails"
        for event, fields in result.notes:
            if event != FAILS or not failing:
                self._journal.record(event, "", fields, level="error")
            failing = failing or event == FAILS
        self._note_room([*result.errors, result.owed_error])
        if batch.owed and result.owed_error is None:
            self._owed, self._owed_entries = [], {}
            self._written_late([deposit for change in batch.owed for deposit in change.add])
        for (change, _), error in zip(waiting, result.errors, strict=True):
            if error is None:
                self._apply(change)
                self._overtaken(change)
            else:
                self._owe(change)
        if self._owed or self._owed_entries:
            self._start("owed", OWED_SECONDS, self._retry_owed)
        if result.slack or any(change.remove for change in batch.changes):
            self._start("vacuum", VACUUM_SECONDS, self._vacuum_now)
        # Only now: what these call may commit again, and must see the spool as it is.
        for (_, done), error in zip(waiting, result.errors, strict=True):
            if done is not None and error is None:
                done.callback(None)
            elif done is not None:
                done.errback(error)

    def _apply(self, change: Change) -> None:
        """What was committed is shown."""
        index, buried = self._index, self._buried
        for deposit in change.add:
            entry = deposit.entry
            if entry.id in buried:
                continue
            index[entry.id] = entry
            if entry.state is State.ACTIVE and not entry.attempts and deposit.content.body.path is None:
                # Mostly it is gone in a moment: only if it is not, it shares with others what it says like them.
                self._keep_fresh(entry.id, deposit.content)
            else:
                shared(entry)
        for entry in change.update:
            if entry.id in index:
                index[entry.id] = shared(entry)
                # It was tried, or is kept: either way it waits.
                self._forget_fresh(entry.id)
        for id in change.remove:
            index.pop(id, None)
            buried.discard(id)
            self._forget_fresh(id)

    def _owe(self, change: Change) -> None:
        """What could not be committed: new mail was refused and is forgotten, the rest is remembered as it should
        be."""
        if not change.update and not change.remove:
            return
        touched = {entry.id: entry for entry in change.update if entry.id in self._index}
        self._apply(Change(update=change.update, remove=change.remove))
        for id in (*touched, *change.remove):
            self._owed_entries.pop(id, None)
        if change.add:
            self._owed.append(change)
        else:
            self._owed_entries.update(touched)
            self._owed_entries.update(dict.fromkeys(change.remove))

    def _overtaken(self, change: Change) -> None:
        """It was written although what is owed could not be: what that says of the same entries is no longer true."""
        if not self._owed and not self._owed_entries:
            return
        newer = {entry.id for entry in change.update}
        self._owed = [replace(c, update=tuple(e for e in c.update if e.id not in newer)) for c in self._owed]
        for id in newer:
            self._owed_entries.pop(id, None)

    def _owed_changes(self) -> Sequence[Change]:
        if not self._owed and not self._owed_entries:
            return ()
        update = tuple(entry for entry in self._owed_entries.values() if entry is not None)
        remove = tuple(id for id, entry in self._owed_entries.items() if entry is None)
        return [*self._owed, Change(update=update, remove=remove)]

    def _written_late(self, deposits: Sequence[Deposit]) -> None:
        self._apply(Change(add=tuple(deposits)))
        entries = [self._index[d.entry.id] for d in deposits if d.entry.id in self._index]
        if entries and self.written_late is not None:
            self.written_late(entries)

    def _note_room(self, errors: Sequence[Exception | None]) -> None:
        """One line when the disk is full, one when it takes mail again."""
        full = any(isinstance(error, StorageFull) for error in errors)
        if errors[:-1]:
            self._trouble = "disk-full" if full else "disk-fails" if any(errors) else ""
            self._trouble_until = self._clock.monotonic() + TROUBLE_SECONDS
        if full and not self._full:
            self._full = True
            fields = {"what": f"no room for {self._folder}", "done": "new mail is answered 452; delivery goes on"}
            self._journal.record("disk_full", "", fields, level="error")
        elif self._full and not full and errors[:-1] and not any(errors):
            self._full = False
            fields = {"what": f"there is room again for {self._folder}", "done": "mail is accepted"}
            self._journal.record("disk_room", "", fields)

    # --- small duties -------------------------------------------------------------------------------------------------

    def _start(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """One timer of each name at a time."""
        if name not in self._timers and not self._closing:
            self._timers[name] = self._clock.call_later(seconds, self._fire, name, call)

    def _fire(self, name: str, call: Callable[[], None]) -> None:
        del self._timers[name]
        call()

    def _remove_now(self) -> None:
        self._flush = True
        self._writer.wake()

    def _retry_owed(self) -> None:
        self._retry = True
        self._writer.wake()

    def _vacuum_now(self) -> None:
        """When the writer is busy it can wait."""
        if self._writer.idle:
            self._vacuum = True
            self._writer.wake()
        else:
            self._start("vacuum", VACUUM_SECONDS, self._vacuum_now)

    def _keep_fresh(self, id: str, content: Content) -> None:
        self._forget_fresh(id)
        self._fresh[id] = content
        self._fresh_octets += content.body.size + len(content.prefix)
        while self._fresh_octets > FRESH_OCTETS:
            self._let_wait(next(iter(self._fresh)))
        self._start("fresh", FRESH_SECONDS, self._let_all_wait)

    def _let_all_wait(self) -> None:
        for id in tuple(self._fresh):
            self._let_wait(id)

    def _let_wait(self, id: str) -> None:
        """What is not delivered by now has to wait, and can be read back."""
        self._forget_fresh(id)
        shared(self._index[id])

    def _forget_fresh(self, id: str) -> None:
        content = self._fresh.pop(id, None)
        if content is not None:
            self._fresh_octets -= content.body.size + len(content.prefix)

    def _take_asked(self) -> _Asked | None:
        asked, self._asked = self._asked, []
        return asked or None

    def _answered(self, asked: _Asked, answers: list[Content | Exception] | Exception) -> None:
        if isinstance(answers, Exception):
            answers = [Unavailable(f"a fault in the spool: {type(answers).__name__}: {answers}")] * len(asked)
        for (_, waiting), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Exception):
                waiting.errback(answer)
            else:
                waiting.callback(answer)
