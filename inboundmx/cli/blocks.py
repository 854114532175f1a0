"""``inboundmx blocks``: who is blocked for a while, why and until when, and changing that."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from inboundmx.cli.asking import ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import complain, due, safe, say, say_json, shortened, span, table
from inboundmx.cli.querying import seconds, verbs_of
from inboundmx.cli.remembered import add_json, add_limit, tell

_USUAL = "60m"


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "blocks", "who is refused for a while, and why")
    listing = verbs.add_parser(
        "list",
        help="show who is blocked, why and until when",
        description="Shows who is blocked, by a rule or by an operator, the latest first.",
    )
    listing.add_argument(
        "--matching", metavar="TEXT", default="", help="blocks that an address falls under, or whose reason holds it"
    )
    add_limit(listing)
    add_json(listing)
    listing.set_defaults(run=_list)
    add = verbs.add_parser(
        "add",
        help="block an address or a network, from now on",
        description="Blocks clients: they are refused (421) before they have said anything, in every worker and after "
        "a restart too, until the time is over. Sessions under way are refused their next message. For good is "
        "'inboundmx lists add blacklist'.",
    )
    add.add_argument("values", metavar="ADDRESS", nargs="+", help="an address, a range a-b, a CIDR block")
    add.add_argument("--for", dest="span", metavar="SPAN", default=_USUAL, help="90s 15m 24h 5d (now %(default)s)")
    add.add_argument("--reason", metavar="TEXT", default="", help="for whoever wonders later")
    add_json(add)
    add.set_defaults(run=_add)
    remove = verbs.add_parser(
        "remove",
        help="end a block now",
        description="Ends blocks, whoever began them, and forgets what was counted about these clients. Who goes on as "
        "before is blocked again; see inboundmx lists.",
    )
    remove.add_argument("values", metavar="ADDRESS", nargs="+", help="as it is listed")
    remove.add_argument("--dry-run", action="store_true", help="say what would be removed, and do nothing")
    add_json(remove)
    remove.set_defaults(run=_remove)


def _list(args: argparse.Namespace) -> int:
    rows = ask(Configuration(args.config), "blocks.list", {"matching": args.matching, "limit": args.limit})
    tell(args, rows, lambda: listed(rows, time.time()), nothing="nobody is blocked", first="first")
    return 0


def _add(args: argparse.Namespace) -> int:
    rows = block(Configuration(args.config), args.values, args.span, args.reason)
    if args.json:
        say_json(rows)
    else:
        say(*(f"blocked: {row['value']}, ends {due(row['until_at'], time.time())}" for row in rows))
    return 0


def block(config: Configuration, values: Sequence[str], length: str, reason: str) -> list[dict[str, Any]]:
    """Adds blocks. Raises CannotAsk."""
    return ask(config, "blocks.add", {"values": list(values), "reason": reason, "for": seconds("--for", length)})


def _remove(args: argparse.Namespace) -> int:
    arguments: dict[str, Any] = {"values": args.values}
    if args.dry_run:
        arguments["dry_run"] = True
    rows = ask(Configuration(args.config), "blocks.remove", arguments)
    if args.json:
        say_json(rows)
    for row in rows if not args.json else ():
        if row["outcome"] == "removed":
            say(safe(f"{'would be ' if args.dry_run else ''}unblocked: {row['value']}"))
        else:
            complain(safe(f"{row['value']} is not blocked; inboundmx blocks list shows who is"))
    return 0 if all(row["outcome"] == "removed" for row in rows) else 1


def listed(rows: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Blocks as a table with a last line that sums it up."""
    cells = [
        (
            row["value"],
            span(max(0.0, now - row["since_at"])),
            "-" if row["until_at"] is None else due(row["until_at"], now),
            shortened(row["author"] or "-", 32),
            row["reason"] or "",
        )
        for row in rows
    ]
    by_rules = sum((row["author"] or "").startswith("rule ") for row in rows)
    return [*table(("ADDRESS", "SINCE", "ENDS", "BY", "REASON"), cells), f"{len(rows)} shown, {by_rules} by rules"]
