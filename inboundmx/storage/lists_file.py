"""What operators added to the lists, as a small file under the data folder that all processes share.

Knows its lines, that a change is on the disk whole or not at all, and what to do with damage. Does not know what an
entry is for.

A change is a line that is appended and synced, so that it costs the same however long the lists are; the file is
written anew when most of it has been overtaken. Each line begins with a checksum: what an operator said must not become
something else. The first line tells one writing of the file from another, so that whoever has read it up to some place
knows whether it may go on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, get_args

from inboundmx.model.listing import OF_SENDERS, TICKS, Difference, Key, Kind, Listed, News
from inboundmx.policy.listing import blocks
from inboundmx.ports import Unavailable
from inboundmx.storage.disk import refuse_odd, replace_file, sync_folder, unavailable

# A change holds the lock for one sync.
LOCK_SECONDS = 5.0
_AGAIN_SECONDS = 0.02
# Lines that have been overtaken before the file is written anew, beside as many as there are entries.
SPARE_LINES = 1000


class ListsFile:
    """Every method blocks, and raises Unavailable with nothing changed. One call at a time."""

    def __init__(self, data_folder: str, kept: str = "lists") -> None:
        """``kept``: lists, or blocks."""
        self._folder = data_folder
        self._name = f"{kept}.jsonl"
        self._lock = f"{kept}.lock"
        self._path = os.path.join(data_folder, self._name)
        self._entries: dict[Key, Listed] = {}
        self._head = b""
        self._read_to = 0
        self._lines = 0

    def look(self, now: float) -> News:
        """What any process has changed since this one looked last; the first time, all there is."""
        try:
            before = dict(self._entries) if not self._same() else None
            differences, bad = self._catch_up(before)
            if not bad:
                return News(differences)
            more, damage, done = self._mended(now)
            return News(differences + more, damage, done)
        except OSError as error:
            raise unavailable(error) from error

    def change(self, come: Sequence[Listed], gone: Collection[Key], now: float) -> News:
        """Adds and removes, on the disk when it returns. What others changed meanwhile is told as well."""
        news = self.look(now)
        try:
            with self._locked():
                more, _ = self._catch_up(None if self._same() else dict(self._entries))
                if self._head and self._lines <= 2 * len(self._entries) + SPARE_LINES:
                    self._append(_line({"add": [_row(each) for each in come], "remove": [list(key) for key in gone]}))
                    mine = self._apply(come, gone)
                else:
                    kept, place = dict(self._entries), (self._head, self._read_to, self._lines)
                    mine = self._apply(come, gone)
                    try:
                        mine += self._write_anew(now)
                    except OSError:
                        self._entries = kept
                        self._head, self._read_to, self._lines = place
                        raise
        except OSError as error:
            raise unavailable(error) from error
        return News(news.differences + more + mine, news.damage, news.done)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _same(self) -> bool:
        """Whether what was read is still the beginning of the file."""
        try:
            refuse_odd(self._path)
            with open(self._path, "rb") as file:
                return bool(self._head) and file.readline(200) == self._head
        except FileNotFoundError:
            return not self._head

    def _catch_up(self, before: Mapping[Key, Listed] | None) -> tuple[list[Difference], int]:
        """Reads on, or all of it where ``before`` is what there was; the differences, and how many lines are bad."""
        if before is not None:
            self._entries, self._head, self._read_to, self._lines = {}, b"", 0, 0
        there = True
        try:
            with open(self._path, "rb") as file:
                file.seek(self._read_to)
                octets = file.read()
        except FileNotFoundError:
            there, octets = False, b""
        # What has no end yet is being written, or was when the power went: nobody was told that it is kept.
        octets = octets[: octets.rfind(b"\n") + 1]
        differences: list[Difference] = []
        bad = 0
        for line in octets.splitlines(keepends=True):
            first = not self._read_to
            if first:
                self._head = line
            self._read_to += len(line)
            self._lines += 1
            try:
                said = _said(line)
                if first is not ("inboundmx lists" in said):
                    raise ValueError("not in its place")
                come = [_entry(row) for row in said.get("add", ())]
                gone = [(str(kind), str(value)) for kind, value in said.get("remove", ())]
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                bad += 1
                continue
            differences += self._apply(come, gone)
        if there and not self._head:
            # It is made whole: its first line was there, and is not any more.
            bad = 1
        if before is None:
            return differences, bad
        keys = dict.fromkeys((*before, *self._entries))
        told = [Difference(before.get(key), self._entries.get(key)) for key in keys]
        return [each for each in told if each.gone != each.come], bad

    def _apply(self, come: Iterable[Listed], gone: Iterable[Key]) -> list[Difference]:
        found = []
        for key in gone:
            if (old := self._entries.pop(key, None)) is not None:
                found.append(Difference(old, None))
        for entry in come:
            found.append(Difference(self._entries.get(entry.key), entry))
            self._entries[entry.key] = entry
        return found

    # --- writing ------------------------------------------------------------------------------------------------------

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            try:
                os.ftruncate(descriptor, self._read_to)
                if os.pwrite(descriptor, line, self._read_to) < len(line):
                    raise Unavailable(f"{self._name} could not be written whole")
                os.fsync(descriptor)
            except (OSError, Unavailable):
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, self._read_to)
                raise
        finally:
            os.close(descriptor)
        self._read_to += len(line)
        self._lines += 1

    def _write_anew(self, now: float) -> list[Difference]:
        """What is over is left out, and told."""
        over = [Difference(entry, None) for entry in self._entries.values() if entry.over(now)]
        self._entries = {key: entry for key, entry in self._entries.items() if not entry.over(now)}
        head = _line({"inboundmx lists": 1, "written_at": now, "by": os.getpid(), "at": time.monotonic_ns()})
        lines = [head, *(_line({"add": [_row(entry)]}) for entry in self._entries.values())]
        octets = b"".join(lines)
        replace_file(self._path, octets)
        self._head, self._read_to, self._lines = head, len(octets), len(lines)
        sync_folder(self._folder)
        return over

    def _mended(self, now: float) -> tuple[list[Difference], str, str]:
        """Sets a damaged file aside and begins one with what could be read, unless somebody else just has."""
        damage = ""
        try:
            with self._locked():
                differences, bad = self._catch_up(dict(self._entries))
                if not bad:
                    return differences, "", ""
                damage = f"{bad} of {self._lines} lines of {self._name} are damaged: what they said is lost"
                aside = self._aside(f"{self._name}.damaged-{int(now)}")
                differences += self._write_anew(now)
                return differences, damage, f"the rest holds; the old file is {aside}: see which entries are missing"
        except (OSError, Unavailable) as error:
            reason = getattr(error, "strerror", None) or str(error)
            damage = damage or f"lines of {self._name} are damaged: what they said is lost"
            return [], damage, f"the rest holds; the file stays as it is: {reason}"

    def _aside(self, name: str) -> str:
        """A second name for the file, under which what it held can be looked at; that name."""
        for number in count(1):
            free = name if number == 1 else f"{name}-{number}"
            try:
                os.link(self._path, os.path.join(self._folder, free))
            except FileExistsError:
                continue
            break
        return free

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(os.path.join(self._folder, self._lock), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise Unavailable(f"another process holds {self._lock} for too long") from None
                    time.sleep(_AGAIN_SECONDS)
            yield
        finally:
            os.close(descriptor)


def _line(said: Mapping[str, Any]) -> bytes:
    text = json.dumps(said).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _said(line: bytes) -> dict[str, Any]:
    """Raises ValueError when it is not what was written."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("the checksum is another")
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError("no change")
    return said


def _row(entry: Listed) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "value": entry.value,
        "ticks": list(entry.ticks),
        "reason": entry.reason,
        "author": entry.author,
        "since_at": entry.since_at,
        "until_at": entry.until_at,
    }


def _entry(row: Mapping[str, Any]) -> Listed:
    """Raises ValueError, TypeError or KeyError when it cannot be used."""
    kind, value, ticks, until = row["kind"], row["value"], tuple(row["ticks"]), row["until_at"]
    if kind not in get_args(Kind) or not set(ticks) <= set(TICKS):
        raise ValueError(kind)
    if kind not in OF_SENDERS:
        blocks(value)
    elif "@" not in value:
        raise ValueError(value)
    return Listed(
        kind, value, ticks, str(row["reason"]), str(row["author"]), float(row["since_at"]),
        None if until is None else float(until),
    )  # fmt: skip
