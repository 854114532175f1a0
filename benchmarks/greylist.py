"""What a greylist decision costs with a million triplets: ``python -m benchmarks.greylist [--keep] [TRIPLETS]``.

The real check, store, file and writer thread, without sockets: a store is filled and asked as mail would ask, a third
each of strangers whom SPF confirms (for them most is looked up), of known triplets not asked for lately, and of ones
just seen. Then it is opened once more, nothing of the file in memory, and asked for known triplets. ``--keep`` writes
the figures into docs/greylisting.md.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scenarios import Effort
from inboundmx.checks.api import Case, Tools
from inboundmx.checks.greylist import SPACE, Greylist
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.session import Session
from inboundmx.model.settings import Settings
from inboundmx.policy.greylisting import names, triplet
from inboundmx.ports import Fact
from inboundmx.storage.state import FILE_NAME, SqliteStateStore
from inboundmx.storage.state_file import BATCH_FACTS, StateFile
from inboundmx.storage.writer import InlineLane

DECISIONS = 30_000
COLD_DECISIONS = 3000
PAGE = Path(__file__).parent.parent / "docs" / "greylisting.md"
BEGIN, END = "<!-- Written by python -m benchmarks.greylist --keep -->\n", "<!-- end -->\n"
SETTINGS = Settings()


class _Timer:
    def cancel(self) -> None:
        """Nothing is called back by itself here."""


class WallClock:
    """``ports.Clock`` whose callbacks are made when the loop looks, as a reactor's are."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[..., object]]] = []

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> _Timer:
        self.calls.append((time.monotonic() + seconds, lambda: call(*arguments)))
        return _Timer()

    def run_due(self) -> None:
        now = time.monotonic()
        due = [call for at, call in self.calls if at <= now]
        self.calls = [(at, call) for at, call in self.calls if at > now]
        for call in due:
            call()


class FromThread:
    """What the writer hands back, done when the loop looks."""

    def __init__(self) -> None:
        self._calls: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()

    def __call__(self, *call: Any) -> None:
        with self._lock:
            self._calls.append(call)

    def run(self) -> None:
        with self._lock:
            calls, self._calls = self._calls, []
        for call, *arguments in calls:
            call(*arguments)


def person(number: int) -> tuple[str, Address, Address]:
    """The client, sender and recipient of this number: addresses as long as usual ones."""
    chance = random.Random(number)
    peer = f"{chance.randrange(1, 224)}.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"
    sender = Address(f"sender.{number:x}", f"mail{chance.randrange(10**6):x}.sender.example")
    return peer, sender, Address(f"user{chance.randrange(5000)}", "here.example")


def fill(folder: str, triplets: int) -> float:
    """Seconds it took."""
    started = time.monotonic()
    now = time.time()
    file = StateFile(os.path.join(folder, FILE_NAME))
    expire = SETTINGS.greylisting.expire
    for start in range(0, triplets, BATCH_FACTS):
        facts = {}
        for number in range(start, min(triplets, start + BATCH_FACTS)):
            peer, sender, recipient = person(number)
            key = triplet(names(peer, sender, False, SETTINGS.greylisting)[0], sender, recipient)
            facts[SPACE, key] = Fact((now, now), now, now + expire - number / 1e6)
        file.write(facts, {}, now)
    file.close()
    return time.monotonic() - started


def decided(check: Greylist, who: tuple[str, Address, Address], confirmed: bool) -> tuple[str, float]:
    """The outcome, and the seconds it took."""
    peer, sender, recipient = who
    facts = (("spf_mailfrom", sender.domain),) if confirmed else ()
    results = (CheckResult("spf", "spf", Stage.SENDER, Finding("pass" if confirmed else "none", facts=facts)),)
    case = Case(Session("s", peer, 1, "192.0.2.1", 0.0), Envelope(sender), recipient, None, results)
    started = time.perf_counter()
    try:
        check.examine(case).send(None)
    except StopIteration as stop:
        outcome: str = stop.value.outcome
    return outcome, time.perf_counter() - started


def check_over(store: SqliteStateStore, clock: WallClock) -> Greylist:
    nothing: Any = None
    return Greylist({}, Tools(SETTINGS, clock, nothing, store, nothing, nothing, nothing, nothing))


