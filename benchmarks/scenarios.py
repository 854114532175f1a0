"""What is measured: each scenario loads every peer in turn, repeat by repeat, and hands back plain figures.

Knows loads and figures. Does not know how peers are started, nor how figures are printed.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks import proc
from benchmarks.load import Plan, content, percentiles
from benchmarks.peers import Peer

Figures = dict[str, float]


@dataclass(frozen=True)
class Effort:
    """``scale`` multiplies the number of messages, ``repeats`` is how often each pair is measured."""

    scale: float
    repeats: int


QUICK = Effort(scale=0.25, repeats=3)
FULL = Effort(scale=1.0, repeats=5)


def medians(every: Mapping[str, Sequence[Figures]]) -> dict[str, Figures]:
    """Of each figure over all repeats, by what was measured."""
    return {
        name: {key: statistics.median(each[key] for each in repeats) for key in repeats[0]}
        for name, repeats in every.items()
    }


def load(plan: Plan) -> dict[str, object]:
    """A load in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(asdict(plan))], capture_output=True, text=True, check=True
    )
    figures: dict[str, object] = json.loads(done.stdout)
    return figures


def forward(
    peer: Peer, sessions: int, messages: int, *, refused: bool = False, message: str = "", source: str = ""
) -> Figures:
    """Messages in, and out again at the sink: rates a second, CPU milliseconds a message, latencies in ms."""
    plan = Plan(peer.port, sessions, messages, refused=refused, message=message, source=source)
    if refused:
        plan.recipient = "user@elsewhere.test"
    before, cpu = peer.sink.count(), peer.cpu_seconds()
    result = load(plan)
    done = int(str(result["done"]))
    complete = refused or peer.sink.wait_for(before + done)
    seconds = time.perf_counter() - float(str(result["started"]))
    figures = {
        "rate": done / (float(str(result["seconds"])) if refused else seconds),
        "accepted_rate": done / max(float(str(result["seconds"])), 1e-9),
        "cpu_ms": (peer.cpu_seconds() - cpu) / max(done, 1) * 1000,
        "failed": float(messages - done + (0 if complete else 1)),
    }
    for name in ("mail_ms", "dot_ms"):
        spread = result[name]
        assert isinstance(spread, dict)
        for percentile, value in spread.items():
            figures[f"{name.removesuffix('_ms')}_{percentile}_ms"] = value
    return figures


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
    held = Held(peer.port, count, 30.0)
    try:
        grown = proc.pss_kib(peer.pid) - before
        served = load(Plan(peer.port, 1, 20))
        spread = served["mail_ms"]
        assert isinstance(spread, dict)
        return {
            "held": float(held.greeted),
            "kib_each": grown / max(held.greeted, 1),
            "served": float(str(served["done"])),
            "new_p50_ms": spread.get("p50", float("nan")),
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


@dataclass(frozen=True)
class Scenario:
    """``peers``: names of those measured. ``fresh``: each time a process of its own, because memory that an earlier
    load has left behind would hide what is asked."""

    name: str
    what: str
    peers: Sequence[str]
    fresh: bool = False


SCENARIOS = (
    Scenario("50x1", "50 sessions, one 4 KB message each, end to end", ("postfix", "cut-through", "spool")),
    Scenario("10x1", "10 sessions, one 4 KB message each, end to end", ("postfix", "cut-through", "spool")),
    Scenario("1x1", "1 session, one 4 KB message each, end to end", ("postfix", "cut-through", "spool")),
    Scenario("refused", "50 sessions, a recipient refused in each", ("postfix", "cut-through")),
    Scenario("idle", "connections held idle while new ones are served", ("cut-through",), fresh=True),
    Scenario("large", "30 MB messages on two connections, with a NOOP beside", ("cut-through", "spool"), True),
)


def measure(scenario: Scenario, peer: Peer, effort: Effort) -> Figures:
    """One scenario, one peer, once."""
    match scenario.name:
        case "50x1":
            return forward(peer, 50, int(4000 * effort.scale))
        case "10x1":
            return forward(peer, 10, int(4000 * effort.scale))
        case "1x1":
            return forward(peer, 1, int(1200 * effort.scale))
        case "refused":
            return forward(peer, 50, int(8000 * effort.scale), refused=True)
        case "idle":
            return idle(peer, 2000)
        case "large":
            return large(peer, 2, 30 * 2**20 - 2**16)
    raise AssertionError(scenario.name)
