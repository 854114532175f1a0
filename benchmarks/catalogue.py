"""Which scenarios there are, in the order they are run in, and who is measured in each.

Knows how each peer is made for it, and about how long it takes. Does not know what was promised (``promises``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import backlog, checks, cold, flood, greylist, lag, scanners, workers
from benchmarks.figures import Figures
from benchmarks.haraka import Haraka
from benchmarks.peers import (
    MOST_CONNECTIONS,
    OURS,
    POSTFIX,
    PROXY,
    QUEUE,
    SPOOL,
    TUNED,
    TWO,
    TWO_SPOOL,
    Ours,
    Peer,
    Postfix,
)
from benchmarks.scenarios import MANY, Effort, accepted, forward, idle, large, queued
from benchmarks.slow_primary import SlowSink
from benchmarks.slow_sync import slow_sync_library

Maker: TypeAlias = Callable[[Path], Peer]

# Kept running from one scenario to the next.
SHARED: Mapping[str, Maker] = {
    POSTFIX: Postfix,
    TUNED: lambda folder: Postfix(folder, "in_flow_delay = 0\n"),
    PROXY: lambda folder: Haraka(folder, durable=False),
    QUEUE: lambda folder: Haraka(folder, durable=True),
    OURS: Ours,
    SPOOL: lambda folder: Ours(folder, "spool"),
    TWO: lambda folder: Ours(folder, workers=2),
    TWO_SPOOL: lambda folder: Ours(folder, "spool", workers=2),
}


@dataclass(frozen=True)
class Scenario:
    """Peers take turns, ``measure`` loads one of them once. ``seconds``: about how long all of it takes on two cores at
    full effort. ``own``: peers that only this one needs. ``fresh``: each time a process of its own, because what an
    earlier load has left behind would be in the figures. ``at_most``: repeats."""

    name: str
    what: str
    seconds: float
    peers: tuple[str, ...]
    measure: Callable[[Peer, Effort], Figures]
    own: Mapping[str, Maker] | None = None
    fresh: bool = False
    at_most: int = 5


@dataclass(frozen=True)
class Apart:
    """One that starts what it needs by itself, in an empty folder, and hands back its results ready made."""

    name: str
    what: str
    seconds: float
    measured: Callable[[Effort, Path], list[dict[str, Any]]]


def forwarding(sessions: int, peers: tuple[str, ...], per_connection: int = 1, size: int = 4096) -> Scenario:
    def measure(peer: Peer, effort: Effort) -> Figures:
        return forward(peer, sessions, MANY, per_connection=per_connection, size=size, seconds=effort.seconds)

    large_ones = size > 4096
    many = f"{per_connection} messages" if per_connection > 1 else "one message"
    return Scenario(
        f"{sessions}x{per_connection}" + (" 100 KB" if large_ones else ""),
        f"accept and forward: {sessions} session{'' if sessions == 1 else 's'}, {many} of "
        f"{'100' if large_ones else '4'} KB a connection",
        14 + 13 * len(peers),
        peers,
        measure,
    )


def dead(sessions: int, peers: tuple[str, ...], size: int) -> Scenario:
    kilobytes = "100 KB" if size > 4096 else "4 KB"
    return Scenario(
        f"dead {sessions}x1 {kilobytes}",
        f"the primary refuses connections: accepted to the queue, {sessions} sessions, one message of {kilobytes} each",
        22 * len(peers),
        peers,
        lambda peer, effort: queued(peer, sessions, size=size, seconds=effort.seconds),
        fresh=True,
    )


def slow_sync(folder: Path, make: Callable[..., Peer], *arguments: str) -> Peer:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    return make(folder / "peer", *arguments, preload=slow_sync_library(folder))


EVERYBODY = (POSTFIX, PROXY, QUEUE, OURS, SPOOL)
CROWD = (POSTFIX, TUNED, PROXY, QUEUE, OURS, SPOOL, TWO, TWO_SPOOL)
SCENARIOS: tuple[Scenario | Apart, ...] = (
    forwarding(1, EVERYBODY),
    forwarding(10, EVERYBODY),
    forwarding(50, CROWD),
    forwarding(200, CROWD),
    forwarding(10, (POSTFIX, OURS), per_connection=10),
    forwarding(50, (POSTFIX, OURS), per_connection=10),
    forwarding(10, (POSTFIX, OURS), size=100 * 1024),
    Scenario(
        "slow sync 50x1",
        "every sync 2 ms longer, handover = spool: 50 sessions, one message of 4 KB each",
        48,
        (POSTFIX, SPOOL, TWO_SPOOL),
        lambda peer, effort: forward(peer, 50, MANY, seconds=effort.seconds),
        own={
            POSTFIX: lambda folder: slow_sync(folder, Postfix),
            SPOOL: lambda folder: slow_sync(folder, Ours, "spool"),
            TWO_SPOOL: lambda folder: slow_sync(folder, partial(Ours, workers=2), "spool"),
        },
    ),
    dead(50, (POSTFIX, QUEUE, OURS, TWO), 4096),
    dead(10, (POSTFIX, OURS, TWO), 100 * 1024),
    Scenario(
        "slow primary",
        "a primary that takes 200 ms a message: 200 sessions, 20 connections to it, until it has them all",
        75,
        (POSTFIX, OURS),
        lambda peer, effort: forward(peer, 200, max(500, int(1000 * effort.scale))),
        own={
            POSTFIX: lambda folder: Postfix(folder, sink=SlowSink),
            OURS: lambda folder: Ours(folder, sink=SlowSink),
        },
        at_most=3,
    ),
    Scenario(
        "refused",
        "50 sessions, a recipient refused in each",
        26,
        (POSTFIX, OURS),
        lambda peer, effort: accepted(
            peer, 50, MANY, seconds=effort.seconds, refused=True, recipient="user@elsewhere.test"
        ),
    ),
    Scenario(
        "turned away",
        "a flood of connections from one blacklisted address, each refused before the greeting",
        35,
        (PROXY, OURS),
        flood.measured,
        own=flood.OWN,
    ),
    Scenario(
        "idle",
        f"{MOST_CONNECTIONS:,} connections held idle by one worker while new ones are served",
        60,
        (OURS,),
        lambda peer, effort: idle(peer, effort.held or MOST_CONNECTIONS),
        fresh=True,
        at_most=3,
    ),
    Scenario(
        "backlog",
        f"{backlog.MESSAGES:,} messages of 4 KB wait for a primary that is down, and are sent when it is back",
        235,
        (POSTFIX, OURS, TWO),
        lambda peer, effort: backlog.outage(peer, int(backlog.MESSAGES * effort.scale)),
        fresh=True,
        at_most=3,
    ),
    Scenario(
        "large",
        "30 MB messages on two connections, with a NOOP beside",
        40,
        (OURS, SPOOL),
        lambda peer, effort: large(peer, 2, 30 * 2**20 - 2**16),
        fresh=True,
        at_most=3,
    ),
    Apart("checks cached", "own checks on, every answer cached, against Postfix with none", 55, checks.measured),
    Apart(
        "checks cold", "own checks on, nothing cached, against Postfix with none and with rspamd", 100, cold.measured
    ),
    Apart("checks in process", "own checks without sockets", 15, checks.alone),
    Apart("scanners", "clamd and spamd on, against spamd alone", 130, scanners.measured),
    Apart("lag", "how long others wait while a nasty message comes", 70, lag.measured),
    Apart("greylist", "greylist decisions with a million triplets", 75, greylist.measured),
    Apart("workers", f"a second worker, on {os.cpu_count()} cores", 40, workers.measured),
)
