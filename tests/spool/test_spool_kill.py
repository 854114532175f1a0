"""Killed at every step: what was promised is there, whole; what was not is there whole or not at all."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import Custody, a_deposit, add

from inboundmx.model.custody import Change, Content
from inboundmx.model.message import SMALL_BODY
from inboundmx.spool.file import Condemned

# Three that come together share a file.
PACK = ("packed000001", "packed000002", "packed000003")
# And three that are written over them.
AGAIN = ("packed000004", "packed000005", "packed000006")
SIZES = {"large": SMALL_BODY + 5, "small": 3000, "packe": 100_000}


def octets_of(id: str) -> bytes:
    return random.Random(id).randbytes(SIZES[id[:5]])


# What the child does, step by step: each commits, and then says so.
STEPS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("small0000001",), ()),
    (("large0000001", "small0000002"), ()),
    (("large0000002",), ("small0000001",)),
    (PACK, ("large0000001",)),
    ((), PACK[:2]),
    (("small0000003",), PACK[2:]),
    (AGAIN, ()),
)


def play(custody: Custody, promised: Callable[[int], object]) -> None:
    for number, (added, removed) in enumerate(STEPS):
        deposits = []
        for id in added:
            octets = octets_of(id)
            deposits.append(a_deposit(id, custody.large(id, octets) if id.startswith("large") else octets))
        (answer,) = custody.commit(Change(add=tuple(deposits), remove=removed))
        if answer is None:
            promised(number)


def check(data: Path, promised: int) -> None:
    """``promised``: how many steps were. The one after may have been done or not, but not by halves."""
    custody = Custody(data)
    custody.open()
    assert not custody.journal.events, "a kill damages nothing"
    states = []
    there: set[str] = set()
    for added, removed in ((), ()), *STEPS:
        there = (there | set(added)) - set(removed)
        states.append(sorted(there))
    assert custody.ids in states[promised : promised + 2]
    for id in custody.ids:
        content = custody.content(id)
        assert isinstance(content, Content)
        octets = octets_of(id)
        assert (content.body.size, content.body.head) == (len(octets), octets[:SMALL_BODY])
    files = [id for id in custody.ids if id.startswith("large")]
    if {*PACK, *AGAIN} & {*custody.ids}:
        files.append(PACK[0])
    assert custody.files() == files, "no body is left that is nobody's"
    assert custody.files("incoming") == []
    assert custody.commit(add(a_deposit("after0000001"))) == [None]
    custody.close()


# --- every call that changes a name or syncs, in this process: the folder as a kill would leave it --------------------


def test_at_every_step_on_the_disk_the_folder_is_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = 0
    snapshots: list[tuple[Path, int]] = []

    def snapshot() -> None:
        snapshots.append((tmp_path / f"copy{len(snapshots)}", done))
        shutil.copytree(custody.data, snapshots[-1][0])

    def promise(number: int) -> None:
        nonlocal done
        done = number + 1
        snapshot()

    custody = Custody(tmp_path / "data")
    custody.open()
    watch(monkeypatch, snapshot)
    play(custody, promise)
    monkeypatch.undo()
    custody.close()
    assert done == len(STEPS)
    assert len(snapshots) >= 12
    for copy, promised in snapshots:
        check(copy, promised)


def test_at_every_step_of_replacing_a_condemned_file_all_mail_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots: list[Path] = []

    def snapshot() -> None:
        snapshots.append(tmp_path / f"copy{len(snapshots)}")
        shutil.copytree(custody.data, snapshots[-1])

    def refuse(changes: object) -> list[str]:
        raise Condemned("its sync failed")

    custody = Custody(tmp_path / "data")
    custody.open()
    play(custody, lambda number: None)
    custody.spool._file._commit = refuse  # type: ignore[method-assign]
    custody.commit(Change())
    del custody.spool._file.__dict__["_commit"]
    watch(monkeypatch, snapshot)
    assert custody.commit(add(a_deposit("after0000001"))) == [None]
    monkeypatch.undo()
    custody.close()
    assert len(snapshots) >= 5
    for copy in snapshots:
        other = Custody(copy)
        other.open()
        assert {*other.ids, "after0000001"} == {"small0000002", "small0000003", "large0000002", *AGAIN, "after0000001"}
        assert all(isinstance(other.content(id), Content) for id in other.ids)
        assert set(other.journal.names) <= {"spool_recovered"}
        other.close()


def watch(monkeypatch: pytest.MonkeyPatch, seen: Callable[[], object]) -> None:
    """Calls back before each call that changes a name on the disk or syncs."""

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            seen()
            return real(*arguments, **named)

        return call

    for name in ("fsync", "fdatasync", "rename", "unlink"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))


def test_a_log_that_ends_anywhere_shows_a_state_that_was(tmp_path: Path) -> None:
    """As after a power failure, when the last of it never reached the disk, or half of it."""
    custody = Custody(tmp_path / "data")
    custody.open()
    for number in range(8):
        custody.commit(Change(add=(a_deposit(f"entry{number:07}"),), remove=(f"entry{number - 2:07}",)))
    states = [[f"entry{n:07}" for n in range(max(0, last - 1), last + 1)] for last in range(8)]
    shutil.copytree(custody.data, tmp_path / "whole")
    custody.close()
    size = (tmp_path / "whole" / "spool" / "0" / "spool.sqlite-wal").stat().st_size
    seen = set()
    for cut in range(0, size, size // 25):
        copy = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "whole", copy)
        log = copy / "spool" / "0" / "spool.sqlite-wal"
        octets = log.read_bytes()
        log.write_bytes(octets[:cut] + (os.urandom(len(octets) - cut) if cut % 2 else b""))
        other = Custody(copy)
        other.open()
        assert other.ids in [[], *states]
        assert all(isinstance(other.content(id), Content) for id in other.ids)
        assert not other.journal.events
        seen.add(tuple(other.ids))
        other.close()
    assert len(seen) >= 7


# --- a real kill in a real process, at each system call ---------------------------------------------------------------


def can_trace() -> bool:
    if shutil.which("strace") is None or os.geteuid() != 0:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


needs_strace = pytest.mark.skipif(not can_trace(), reason="needs root and strace: apt-get install strace")


def run_child(data: Path, call: str, what: str) -> tuple[int, list[str], list[str]]:
    """Plays the steps in a forked process into which strace injects a fault. Its status (negative: the signal that
    killed it), what it said it had done, and the trace of the calls."""
    said, say = os.pipe()
    waits, go = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.read(waits, 1)
            custody = Custody(data)
            custody.open()
            os.write(say, b"opened\n")
            play(custody, lambda number: os.write(say, b"%d\n" % number))
            custody.close()
            status = 0
        finally:
            os._exit(status)
    os.close(say)
    trace = data.with_name(f"{data.name}.trace")
    strace = subprocess.Popen(
        ["strace", "-y", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{what}", "-p", str(child)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    attached = strace.stderr.readline()
    os.write(go, b"g")
    _, status = os.waitpid(child, 0)
    strace.communicate(timeout=30)
    assert "attached" in attached, attached
    with open(said) as lines:
        promised = lines.read().split()
    os.close(waits)
    os.close(go)
    return os.waitstatus_to_exitcode(status), promised, trace.read_text(errors="replace").splitlines()


@needs_strace
@pytest.mark.parametrize("call", ["fdatasync", "fsync", "rename", "unlink", "pwrite64"])
def test_killed_at_a_system_call_nothing_promised_is_lost(tmp_path: Path, call: str) -> None:
    seen = 0
    # Each when there are few, and ever fewer of many.
    for number in instants():
        data = tmp_path / f"data{number}"
        status, promised, _ = run_child(data, call, f"signal=KILL:when={number}")
        if status != -signal.SIGKILL:
            break
        seen += 1
        check(data, max(0, len(promised) - 1))
    assert status == 0
    assert seen > 2


def instants() -> Iterator[int]:
    number = 1.0
    while number < 1000:
        yield int(number)
        number = max(number + 1, number * 1.5)


@needs_strace
@pytest.mark.parametrize(("call", "number"), [("fdatasync", 4), ("pwrite64", 30)])
def test_a_call_that_fails_once_costs_a_451_and_nothing_else(tmp_path: Path, call: str, number: int) -> None:
    """And after a failed sync the same file is never synced again."""
    data = tmp_path / "data"
    custody = Custody(data)
    custody.open()
    custody.close()
    status, promised, trace = run_child(data, call, f"error=EIO:when={number}")
    assert status == 0, "it goes on"
    failed = [line for line in trace if "EIO" in line]
    assert len(failed) == 1
    assert "spool.sqlite-wal" in failed[0]
    assert len(promised) - 1 == len(STEPS) - 1, "one step was refused, and said so"
    assert list((data / "spool" / "0").glob("spool.sqlite.condemned-*"))
    if call == "fdatasync":
        later = trace[trace.index(failed[0]) + 1 :]
        assert later, "the new file is synced"
        assert not [line for line in later if "spool.sqlite-wal>" in line or "spool.sqlite>" in line]
    custody.open()
    assert not custody.journal.events
    assert custody.ids
    for id in custody.ids:
        assert isinstance(custody.content(id), Content)
    custody.close()
