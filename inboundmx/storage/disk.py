"""What a disk says and is asked for, whatever is kept on it. Knows when there is no room, and that a name lasts only
once its folder is synced; does not know any file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from inboundmx.ports import StorageFull, Unavailable

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def unavailable(error: OSError) -> Unavailable:
    """What an error of the disk means to who wanted to write."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StorageFull(reason) if error.errno in NO_ROOM else Unavailable(reason)


def refuse_odd(path: str) -> None:
    """Raises OSError when something is there that is no file: to open a pipe may be to wait for ever."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(f"{path} is no file")


def replace_file(path: str, octets: bytes) -> None:
    """Puts a new file in the place of another: all of it, or nothing is changed. It lasts once its folder is synced.
    Raises OSError."""
    fresh = path + ".new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(descriptor)
    os.rename(fresh, path)


def sync_folder(path: str) -> None:
    """Makes names that were made, moved or removed in a folder last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
