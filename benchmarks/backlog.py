"""A destination that is down while mail comes, and then comes back: what waiting costs, and how soon it is over.

Knows one destination and usual letters. The figures: ``accepted_rate`` and ``rate``, messages a second in while it is
down and out once it is back; ``mib``, memory while all wait, and ``kib_each``, by how much it grew for each;
``list_s``, seconds to show them all; ``cpu_ms``, processor time for each on its way out.
"""

from __future__ import annotations

import subprocess
import time

from benchmarks import proc
from benchmarks.figures import Figures
from benchmarks.load import Plan
from benchmarks.peers import Peer
from benchmarks.scenarios import load

MESSAGES = 20_000
SETTLED_SECONDS = 2.0


def outage(peer: Peer, messages: int) -> Figures:
    """Of a new peer."""
    peer.sink.stop()
    before = proc.pss_kib(peer.pid)
    accepted = load(Plan(peer.port, 20, messages, per_connection=10))
    done = accepted["done"]
    # Whatever is tried at once has been tried.
    time.sleep(SETTLED_SECONDS)
    held = proc.pss_kib(peer.pid)
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
        "accepted_rate": done / max(accepted["seconds"], 1e-9),
        "kib_each": (held - before) / max(done, 1),
        "mib": held / 1024,
        "list_s": listed,
        "rate": peer.sink.count() / seconds,
        "cpu_ms": (peer.cpu_seconds() - cpu) / max(done, 1) * 1000,
        "failed": float(messages - done + (0 if complete else 1)),
    }
