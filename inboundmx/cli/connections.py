"""``inboundmx connections``: who is connected now, and ending or blocking that."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from inboundmx.cli.asking import CannotAsk, NotRunning, ask_gateway, read
from inboundmx.cli.blocks import block
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import safe, say, say_json, shortened, span, table
from inboundmx.cli.remembered import add_json

_WHY = "an operator saw its connection"


def register(commands: Any) -> None:
    connections = commands.add_parser(
        "connections",
        help="who is connected now",
        description="Shows the sessions of all workers: who, since when, and how far they are.",
    )
    add_json(connections)
    connections.add_argument("--block", metavar="ADDRESS", help="block it, and end its connections")
    connections.add_argument("--for", dest="span", metavar="SPAN", default="60m", help="for --block (now %(default)s)")
    connections.add_argument("--reason", metavar="TEXT", default=_WHY, help="for --block: why")
    connections.set_defaults(run=_list)
    verbs = connections.add_subparsers(metavar="")
    end = verbs.add_parser("end", help="end connections now", description="Ends connections; they hear 421.")
    end.add_argument("ids", metavar="ID", nargs="+", help="as connections shows it")
    end.set_defaults(run=_end)


def _ask(config: Configuration, operation: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        return list(read(ask_gateway(config.data, operation, arguments)))
    except NotRunning:
        raise CannotAsk("the gateway is not running: nobody is connected") from None


def _list(args: argparse.Namespace) -> int:
    config = Configuration(args.config)
    if args.block:
        blocked = block(config, [args.block], args.span, args.reason)
        ended = _ask(config, "connections.end", {"address": args.block})
        if args.json:
            say_json(ended)
        else:
            say(f"blocked: {blocked[0]['value']}, {len(ended)} connections ended")
        return 0
    rows = _ask(config, "connections.list", {})
    if args.json:
        say_json(rows)
    elif not rows:
        say("nobody is connected")
    else:
        say(*listed(rows, time.time()))
    return 0


def _end(args: argparse.Namespace) -> int:
    ended = {row["id"] for row in _ask(Configuration(args.config), "connections.end", {"ids": args.ids})}
    for id in args.ids:
        say(safe(f"{'ended' if id in ended else 'there is no connection'}: {id}"))
    return 0 if ended >= set(args.ids) else 1


def listed(rows: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Sessions as a table with a last line that sums it up."""
    cells = [
        (
            row["id"],
            row["address"],
            shortened(row["name"] or "-", 32),
            shortened(row["helo"] or "-", 32),
            (row["tls"] or "-").partition(" ")[0],
            span(max(0.0, now - row["since_at"])),
            row["stage"],
            str(row["messages"]),
            row["worker"],
        )
        for row in rows
    ]
    heads = ("ID", "ADDRESS", "NAME", "HELO", "TLS", "SINCE", "STAGE", "MESSAGES", "WORKER")
    addresses = len({row["address"] for row in rows})
    return [*table(heads, cells), f"{len(rows)} connected, from {addresses} addresses"]
