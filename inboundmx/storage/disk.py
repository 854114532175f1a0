"""What a disk says and is asked for, whatever is kept on it. Knows when there is no room, and that a name lasts only
once its folder is synced; does not know any file."""

from __future__ import annotations

import errno
import os

from inboundmx.ports import StorageFull, Unavailable

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def unavailable(error: OSError) -> Unavailable:
    """What an error of the disk means to who wanted to write."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StorageFull(reason) if error.errno in NO_ROOM else Unavailable(reason)


def sync_folder(path: str) -> None:
    """Makes names that were made, moved or removed in a folder last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
