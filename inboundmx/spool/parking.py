"""Things in a spool's folders that we never put there. Knows our names and what stands behind them; does not know what
is in a file.

They are moved to ``junk/``, where nothing reads them: so each is reported once, and a start neither hangs on a pipe nor
takes a stranger's file for mail.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from inboundmx.spool.bodies import is_ours

JUNK = "junk"
_FOLDERS = frozenset({"bodies", "incoming", JUNK, "lost+found"})
_FILES = re.compile(
    r"lock|reserve|probe|spool(-[0-9]+)?\.sqlite(\.part|\.[a-z]+-[0-9]+(-[0-9]+)?)?(-wal|-shm|-journal)?"
)


def park(folder: str) -> list[str]:
    """Moves away what is not ours. The paths it had; what cannot be moved is left, and does no harm."""
    moved = []
    junk = os.path.join(folder, JUNK)
    for item in [*_foreign(folder)]:
        with contextlib.suppress(OSError):
            os.makedirs(junk, mode=0o700, exist_ok=True)
            os.rename(item.path, _free(os.path.join(junk, item.name)))
            moved.append(item.path)
    return moved


def _foreign(folder: str) -> Iterator[os.DirEntry[str]]:
    for place in (folder, os.path.join(folder, "bodies"), os.path.join(folder, "incoming")):
        with contextlib.suppress(OSError), os.scandir(place) as found:
            for item in found:
                if place == folder and item.name in _FOLDERS:
                    known = item.is_dir()
                elif place == folder:
                    # A link to a file that is elsewhere is an operator's wish.
                    known = _FILES.fullmatch(item.name) is not None and item.is_file()
                else:
                    known = is_ours(item.name) and item.is_file(follow_symlinks=False)
                if not known:
                    yield item


def _free(path: str) -> str:
    free, number = path, 1
    while os.path.lexists(free):
        number += 1
        free = f"{path}-{number}"
    return free
