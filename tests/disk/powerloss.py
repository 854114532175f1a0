"""What a disk may hold after a power cut, computed from what was written to it. Knows which calls make what last; does
not know what is in the files.

The disk is one that keeps only what it must: octets of a file last from the next sync of that file on, a name from the
next sync of its folder on, and a name that was removed may come back until then. What is not synced may be there, or
not, or in part, in any order. After a sync that failed, what it was to make last never does, whatever later syncs say.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from traces import Call

SECTOR, PAGE = 512, 4096


class File:
    """One file, whatever its names. ``settled``: what lasts."""

    __slots__ = ("settled", "size")

    def __init__(self) -> None:
        self.settled = bytearray()
        # With all that is not settled yet.
        self.size = 0


class Folder:
    __slots__ = ("settled", "shown")

    def __init__(self) -> None:
        self.settled: dict[str, File | Folder] = {}
        self.shown: dict[str, File | Folder] = {}


@dataclass(slots=True, eq=False)
class Change:
    """Something that may be missing. ``where``: the file or folder whose sync makes it last. Of a file: ``data`` at
    ``offset``, or its length. Of a folder: names, in one step."""

    where: File | Folder
    begun: int
    ended: int
    offset: int = 0
    data: bytes = b""
    length: int | None = None
    grows: bool = False
    names: tuple[tuple[str, File | Folder | None], ...] = ()
    doomed: bool = False


# What is left of a change's data: pieces of it and where in the file they are.
Pieces = list[tuple[int, bytes]]


class Cut(NamedTuple):
    """One of the states that may be found: these changes are there, of one of them or of all only pieces."""

    name: str
    kept: tuple[Change, ...]
    pieces: Callable[[Change], Pieces | None] = lambda change: None


@dataclass
class Disk:
    """What is at ``root/name``, which is not there yet, as calls change it. ``root`` itself is there for good."""

    root: Path
    name: str
    changes: list[Change] = field(default_factory=list)
    _descriptors: dict[int, tuple[File | Folder, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tree = Folder()

    # --- what happens -------------------------------------------------------------------------------------------------

    def play(self, calls: Iterable[Call]) -> Iterator[tuple[Call, bool]]:
        """Does the calls; gives each that matters for what a disk holds, or goes over the wire, when it begins and
        again (True) when it has ended."""
        steps = sorted(
            [(call.begun, 0, call) for call in calls] + [(call.ended, 1, call) for call in calls],
            key=lambda step: step[:2],
        )
        for _, ends, call in steps:
            if ends and call.syncs and not call.pretended:
                self._sync(call)
            elif not ends and not call.syncs and call.result >= 0:
                self._begin(call)
            yield call, bool(ends)

    def _begin(self, call: Call) -> None:
        inside = [self._inside(path) for path in call.paths]
        if call.name == "openat":
            self._open(call, inside[-1])
        elif call.writes:
            self._write(call, inside[0] if inside else None)
        elif call.name in ("ftruncate", "truncate", "fallocate"):
            self._resize(call, inside[0])
        elif call.name.startswith("rename"):
            self._rename(call, *inside)
        elif call.name in ("link", "linkat"):
            self._name(call, inside[1], self._at(inside[0]))
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            self._name(call, inside[0], None)
        elif call.name in ("mkdir", "mkdirat"):
            self._name(call, inside[0], Folder())

    def _inside(self, path: str) -> str | None:
        relative = os.path.relpath(path, self.root)
        ours = relative == "." or relative.partition("/")[0] == self.name
        return relative if ours and not path.endswith(" (deleted)") else None

    def _at(self, path: str | None) -> File | Folder | None:
        found: File | Folder | None = self.tree
        for name in Path(path or "").parts if path != "." else ():
            found = found.shown.get(name) if isinstance(found, Folder) else None
        return found if path is not None else None

    def _parent(self, path: str) -> tuple[Folder, str]:
        above, name = os.path.split(path)
        folder = self._at(above or ".")
        assert isinstance(folder, Folder), f"{path} is made in a folder that was not seen"
        return folder, name

    def _name(self, call: Call, path: str | None, what: File | Folder | None) -> None:
        if path is None:
            return
        folder, name = self._parent(path)
        self._renamed(call, folder, (name, what))

    def _renamed(self, call: Call, folder: Folder, *names: tuple[str, File | Folder | None]) -> None:
        change = Change(folder, call.begun, call.ended, names=names)
        _rename_in(folder.shown, change)
        self.changes.append(change)

    def _rename(self, call: Call, old: str | None, new: str | None) -> None:
        if old is None or new is None:
            return
        what = self._at(old)
        (before, name), (after, other) = self._parent(old), self._parent(new)
        if before is after:
            self._renamed(call, before, (name, None), (other, what))
        else:
            self._name(call, new, what)
            self._name(call, old, None)

    def _open(self, call: Call, path: str | None) -> None:
        if path is None:
            return
        found = self._at(path)
        if found is None:
            assert "O_CREAT" in call.words, f"{path} was not seen being made"
            found = File()
            self._name(call, path, found)
        if isinstance(found, File) and "O_TRUNC" in call.words and found.size:
            self._change_size(found, call, 0, grows=False)
        at = found.size if isinstance(found, File) and "O_APPEND" in call.words else 0
        self._descriptors[call.descriptor] = found, at

    def _write(self, call: Call, path: str | None) -> None:
        file = self._at(path)
        if not isinstance(file, File):
            return
        if call.name.startswith("pwrite"):
            at = call.numbers[-1]
        else:
            opened, at = self._descriptors[call.descriptor]
            assert opened is file, f"{path} was not seen being opened"
            self._descriptors[call.descriptor] = file, at + len(call.data)
        file.size = max(file.size, at + len(call.data))
        self.changes.append(Change(file, call.begun, call.ended, at, call.data))

    def _resize(self, call: Call, path: str | None) -> None:
        file = self._at(path)
        if not isinstance(file, File):
            return
        if call.name == "fallocate":
            self._change_size(file, call, call.numbers[-2] + call.numbers[-1], grows=True)
        else:
            # Small numbers are in octal nowhere but in modes.
            self._change_size(file, call, call.numbers[-1], grows=False)

    def _change_size(self, file: File, call: Call, length: int, *, grows: bool) -> None:
        file.size = max(file.size, length) if grows else length
        self.changes.append(Change(file, call.begun, call.ended, length=length, grows=grows))

    def _sync(self, call: Call) -> None:
        """Makes last what had ended when it began."""
        where = self._at(self._inside(call.paths[0]) if call.paths else None)
        left = []
        for change in self.changes:
            if change.where is where and change.ended < call.begun and not change.doomed:
                if call.result == 0:
                    _apply(change)
                    continue
                change.doomed = True
            left.append(change)
        self.changes = left

    # --- what may be left ---------------------------------------------------------------------------------------------

    def after(self, cut: Cut) -> dict[str, bytes]:
        """All files, and the folders with a slash behind them."""
        files: dict[File, bytearray] = {}
        folders: dict[Folder, dict[str, File | Folder]] = {}
        for change in cut.kept:
            if isinstance(change.where, File):
                _lay(files.setdefault(change.where, bytearray(change.where.settled)), change, cut.pieces(change))
            else:
                _rename_in(folders.setdefault(change.where, dict(change.where.settled)), change)
        return dict(self._walk("", self.tree, files, folders))

    def _walk(
        self,
        path: str,
        what: File | Folder,
        files: dict[File, bytearray],
        folders: dict[Folder, dict[str, File | Folder]],
    ) -> Iterator[tuple[str, bytes]]:
        if isinstance(what, File):
            yield path, bytes(files.get(what, what.settled))
            return
        names = folders.get(what, what.settled)
        if path:
            yield f"{path}/", b""
        for name, inside in names.items():
            yield from self._walk(f"{path}/{name}" if path else name, inside, files, folders)

    def cuts(self, chance: random.Random) -> list[Cut]:
        """What may be found if power goes now; ``chance`` says where writes are torn."""
        changes = tuple(self.changes)
        found = [Cut("nothing that was not synced", ())]
        if not changes:
            return found
        found.append(Cut("everything", changes))
        for number, change in enumerate(changes):
            before, behind = changes[:number], changes[number + 1 :]
            found.append(Cut(f"all but change {number}", before + behind))
            found.append(Cut(f"only change {number}", (change,)))
            found.append(Cut(f"the first {number}", before))
            if len(change.data) > 1:
                found += [_torn(changes[: number + 1], unit, chance) for unit in (SECTOR, PAGE)]
        found += [_scattered(changes, chance.random()) for _ in range(4)]
        return found


def _torn(kept: tuple[Change, ...], unit: int, chance: random.Random) -> Cut:
    """The last write ends at a multiple of ``unit``."""
    last = kept[-1]
    end = chance.randrange(0, len(last.data), unit)
    left = [(last.offset, last.data[:end])]
    return Cut(f"the last of {len(kept)} ends after {end} octets", kept, lambda each: left if each is last else None)


def _scattered(changes: tuple[Change, ...], seed: float) -> Cut:
    """Half of the changes, and of their data half of the sectors."""
    kept = tuple(change for change in changes if random.Random(f"{seed} {change.begun}").random() < 0.5)

    def pieces(change: Change) -> Pieces:
        dice = random.Random(f"{seed} {change.begun} sectors")
        starts = range(0, len(change.data), SECTOR)
        return [(change.offset + at, change.data[at : at + SECTOR]) for at in starts if dice.random() < 0.5]

    return Cut(f"some sectors, by {seed}", kept, pieces)


def _apply(change: Change) -> None:
    if isinstance(change.where, File):
        _lay(change.where.settled, change, None)
    else:
        _rename_in(change.where.settled, change)


def _lay(octets: bytearray, change: Change, pieces: Pieces | None) -> None:
    if change.length is not None:
        if not change.grows:
            del octets[change.length :]
        octets.extend(bytes(max(0, change.length - len(octets))))
        return
    for at, data in [(change.offset, change.data)] if pieces is None else pieces:
        octets.extend(bytes(max(0, at - len(octets))))
        octets[at : at + len(data)] = data


def _rename_in(names: dict[str, File | Folder], change: Change) -> None:
    for name, what in change.names:
        if what is None:
            names.pop(name, None)
        else:
            names[name] = what


def fingerprint(state: dict[str, bytes]) -> bytes:
    """The same for states in which the same is found. What SQLite keeps in memory only is not looked at."""
    seen = hashlib.sha256()
    for path in sorted(state):
        if not path.endswith("-shm"):
            seen.update(path.encode() + b"\0" + hashlib.sha256(state[path]).digest())
    return seen.digest()


def lay_out(state: dict[str, bytes], folder: Path) -> None:
    """Makes the files of a state."""
    for path, octets in state.items():
        place = folder / path
        if path.endswith("/"):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            continue
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with place.open("wb") as file:
            if octets.count(0) != len(octets):
                file.write(octets)
            else:
                # Room held back need not be taken once more.
                file.truncate(len(octets))
