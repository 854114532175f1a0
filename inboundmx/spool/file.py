"""The spool's file as the writer thread sees it. Knows SQL, transactions, syncs and what an error of the disk means;
does not know Deferreds, timers or who asked.

A failed sync says that octets which SQLite believes written may be gone, and a second sync would not say so again. So
it condemns the file: nothing more is written to it, a new generation is begun and the old one read out into it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from inboundmx.model.custody import Change, SpoolEntry
from inboundmx.ports import Damaged, StorageFull, Unavailable
from inboundmx.spool import schema
from inboundmx.spool.adoption import adopt_all
from inboundmx.spool.bodies import BodyFiles
from inboundmx.spool.packs import PACKED_BODY, Packs
from inboundmx.spool.parking import JUNK, park
from inboundmx.spool.recovery import ERRORS, Salvage, open_entries, salvage
from inboundmx.spool.reserve import Reserve, disk_is_full
from inboundmx.spool.store import content_sum, digest_of, facts_of, facts_sum
from inboundmx.storage.disk import unavailable
from inboundmx.storage.sqlite_file import transaction

CHECKPOINT_PAGES = 1000
VACUUM_PAGES = 500
# Free pages that are kept: a spool that breathes would give them back only to ask for them again.
_SPARE_PAGES = 1000
_RENEW_SECONDS = 5.0
_PAGE_OCTETS = 4096
# Junk that is told by name.
_NAMED = 5
# Rows in one statement. Each step of a statement gives the interpreter's lock away and must win it back from a busy
# reactor: alone, rows cost 13 to 28 futex calls a message, so 10 to 12.
_ROWS = 16

_SYNC_FAILED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

Note = tuple[str, Mapping[str, object]]
# The event of a disk that has let one message down; said of the first of several.
FAILS = "disk_fails"


class Condemned(Unavailable):
    """This file can no longer be trusted with anything new."""


class Busy(Unavailable):
    """Somebody else, a program of the operator's, has locked the file."""


class Elsewhere(Unavailable):
    """The file has lost its name: what is written to it would be nobody's at the next start."""


@dataclass(slots=True)
class Batch:
    """``owed``: changes that could not be written earlier, in a transaction of their own before the others."""

    owed: Sequence[Change] = ()
    changes: Sequence[Change] = ()
    vacuum: bool = False


@dataclass(slots=True)
class Result:
    """``errors`` has one for each of the batch's changes, None: it is on the disk for good. ``notes`` are errors to be
    journalled. ``slack``: a vacuum would still find something to give back."""

    errors: list[Unavailable | None] = field(default_factory=list)
    owed_error: Unavailable | None = None
    notes: list[Note] = field(default_factory=list)
    slack: bool = False


