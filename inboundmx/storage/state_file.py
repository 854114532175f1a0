"""The file of the state store, as the thread that writes it sees it: made, filled, bounded, set aside when damaged.

Knows SQL, the bound and what to do with a damaged file. Does not know what a fact means, nor that a reactor waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import sqlite_utils

from inboundmx.ports import Fact
from inboundmx.storage.counting import Addition, Name, added
from inboundmx.storage.disk import refuse_odd
from inboundmx.storage.sqlite_file import USUAL, prepared, transaction

# Beyond either, facts go that would not have expired yet.
ROWS = 1_000_000
OCTETS = 300 * 2**20
# The order they go in, and in each those first that would expire first. What strangers leave behind by coming once
# lives for hours, so a flood of them drives out strangers. What lives for weeks and what is counted drive out each
# other only as far as one has more than its share: many who became known cannot end what is counted, nor the other way
# round.
BRIEF, LASTING, COUNTED = 0, 1, 2
BRIEF_SECONDS = 86400.0
# Lasting facts for each counter.
SHARE = 3
# Rows a batch may remove, twice what it may bring, so that it keeps up.
BATCH_FACTS = 1000
_STEP = 2 * BATCH_FACTS
# Batches between countings: other processes write too, and counting a million rows takes some 10 ms.
_COUNTED_EVERY = 3000
_NAMED_AT_ONCE = 500
_BUSY_SECONDS = 1.0
T = TypeVar("T")

_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})


class Damage(NamedTuple):
    """What was found, and what was done."""

    what: str
    done: str


def number_of(name: Name) -> int:
    """Where a fact stands: 64 bits of a hash. The look-up is then of one integer in one tree, which is small and quick;
    and nobody can choose keys that meet."""
    digest = hashlib.blake2b("\0".join(name).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def packed(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def fact_of(data: object, written_at: object, expires_at: object) -> Fact | None:
    """A fact as it was read; None when it cannot have been written like that: damage is not always noticed below."""
    if not (isinstance(data, bytes) and isinstance(written_at, float) and isinstance(expires_at, float)):
        return None
    if len(data) % 8:
        return None
    return Fact(struct.unpack(f"<{len(data) // 8}d", data), written_at, expires_at)


def lenient(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Text that is none is read as some other text, which is then nobody's key."""
    connection.text_factory = lambda octets: octets.decode("utf-8", "replace")
    return connection


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault. Our statements are always the same, so a plain error means that the tables
    are not ours any more."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _BROKEN


