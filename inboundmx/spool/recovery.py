"""Reading out a spool file that can no longer be trusted. Knows how to get at every row that is still readable; does
not know what happens to the file.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from inboundmx.ports import Damaged
from inboundmx.spool.store import entry_of

# Where it quotes damaged text, a message of SQLite's own may be no text.
ERRORS = (sqlite3.Error, UnicodeDecodeError)

_ENTRY = "id, body_id, state, next_attempt_at, facts, facts_sum, skip, content_sum, prefix"
_BODY = "id, size, digest, path, data"


@dataclass(slots=True)
class Salvage:
    """How many rows were carried over and how many were seen but could not be read. ``whole``: the file told all its
    rows without an error, so what is not in it was never there."""

    entries: int = 0
    lost: int = 0
    whole: bool = True


def salvage(
    source: sqlite3.Connection,
    new: sqlite3.Connection,
    report: Salvage,
    place: Callable[[str], str] = lambda path: path,
) -> None:
    """Copies every readable row. An entry whose body is lost is copied too: it is found damaged when it is due, and
    parked where an operator sees it. ``place`` says where a large body is by now. Only errors of ``new`` are raised."""
    for rowid in _rowids(source, "body", report):
        body = _row(source, f"SELECT {_BODY} FROM body WHERE rowid = ?", rowid)
        if body is None or not _sound(*body):
            report.whole = False
        else:
            id, size, digest, path, data = body
            row = (id, size, digest, path if path is None else place(path), data)
            new.execute(f"INSERT OR IGNORE INTO body ({_BODY}) VALUES (?, ?, ?, ?, ?)", row)
    for rowid in _rowids(source, "entry", report):
        entry = _row(source, f"SELECT {_ENTRY} FROM entry WHERE rowid = ?", rowid)
        if entry is None or not _good(entry):
            report.lost += 1
            report.whole = False
        else:
            new.execute(f"INSERT OR IGNORE INTO entry ({_ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", entry)
            report.entries += 1


def _sound(id: object, size: object, digest: object, path: object, data: object) -> bool:
    """Whether a body's row holds values of the right kind; whether the right ones, its reader finds out."""
    named = all(isinstance(name, str) and name.isascii() for name in (id, path or ""))
    return named and isinstance(size, int) and isinstance(digest, bytes) and isinstance(data, bytes | None)


def _good(row: tuple) -> bool:  # type: ignore[type-arg]
    try:
        entry_of(*row[:6])
    except Damaged:
        return False
    return True


def _row(source: sqlite3.Connection, query: str, rowid: int) -> tuple | None:  # type: ignore[type-arg]
    try:
        row: tuple | None = source.execute(query, (rowid,)).fetchone()  # type: ignore[type-arg]
    except ERRORS:
        return None
    return row


def _rowids(source: sqlite3.Connection, table: str, report: Salvage) -> list[int]:
    """Every row number that the table or its index will tell, from both ends, for a scan ends at the first bad page."""
    found: set[int] = set()
    for by in ("NOT INDEXED ORDER BY rowid", f"INDEXED BY sqlite_autoindex_{table}_1 ORDER BY id"):
        for direction in ("ASC", "DESC"):
            try:
                for (rowid,) in source.execute(f"SELECT rowid FROM {table} {by} {direction}"):
                    found.add(rowid)
                break
            except ERRORS:
                report.whole = False
    return sorted(found)


def open_entries(connection: sqlite3.Connection) -> list:  # type: ignore[type-arg]
    """All entries of a file that is in order, oldest first. Raises ERRORS or Damaged."""
    with contextlib.closing(
        connection.execute("SELECT id, body_id, state, next_attempt_at, facts, facts_sum FROM entry ORDER BY rowid")
    ) as rows:
        return [entry_of(*row) for row in rows]
