"""``inboundmx status``: is it running, what does it hold, and how are its primaries and the services it asks."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inboundmx.cli.asking import SOCKET_NAME, ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import left, safe, say, say_json, size, span, table
from inboundmx.cli.querying import paused


def register(commands: Any) -> None:
    command = commands.add_parser(
        "status",
        help="tell whether the gateway runs, what it holds, and how its primaries and services are",
        description="Tells whether the gateway runs, what it holds, and how its primaries, lists and scanners are. "
        "When it is stopped, what its files say; the exit status is then 1.",
    )
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    config = Configuration(args.config)
    processes = ask(config, "status", {})
    running = any(process["running"] for process in processes)
    if args.json:
        say_json({"running": running, "processes": processes})
        return 0 if running else 1
    if running:
        say("the gateway is running")
    else:
        control = Path(config.data) / SOCKET_NAME
        say(f"the gateway is not running: nobody answers at {control}; its files say:")
    if not processes:
        say("  nothing has ever been spooled")
    for process in processes:
        say(*told(process, time.time()))
    return 0 if running else 1


_TOLD_APART = frozenset(
    {"running", "spool", "spool_octets", "oldest_seconds", "free_octets", "primaries", "settings", "started_at",
     "workers", "queues", "claimed", "services", "paused", "throttled"}
)  # fmt: skip


def told(process: Mapping[str, Any], now: float) -> list[str]:
    """One spool and who serves it: a line a fact, then tables of the primaries and of what waits for them."""
    lines = [_line("running for", span(now - process["started_at"]))] if "started_at" in process else []
    for worker in process.get("workers", ()):
        facts = ", ".join(f"{name} {value}" for name, value in worker.items() if name != "worker")
        lines.append(_line(f"worker {worker.get('worker', '')}", facts))
    lines += [_line(name, str(value)) for name, value in process.items() if name not in _TOLD_APART]
    if process.get("claimed"):
        lines.append(_line("unanswered", f"{process['claimed']} sent whole, the primary's last answer awaited"))
    spool = process["spool"]
    lines.append(_line("spool", ", ".join(f"{count} {state}" for state, count in spool.items())))
    if any(spool.values()):
        lines.append(_line("", f"{size(process['spool_octets'])}, the oldest {span(process['oldest_seconds'])} old"))
    lines.append(_line("disk", f"{size(process['free_octets'])} free"))
    lines += [_line("paused", paused(pause, now)) for pause in process.get("paused", ())]
    for domain, facts in process.get("throttled", {}).items():
        lines.append(_line("throttled", f"{domain}: {facts['limit']} is reached, goes on in {left(facts['seconds'])}"))
    queues = [{"domain": domain, **counts} for domain, counts in process.get("queues", {}).items()]
    services = [_service(service, now) for service in process.get("services", ())]
    for rows in (process["primaries"], queues, services):
        if rows:
            lines += ["", *_columns(rows)]
    return lines


def _service(service: Mapping[str, Any], now: float) -> Mapping[str, Any]:
    """A list or a scanner, with ages in place of instants."""
    return {
        "service": service["service"],
        "state": service["state"],
        "for": span(max(0.0, now - service["since_at"])),
        "last": f"{span(max(0.0, now - service['last_at']))} ago",
        "answered": service["answered"],
        "failed": service["failed"],
        "detail": service["detail"],
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A column for each fact that any of the rows has."""
    heads = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(head)) for head in heads] for row in rows]
    return table([head.upper().replace("_", " ") for head in heads], cells)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _line(label: str, text: str) -> str:
    return f"  {label.replace('_', ' '):<12} {safe(text)}"