class StateFile:
    """Every method runs in the writer's thread, or before there is one."""

    def __init__(self, path: str) -> None:
        self.path = path
        # Set by a reader that found the file damaged where a write might not look; read by the writer's thread.
        self.condemned = ""
        # Counts openings: a reader of an earlier one reads a file that is not ours any more.
        self.opened = 0
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._rows = 0
        self._aim: int | None = None
        self._uncounted = 0

    def make(self, now: float) -> list[Damage]:
        """Opens the file, made or migrated. Returns what was found damaged; raises sqlite3.Error or OSError."""
        return self._repaired(lambda: None, now)

    def write(
        self, facts: Mapping[Name, Fact], additions: Mapping[Name, Addition], now: float
    ) -> tuple[dict[Name, Fact], list[Damage]]:
        """Keeps the facts, adds to the counters, and forgets some of the expired or surplus ones, in one transaction.
        The counters as they are now, and the damages."""
        counters: dict[Name, Fact] = {}
        damages = self._repaired(lambda: counters.update(self._keep(facts, additions, now)), now)
        return counters, damages

    def forget(self, space: str, matching: Sequence[str]) -> int:
        """In steps: other processes must not wait for one huge transaction."""
        connection = self._opened()
        found: set[int] = set()
        for some in _few_at_once(matching):
            contains = " OR ".join(["instr(key, ?) > 0"] * len(some))
            rows = connection.execute(f"SELECT number FROM fact WHERE space = ? AND ({contains})", (space, *some))
            found.update(number for (number,) in rows)
        numbers = list(found)
        forgotten = 0
        for start in range(0, len(numbers), _STEP):
            with transaction(connection):
                step = [(number,) for number in numbers[start : start + _STEP]]
                forgotten += connection.executemany("DELETE FROM fact WHERE number = ?", step).rowcount
        self._rows -= forgotten
        return forgotten

    def facts(
        self, space: str, matching: str, limit: int, numbers: int | None, now: float
    ) -> list[tuple[str, Fact]]:
        rows = self._opened().execute(
            "SELECT key, data, written_at, expires_at FROM fact WHERE space = ? AND instr(key, ?) > 0"
            " AND expires_at > ? AND length(data) = coalesce(?, length(data)) ORDER BY written_at DESC, key LIMIT ?",
            (space, matching, now, None if numbers is None else 8 * numbers, limit),
        )
        read = ((key, fact_of(*columns)) for key, *columns in rows)
        return [(key, fact) for key, fact in read if fact is not None]

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # --- parts --------------------------------------------------------------------------------------------------------

    def _repaired(self, work: Callable[[], object], now: float) -> list[Damage]:
        """Does ``work`` on the open file; on a damaged one, sets it aside and does it on a new one."""
        damage = self.condemned
        if not damage:
            try:
                self._opened()
                work()
                return []
            except sqlite3.Error as error:
                self.close()
                if not is_broken(error):
                    raise
                damage = str(error)
        self.close()
        done = self._set_aside(now)
        self.condemned = ""
        self._opened()
        work()
        return [Damage(f"{self.path}: {damage}", done)]

    def _opened(self) -> sqlite3.Connection:
        """The connection to the file that has the name now: who removes it gets a new one."""
        if self._connection is not None and _inode(self.path) != self._inode:
            self.close()
        if self._connection is None:
            self._inode = _inode(self.path)
            self._connection = _open(self.path)
            self._inode = _inode(self.path)
            self.opened += 1
            self._count(self._connection)
        return self._connection

    def _set_aside(self, now: float) -> str:
        if self._inode and _inode(self.path) != self._inode:
            return "another process has begun a new one already"
        aside = f"{self.path}.damaged-{int(now)}"
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path + suffix, aside + suffix)
        return f"set aside as {aside}, a new one begun"

    def _keep(
        self, facts: Mapping[Name, Fact], additions: Mapping[Name, Addition], now: float
    ) -> dict[Name, Fact]:
        connection = self._opened()
        with transaction(connection):
            counters = _counted(connection, additions, now) if additions else {}
            numbered = {number_of(name): (name, fact, _goes(fact)) for name, fact in facts.items()}
            numbered |= {number_of(name): (name, fact, COUNTED) for name, fact in counters.items()}
            self._rows += len(numbered) - _present(connection, list(numbered))
            connection.executemany(
                "INSERT OR REPLACE INTO fact (number, space, key, data, written_at, expires_at, goes)"
                " VALUES (?,?,?,?,?,?,?)",
                (
                    (number, *name, packed(fact.values), fact.written_at, fact.expires_at, goes)
                    for number, (name, fact, goes) in numbered.items()
                ),
            )
            self._prune(connection, now)
        self._uncounted += 1
        if self._uncounted >= _COUNTED_EVERY:
            self._count(connection)
        return counters

    def _prune(self, connection: sqlite3.Connection, now: float) -> None:
        """One small step."""
        self._rows -= connection.execute(_FORGET_OVER, (now, _STEP)).rowcount
        if self._aim is None:
            self._aim = self._surplus(connection)
        if self._aim is not None:
            # Whoever else sweeps has the same aim: what is gone already need not go twice.
            self._count(connection)
            gone = _evict(connection, self._rows, max(0, min(self._rows - self._aim, _STEP)))
            self._rows -= gone
            if not gone or self._rows <= self._aim:
                self._aim = None

    def _surplus(self, connection: sqlite3.Connection) -> int | None:
        """How many rows are to be left, None: as many as there are. Somewhat fewer than may be, so that it is not asked
        again with the next batch."""
        if self._rows > ROWS:
            self._count(connection)
            return ROWS - ROWS // 50 if self._rows > ROWS else None
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        # Pages empty slowly while rows go: a tenth at a time.
        return self._rows - self._rows // 10 - 1 if (pages - free) * size > OCTETS else None

    def _count(self, connection: sqlite3.Connection) -> None:
        (self._rows,) = connection.execute("SELECT count(*) FROM fact").fetchone()
        self._uncounted = 0


