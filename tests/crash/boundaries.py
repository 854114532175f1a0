"""kill -9 at every boundary to the system: before the N-th call of each kind that changes a file or answers somebody.

Knows strace, whose counters are each thread's own: the N-th call of the thread that comes to it first. So calls on the
spool's files are counted apart as well. A life is a start, a few messages and a stop; killed on its way, the gateway
must start again, and what was promised must arrive.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from campaigns import Report
from programs import DOMAIN, Child, Wire, need, until
from requiring import impossible
from scene import Scene, children, scene
from senders import message

# Changes of files and names, and what may carry an answer; by kind, as one architecture or another names them.
EVERYWHERE = (
    "fsync", "fdatasync", "pwrite64", "ftruncate", "write", "writev", "sendto", "sendmsg",
    "rename,renameat,renameat2", "link,linkat", "unlink,unlinkat",
)  # fmt: skip
ON_THE_SPOOL = ("openat", "pwrite64", "fdatasync", "fsync", "ftruncate", "unlink,unlinkat")
SPOOL_FILES = ("spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm", "reserve", "lock", "bodies", "incoming", "")
# The second is stored as a file.
SIZES = (3_000, 300_000, 20_000)
LATE_SECONDS = 30.0


@dataclass(frozen=True)
class Life:
    """``start``: of what is traced. ``first``: in an empty folder; ``later``: with mail of a life that was killed;
    ``none``: only what comes after the start, in a folder that has seen much."""

    start: str
    handover: str
    messages: int

    def __str__(self) -> str:
        start = {"first": "first start, ", "later": "start with mail, ", "none": ""}[self.start]
        return f"kill at system calls, {start}{self.messages} messages, {self.handover}"


LIVES = (
    Life("first", "cut-through", 1),
    Life("later", "spool", 1),
    *(Life("none", handover, messages) for handover in ("cut-through", "spool") for messages in (1, 3)),
)


@dataclass(frozen=True)
class Point:
    """Before the ``number``-th call of this kind, of all or of those on the spool's files."""

    calls: str
    number: int
    spool: bool

    def __str__(self) -> str:
        return f"{self.calls.partition(',')[0]}{'-spool' if self.spool else ''}.{self.number}"


UNHARMED = Point("none", 0, False)


