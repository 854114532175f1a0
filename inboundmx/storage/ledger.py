"""The ledger's files: what was decided, kept so that an id can be explained. Knows how events are kept in batches,
bounded by age and size, and found again; does not know what they mean.

It is memory, not a promise: losing its last second costs an explanation, and no mail ever waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import sqlite_utils
from twisted.internet.defer import Deferred

from inboundmx.ports import Clock, Timer, Unavailable
from inboundmx.storage.disk import refuse_odd
from inboundmx.storage.owner import give_to_owner_of
from inboundmx.storage.sqlite_file import USUAL, prepared, transaction, uri
from inboundmx.storage.writer import FromThread, Lane, ThreadLane, Writer

FLUSH_SECONDS = 0.2
BATCH_ROWS = 500
# About ten seconds of a busy gateway; past it the oldest are dropped, and counted.
WAITING_ROWS = 20_000
_PRUNE_ROWS = 1000
_VACUUM_PAGES = 500
_MULTIPLE = 50
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# Says what happened to the ledger itself: an event's name and its fields.
Report = Callable[[str, Mapping[str, object]], object]


class Event(NamedTuple):
    """One thing that happened, ``at`` seconds since the epoch."""

    at: float
    event: str
    fields: dict[str, object]


class _Row(NamedTuple):
    at: float
    id: str
    event: str
    text: str
    also: tuple[str, ...]


class Ledger:
    """One worker's file, ``ledger/<worker>.sqlite`` under the data folder. ``add`` never waits and never fails."""

    def __init__(
        self,
        data_folder: str,
        worker: str,
        *,
        keep: float,
        keep_size: int,
        clock: Clock,
        report: Report,
        from_thread: FromThread,
        lane: Callable[[str], Lane] = ThreadLane,
    ) -> None:
        """``keep`` in seconds, ``keep_size`` in octets. ``report`` is called on the reactor's side. Does not raise: a
        ledger that cannot be opened is reported, and tried again with each batch."""
        self._clock = clock
        self._report = report
        self._rows: deque[_Row] = deque()
        self.dropped = 0
        self._flushing: Timer | None = None
        self._due = False
        self._closing = False
        self._failing = False
        self._file = LedgerFile(os.path.join(data_folder, "ledger", f"{worker}.sqlite"), keep, keep_size)
        self._writer: Writer[list[_Row], list[tuple[str, str]]] = Writer(
            self._take, self._write, self._written, lane("ledger-writer"), from_thread
        )

    def add(self, at: float, id: str, event: str, text: str, also: tuple[str, ...] = ()) -> None:
        """Keeps one event: ``text`` is its JSON object, ``also`` further ids it is to be found by."""
        if self._closing:
            return
        rows = self._rows
        rows.append(_Row(at, id, event, text, also))
        if len(rows) > WAITING_ROWS:
            rows.popleft()
            self.dropped += 1
        if len(rows) >= BATCH_ROWS:
            self._flush()
        elif self._flushing is None:
            self._flushing = self._clock.call_later(FLUSH_SECONDS, self._flush_later)

    def configure(self, keep: float, keep_size: int) -> None:
        """As when made; holds from the next batch on."""
        self._file.keep = keep
        self._file.keep_size = keep_size

    def close(self) -> Deferred[None]:
        """Writes what waits. Fires when the file is closed."""
        self._closing = self._due = True
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        return self._writer.close(self._file.close)

    def _flush_later(self) -> None:
        self._flushing = None
        self._flush()

    def _flush(self) -> None:
        self._due = True
        self._writer.wake()

    def _take(self) -> list[_Row] | None:
        if not self._rows or not (self._due or len(self._rows) >= BATCH_ROWS):
            return None
        rows = self._rows
        batch = [rows.popleft() for _ in range(min(len(rows), 2 * BATCH_ROWS))]
        self._due = bool(rows) and self._due
        return batch

    def _write(self, rows: list[_Row]) -> list[tuple[str, str]]:
        return self._file.write(rows, self._clock.now())

    def _written(self, rows: list[_Row], notes: list[tuple[str, str]] | Exception) -> None:
        if isinstance(notes, Exception):
            self.dropped += len(rows)
            if not self._failing:
                self._report("ledger_failing", {"what": str(notes), "done": "decisions are not kept until it works"})
            self._failing = True
            return
        if self._failing:
            self._failing = False
            self._report("ledger_recovered", {"what": f"{self.dropped} decisions were not kept", "done": "kept again"})
        for what, done in notes:
            self._report("ledger_damaged", {"what": what, "done": done})


