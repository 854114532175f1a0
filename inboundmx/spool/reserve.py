"""Room held back for a full disk. Knows how room is kept, given up and found missing; does not know for what."""

from __future__ import annotations

import contextlib
import os

from inboundmx.storage.disk import NO_ROOM

# A whole checkpoint: after it, SQLite's log is written from its start again.
RESERVE_OCTETS = 6 * 1024 * 1024
_PROBE_OCTETS = 16384


class Reserve:
    """A file that only takes up room, an eighth of a small disk at most."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = os.path.join(folder, "reserve")
        self._held = False

    def hold(self) -> bool:
        """Whether the room is held back. Once given up it is taken again only when there is twice as much, so that
        mail is not accepted and refused by turns."""
        if self._held:
            return True
        try:
            room = os.statvfs(self._folder)
            size = min(RESERVE_OCTETS, room.f_blocks * room.f_frsize // 8)
            if os.path.exists(self._path) or room.f_bavail * room.f_frsize >= 2 * size:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
                try:
                    os.posix_fallocate(descriptor, 0, max(size, 1))
                finally:
                    os.close(descriptor)
                self._held = True
        except OSError:
            self.use()
        return self._held

    def use(self) -> None:
        """Gives the room up."""
        self._held = False
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def disk_is_full(folder: str) -> bool:
    """SQLite does not say which error of the system it met: a quota, for one, is only found by trying."""
    probe = os.path.join(folder, "probe")
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, bytes(_PROBE_OCTETS))
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno in NO_ROOM
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)
    return False
