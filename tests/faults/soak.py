"""The soak: the real program, one hundred and fifty thousand messages of every kind, and what it keeps of them.

``make soak [MESSAGES=150000] [SECONDS=…]``. Knows the world around a gateway for a long run: strangers by a proxy, name
servers, a scanner that fails at times, a primary that comes and goes, an operator who looks and reloads. Samples memory
and descriptors of every process; at the end every promise is held against what arrived.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "system"), str(HERE)]

from corpus import SIGNER, SPF_DOMAINS, Corpus  # noqa: E402
from figures import RESULTS, Figure, exactly, keep  # noqa: E402
from lab import CountingPrimary, descriptors, resident_mib  # noqa: E402
from name_servers import Nsd  # noqa: E402
from page import rewrite  # noqa: E402
from plot import Panel, drawn  # noqa: E402
from programs import Certificate, Gateway, Stage, domain, free_port, stage  # noqa: E402
from scanners import Liar, read_stream  # noqa: E402
from strangers import Strangers  # noqa: E402

from benchmarks.proc import tree  # noqa: E402
from benchmarks.services import Signer, text_row  # noqa: E402

SEED = 1
THREADS = 10
SAMPLE_SECONDS = 1.0
PROGRESS_SECONDS = 15.0
# What belongs to getting warm: caches fill, pools open, the greylist learns who is who.
WARM_UP = 0.2
WARM = 100_000
# Changes in the world over the run, and over a short one.
EVENTS, FEW_EVENTS = 60, 5
# A connection to the primary is kept for half of this.
QUIET_SECONDS = 60.0


@dataclass
class Samples:
    """By process name: messages sent so far, and resident MiB or open descriptors then."""

    memory: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    descriptors: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def take(self, gateway: Gateway, sent: int) -> None:
        for name, pid in processes(gateway).items():
            with contextlib.suppress(OSError):
                self.memory.setdefault(name, []).append((sent, resident_mib(pid)))
                self.descriptors.setdefault(name, []).append((sent, descriptors(pid)))


def processes(gateway: Gateway) -> dict[str, int]:
    """Supervisor, nursery and workers by a name that stays when one of them is replaced."""
    if not gateway.running:
        return {}
    pids = tree(gateway.pid)
    if len(pids) == 1:
        return {"gateway": pids[0]}
    # It starts the nursery first, which starts the workers.
    names = ["supervisor", "nursery", *(f"worker {number}" for number in range(len(pids) - 2))]
    return dict(zip(names, pids, strict=True))


def drift(points: list[tuple[int, float]], whole: int) -> float:
    """Per cent that the median of the last quarter after the warm-up is above that of the first."""
    warm = [(at, value) for at, value in points if at >= whole * WARM_UP]
    if len(warm) < 8:
        return 0.0
    quarter = len(warm) // 4
    first = statistics.median(value for _, value in warm[:quarter])
    last = statistics.median(value for _, value in warm[-quarter:])
    return (last / first - 1) * 100


CHECKS = """
[check list]
use = dnsbl
zone = list.example
weight.listed = 35
[check spf]
use = spf
weight.fail = 5
[check dkim]
use = dkim
weight.fail = 3
[check rdns]
use = rdns
weight.none = 2
[check helo]
use = helo
[check greylist]
use = greylist
[check low]
use = headers
header = Subject
value = spam low
weight.match = 12
[check medium]
use = headers
header = Subject
value = spam medium
weight.match = 22
[check high]
use = headers
header = Subject
value = spam high
weight.match = 31
[greylisting]
block = 1s
"""


class World:
    """Everything around one gateway, and the gateway."""

    def __init__(self, play: Stage, folder: Path, workers: int, messages: int) -> None:
        self.chance = random.Random(SEED)
        self.messages = messages
        self.signer = Signer(SIGNER)
        certificate = Certificate(folder)
        self.names = Nsd(folder, self._zones())
        self.names.start()
        self.scanner = Liar(self._scan)
        self.scanner_fails = False
        self.primary = CountingPrimary(folder).start()
        self.proxied = free_port()
        self.plain = self._sections(certificate)
        self.gateway = play.gateway(
            self.plain,
            gateway_keys=f"workers = {workers}\n",
            extra_listen=f"haproxy:tcp:{self.proxied}:interface=127.0.0.1",
        )
        corpus = Corpus(SEED, self.signer.signed)
        self.strangers = Strangers(corpus, self.proxied, messages, THREADS, certificate.trusting())
        self.samples = Samples()
        self.events: Counter[str] = Counter()
        self._next = cycle((self.outage, self.reload, self.look, self.scanner_fails_a_while, self.look))

    def _zones(self) -> dict[str, str]:
        of_senders = {}
        for name in SPF_DOMAINS:
            rows = ['@ TXT "v=spf1 ip4:192.0.2.0/24 -all"', "@ MX 10 mail", "mail A 192.0.2.1"]
            if name == SIGNER:
                rows.append(f"s._domainkey {text_row(self.signer.record)}")
            of_senders[name] = "\n".join(rows)
        return {
            **of_senders,
            "list.example": "2.0.0.127 A 127.0.0.2\n*.113.0.203 A 127.0.0.2",
            "2.0.192.in-addr.arpa": "\n".join(f"{n} PTR c{n}.clients.example." for n in range(1, 128)),
            "clients.example": "\n".join(f"c{n} A 192.0.2.{n}" for n in range(1, 128)),
            "100.51.198.in-addr.arpa": "",
            "113.0.203.in-addr.arpa": "",
        }

    def _sections(self, certificate: Certificate) -> str:
        port = self.primary.port
        return (
            domain(port, greylisting="no", tls="none")
            + domain(port, "spool.example", handover="spool", greylisting="no", tls="none", bounce="always")
            + domain(port, "grey.example", tls="none")
            + "".join(domain(port, name, tls="none", greylisting="no") for name in SPF_DOMAINS)
            + f"[dns]\nservers = 127.0.0.1:{self.names.port}\n"
            + certificate.section
            # What is decided is forgotten as well within the run, and refused mail leads to no end of sessions.
            + "[log]\nkeep_size = 30MB\n[smtp]\nmax_bad_recipients = 5\n"
            # Soon enough that what waits does not pile up; the notices of refused mail are for the senders' domains.
            + "[delivery]\nretry = 1/1/1/5*\nnotices_per_hour = 1000000\n"
            + f"[check av]\nuse = clamav\nservers = {self.scanner.endpoint}\ntimeout = 5s\n"
            + CHECKS
        )

    def _scan(self, line: Any) -> None:
        if not self.scanner_fails:
            read_stream(line)
            line.sendall(b"stream: OK\0")

    # --- what happens -------------------------------------------------------------------------------------------------

    def happen(self) -> None:
        what = next(self._next)
        self.events[what.__name__] += 1
        what()

    def outage(self) -> None:
        self.primary.abort()
        time.sleep(self.chance.choice((0.5, 3.0, 8.0)))
        self.primary.start()

    def scanner_fails_a_while(self) -> None:
        self.scanner_fails = True
        time.sleep(0.5)
        self.scanner_fails = False

    def reload(self) -> None:
        self.gateway.configure(self.plain + f"[level low]\naction = {self.chance.choice(('deliver', 'header'))}\n")
        self.gateway.hangup()

    def look(self) -> None:
        self.gateway.command("status", "--json")
        self.gateway.command("spool", "list", "--limit", "200")
        self.gateway.command("explain", "someone1@" + SPF_DOMAINS[1], status=None)

    # --- quiet --------------------------------------------------------------------------------------------------------

    def quiet(self) -> dict[str, int]:
        """Descriptors of each process when nothing is under way: the least that is seen of them."""
        self.strangers.rest()
        deadline = time.monotonic() + QUIET_SECONDS
        while self.strangers.busy and time.monotonic() < deadline:
            time.sleep(0.1)
        least: dict[str, int] = {}
        while time.monotonic() < deadline:
            for name, pid in processes(self.gateway).items():
                least[name] = min(descriptors(pid), least.get(name, sys.maxsize))
            time.sleep(0.5)
        self.strangers.go_on()
        return least

    def close(self) -> None:
        self.strangers.stop()
        self.gateway.close()
        self.scanner.close()
        self.primary.close()
        self.names.close()


def faults_told(gateway: Gateway) -> list[str]:
    """Lines of its log, which may be long, and of its errors that tell of a fault of ours."""
    found = []
    for path in (gateway.output, gateway.errors):
        with path.open(errors="replace") as lines:
            found += [line[:2000] for line in lines if '"event":"fault"' in line or "Traceback" in line]
    return found


@dataclass
class Balance:
    lost: list[str]
    altered: list[str]
    doubled: int


def balance(world: World) -> Balance:
    """Every promise against what arrived; who is ``gone`` at the primary was told of by a notice instead."""
    arrived: Counter[tuple[str, str]] = Counter()
    altered = []
    ledger = world.strangers.ledger
    for serial, kept, recipients in world.primary.taken():
        if serial == "-":
            continue
        if ledger.digests.get(serial) != kept:
            altered.append(serial)
        for recipient in recipients:
            arrived[serial, recipient] += 1
    lost = [
        f"{serial} for {recipient}"
        for serial, recipients in ledger.promised.items()
        for recipient in recipients
        if not arrived[serial, recipient] and not recipient.startswith("gone")
    ]
    return Balance(lost, altered, sum(times - 1 for times in arrived.values()))


def run(world: World, seconds: float, *, quiet: bool = True) -> list[Figure]:
    """``seconds``: no longer than this, where it is not 0. ``quiet``: descriptors are compared at rest as well, which
    takes two minutes and more."""
    strangers, samples, messages = world.strangers, world.samples, world.messages
    strangers.start()
    began = last_said = time.monotonic()
    every = messages / (EVENTS if quiet else FEW_EVENTS)
    next_event = every / 2
    first: dict[str, int] = {}
    while not strangers.done:
        sent, now = strangers.ledger.sent, time.monotonic()
        samples.take(world.gateway, sent)
        if now - last_said > PROGRESS_SECONDS:
            last_said = now
            latest = ", ".join(f"{name} {points[-1][1]:.0f} MiB" for name, points in samples.memory.items())
            print(f"{sent:,} of {messages:,} messages, {now - began:.0f} s: {latest}", file=sys.stderr, flush=True)
        if quiet and not first and sent >= messages * WARM_UP:
            first = world.quiet()
        if sent >= next_event:
            next_event += every
            world.happen()
        if seconds and now - began > seconds:
            strangers.stop()
        time.sleep(SAMPLE_SECONDS if quiet else 0.05)
    took = time.monotonic() - began
    last = world.quiet() if quiet else {}
    world.gateway.drain(patience=300.0)
    found = balance(world)
    faults = faults_told(world.gateway)
    for each in (*found.lost[:5], *found.altered[:5], *faults[:5]):
        print(each, file=sys.stderr)
    sent = strangers.ledger.sent
    figures = [
        Figure("messages offered", sent, least=1),
        Figure("of them accepted", len(strangers.ledger.promised), least=1),
        Figure("a second, on a machine shared with the strangers", sent / took, timed=True),
        Figure("outages, failing scanners, reloads and an operator's commands meanwhile", sum(world.events.values())),
        exactly("lost", len(found.lost), 0),
        exactly("altered", len(found.altered), 0),
        Figure(
            "delivered twice, when the primary was killed between the dot and its 250",
            found.doubled,
            most=world.events["outage"] * 20,
        ),
        exactly("faults and tracebacks", len(faults), 0),
    ]
    # A shorter run is over before the caches are full.
    limit = 5.0 if sent >= WARM else None
    for name, points in samples.memory.items():
        if quiet:
            change = drift(points, sent)
            figures.append(
                Figure(f"{name}: resident memory, last quarter above the first", change, "%", most=limit, timed=True)
            )
            figures.append(Figure(f"{name}: highest resident memory", max(value for _, value in points), "MiB"))
            more = last.get(name, 0) - first.get(name, 0)
            figures.append(Figure(f"{name}: descriptors at rest, end above the warm-up", more, most=0))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("messages", type=int, nargs="?", default=150_000)
    parser.add_argument("--seconds", type=float, default=0.0, help="no longer than this; 0: until all are sent")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="writes the results into docs/reliability.md")
    asked = parser.parse_args()
    with stage() as play, tempfile.TemporaryDirectory(prefix="inboundmx-soak-") as folder:
        os.chmod(folder, 0o755)
        world = World(play, Path(folder), asked.workers, asked.messages)
        try:
            figures = run(world, asked.seconds)
        finally:
            world.close()
    for answer, times in world.strangers.ledger.answers.most_common():
        print(f"  {times:>8,} {answer}")
    print(f"  {sum(world.strangers.ledger.broken.values()):>8,} connections that ended early")
    print(*figures, sep="\n")
    if asked.keep:
        samples = world.samples
        panels = [Panel("Resident memory, MiB", samples.memory), Panel("Open descriptors", samples.descriptors)]
        (RESULTS.parent / "soak.svg").write_text(drawn(panels, "messages"))
        keep("soak", "make soak", {"soak": figures})
        rewrite()
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
