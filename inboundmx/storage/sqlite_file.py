"""What all our SQLite files have in common: how one is prepared and migrated, changed as a whole, and named to be read.

Knows no table, nor what is to be done when a file is damaged.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence

import sqlite_utils

from inboundmx.storage.owner import give_to_owner_of

# Brings a file from the version before to its own; it may be repeated, by other processes at the same time as well.
Migration = Callable[[sqlite_utils.Database], object]
_LOG_MODE = "journal_mode=WAL"
# Of a file whose last moments may be lost with the machine, never its consistency.
USUAL = (_LOG_MODE, "synchronous=NORMAL", "temp_store=MEMORY")


def prepared(
    connection: sqlite3.Connection, path: str, pragmas: Iterable[str], migrations: Sequence[Migration]
) -> sqlite3.Connection:
    """A connection in autocommit mode, to a file of the newest version that belongs to the owner of its folder. Raises
    sqlite3.Error and OSError; the connection is closed then."""
    try:
        for pragma in pragmas:
            if pragma == _LOG_MODE:
                _begin_log(connection, path)
            else:
                connection.execute(f"PRAGMA {pragma}").fetchall()
        migrate(connection, migrations)
        give_to_owner_of(os.path.dirname(path), (path, f"{path}-wal", f"{path}-shm"))
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_log(connection: sqlite3.Connection, path: str) -> None:
    """Of two processes that turn to a log at the same time one is told at once that the file is locked: SQLite waits
    for nobody there. So they go one by one, and only where it has to be done at all."""
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        connection.execute(f"PRAGMA {_LOG_MODE}").fetchall()
    finally:
        os.close(folder)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> bool:
    """Whether there was anything to do."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= len(migrations):
        return False
    database = sqlite_utils.Database(connection, recursive_triggers=False, execute_plugins=False)
    for number, migration in enumerate(migrations[version:], version + 1):
        migration(database)
        connection.execute(f"PRAGMA user_version={number}")
    return True


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, and nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def uri(path: str, mode: str) -> str:
    """``mode``: ``ro`` only reads; ``rw`` makes no new file."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?mode={mode}"
