"""Who may use a spool's folder: whoever holds its lock. Knows flock; does not know what is in the folder."""

from __future__ import annotations

import fcntl
import os

from inboundmx.ports import Unavailable
from inboundmx.storage.disk import NO_ROOM


class Locked(Unavailable):
    """Another process holds this spool."""


def take_lock(folder: str) -> int:
    """The descriptor that holds the folder's lock. Raises Locked or OSError."""
    path = os.path.join(folder, "lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise Locked(
            f"the spool {folder} is in use by process {owner}: stop that gateway first, or use its control socket"
        ) from None
    except OSError as error:
        # The process id is for people: a full disk need not stop us.
        if error.errno not in NO_ROOM:
            os.close(descriptor)
            raise
    return descriptor
