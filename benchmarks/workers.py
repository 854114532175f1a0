"""What a second worker brings, with generator and sink on cores of their own: smtp-source sends, smtp-sink counts.

Knows which cores are whose where there are enough. Where there are not, it measures the same, and says that this says
nothing: whoever is measured then shares its cores with those who measure.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, medians
from benchmarks.peers import DOMAIN, Failed, Ours, Sink, program
from benchmarks.scenarios import Effort, introduce, turns

SESSIONS = 50
# A second at most of what one worker does, and so about so many messages for each second of a load.
MESSAGES_A_SECOND = 4000


def shares() -> tuple[Set[int], Set[int], Set[int]]:
    """Cores of the gateway, the sink and the generator: two and one and one, or all of them for everybody."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 4:
        return set(cores), set(cores), set(cores)
    return set(cores[:2]), {cores[2]}, {cores[3]}


@contextlib.contextmanager
def pinned(cores: Set[int]) -> Iterator[None]:
    """Whoever is started meanwhile stays on these."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class PinnedSink(Sink):
    def start(self) -> None:
        with pinned(shares()[1]):
            super().start()


def sent(gateway: Ours, messages: int) -> Figures:
    """By smtp-source, one message a connection, until the sink has them."""
    command = [program("smtp-source", "postfix"), "-s", str(SESSIONS), "-m", str(messages), "-l", "4096"]
    command += ["-f", "load@stranger.example", "-t", f"user@{DOMAIN}", "-M", "load.stranger.example"]
    before, cpu, at = gateway.sink.count(), gateway.cpu_seconds(), time.perf_counter()
    with pinned(shares()[2]):
        done = subprocess.run(
            [*command, f"127.0.0.1:{gateway.port}"], capture_output=True, text=True, check=False, timeout=300
        )
    if done.returncode != 0 or not gateway.sink.wait_for(before + messages):
        raise Failed(f"smtp-source lost messages: {done.stderr[-300:]}")
    return {
        "rate": messages / (time.perf_counter() - at),
        "cpu_ms": (gateway.cpu_seconds() - cpu) / messages * 1000,
    }


def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    gateways: dict[str, Ours] = {}
    every: dict[str, list[Figures]] = {}
    try:
        for count in (1, 2):
            with pinned(shares()[0]):
                name = f"{count} worker{'' if count == 1 else 's'}"
                gateways[name] = Ours(folder / str(count), workers=count, sink=PinnedSink)
            introduce(gateways[name])
        for name in turns(gateways, effort.repeats):
            every.setdefault(name, []).append(sent(gateways[name], int(MESSAGES_A_SECOND * effort.seconds)))
    finally:
        for gateway in gateways.values():
            gateway.stop()
    cores = len(os.sched_getaffinity(0))
    result: dict[str, Any] = {
        "scenario": "workers",
        "what": f"accept and forward by one worker and by two: {SESSIONS} sessions, one 4 KB message a connection",
        "figures": medians(every),
        "every": every,
        "compare": [["2 workers", "1 worker"]],
    }
    if cores < 4:
        result["not_measurable"] = f"{cores} cores: two workers share them with the generator and the sink"
    return [result]
