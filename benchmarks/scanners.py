"""How much of spamd's own rate is left when a gateway stands before it, with clamd and spamd on.

The same letters are put to the same spamd in turns: by a generator that speaks SPAMC alone, and by strangers through
the gateway. Both ask as many at once as spamd has children, and both once more with four times as many, which wait.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import proc
from benchmarks.figures import Figures, medians, percentiles
from benchmarks.load import content
from benchmarks.peers import Ours
from benchmarks.scenarios import Effort, forward
from benchmarks.services import Clamd, Spamd, outcomes

LETTER = content(4096)[:-3]
# As long as the one that the gateway puts before what it asks about.
TRACE = (
    b"Received: from load.stranger.example ([127.0.0.1])\r\n\tby mx.gateway.example (inboundmx) with ESMTP\r\n"
    b"\tfor <user@here.example>; Sun, 22 Nov 2026 00:00:00 +0000\r\n"
)
EXPECTED = {"clamav": "clean", "spamassassin": "none low medium high"}
# Of one run for each child. Short runs in many turns: what else the machine does then meets both alike.
MESSAGES = 40


def configured(clamd: Clamd, spamd: Spamd, children: int) -> str:
    return f"""
[check clamav]
use = clamav
servers = unix:{clamd.path}
timeout = 10s
[check spamassassin]
use = spamassassin
servers = tcp:127.0.0.1:{spamd.port}
at_once = {children}
timeout = 60s
weight.low = 10
weight.medium = 20
weight.high = 30
"""


def ask(port: int, at_once: int, messages: int) -> dict[str, Any]:
    """The rate that spamd alone gives: so many askers, each with the next letter as soon as it has an answer."""
    octets = TRACE + LETTER
    question = b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(octets) + octets
    left = iter(range(messages))
    lock = threading.Lock()
    seconds: list[float] = []

    def asker() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            started = time.perf_counter()
            with socket.create_connection(("127.0.0.1", port), 60.0) as line:
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line.sendall(question)
                line.shutdown(socket.SHUT_WR)
                heard = b""
                while more := line.recv(65536):
                    heard += more
            if heard.startswith(b"SPAMD/") and b" 0 EX_OK" in heard[:20]:
                seconds.append(time.perf_counter() - started)

    askers = [threading.Thread(target=asker) for _ in range(at_once)]
    started = time.perf_counter()
    for each in askers:
        each.start()
    for each in askers:
        each.join()
    return {"rate": len(seconds) / (time.perf_counter() - started), "failed": messages - len(seconds)} | {
        f"mail_{name}_ms": value for name, value in percentiles(seconds).items()
    }


def alone(port: int, at_once: int, messages: int) -> Figures:
    """Asked by a process of its own, as the strangers are one."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scanners", json.dumps([port, at_once, messages])],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    figures: Figures = json.loads(done.stdout)
    return figures


def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    """With as many children as there are cores, and, given time, with one, which leaves a core to everybody else."""
    cores = os.cpu_count() or 1
    found = []
    for children in sorted({1, cores} if effort.scale >= 1 else {cores}):
        where = folder / str(children)
        where.mkdir()
        where.chmod(0o755)
        found.append(_measured(effort, where, children))
    return found


def _measured(effort: Effort, folder: Path, children: int) -> dict[str, Any]:
    messages = max(20, int(MESSAGES * effort.scale)) * children
    letter = folder / "letter"
    letter.write_bytes(LETTER)
    clamd = Clamd(folder / "clamd")
    every: dict[str, list[Figures]] = {}
    running: list[Any] = [clamd]
    try:
        spamd = Spamd(folder / "spamd", children)
        running.append(spamd)
        gateway = Ours(folder / "gateway", "cut-through", configured(clamd, spamd, children))
        running.append(gateway)

        def through(at_once: int, count: int) -> Figures:
            return forward(gateway, at_once, count, message=str(letter))

        def by_itself(at_once: int, count: int) -> Figures:
            return alone(spamd.port, at_once, count)

        ways = {"spamd alone": by_itself, "gateway": through}
        # Its first letters a child takes longer over.
        for way in ways.values():
            way(4 * children, 10 * children)
        for repeat in range(effort.repeats):
            for factor, suffix in ((1, ""), (4, ", 4 a child")):
                for name in list(ways) if repeat % 2 == 0 else reversed(ways):
                    spent = [proc.cpu_seconds(each.pid) for each in (spamd, clamd)]
                    figures = ways[name](factor * children, messages)
                    for what, each, before in zip(("spamd", "clamd"), (spamd, clamd), spent, strict=True):
                        figures[f"{what}_cpu_ms"] = (proc.cpu_seconds(each.pid) - before) / messages * 1000
                    every.setdefault(name + suffix, []).append(figures)
        # The log is written a little later.
        time.sleep(0.5)
        asked, wrong = outcomes(folder / "gateway" / "gateway.log", EXPECTED)
    finally:
        for each in reversed(running):
            each.stop()
    rates = {name: statistics.median(each["rate"] for each in rounds) for name, rounds in every.items()}
    notes = [
        f"{'4 letters' if suffix else '1 letter'} at once a child: the gateway keeps "
        f"{rates['gateway' + suffix] / rates['spamd alone' + suffix]:.3f} of spamd's own rate (ratio of medians)"
        for suffix in ("", ", 4 a child")
    ]
    by_cpu = [
        each["spamd_cpu_ms"] / (each["spamd_cpu_ms"] + each["clamd_cpu_ms"] + each["cpu_ms"])
        for name, rounds in every.items() if name.startswith("gateway") for each in rounds
    ]  # fmt: skip
    notes.append(
        f"by CPU spamd has {statistics.median(by_cpu):.3f} of what spamd, clamd and gateway spend on a letter: what "
        "can be left of its rate where nobody has a core to spare"
    )
    notes.append(f"of {asked} letters handed over, {wrong} had not been looked at by both scanners")
    return {
        "scenario": f"scanners, {children} {'child' if children == 1 else 'children'}",
        "what": f"the rate of {messages} letters of 4 KB with clamd and spamd on, beside spamd alone",
        "figures": medians(every),
        "every": every,
        "compare": [["gateway", "spamd alone"], ["gateway, 4 a child", "spamd alone, 4 a child"]],
        "notes": notes,
    }


if __name__ == "__main__":
    print(json.dumps(ask(*json.loads(sys.argv[1]))))
