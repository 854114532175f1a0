"""The file of users: read when it has changed, and written anew as a whole.

Knows stamps, rights and that a write is all or nothing. Does not know what keys are (``policy.authenticating``).
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred

from inboundmx.policy.authenticating import Keys, Users, read, written
from inboundmx.ports import Offload, Unavailable
from inboundmx.storage.disk import sync_folder

LARGEST = 16 * 2**20
T = TypeVar("T")


class FileUsers:
    """Implements ports.UserBase. ``path`` tells the file that the settings name now, empty: none."""

    def __init__(self, path: Callable[[], str], offload: Offload) -> None:
        self._path = path
        self._offload = offload
        self._lock = threading.Lock()
        self._read: tuple[str, tuple[int, ...], Users] | None = None

    def ask(self, work: Callable[[Users], T]) -> Deferred[T]:
        path = self._path()
        return self._offload.run(lambda: work(self._users(path)))

    def _users(self, path: str) -> Users:
        with self._lock:
            try:
                stamp = _stamp(os.stat(path))
                if self._read is None or self._read[:2] != (path, stamp):
                    self._read = (path, stamp, users_of(path))
            except (OSError, ValueError) as error:
                raise Unavailable(_reason(path, error)) from None
            return self._read[2]


def users_of(path: str) -> Users:
    """Raises OSError, and ValueError for what is no such file."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            raise ValueError("is no file of users")
        if found.st_mode & stat.S_IROTH:
            raise ValueError("can be read by everybody here; chmod o-r it")
        return read(file.read(LARGEST).decode())


def keep(path: str, keys: Mapping[str, Keys], owner: tuple[int, int] | None = None) -> None:
    """Raises OSError. The rights and the owner of a file that is there stay; a new one is its owner's alone, or
    ``owner``'s."""
    before = os.stat(path) if os.path.exists(path) else None
    folder = os.path.dirname(path)
    handle, made = tempfile.mkstemp(prefix=".users-", dir=folder)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(written(keys))
            file.flush()
            if before is not None:
                os.fchmod(handle, stat.S_IMODE(before.st_mode))
                owner = (before.st_uid, before.st_gid)
            if owner is not None and os.geteuid() == 0:
                os.fchown(handle, *owner)
            os.fsync(handle)
        os.replace(made, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(made)
        raise
    sync_folder(folder)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _reason(path: str, error: OSError | ValueError) -> str:
    if not path:
        return "[relay] users names no file"
    return f"{path}: {getattr(error, 'strerror', None) or error}"