def _goes(fact: Fact) -> int:
    return BRIEF if fact.expires_at - fact.written_at <= BRIEF_SECONDS else LASTING


# What tells the kinds apart is in the index, so neither looks at rows that stay.
_FORGET_OVER = (
    f"DELETE FROM fact WHERE number IN (SELECT number FROM fact WHERE goes IN ({BRIEF}, {LASTING}, {COUNTED})"
    " AND expires_at <= ? LIMIT ?)"
)
_FORGET_FIRST = (
    "DELETE FROM fact WHERE number IN (SELECT number FROM fact WHERE goes = ? ORDER BY expires_at LIMIT ?)"
)


def _evict(connection: sqlite3.Connection, rows: int, surplus: int) -> int:
    """Forgets so many of ``rows``; how many it were."""
    gone = connection.execute(_FORGET_FIRST, (BRIEF, surplus)).rowcount
    if gone < surplus:
        # All brief ones are gone. There are fewest counters: to count the others takes some 10 ms.
        (counted,) = connection.execute("SELECT count(*) FROM fact WHERE goes = ?", (COUNTED,)).fetchone()
        more = LASTING if rows - gone - counted > SHARE * counted else COUNTED
        gone += connection.execute(_FORGET_FIRST, (more, surplus - gone)).rowcount
    return gone


def _present(connection: sqlite3.Connection, numbers: Sequence[int]) -> int:
    found = 0
    for some in _few_at_once(numbers):
        marks = ",".join("?" * len(some))
        found += connection.execute(f"SELECT count(*) FROM fact WHERE number IN ({marks})", some).fetchone()[0]
    return found


def _few_at_once(several: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(several), _NAMED_AT_ONCE):
        yield several[start : start + _NAMED_AT_ONCE]


def _counted(connection: sqlite3.Connection, additions: Mapping[Name, Addition], now: float) -> dict[Name, Fact]:
    """Counters with what is added to them: inside a transaction, so that nobody else adds meanwhile. What was added in
    a window that is over adds to none that began since."""
    numbered = {number_of(name): (name, addition) for name, addition in additions.items()}
    stored: dict[int, Fact | None] = {}
    for some in _few_at_once(list(numbered)):
        marks = ",".join("?" * len(some))
        rows = connection.execute(
            f"SELECT number, space, key, data, written_at, expires_at FROM fact WHERE number IN ({marks})", some
        )
        for number, space, key, *columns in rows:
            if (space, key) == numbered[number][0]:
                stored[number] = fact_of(*columns)
    counters = {}
    for number, (name, addition) in numbered.items():
        fact = stored.get(number)
        over = addition.at + addition.window_seconds <= now
        if not (over and fact is not None and fact.written_at > addition.at):
            counters[name] = added(fact, addition)
    return counters


def _inode(path: str) -> int:
    """0: there is no such file."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _open(path: str) -> sqlite3.Connection:
    """The file, made or migrated. Raises sqlite3.Error or OSError."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    refuse_odd(path)
    connection = lenient(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
    )
    return prepared(connection, path, (*USUAL, "journal_size_limit=8388608"), (_to_1, _to_2))


def _to_1(database: sqlite_utils.Database) -> None:
    database.create_table(
        "fact",
        {"number": int, "space": str, "key": str, "data": bytes, "written_at": float, "expires_at": float},
        pk="number",
        if_not_exists=True,
    )


def _to_2(database: sqlite_utils.Database) -> None:
    connection = database.conn
    with transaction(connection):
        # Another process may just have done it.
        if "goes" not in [row[1] for row in connection.execute("PRAGMA table_info(fact)")]:
            connection.execute(f"ALTER TABLE fact ADD COLUMN goes INTEGER NOT NULL DEFAULT {LASTING}")
        connection.execute("DROP INDEX IF EXISTS fact_expires_at")
        connection.execute("CREATE INDEX IF NOT EXISTS fact_goes ON fact(goes, expires_at)")
