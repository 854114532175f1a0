"""What can be asked: a table from paths to small functions.

Knows what each answer is made of. Does not know who asks, nor how facts come about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from inboundmx import __version__
from inboundmx.console.answers import Answer, as_json, sentence


@dataclass(frozen=True, slots=True)
class Facts:
    """Where answers come from, asked anew for each. ``status``: one process as ``inboundmx status --json`` has it.
    ``trouble``: why no mail can be taken into the spool, a word such as disk-full; empty when it can. ``refresh``:
    where both are only what was last heard of others, fires once that is not old; None: it is not."""

    status: Callable[[], Mapping[str, Any]]
    trouble: Callable[[], str]
    refresh: Callable[[], Deferred[None] | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Route:
    """``open``: answered without a password, so it must cost nothing and tell nothing."""

    answer: Callable[[Facts], Answer]
    open: bool = False


def healthz(facts: Facts) -> Answer:
    trouble = facts.trouble()
    return sentence(503, trouble) if trouble else sentence(200, "ok")


def status(facts: Facts) -> Answer:
    """``waiting`` counts what is due or waits for its time, and is not on its way at this moment: what a neighbour that
    shares its mail out goes by."""
    told = facts.status()
    spool = told["spool"]
    running = sum(queue["running"] for queue in told.get("queues", {}).values())
    return as_json(
        {
            "version": __version__,
            "spool": {
                "active": spool["active"],
                "held": spool["held"],
                "quarantined": spool["quarantined"],
                "waiting": max(0, spool["active"] - running),
            },
            "hosts": {
                row["host"]: {name: fact for name, fact in row.items() if name != "host"} for row in told["primaries"]
            },
            "connections": told.get("connections", 0),
        }
    )


ROUTES: Mapping[str, Route] = {"/healthz": Route(healthz, open=True), "/api/status": Route(status)}
