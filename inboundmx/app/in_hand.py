"""What a worker has in hand, noted in memory that outlives it: whoever supervises it reads what it died of.

Knows slots in shared memory. Does not know what is in hand, nor what is done about it. A note costs less than a
microsecond and no system call.
"""

from __future__ import annotations

import mmap
import os

# What is in hand beyond that is not noted.
SLOTS = 1024
_OCTETS = 16


def new_notes() -> int:
    """A descriptor of empty notes, for a process to be started."""
    descriptor = os.memfd_create("in-hand", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SLOTS * _OCTETS)
    return descriptor


def noted(descriptor: int) -> frozenset[str]:
    """The ids in the notes of a process that is no more."""
    octets = os.pread(descriptor, SLOTS * _OCTETS, 0)
    found = (octets[at : at + _OCTETS].rstrip(b"\0") for at in range(0, len(octets), _OCTETS))
    return frozenset(id.decode("ascii", "replace") for id in found if id)


class SharedHand:
    """``ports.Hand`` over the notes of ``descriptor``, which is closed."""

    def __init__(self, descriptor: int) -> None:
        self._notes = mmap.mmap(descriptor, SLOTS * _OCTETS)
        os.close(descriptor)
        self._free = list(range(0, SLOTS * _OCTETS, _OCTETS))
        # Where it stands, and how many hands it is in: a message is still being answered when its entry, which has
        # the same id, is delivered already.
        self._taken: dict[str, list[int]] = {}

    def take(self, id: str) -> None:
        taken = self._taken.get(id)
        if taken is not None:
            taken[1] += 1
        elif self._free and len(id) <= _OCTETS:
            at = self._free.pop()
            self._taken[id] = [at, 1]
            self._notes[at : at + len(id)] = id.encode("ascii", "replace")

    def drop(self, id: str) -> None:
        taken = self._taken.get(id)
        if taken is None:
            return
        taken[1] -= 1
        if not taken[1]:
            del self._taken[id]
            at = taken[0]
            self._notes[at : at + _OCTETS] = bytes(_OCTETS)
            self._free.append(at)
