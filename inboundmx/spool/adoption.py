"""Mail that another worker's folder still holds. Knows how it gets into our file, all of it, once; does not know why
nobody delivers it from there (fewer workers than before).

Its rows are copied in one transaction of ours, its large bodies get a second name among ours before that; only then its
file is removed. A crash in between repeats it: nothing is delivered before it is done, and what is in our file already
stays as it is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
from collections.abc import Collection, Iterator

from inboundmx.ports import Unavailable
from inboundmx.spool import schema
from inboundmx.spool.bodies import BodyFiles, place_of
from inboundmx.spool.locking import Locked, take_lock
from inboundmx.spool.recovery import ERRORS, Salvage, salvage
from inboundmx.storage.disk import sync_folder
from inboundmx.storage.sqlite_file import transaction

_WORKER = re.compile(r"0|[1-9][0-9]{0,3}")

Note = tuple[str, dict[str, object]]


def adopt_all(
    folder: str, connection: sqlite3.Connection, files: BodyFiles, now: float, keep_off: Collection[str] = ()
) -> Iterator[Note]:
    """Adopts what is in folders beside ours that no living process holds, but for those named in ``keep_off``. What
    became of each, to be journalled; what cannot be adopted stays as it is for the next start."""
    above, own = os.path.split(folder)
    for name in sorted(os.listdir(above)):
        path = os.path.join(above, name)
        if name == own or name in keep_off or not _WORKER.fullmatch(name):
            continue
        if os.path.islink(path) or not os.path.isdir(path):
            continue
        try:
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                # What could not be removed would be taken over again, after it was delivered.
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            lock = take_lock(path)
        except Locked:
            continue
        except OSError as error:
            yield _left(path, os.strerror(error.errno or 0))
            continue
        try:
            yield from _adopt(path, connection, files, now)
        except (Unavailable, OSError, *ERRORS) as error:
            yield _left(path, str(error))
        finally:
            os.close(lock)


def _adopt(folder: str, connection: sqlite3.Connection, files: BodyFiles, now: float) -> Iterator[Note]:
    generation, path = schema.live_file(folder)
    if path is not None:
        schema.refuse_newer(path)
        report, taken = _copy(path, connection, files)
        # What was replaced is not to take the place of what goes now.
        for older in range(1, generation):
            with contextlib.suppress(FileNotFoundError):
                schema.set_aside(schema.path_of(folder, older), "condemned", now)
        kept = "" if report.whole else schema.set_aside(path, "damaged", now)
        if report.whole:
            schema.remove_file(path)
        sync_folder(folder)
        for body in taken:
            files.remove(body)
        done = f"{report.entries} entries taken over" + (f"; what was not readable is kept in {kept}" if kept else "")
        yield "spool_adopted", {"what": f"{path} belonged to a worker that is no more", "done": done}
    # Empty but for what says nothing any more; anything else stays.
    for name in ("lock", "reserve", "probe"):
        files.remove(os.path.join(folder, name))
    for place in ("bodies", "incoming", ""):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(folder, place))


def _copy(path: str, connection: sqlite3.Connection, files: BodyFiles) -> tuple[Salvage, list[str]]:
    """Returns the large bodies that have our name now beside their old one."""
    report = Salvage()
    with contextlib.closing(schema.connect_to_read(path)) as source:
        paths = _large(source, report)
        moved = files.share(paths)
        with transaction(connection):
            salvage(source, connection, report, lambda old: moved.get(old, old))
    return report, [place_of(files.absolute(old))[0] for old in moved]


def _large(source: sqlite3.Connection, report: Salvage) -> list[str]:
    found: list[str] = []
    try:
        for (path,) in source.execute("SELECT path FROM body WHERE path IS NOT NULL"):
            if isinstance(path, str):
                found.append(path)
    except ERRORS:
        report.whole = False
    return found


def _left(folder: str, why: str) -> Note:
    return "spool_not_adopted", {"what": f"{folder} may hold mail: {why}", "done": "left as it is"}
