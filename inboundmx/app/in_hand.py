"""What a worker has in hand, noted in memory that outlives it: whoever supervises it reads what it died of, where it
was then, and whether it still turns.

Knows slots in shared memory. Does not know what is in hand, nor what is done about it. A note costs less than a
microsecond and no system call.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import struct

# What is in hand beyond that is not noted.
SLOTS = 1024
_OCTETS = 16
# Behind them how often it turned, and then its last words, which have no bound but are read so far.
_BEATS = SLOTS * _OCTETS
_WORDS = _BEATS + 8
_WORDS_READ = 64 * 1024
FRAMES = 20
# With the last folder of its path, as far as there is one.
_FRAME = re.compile(r'  File "(?:[^"]*?/)?((?:[^"/]+/)?[^"/]+)", line (\d+) in (\S+)')


def new_notes() -> int:
    """A descriptor of empty notes, for a process to be started."""
    descriptor = os.memfd_create("in-hand", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _WORDS)
    return descriptor


def noted(descriptor: int) -> frozenset[str]:
    """The ids in the notes of a process that is no more."""
    octets = os.pread(descriptor, SLOTS * _OCTETS, 0)
    found = (octets[at : at + _OCTETS].rstrip(b"\0") for at in range(0, len(octets), _OCTETS))
    return frozenset(id.decode("ascii", "replace") for id in found if id)


def beats(descriptor: int) -> int:
    """How often it turned, in the notes of a process that may be running."""
    (count,) = struct.unpack("<Q", os.pread(descriptor, 8, _BEATS))
    return int(count)


def last_frames(descriptor: int) -> list[str]:
    """Where a process was when a signal such as SIGABRT or SIGSEGV ended it: ``file:line function``, the innermost
    first. Empty when it ended otherwise."""
    words = os.pread(descriptor, _WORDS_READ, _WORDS).decode("utf-8", "replace")
    _, _, current = words.partition("Current thread ")
    frames: list[str] = []
    for line in (current or words).splitlines()[1:]:
        frame = _FRAME.match(line)
        if frame is None and frames:
            break
        if frame is not None:
            frames.append(f"{frame[1]}:{frame[2]} {frame[3]}")
    return frames[:FRAMES]


class SharedHand:
    """``ports.Hand`` over the notes of ``descriptor``, which is closed."""

    def __init__(self, descriptor: int) -> None:
        self._notes = mmap.mmap(descriptor, _WORDS)
        os.close(descriptor)
        self._beats = 0
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

    def beat(self) -> None:
        self._beats += 1
        struct.pack_into("<Q", self._notes, _BEATS, self._beats)


def leave_last_words(descriptor: int) -> None:
    """From now on a signal that ends this process leaves in the notes where it was."""
    words = os.dup(descriptor)
    os.lseek(words, _WORDS, os.SEEK_SET)
    faulthandler.enable(words)
