"""The spool file's tables. Knows how a file is made, migrated and opened; does not know what is kept in it.

A worker's folder holds one live file, that of the highest generation: ``spool.sqlite``, then ``spool-2.sqlite`` and so
on. A new generation is made under another name and renamed when it is whole, so the live file is never half a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable

import sqlite_utils

from inboundmx.ports import Unavailable
from inboundmx.storage.disk import sync_folder
from inboundmx.storage.owner import give_to_owner_of
from inboundmx.storage.sqlite_file import Migration, migrate, transaction, uri

_NAME = re.compile(r"spool(?:-([1-9][0-9]{0,8}))?\.sqlite")
_BUSY_SECONDS = 5.0
_INCREMENTAL = 2
_MAGIC = b"SQLite format 3\0"


class Newer(Unavailable):
    """The file was written by a newer release, and is left as it is."""


def _to_1(database: sqlite_utils.Database) -> None:
    """``data`` is the body, or NULL when it is in the file at ``path``. The sums are those of ``store``."""
    database.create_table(
        "body",
        {"id": str, "size": int, "digest": bytes, "path": str, "data": bytes},
        pk="id",
        not_null={"id", "size", "digest"},
        if_not_exists=True,
    )
    database.execute("CREATE INDEX IF NOT EXISTS body_path ON body(path) WHERE path IS NOT NULL")
    # What is read at each start comes before the prefix, which may go on in other pages.
    database.create_table(
        "entry",
        {
            "id": str,
            "body_id": str,
            "state": str,
            "next_attempt_at": float,
            "facts": str,
            "facts_sum": int,
            "skip": int,
            "content_sum": int,
            "prefix": bytes,
        },
        pk="id",
        not_null={"id", "body_id", "state", "facts", "facts_sum", "skip", "content_sum", "prefix"},
        if_not_exists=True,
    )
    database["entry"].create_index(["body_id"], index_name="entry_body", if_not_exists=True)  # type: ignore[union-attr]


def _to_2(database: sqlite_utils.Database) -> None:
    """The tables are the same: facts may now say more, which an older release would take for damage."""


# The third step, too, lets facts say more; with the fourth, a path may be that of a body in a pack.
MIGRATIONS: tuple[Migration, ...] = (_to_1, _to_2, _to_2, _to_2)
VERSION = len(MIGRATIONS)


def is_database(path: str) -> bool:
    """By its first octets."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def live_file(folder: str) -> tuple[int, str | None]:
    """The generation and path of the live file; (0, None) in a new folder."""
    generations = [
        (int(match[1] or 1), os.path.join(folder, match[0]))
        for match in map(_NAME.fullmatch, os.listdir(folder))
        if match
    ]
    return max(generations, default=(0, None))


def path_of(folder: str, generation: int) -> str:
    return os.path.join(folder, "spool.sqlite" if generation == 1 else f"spool-{generation}.sqlite")


def refuse_newer(path: str) -> None:
    """Raises Newer. Reads the file's header only: opening it with SQLite might already change it."""
    with open(path, "rb") as file:
        header = file.read(100)
    version = int.from_bytes(header[60:64], "big")
    if header.startswith(_MAGIC) and VERSION < version < 10_000:
        raise Newer(
            f"{path} was written by a newer release (version {version}, this one knows up to {VERSION}); it is left "
            "as it is: install that release again, or let it deliver what the spool holds first"
        )


def connect(path: str) -> sqlite3.Connection:
    """The connection of the writer thread to an existing file, migrated to this release's version."""
    connection = sqlite3.connect(
        uri(path, "rw"), uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
    )
    try:
        # auto_vacuum and page size hold from the first page on; secure_delete, which some builds switch on, costs a
        # third of the CPU. The checkpoint is made by the caller, who then hears of a failed sync: the built-in one
        # keeps it to itself.
        connection.execute("PRAGMA page_size=4096")
        if connection.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):
            # It writes to the file even where it changes nothing: on a full disk that would keep us from starting.
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "wal_autocheckpoint=0",
            "secure_delete=OFF",
            "temp_store=MEMORY",
            "cache_size=-4000",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if migrate(connection, MIGRATIONS):
            # So that the header, which refuse_newer reads, tells the truth after a crash too.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        # The log exists by now; SQLite itself would not say that making its name last has failed.
        sync_folder(os.path.dirname(path))
        give_to_owner_of(os.path.dirname(path), (path, f"{path}-wal", f"{path}-shm"))
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: str) -> sqlite3.Connection:
    """A connection that reads only; closing it never writes to the file. Every value of a text column that is not
    UTF-8 comes as octets, which no check sum will match."""
    connection = sqlite3.connect(
        uri(path, "ro"), uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
    )
    connection.text_factory = lambda octets: octets.decode("utf-8", "surrogateescape")
    return connection


def begin(folder: str, generation: int, fill: Callable[[sqlite3.Connection], None]) -> str:
    """Makes the file of a generation, filled in one transaction, whole or not at all. Its path."""
    path = path_of(folder, generation)
    partial = f"{path}.part"
    remove_file(partial)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(descriptor)
    connection = connect(partial)
    try:
        with transaction(connection):
            fill(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
    os.rename(partial, path)
    sync_folder(folder)
    return path


def set_aside(path: str, word: str, now: float) -> str:
    """Renames a file that is no longer live, with its log: spool.sqlite.damaged-1700000000. The new path. SQLite
    neither syncs nor checkpoints a file that has lost its name, so connections to it may be closed after this."""
    aside = f"{path}.{word}-{int(now)}"
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = f"{path}.{word}-{int(now)}-{number}"
    os.rename(path, aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.rename(path + suffix, aside + suffix)
    return aside


def remove_file(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)
