"""What can be measured of one peer: each function loads it once, and hands back plain figures.

Knows loads and figures. Does not know how peers are started, who is compared, nor how figures are printed.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import proc
from benchmarks.figures import Figures, percentiles
from benchmarks.load import Plan, content
from benchmarks.peers import Failed, Peer


@dataclass(frozen=True)
class Effort:
    """``repeats`` is how often each pair is measured, ``seconds`` how long a load goes on; where it is a number of
    messages that counts, ``scale`` multiplies it. ``held``: how many idle connections, 0 for the usual number."""

    scale: float
    repeats: int
    seconds: float
    held: int = 0


QUICK = Effort(scale=0.25, repeats=2, seconds=0.8)
FULL = Effort(scale=1.0, repeats=5, seconds=2.0)
# For loads that end by the clock: more than any peer takes in that time.
MANY = 1_000_000
# Attempts of a stranger until he is let in, a fifth of a second from each other.
PATIENCE = 15


def turns(peers: Collection[str], repeats: int) -> Iterator[str]:
    """Who is measured next: in each repeat everybody once, and in every other one backwards, so that all take turns at
    going first. Whoever is taken out meanwhile is left out of the repeats that follow."""
    for repeat in range(repeats):
        yield from list(peers) if repeat % 2 == 0 else reversed(list(peers))


def load(plan: Plan) -> dict[str, Any]:
    """A load in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(asdict(plan))], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failed(f"the load ended with {done.returncode}: {done.stderr[-500:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def latencies(result: dict[str, Any]) -> Figures:
    return {
        f"{name}_{percentile}_ms": value
        for name in ("mail", "dot")
        for percentile, value in result[f"{name}_ms"].items()
    }


def introduce(peer: Peer) -> None:
    """The load comes for the first time, which a greylist puts off, and then until all is warm. Raises Failed."""
    for _ in range(PATIENCE):
        if load(Plan(peer.port, 1, 1))["done"]:
            break
        time.sleep(0.2)
    figures = forward(peer, 5, 100)
    if figures["failed"]:
        raise Failed(f"{type(peer).__name__} lost {figures['failed']:.0f} of its first 100 messages")


def forward(peer: Peer, sessions: int, messages: int, **plan: Any) -> Figures:
    """Messages in, and out again at the sink: rates a second, CPU milliseconds a message, latencies in ms. ``plan``:
    more of the ``Plan``."""
    before, cpu = peer.sink.count(), peer.cpu_seconds()
    result = load(Plan(peer.port, sessions, messages, **plan))
    done = result["done"]
    complete = peer.sink.wait_for(before + done)
    return {
        "rate": done / (time.perf_counter() - result["started"]),
        "accepted_rate": done / max(result["seconds"], 1e-9),
        "cpu_ms": (peer.cpu_seconds() - cpu) / max(done, 1) * 1000,
        "load_share": result["load_share"],
        "failed": float(result["begun"] - done + (0 if complete else 1)),
        **latencies(result),
    }


def accepted(peer: Peer, sessions: int, messages: int, **plan: Any) -> Figures:
    """What is said to them at once counts, and not what becomes of them: refused, or taken with no primary there."""
    cpu = peer.cpu_seconds()
    result = load(Plan(peer.port, sessions, messages, **plan))
    done = result["done"]
    return {
        "rate": done / max(result["seconds"], 1e-9),
        "cpu_ms": (peer.cpu_seconds() - cpu) / max(done, 1) * 1000,
        "load_share": result["load_share"],
        "failed": float(result["begun"] - done),
        **latencies(result),
    }


def queued(peer: Peer, sessions: int, **plan: Any) -> Figures:
    """A new peer, whose primary dies before the load comes."""
    peer.sink.stop()
    return accepted(peer, sessions, MANY, **plan)


class Held:
    """Idle connections, each past EHLO; ``greeted`` counts those that came so far within ``seconds``."""

    def __init__(self, port: int, count: int, seconds: float) -> None:
        self.sockets: list[socket.socket] = []
        self.greeted = 0
        deadline = time.monotonic() + seconds
        for _ in range(count):
            try:
                self.sockets.append(socket.create_connection(("127.0.0.1", port), 5.0))
            except OSError:
                continue
        for expected, said in ((b"220", b"EHLO idle.stranger.example\r\n"), (b"250", b"")):
            self.greeted = 0
            for connection in self.sockets:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                try:
                    self.greeted += connection.recv(1024)[:3] == expected
                    connection.sendall(said)
                except OSError:
                    continue

    def close(self) -> None:
        for connection in self.sockets:
            connection.close()


def idle(peer: Peer, count: int) -> Figures:
    """``count`` connections held: KiB of the peer's memory each, and how a new session fares meanwhile."""
    # What the first connections cost once and for all is paid before.
    Held(peer.port, 50, 5.0).close()
    time.sleep(0.3)
    before = proc.pss_kib(peer.pid)
    held = Held(peer.port, count, 60.0)
    try:
        grown = proc.pss_kib(peer.pid) - before
        served = load(Plan(peer.port, 1, 40))
        return {
            "held": float(held.greeted),
            "kib_each": grown / max(held.greeted, 1),
            "failed": float(served["begun"] - served["done"]),
            **latencies(served),
        }
    finally:
        held.close()
        time.sleep(0.3)


class Probe(threading.Thread):
    """NOOP after NOOP on a connection of its own; how long each answer took, in seconds."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self._connection = socket.create_connection(("127.0.0.1", port), 60.0)
        self._connection.recv(512)
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(0.005):
            at = time.perf_counter()
            self._connection.sendall(b"NOOP\r\n")
            self._connection.recv(512)
            self.seconds.append(time.perf_counter() - at)

    def finish(self) -> list[float]:
        self._enough.set()
        self.join(60)
        self._connection.close()
        return self.seconds


SENDER = """
import json, sys
from benchmarks.load import content
from benchmarks.sender import Sender
port, size = json.loads(sys.argv[1])
body = content(size)
sender = Sender(port)
sender.begin()
sender.wire.sendall(body[:-3])
print("received", flush=True)
sys.stdin.readline()
sender.wire.sendall(body[-3:])
print(sender.answer()[:3], flush=True)
"""


def large(peer: Peer, connections: int, size: int) -> Figures:
    """``connections`` messages of ``size`` octets at once: memory added by each while it is received, and the longest
    that a NOOP of somebody else had to wait from the first octet to the last 250."""
    forward(peer, 1, 5)
    before, sink = proc.resident_kib(peer.pid), peer.sink.count()
    for pid in proc.tree(peer.pid):
        proc.forget_peak(pid)
    probe = Probe(peer.port)
    probe.start()
    at = time.perf_counter()
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER, json.dumps([peer.port, size])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(connections)
    ]
    answers = []
    for sender in senders:
        assert sender.stdout is not None
        sender.stdout.readline()
    received_in = time.perf_counter() - at
    peak = proc.peak_kib(peer.pid) - before
    for sender in senders:
        answers.append(sender.communicate("\n")[0].strip())
    peer.sink.wait_for(sink + answers.count("250"))
    spread = percentiles(probe.finish())
    return {
        "failed": float(connections - answers.count("250")),
        "receive_mb_s": connections * len(content(size)) / 2**20 / received_in,
        "mib_each": peak / 1024 / connections,
        "noop_p99_ms": spread["p99"],
        "noop_max_ms": spread["max"],
    }
