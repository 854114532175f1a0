"""A file of recipients on this machine.

Knows when it is read again, and that what it held last is better than nothing. Does not know its lines
(``directory.listed`` does), nor who asks.
"""

from __future__ import annotations

import contextlib
import os
import stat

from twisted.internet.defer import Deferred, DeferredLock

from inboundmx.directory.listed import LARGEST, Listed, listed
from inboundmx.model.address import Address
from inboundmx.ports import Clock, Health, Offload, Unavailable

# A file is looked at no more often than this.
LOOK_SECONDS = 5.0


_Stamp = tuple[int, int, int]


class RecipientFile:
    """Once it was read, what was read last holds until it can be read anew."""

    def __init__(self, path: str, clock: Clock, offload: Offload, health: Health) -> None:
        self._path = path
        self._clock = clock
        self._offload = offload
        self._health = health
        self._stamp: _Stamp | None = None
        self._listed: Listed | None = None
        self._trouble = ""
        self._looked_at = float("-inf")
        self._looking = DeferredLock()

    async def holds(self, address: Address) -> bool:
        """Raises Unavailable."""
        if self._clock.monotonic() - self._looked_at >= LOOK_SECONDS:
            await self._looking.acquire()
            try:
                if self._clock.monotonic() - self._looked_at >= LOOK_SECONDS:
                    await self._look()
            finally:
                self._looking.release()
        if self._listed is None:
            raise Unavailable(f"{self._path} {self._trouble}")
        return self._listed.holds(address)

    async def _look(self) -> None:
        read: Deferred[tuple[_Stamp, Listed] | None] = self._offload.run(_read, self._path, self._stamp)
        try:
            found = await read
        except Unavailable as trouble:
            self._trouble = trouble.reason
            # What is wrong now is looked at again however little changes.
            self._stamp = None
            kept = "; what it held before is used" if self._listed is not None else ""
            self._health.noted(f"recipients {self._path}", False, f"{trouble.reason}{kept}")
        else:
            if found is not None:
                self._stamp, self._listed = found
            self._health.noted(f"recipients {self._path}", True, "")
        self._looked_at = self._clock.monotonic()


def _read(path: str, known: _Stamp | None) -> tuple[_Stamp, Listed] | None:
    """None: it has not changed. Blocks."""
    try:
        # A pipe would keep us waiting for whoever writes into it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise Unavailable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise Unavailable("is no file")
        if before.st_size > LARGEST:
            raise Unavailable(f"is larger than {LARGEST // 2**20}MB")
        stamp = (before.st_mtime_ns, before.st_size, before.st_ino)
        if stamp == known:
            return None
        octets = bytearray()
        while len(octets) <= LARGEST and (part := os.read(handle, 2**20)):
            octets += part
        after = os.fstat(handle)
        if (after.st_mtime_ns, after.st_size) != stamp[:2] or len(octets) != before.st_size:
            raise Unavailable("is being written")
    except OSError as error:
        raise Unavailable(f"cannot be read: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)
    return stamp, listed(bytes(octets))