def measure(folder: str, triplets: int) -> dict[str, Any]:
    clock, from_thread, reports = WallClock(), FromThread(), []
    store = SqliteStateStore(folder, clock, from_thread, lambda event, fields: reports.append((event, fields)))
    check, chance = check_over(store, clock), random.Random(1)
    seconds: dict[str, list[float]] = {"new": [], "known": [], "just seen": []}
    busy = served = 0.0
    cpu_before, ours_before = time.process_time(), time.thread_time()
    for number in range(DECISIONS):
        kind = ("new", "known", "just seen")[number % 3]
        if kind != "just seen":
            # Those that expire first make room for the new ones.
            who = person(triplets + number if kind == "new" else chance.randrange(triplets * 9 // 10))
        cpu = time.thread_time()
        seen, took = decided(check, who, kind == "new")
        decision = time.thread_time() - cpu
        seconds[kind].append(took)
        assert kind == "just seen" or seen == kind, (kind, seen)
        cpu = time.thread_time()
        clock.run_due()
        from_thread.run()
        busy += decision
        served += time.thread_time() - cpu
    closed = store.close()
    while not closed.called:
        # What the writer waits for its disk is no work of anybody.
        time.sleep(0.001)
        from_thread.run()
    # Who asks is made up in this thread as well: that is no cost of deciding.
    writer = time.process_time() - cpu_before - (time.thread_time() - ours_before)
    every = sorted(each for some in seconds.values() for each in some)
    return {
        "triplets": triplets,
        "file_octets": os.path.getsize(os.path.join(folder, FILE_NAME)),
        "cpu_us_per_decision": round(busy / DECISIONS * 1e6, 1),
        "cpu_us_with_writing": round((busy + served + writer) / DECISIONS * 1e6, 1),
        "p50_us": {kind: round(part(sorted(some), 0.5) * 1e6, 1) for kind, some in seconds.items()},
        "p95_us": round(part(every, 0.95) * 1e6, 1),
        "p99_us": round(part(every, 0.99) * 1e6, 1),
        "worst_ms": round(every[-1] * 1e3, 2),
        "cold": cold(folder, triplets, clock),
        "reports": reports,
    }


def cold(folder: str, triplets: int, clock: WallClock) -> dict[str, Any]:
    """Known triplets asked for by a process that has just begun, on a machine that has not read the file yet."""
    with open(os.path.join(folder, FILE_NAME), "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    store = SqliteStateStore(folder, clock, lambda call, *rest: call(*rest), lambda *_: None, lambda _: InlineLane())
    check, chance = check_over(store, clock), random.Random(2)
    took = []
    for _ in range(COLD_DECISIONS):
        who = person(chance.randrange(triplets // 2, triplets * 9 // 10))
        took.append(decided(check, who, False)[1])
    store.close()
    took.sort()
    return {
        "p50_us": round(part(took, 0.5) * 1e6, 1),
        "p95_ms": round(part(took, 0.95) * 1e3, 2),
        "worst_ms": round(took[-1] * 1e3, 2),
    }


def part(ordered: list[float], share: float) -> float:
    return ordered[int(len(ordered) * share)]


def table(found: dict[str, Any]) -> str:
    """For docs/greylisting.md."""
    kinds, least = found["p50_us"], found["cold"]
    rows = [
        ("processor time of a decision", f"{found['cpu_us_per_decision']:g} µs", "100 µs"),
        ("the same, with what its writing costs in another thread", f"{found['cpu_us_with_writing']:g} µs", ""),
        *((f"time of a decision, {kind}, median", f"{us:g} µs", "") for kind, us in kinds.items()),
        ("95 of 100 within", f"{found['p95_us'] / 1e3:.2f} ms", "5 ms"),
        ("99 of 100 within", f"{found['p99_us'] / 1e3:.2f} ms", ""),
        ("nothing of the file in memory: median", f"{least['p50_us'] / 1e3:.2f} ms", ""),
        ("nothing of the file in memory: 95 of 100 within", f"{least['p95_ms']:g} ms", "5 ms"),
        ("size of the file", f"{found['file_octets'] / 2**20:.0f} MB", "300 MB"),
    ]
    lines = [f"| with {found['triplets']:,} triplets | measured | at most |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {value} | {most} |" for what, value, most in rows)]) + "\n"


def keep(found: dict[str, Any]) -> None:
    before, marker, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert marker and end, f"{PAGE} has no place for figures"
    PAGE.write_text(before + BEGIN + table(found) + END + after, encoding="utf-8")


def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    """For ``python -m benchmarks --only greylist``, in an empty folder."""
    triplets = int(1_000_000 * min(1.0, effort.scale))
    took = fill(str(folder), triplets)
    found = measure(str(folder), triplets)
    figures = {
        "cpu_us": found["cpu_us_per_decision"],
        **{f"{kind} p50_us": us for kind, us in found["p50_us"].items()},
        **{name: found[name] for name in ("p95_us", "p99_us", "worst_ms")},
        "cold p95_ms": found["cold"]["p95_ms"],
        "file_mb": found["file_octets"] / 1e6,
    }
    return [
        {
            "scenario": "greylist",
            "what": f"{DECISIONS} decisions with {triplets} triplets",
            "figures": {"greylist": figures},
            "every": {"greylist": [found]},
            "notes": [f"filled in {took:.1f} s", *map(str, found["reports"])],
        }
    ]


def main() -> None:
    words = sys.argv[1:]
    numbers = [int(word) for word in words if word.isdigit()]
    triplets = numbers[0] if numbers else 1_000_000
    with tempfile.TemporaryDirectory(prefix="inboundmx-greylist-") as folder:
        took = fill(folder, triplets)
        found = measure(folder, triplets)
    print(json.dumps({"filled_in_seconds": round(took, 1), **found}, indent=2))
    if "--keep" in words:
        keep(found)


if __name__ == "__main__":
    main()
