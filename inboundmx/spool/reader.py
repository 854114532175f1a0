"""Reading what is stored, in a thread of its own, so that a large body does not hold up commits. Knows how contents are
checked before they are handed out; does not know how they are written.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Sequence

from inboundmx.model.custody import Content
from inboundmx.model.message import Body
from inboundmx.ports import Damaged, Unavailable
from inboundmx.spool import schema
from inboundmx.spool.bodies import BodyFiles
from inboundmx.spool.store import content_sum


class SpoolReader:
    """``live_path`` says which file is the live one: it may be replaced at any time."""

    def __init__(self, live_path: Callable[[], str], files: BodyFiles) -> None:
        self._live_path = live_path
        self._files = files
        self._path = ""
        self._connection: sqlite3.Connection | None = None

    def execute(self, ids: Sequence[str]) -> list[Content | Exception]:
        return [self._read(id) for id in ids]

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _read(self, id: str) -> Content | Exception:
        try:
            path = self._live_path()
            if self._path != path or self._connection is None:
                self.close()
                self._path = path
                self._connection = schema.connect_to_read(self._path)
            row = self._connection.execute(
                "SELECT e.prefix, e.skip, e.content_sum, b.size, b.digest, b.path, b.data"
                " FROM entry AS e LEFT JOIN body AS b ON b.id = e.body_id WHERE e.id = ?",
                (id,),
            ).fetchone()
            return self._content(id, row)
        except (Damaged, Unavailable) as error:
            return error
        except (TypeError, ValueError, AttributeError) as error:
            # A damaged row need not even hold values of the right kind.
            return Damaged(f"entry {id}: {error}")
        except sqlite3.Error as error:
            if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in (
                sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN,
            ):  # fmt: skip
                return Unavailable(str(error))
            return Damaged(f"entry {id}: {error}")

    def _content(self, id: str, row: tuple | None) -> Content:  # type: ignore[type-arg]
        if row is None or row[3] is None:
            raise Damaged(f"entry {id}: what was stored is gone")
        prefix, skip, expected, size, digest, path, data = row
        if content_sum(id, skip, digest, prefix) != expected:
            raise Damaged(f"entry {id}: its headers are altered, or the body is not its own")
        if path is not None:
            return Content(prefix, skip, self._files.check(path, size, digest))
        if data is None or len(data) != size or hashlib.sha256(data).digest() != digest:
            raise Damaged(f"entry {id}: its body is altered")
        return Content(prefix, skip, Body(size, data, None, digest))
