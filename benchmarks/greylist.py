"""What a greylist decision costs with a million triplets: ``python -m benchmarks.greylist [TRIPLETS]``.

The real check, store, file and writer thread, without sockets: a warm store is filled, closed, opened, and then asked
as mail would ask, a third each of strangers, of known triplets not asked for lately, and of ones just seen.
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
from inboundmx.model.session import Session
from inboundmx.model.settings import Settings
from inboundmx.policy.greylisting import names, triplet
from inboundmx.ports import Fact
from inboundmx.storage.state import FILE_NAME, SqliteStateStore
from inboundmx.storage.state_file import BATCH_FACTS, StateFile

DECISIONS = 30_000
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


def measure(folder: str, triplets: int) -> dict[str, Any]:
    clock, from_thread, reports = WallClock(), FromThread(), []
    store = SqliteStateStore(folder, clock, from_thread, lambda event, fields: reports.append((event, fields)))
    nothing: Any = None
    check = Greylist({}, Tools(SETTINGS, clock, nothing, store, nothing, nothing, nothing, nothing))
    chance = random.Random(1)
    seconds: dict[str, list[float]] = {"new": [], "known": [], "just seen": []}
    cpu = time.thread_time()
    busy = 0.0
    for number in range(DECISIONS):
        kind = ("new", "known", "just seen")[number % 3]
        if kind != "just seen":
            # Those that expire first make room for the new ones.
            who = person(triplets + number if kind == "new" else chance.randrange(triplets * 9 // 10))
        peer, sender, recipient = who
        case = Case(Session("s", peer, 1, "192.0.2.1", 0.0), Envelope(sender), recipient)
        cpu, started = time.thread_time(), time.perf_counter()
        try:
            check.examine(case).send(None)
        except StopIteration as stop:
            seen = stop.value.outcome
        seconds[kind].append(time.perf_counter() - started)
        busy += time.thread_time() - cpu
        assert kind == "just seen" or seen == kind, (kind, seen)
        clock.run_due()
        from_thread.run()
    closed = store.close()
    while not closed.called:
        from_thread.run()
    every = sorted(each for some in seconds.values() for each in some)
    return {
        "triplets": triplets,
        "file_octets": os.path.getsize(os.path.join(folder, FILE_NAME)),
        "cpu_us_per_decision": round(busy / DECISIONS * 1e6, 1),
        "p50_us": {kind: round(sorted(some)[len(some) // 2] * 1e6, 1) for kind, some in seconds.items()},
        "p95_us": round(every[int(len(every) * 0.95)] * 1e6, 1),
        "p99_us": round(every[int(len(every) * 0.99)] * 1e6, 1),
        "worst_ms": round(every[-1] * 1e3, 2),
        "reports": reports,
    }


def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    """For ``python -m benchmarks --only greylist``, in an empty folder."""
    triplets = int(1_000_000 * min(1.0, effort.scale))
    took = fill(str(folder), triplets)
    found = measure(str(folder), triplets)
    figures = {
        "cpu_us": found["cpu_us_per_decision"],
        **{f"{kind} p50_us": us for kind, us in found["p50_us"].items()},
        **{name: found[name] for name in ("p95_us", "p99_us", "worst_ms")},
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
    triplets = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="inboundmx-greylist-") as folder:
        took = fill(folder, triplets)
        print(json.dumps({"filled_in_seconds": round(took, 1), **measure(folder, triplets)}, indent=2))


if __name__ == "__main__":
    main()