def boundaries(life: Life, every: int, tell: Callable[[str], object]) -> Report:
    """``every``: each so many-th point alone."""
    _may_trace()
    began, killed = time.monotonic(), 0
    wrong: list[str] = []
    with scene(0, life.handover) as made:
        made.primary.start()
        points = [*_points(made, life)]
        chosen = points[every // 2 :: every]
        for done, point in enumerate(chosen, 1):
            inject = f"inject={point.calls}:signal=KILL:when={point.number}"
            if _lived(made, life, point, [*_only(made, point.spool), f"-etrace={point.calls}", "-e", inject]):
                killed += 1
                wrong += [f"{point}: {each}" for each in _next_life(made, point)]
            tell(f"{life}: {done} of {len(chosen)}, {killed} killed")
        if made.gateway.running:
            made.gateway.stop()
        audit = made.books.audit(made.primary.arrivals())
    wrong += [f"a fault of ours: {str(each)[-2000:]}" for each in made.gateway.faults()]
    wrong += [f"half done before a start and after it: {each}" for each in made.half]
    # No two lives are alike to the last call; but some come to each.
    if not killed:
        wrong.append(f"none of {len(chosen)} was killed")
    faults = {"points": len(points), "kills": killed}
    return Report(str(life), audit, time.monotonic() - began, faults, made.ready, made.ready_cpu, wrong)


def _may_trace() -> None:
    tried = subprocess.run([need("strace"), "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        impossible(f"strace may not trace here, it needs the right to ptrace: {tried.stderr.strip()}")


def _only(made: Scene, spool: bool) -> list[str]:
    return [f"-P{made.gateway.data}/spool/0/{name}" for name in SPOOL_FILES] if spool else []


def _points(made: Scene, life: Life) -> Iterator[Point]:
    """As counted in a life that is not harmed."""
    trace = made.gateway.folder / "trace"
    calls = ",".join({*EVERYWHERE, *ON_THE_SPOOL})
    for _ in range(2 if life.start == "none" else 1):
        # The second finds what the first has made in its folder, as those will that are killed.
        assert not _lived(made, life, UNHARMED, ["-y", f"-etrace={calls}"], trace), made.gateway.said()
    on_the_spool = re.compile(f'{re.escape(str(made.gateway.data))}/spool/0/?(?:{"|".join(SPOOL_FILES)})[">]')
    counted: Counter[tuple[bool, str, str]] = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        if begun := re.match(r"(\d+) +(\w+)\(", line):
            counted[False, *begun.groups()] += 1
            counted[True, *begun.groups()] += bool(on_the_spool.search(line))
    for spool, kinds in ((False, EVERYWHERE), (True, ON_THE_SPOOL)):
        for kind in kinds:
            one = (times for (where, _, call), times in counted.items() if where == spool and call in kind.split(","))
            yield from (Point(kind, number, spool) for number in range(1, max(one, default=0) + 1))


# --- lives ------------------------------------------------------------------------------------------------------------


def _lived(made: Scene, life: Life, point: Point, arguments: list[str], trace: Path = Path(os.devnull)) -> bool:
    """One life with strace, to its end; whether it was killed."""
    gateway = made.gateway
    strace = [need("strace"), "-f", "-o", str(trace), *arguments]
    beside: Child | None = None
    if life.start == "none":
        if not gateway.running:
            made.start()
        beside = _attached(made, [*strace, "-p", str(gateway.pid)])
        victim = gateway.pid
    else:
        (_anew if life.start == "first" else _left_with_mail)(made, point)
        made.begin(strace)
        until("a start under strace", lambda: not gateway.running or made.greets())
        victim = next(iter(children(gateway.pid)), 0)
    assert gateway.process is not None
    promised = _send(made, point, life.messages)
    until("delivered", lambda: not gateway.running or promised <= _arrived(made))
    if victim:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGTERM)
    killed = gateway.process.wait(LATE_SECONDS) != 0
    if killed:
        made.books.cut(time.monotonic(), "gateway")
    if beside is not None and beside.process is not None:
        beside.process.wait(LATE_SECONDS)
    return killed


def _anew(made: Scene, _: Point) -> None:
    if made.gateway.running:
        made.gateway.stop()
    shutil.rmtree(made.gateway.data, ignore_errors=True)


def _left_with_mail(made: Scene, point: Point) -> None:
    """The primary stands still meanwhile, so that nothing is delivered."""
    if not made.gateway.running:
        made.start()
    os.kill(made.primary.pid, signal.SIGSTOP)
    try:
        assert len(_send(made, point, len(SIZES), "left")) == len(SIZES)
        made.kill()
    finally:
        os.kill(made.primary.pid, signal.SIGCONT)


def _attached(made: Scene, command: list[str]) -> Child:
    beside = Child("strace", made.gateway.folder)
    beside.errors.unlink(missing_ok=True)
    beside.spawn(command)
    until("strace attached", lambda: not beside.running or "attached" in beside.errors.read_text())
    assert beside.running, beside.said()
    return beside


def _next_life(made: Scene, point: Point) -> list[str]:
    """What is wrong with it; it goes on."""
    made.start()
    served = _send(made, point, 1, "after")
    promised = {serial for serial in made.books.promises if serial.startswith(f"{point}.")}
    until(f"what was promised before and after {point}", lambda: promised <= _arrived(made), LATE_SECONDS)
    return [] if served else ["the next life takes no mail"]


# --- mail -------------------------------------------------------------------------------------------------------------


def _send(made: Scene, point: Point, messages: int, name: str = "before") -> set[str]:
    """Each once, on one connection; the serials of those that were promised."""
    promised = set()
    try:
        with Wire(made.gateway.port, timeout=LATE_SECONDS) as wire:
            wire.hello()
            for size in SIZES[:messages]:
                serial = f"{point}.{name}.{len(made.books.digests)}"
                content = message(serial, size, random.Random(serial))
                made.books.sent(serial, hashlib.sha256(content).hexdigest())
                wire.envelope("someone@stranger.example", f"user@{DOMAIN}")
                answer = wire.content(content)
                made.books.answered(serial, time.monotonic(), answer.code, answer.id)
                if answer.code == 250:
                    promised.add(serial)
    except (OSError, EOFError, AssertionError):
        # Killed on its way.
        pass
    return promised


def _arrived(made: Scene) -> set[str]:
    return {copy.serial for copy in made.primary.arrivals().copies}
