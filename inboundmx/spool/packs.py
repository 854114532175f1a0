"""Bodies that came together, in one file: a pack. Knows which are worth it, how a pack is written and made to last, and
when the last of its bodies is gone; does not know entries, nor SQL.

In a row a body is written twice, into SQLite's log and from there to its place: 0.34 ms of CPU for 100 KB, where one of
six in a pack takes 0.11 and half the time. A pack needs a sync more, so few or small bodies stay in their rows.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Iterable, Sequence

from inboundmx.spool.bodies import BodyFiles, place_of

# A smaller body is as cheap in its row.
PACKED_BODY = 32 * 1024
# No pack is made for less.
LEAST_OCTETS = 256 * 1024
# With so much a pack is complete: all of it stays on the disk until its last body goes.
FULL_OCTETS = 1024 * 1024
# Packs without a body that are kept to be written over, which needs no name and no room: where mail of 100 KB comes and
# goes, it goes 1.4 times as fast.
SPARE_PACKS = 8


class Packs:
    """The packs among the files of one spool. Only its writer thread calls."""

    def __init__(self, files: BodyFiles) -> None:
        self._files = files
        self._living: Counter[str] = Counter()
        self._spare: list[str] = []

    def count(self, paths: Iterable[str], whole: bool) -> None:
        """Which bodies there are, in place of what was known. ``whole``: no others; else each of their packs may hold
        one that nobody can name any more, and stays until the next start."""
        self._living = Counter(file for file, start in map(place_of, paths) if start is not None)
        if not whole:
            self._living.update(list(self._living))

    def write(self, bodies: Iterable[tuple[str, bytes]]) -> dict[str, str]:
        """Puts bodies, each with its id, into packs that last; from the id to the path of each that is worth it. Raises
        OSError, with nothing written."""
        paths: dict[str, str] = {}
        pack: list[tuple[str, bytes]] = []
        octets = 0
        made = False
        try:
            for id, body in bodies:
                pack.append((id, body))
                octets += len(body)
                if octets >= FULL_OCTETS:
                    made |= self._write(pack, paths)
                    pack, octets = [], 0
            if octets > LEAST_OCTETS:
                made |= self._write(pack, paths)
            if made:
                self._files.sync()
        except OSError:
            self.give_up(paths.values())
            raise
        return paths

    def _write(self, pack: Sequence[tuple[str, bytes]], paths: dict[str, str]) -> bool:
        """Whether a file was made."""
        made = not self._spare
        if made:
            file, descriptor = self._new(pack)
        else:
            file = self._spare.pop()
            descriptor = os.open(self._files.absolute(file), os.O_WRONLY | os.O_CLOEXEC)
        try:
            start = 0
            for id, body in pack:
                paths[id] = f"{file}#{start}"
                start += len(body)
            written = os.writev(descriptor, [body for _, body in pack])
            if written < start:
                rest = memoryview(b"".join([body for _, body in pack]))[written:]
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        return made

    def _new(self, pack: Sequence[tuple[str, bytes]]) -> tuple[str, int]:
        """A file named after one of its bodies, open to be written."""
        for id, _ in pack:
            file = self._files.staying(id)
            # One that is there already may be what rows speak of: its message came before, and has another entry now.
            with contextlib.suppress(FileExistsError):
                how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                return file, os.open(self._files.absolute(file), how, 0o600)
        raise FileExistsError(errno.EEXIST, "every name for the bodies is taken")

    def kept(self, paths: Iterable[str]) -> None:
        """The rows that speak of these are committed."""
        self._living.update(place_of(path)[0] for path in paths)

    def give_up(self, paths: Iterable[str]) -> None:
        """The rows that speak of these were not committed."""
        for file in {place_of(path)[0] for path in paths}:
            self._files.remove(file)

    def gone(self, paths: Iterable[str]) -> list[str]:
        """The files to be removed when no row speaks of these bodies any more. A pack of which more was counted than
        there is stays until the next start."""
        files = []
        for path in paths:
            file, start = place_of(path)
            if start is not None:
                self._living[file] -= 1
            if not self._living[file]:
                del self._living[file]
                if start is None or len(self._spare) == SPARE_PACKS:
                    files.append(file)
                else:
                    self._spare.append(file)
        return files

    def tidy(self) -> None:
        """Removes what is kept to be written over."""
        self.give_up(self._spare)
        self._spare = []