class SpoolFile:
    """``open`` once, then ``execute`` batches in one thread. ``path`` may be read from any thread."""

    def __init__(self, folder: str, files: BodyFiles, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._files = files
        self._packs = Packs(files)
        self._now = now
        self._monotonic = monotonic
        self._generation = 0
        self._connection: sqlite3.Connection | None = None
        self._unclosed: sqlite3.Connection | None = None
        self._condemned = ""
        self._renewed_at = float("-inf")
        self._log_pages = 0
        self._identity: tuple[int, int] | None = None
        self._reserve = Reserve(folder)
        self.path = ""

    # --- opening ------------------------------------------------------------------------------------------------------

    def open(self, notes: list[Note], adopt: bool = False, keep_off: Collection[str] = ()) -> list[SpoolEntry]:
        """The entries of the live file, which is made when absent and replaced when damaged. ``adopt``: and those of
        folders beside ours that nobody holds, but for ``keep_off``. Raises Newer, Unavailable or OSError."""
        self._park(notes)
        self._generation, path = self._live(notes)
        whole = True
        if path is None:
            self._generation = 1
            self.path = schema.begin(self._folder, 1, lambda new: None)
            self._connection = schema.connect(self.path)
            entries = []
        else:
            self.path = path
            if not os.access(path, os.R_OK | os.W_OK):
                os.chmod(path, 0o600)
            schema.refuse_newer(path)
            try:
                if os.path.getsize(path) == 0:
                    raise Damaged("the file is empty")
                self._connection = self._connect(path)
                entries = open_entries(self._connection)
            except (*ERRORS, Damaged) as error:
                meant = Condemned(str(error)) if isinstance(error, Damaged) else self._meaning(error)
                if isinstance(meant, (StorageFull, Busy)):
                    raise meant from error
                whole = self._renew("damaged", str(error), notes)
                assert self._connection is not None
                entries = open_entries(self._connection)
        assert self._connection is not None
        if adopt:
            adopted = list(adopt_all(self._folder, self._connection, self._files, self._now(), keep_off))
            if adopted:
                notes += adopted
                entries = open_entries(self._connection)
        known = {p for (p,) in self._connection.execute("SELECT path FROM body WHERE path IS NOT NULL")}
        self._identity = _identity(self.path)
        self._tidy(notes)
        self._reserve.hold()
        self._packs.count(known, whole)
        self._files.sweep(known if whole else None)
        return entries

    def _park(self, notes: list[Note]) -> None:
        parked = park(self._folder)
        if parked:
            named = ", ".join(os.path.relpath(path, self._folder) for path in parked[:_NAMED])
            more = f" and {len(parked) - _NAMED} more" if len(parked) > _NAMED else ""
            what = f"not ours in {self._folder}: {named}{more}"
            notes.append(("spool_junk", {"what": what, "done": f"moved to {os.path.join(self._folder, JUNK)}"}))

    def _live(self, notes: list[Note]) -> tuple[int, str | None]:
        """The live file's generation and path. A file that claims to be it and is no database, where an older one is
        there as well, is nothing that we made: a generation is made whole."""
        generation, path = schema.live_file(self._folder)
        while path is not None:
            try:
                if schema.is_database(path):
                    break
            except PermissionError:
                break
            before = [n for n in range(1, generation) if os.path.exists(schema.path_of(self._folder, n))]
            if not before:
                break
            aside = schema.set_aside(path, "damaged", self._now())
            notes.append(("spool_junk", {"what": f"{path} is no spool", "done": f"renamed {aside}"}))
            generation, path = schema.live_file(self._folder)
        return generation, path

    def _connect(self, path: str) -> sqlite3.Connection:
        try:
            return schema.connect(path)
        except sqlite3.OperationalError as error:
            if not isinstance(self._meaning(error), StorageFull):
                raise
            # An upgrade writes to the file, and that must not need an empty disk.
            self._reserve.use()
            return schema.connect(path)

    def _tidy(self, notes: list[Note]) -> None:
        """Half-made generations go; older ones that were not set aside before we ended are now."""
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            if name.startswith("spool") and name.endswith(".part"):
                schema.remove_file(path)
        for generation in range(1, self._generation):
            path = schema.path_of(self._folder, generation)
            if os.path.lexists(path):
                aside = schema.set_aside(path, "condemned", self._now())
                notes.append(("spool_recovered", {"what": f"{path} had been replaced", "done": f"renamed {aside}"}))

    def close(self) -> None:
        """Checkpoints and closes. A condemned file is not synced again: SQLite does so only when the last connection
        closes, and one that reads only cannot."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._packs.tidy()
        with contextlib.ExitStack() as later:
            if self._condemned:
                reader = later.enter_context(contextlib.closing(schema.connect_to_read(self.path)))
                with contextlib.suppress(sqlite3.Error):
                    reader.execute("SELECT 1 FROM entry LIMIT 1").fetchall()
            else:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.close()

    # --- writing ------------------------------------------------------------------------------------------------------

    def execute(self, batch: Batch) -> Result:
        result = Result()
        if self._condemned:
            refusal = self._begin_again(result.notes)
            if refusal is not None:
                result.owed_error = refusal
                result.errors = [refusal] * len(batch.changes)
                return result
        if batch.owed:
            result.owed_error = self._attempt(batch.owed, result)
        if batch.changes:
            error = None if self._condemned else self._attempt(batch.changes, result)
            if self._condemned:
                error = error or Condemned(self._condemned)
            result.errors = [error] * len(batch.changes)
            if type(error) is Unavailable and len(batch.changes) > 1:
                # It may be the fault of one: the others need not suffer for it.
                result.errors = [self._attempt([change], result) for change in batch.changes]
            elif isinstance(error, StorageFull):
                # What leaves or only changes is let through: it makes room, or takes none.
                lean = [change for change in batch.changes if not change.add]
                rest = self._attempt(lean, result) if lean else None
                result.errors = [error if change.add else rest for change in batch.changes]
        if batch.vacuum and not self._condemned:
            self._vacuum(result)
        return result

    def _attempt(self, changes: Sequence[Change], result: Result) -> Unavailable | None:
        """One transaction, then the clean-up that only follows a commit."""
        if self._condemned:
            return Condemned(self._condemned)
        if not self._reserve.hold() and any(change.add for change in changes):
            return StorageFull("no room on the disk")
        try:
            removed = self._commit(changes)
        except (sqlite3.Error, OSError, ValueError, TypeError, Unavailable) as error:
            meant = self._meaning(error)
            if isinstance(meant, Condemned):
                self._condemn(meant, result.notes)
            elif isinstance(meant, StorageFull):
                # The log may be full too: emptied, it has room for removals although nobody else makes any.
                self._reserve.use()
                self._checkpoint(result)
            elif isinstance(error, Elsewhere) or (isinstance(error, OSError) and error.errno != errno.ENOENT):
                # A body that is gone may be no fault: its sender has hung up.
                result.notes.append((FAILS, {"what": f"{self._folder}: {meant.reason}", "done": "answered 451"}))
            return meant
        for path in self._packs.gone(removed):
            self._files.remove(path)
        if self._log_pages >= CHECKPOINT_PAGES:
            self._checkpoint(result)
        return None

    def _commit(self, changes: Sequence[Change]) -> list[str]:
        """All changes in one synced transaction. Returns the paths of bodies that nothing speaks of any more."""
        connection = self._connection
        assert connection is not None
        if _identity(self.path) != self._identity:
            raise Elsewhere(f"{self.path} was moved or removed, or its folder was")
        bodies = {deposit.entry.body_id: deposit.content.body for change in changes for deposit in change.add}
        large = {body.path: None for body in bodies.values() if body.path is not None}
        kept = self._files.keep(large) if large else {}
        packed: dict[str, str] = {}
        try:
            small = [(id, b.head) for id, b in bodies.items() if b.path is None and b.size >= PACKED_BODY]
            packed = self._packs.write(small) if small else packed
            with transaction(connection):
                removed = self._write(connection, changes, {**kept, **packed})
        except BaseException:
            self._files.give_back(kept)
            self._packs.give_up(packed.values())
            raise
        self._packs.kept(packed.values())
        return removed

    def _write(self, connection: sqlite3.Connection, changes: Sequence[Change], kept: Mapping[str, str]) -> list[str]:
        """``kept`` says where a body is that has no place in its row: by the path it had, or by its id."""
        bodies: dict[str, tuple[object, ...]] = {}
        digests: dict[str, bytes] = {}
        added: list[tuple[object, ...]] = []
        updated: list[tuple[object, ...]] = []
        gone: list[str] = []
        octets = 0
        for change in changes:
            for deposit in change.add:
                entry, content = deposit.entry, deposit.content
                body = content.body
                digest = digests.get(entry.body_id)
                if digest is None:
                    digest = digests[entry.body_id] = digest_of(body)
                    path = kept.get(body.path or entry.body_id, body.path)
                    data = body.head if path is None else None
                    bodies[entry.body_id] = (entry.body_id, body.size, digest, path, data)
                    octets += 0 if data is None else body.size
                facts = facts_of(entry)
                state, due = entry.state.value, entry.next_attempt_at
                prefix, skip = content.prefix, content.skip
                octets += len(prefix) + len(facts)
                added.append((
                    entry.id, entry.body_id, state, due, facts, facts_sum(entry.id, entry.body_id, state, due, facts),
                    skip, content_sum(entry.id, skip, digest, prefix), prefix,
                ))  # fmt: skip
            for entry in change.update:
                facts = facts_of(entry)
                state, due = entry.state.value, entry.next_attempt_at
                check = facts_sum(entry.id, entry.body_id, state, due, facts)
                updated.append((state, due, facts, check, entry.id, entry.body_id))
            gone.extend(change.remove)
        if added:
            made = _insert(connection, "INSERT OR IGNORE INTO body VALUES ", [*bodies.values()])
            if made != len(bodies):
                self._compare(connection, bodies)
            _insert(connection, "INSERT OR REPLACE INTO entry VALUES ", added)
        if updated:
            connection.executemany(
                "UPDATE entry SET state = ?, next_attempt_at = ?, facts = ?, facts_sum = ?"
                " WHERE id = ? AND body_id = ?",
                updated,
            )
        self._log_pages += octets // _PAGE_OCTETS + 2 * (len(added) + len(updated) + len(gone)) + 6
        return self._remove(connection, gone) if gone else []

    def _compare(self, connection: sqlite3.Connection, bodies: Mapping[str, tuple[object, ...]]) -> None:
        """Some bodies were there before: they must be the same."""
        for id, (_, size, digest, *_) in bodies.items():
            stored = connection.execute("SELECT size, digest FROM body WHERE id = ?", (id,)).fetchone()
            if stored != (size, digest):
                raise Condemned(f"the index of bodies is wrong at {id}")

    def _remove(self, connection: sqlite3.Connection, gone: Sequence[str]) -> list[str]:
        """Entries, and the bodies of which they were the last. A damaged index must not remove others' mail."""
        entries = connection.execute(
            "DELETE FROM entry WHERE id IN (SELECT value FROM json_each(?)) RETURNING id, body_id", (json.dumps(gone),)
        ).fetchall()
        wanted = {body for _, body in entries}
        bodies = connection.execute(
            "DELETE FROM body WHERE id IN (SELECT value FROM json_each(?))"
            " AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.body_id = body.id) RETURNING id, path",
            (json.dumps(list(wanted)),),
        ).fetchall()
        if not {id for id, _ in entries} <= set(gone) or not {id for id, _ in bodies} <= wanted:
            raise Condemned("an index is wrong")
        return [path for _, path in bodies if path is not None]

    def _checkpoint(self, result: Result) -> None:
        assert self._connection is not None
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._log_pages = 0
        except sqlite3.Error as error:
            # What was committed is safe in the log; a checkpoint that found no room is tried again.
            meant = self._meaning(error)
            if isinstance(meant, Condemned):
                self._condemn(meant, result.notes)

    def _vacuum(self, result: Result) -> None:
        """Gives a few hundred free pages back to the disk, and files that nothing is in."""
        assert self._connection is not None
        self._packs.tidy()
        try:
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            if free > _SPARE_PAGES:
                # A statement that gives a row without columns for each page: execute() would stop after the first.
                self._connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                result.slack = free - VACUUM_PAGES > _SPARE_PAGES
        except sqlite3.Error as error:
            meant = self._meaning(error)
            if isinstance(meant, Condemned):
                self._condemn(meant, result.notes)

    # --- when the disk says no ----------------------------------------------------------------------------------------

    def _meaning(self, error: Exception) -> Unavailable:
        if isinstance(error, Unavailable):
            return error
        if isinstance(error, OSError):
            return unavailable(error)
        if isinstance(error, UnicodeDecodeError):
            return Condemned("its text is damaged")
        if not isinstance(error, sqlite3.Error):
            return Unavailable(f"{type(error).__name__}: {error}")
        code = getattr(error, "sqlite_errorcode", None) or 0
        primary = code & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            return StorageFull("no room on the disk")
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Busy("another program has locked the spool file")
        if primary == sqlite3.SQLITE_IOERR and code not in _SYNC_FAILED and disk_is_full(self._folder):
            return StorageFull("no room on the disk")
        if primary in (
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_ERROR,
        ):
            return Condemned(f"{error} ({getattr(error, 'sqlite_errorname', 'unknown')})")
        return Unavailable(f"{error} ({getattr(error, 'sqlite_errorname', 'unknown')})")

    def _condemn(self, why: Condemned, notes: list[Note]) -> None:
        self._condemned = why.reason
        notes.append(
            ("spool_condemned", {"what": f"{self.path}: {why.reason}", "done": "answered 451, a new file begins"})
        )

    def _begin_again(self, notes: list[Note]) -> Unavailable | None:
        """Replaces a condemned file, but does not hammer a disk that refuses."""
        if self._monotonic() - self._renewed_at < _RENEW_SECONDS:
            return Condemned(self._condemned)
        self._renewed_at = self._monotonic()
        try:
            self._renew("condemned", self._condemned, notes)
        except (sqlite3.Error, OSError) as error:
            meant = self._meaning(error)
            return meant if isinstance(meant, StorageFull) else Condemned(self._condemned)
        self._renewed_at = float("-inf")
        return None

    def _renew(self, word: str, why: str, notes: list[Note]) -> bool:
        """Begins the next generation with all that is readable of this one. Whether that was all of it."""
        report = Salvage()
        old_path, old_connection = self.path, self._connection

        def fill(new: sqlite3.Connection) -> None:
            with contextlib.closing(schema.connect_to_read(old_path)) as source:
                salvage(source, new, report)

        path = schema.begin(self._folder, self._generation + 1, fill)
        connection = schema.connect(path)
        self._generation += 1
        self.path, self._connection, self._condemned, self._log_pages = path, connection, "", 0
        self._identity = _identity(path)
        try:
            aside = schema.set_aside(old_path, word, self._now())
        except OSError:
            # The next start does it. Closed under its name, the old file would be synced again: it stays open.
            aside, self._unclosed = old_path, old_connection
        else:
            if old_connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    old_connection.close()
        lost = f", {report.lost} not readable" if report.lost else ""
        notes.append((
            f"spool_{word}",
            {
                "what": f"{old_path}: {why}",
                "done": f"set aside as {aside}; {report.entries} entries recovered{lost}; {path} begun",
                "recovered": report.entries,
                "lost": report.lost,
            },
        ))  # fmt: skip
        return report.whole


def _identity(path: str) -> tuple[int, int] | None:
    """Which file has the name; asked once a transaction, in 2 us."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _insert(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
    """How many of the rows were not there already."""
    made = 0
    for at in range(0, len(rows), _ROWS):
        some = rows[at : at + _ROWS]
        marks = f"({','.join('?' * len(some[0]))})"
        values = [value for row in some for value in row]
        made += connection.execute(statement + ",".join([marks] * len(some)), values).rowcount
    return made
