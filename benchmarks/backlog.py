"""A destination that is down while mail comes, and then comes back: what waiting costs, and how soon it is over.

Knows one destination and usual letters. The figures: ``accepted_rate`` and ``rate``, messages a second in while it is
down and out once it is back; ``kib_each``, memory for each that waits; ``list_s``, seconds to show them all;
``cpu_ms``, processor time for each on its way out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import proc
from benchmarks.load import Plan
from benchmarks.peers import NotHere, Ours, Peer, Postfix
from benchmarks.scenarios import Effort, Figures, load, medians

MESSAGES = 20_000
SETTLED_SECONDS = 2.0
MAKERS: dict[str, Callable[[Path], Peer]] = {
    "postfix": Postfix,
    "inboundmx": lambda folder: Ours(folder, "cut-through"),
}


def outage(peer: Peer, messages: int) -> Figures:
    """The peer is new, and has seen no mail."""
    load(Plan(peer.port, 5, 50))
    peer.sink.wait_for(50)
    peer.sink.stop()
    before = proc.pss_kib(peer.pid)
    accepted = load(Plan(peer.port, 20, messages, per_connection=10))
    done = int(str(accepted["done"]))
    # Whatever is tried at once has been tried.
    time.sleep(SETTLED_SECONDS)
    grown = proc.pss_kib(peer.pid) - before
    at = time.perf_counter()
    subprocess.run(peer.list_command(), stdout=subprocess.DEVNULL, check=True)
    listed = time.perf_counter() - at
    peer.sink.start()
    cpu, at = peer.cpu_seconds(), time.perf_counter()
    flush = subprocess.Popen(peer.flush_command(), stdout=subprocess.DEVNULL)
    complete = peer.sink.wait_for(done)
    seconds = time.perf_counter() - at
    flush.wait(120)
    return {
        "accepted_rate": done / max(float(str(accepted["seconds"])), 1e-9),
        "kib_each": grown / max(done, 1),
        "list_s": listed,
        "rate": peer.sink.count() / seconds,
        "cpu_ms": (peer.cpu_seconds() - cpu) / max(done, 1) * 1000,
        "failed": float(messages - done + (0 if complete else 1)),
    }


def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    messages = int(MESSAGES * effort.scale)
    every: dict[str, list[Figures]] = {name: [] for name in MAKERS}
    for repeat in range(effort.repeats):
        for name in MAKERS if repeat % 2 == 0 else reversed(MAKERS):
            place = Path(tempfile.mkdtemp(dir=folder))
            # Postfix is several users.
            place.chmod(0o755)
            try:
                peer = MAKERS[name](place / name)
            except NotHere as reason:
                if name != "postfix":
                    raise
                print(f"without {name}: {reason}", file=sys.stderr)
                continue
            try:
                every[name].append(outage(peer, messages))
            finally:
                peer.stop()
            print(".", end="", file=sys.stderr, flush=True)
    every = {name: figures for name, figures in every.items() if figures}
    return [
        {
            "scenario": "backlog",
            "what": f"{messages} messages of 4 KB wait for a destination that is down, and are sent when it is back",
            "figures": medians(every),
            "every": every,
            "compare": [("inboundmx", "postfix")],
        }
    ]