class LedgerFile:
    """The file as the writer thread sees it."""

    def __init__(self, path: str, keep: float, keep_size: int) -> None:
        self._path = path
        self.keep = keep
        self.keep_size = keep_size
        self._connection: sqlite3.Connection | None = None

    def write(self, rows: Sequence[_Row], now: float) -> list[tuple[str, str]]:
        """Keeps the rows. Returns what was found damaged and what was done, in pairs; raises sqlite3.Error, OSError."""
        try:
            self._keep_rows(rows, now)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # Where it quotes damaged text, a message of SQLite's own may be no text.
            code = getattr(error, "sqlite_errorcode", None) or 0
            broken = code & 0xFF in _BROKEN or isinstance(error, UnicodeDecodeError)
            self._forget_connection()
            if not broken:
                raise
            aside = self._set_aside(now)
            self._keep_rows(rows, now)
            return [(f"{self._path}: {error}", f"set aside as {aside}, a new one begun")]
        return []

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _keep_rows(self, rows: Sequence[_Row], now: float) -> None:
        connection = self._connection
        if connection is None:
            connection = self._connection = _open(self._path)
        with transaction(connection):
            (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM event").fetchone()
            values: list[object] = []
            also: list[tuple[str, int]] = []
            for number, row in enumerate(rows, last + 1):
                values += (number, row.at, row.id, row.event, row.text)
                also += [(other, number) for other in row.also]
            wide, width = 5 * _MULTIPLE, 5
            many = len(values) - len(values) % wide
            for at in range(0, many, wide):
                connection.execute(_INSERT + ",".join(["(?,?,?,?,?)"] * _MULTIPLE), values[at : at + wide])
            singles = [values[at : at + width] for at in range(many, len(values), width)]
            connection.executemany(f"{_INSERT}(?,?,?,?,?)", singles)
            if also:
                connection.executemany("INSERT OR IGNORE INTO also VALUES (?, ?)", also)
            self._prune(connection, now)
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if free > 2 * _VACUUM_PAGES:
            # A statement that gives a row without columns for each page: execute() would stop after the first.
            connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")

    def _prune(self, connection: sqlite3.Connection, now: float) -> None:
        """One small step: more rows than a batch brings, so that it keeps up."""
        oldest = "FROM (SELECT number, at FROM event ORDER BY number LIMIT ?)"
        (until,) = connection.execute(
            f"SELECT max(number) {oldest} WHERE at < ?", (_PRUNE_ROWS, now - self.keep)
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if (pages - free) * size > self.keep_size:
            (until,) = connection.execute(f"SELECT max(number) {oldest}", (_PRUNE_ROWS,)).fetchone()
        if until is not None:
            connection.execute("DELETE FROM event WHERE number <= ?", (until,))
            connection.execute("DELETE FROM also WHERE number <= ?", (until,))

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _set_aside(self, now: float) -> str:
        aside = f"{self._path}.damaged-{int(now)}"
        os.rename(self._path, aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._path + suffix, aside + suffix)
        return aside


_PRAGMAS = ("auto_vacuum=INCREMENTAL", *USUAL, "secure_delete=OFF")
_INSERT = "INSERT INTO event (number, at, id, event, text) VALUES "


def _open(path: str) -> sqlite3.Connection:
    """The file, made or migrated. Raises sqlite3.Error or OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    give_to_owner_of(os.path.dirname(folder), (folder,))
    refuse_odd(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    return prepared(connection, path, _PRAGMAS, (_to_1,))


def _to_1(database: sqlite_utils.Database) -> None:
    columns = {"number": int, "at": float, "id": str, "event": str, "text": str}
    database.create_table("event", columns, pk="number", if_not_exists=True)
    database.execute("CREATE INDEX IF NOT EXISTS event_id ON event(id)")
    database.create_table("also", {"id": str, "number": int}, pk=("id", "number"), if_not_exists=True)
    database.execute("CREATE INDEX IF NOT EXISTS also_number ON also(number)")


def read_story(data_folder: str, id: str) -> list[Event]:
    """All events of an id, of all workers, oldest first; for any process. Raises Unavailable when a file cannot be
    read and no other knew the id."""
    folder = os.path.join(data_folder, "ledger")
    found: list[Event] = []
    trouble = ""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".sqlite"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unavailable(f"cannot read {folder}: {os.strerror(error.errno or 0)}") from error
    for name in names:
        path = os.path.join(folder, name)
        try:
            refuse_odd(path)
            with contextlib.closing(sqlite3.connect(uri(path, "ro"), uri=True, timeout=5.0)) as connection:
                if connection.execute("PRAGMA user_version").fetchone() == (0,):
                    # It is being made at this moment.
                    continue
                rows = connection.execute(
                    "SELECT at, event, text FROM event WHERE id = ?1"
                    " OR number IN (SELECT number FROM also WHERE id = ?1) ORDER BY number",
                    (id,),
                ).fetchall()
            found += [Event(at, event, json.loads(text)) for at, event, text in rows]
        except (sqlite3.Error, ValueError, OSError) as error:
            trouble = f"cannot read {path}: {error}"
    if trouble and not found:
        raise Unavailable(trouble)
    return sorted(found, key=lambda event: event.at)
