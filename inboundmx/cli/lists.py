"""``inboundmx lists``: who is spared what, who is refused, and changing that while the gateway runs."""

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
from inboundmx.model.listing import KINDS

_TICKS = {
    "smtp": "no limits of connections, bad commands and recipients, no blocks",
    "spam": "no spam checks; viruses are looked for all the same",
    "greylisting": "never greylisted",
}


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "lists", "who is whitelisted, blacklisted, blocked or trusted")
    listing = verbs.add_parser(
        "list",
        help="show what stands on the lists",
        description="Shows what stands on the lists, what was added last first, what stands in the INI at the end.",
    )
    listing.add_argument("kind", metavar="KIND", nargs="?", choices=KINDS, help=f"one list alone: {', '.join(KINDS)}")
    listing.add_argument(
        "--matching",
        metavar="TEXT",
        default="",
        help="entries that an address, a sender or a domain falls under, or whose value, reason or author holds it",
    )
    add_limit(listing)
    add_json(listing)
    listing.set_defaults(run=_list)
    add = verbs.add_parser(
        "add",
        help="put somebody on a list, from now on",
        description="Puts clients or senders on a list. It holds at once, in every worker, and survives a restart. "
        "What is there already is replaced. Who is whitelisted may not send out through us for that.",
    )
    add.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    add.add_argument(
        "values",
        metavar="VALUE",
        nargs="+",
        help="of a client: an address, a range a-b, a CIDR block; of a sender: an address or a domain, * for anything",
    )
    for tick, what in _TICKS.items():
        add.add_argument(f"--{tick}", action="store_true", help=f"whitelist: {what}")
    add.add_argument("--reason", metavar="TEXT", default="", help="for whoever wonders later")
    add.add_argument("--for", dest="span", metavar="SPAN", help="it ends by itself after this: 90s 15m 24h 5d")
    add_json(add)
    add.set_defaults(run=_add)
    remove = verbs.add_parser(
        "remove",
        help="take somebody off a list",
        description="Takes clients or senders off a list. What stands in the INI is taken off there.",
    )
    remove.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    remove.add_argument("values", metavar="VALUE", nargs="+", help="as it is listed")
    remove.add_argument("--dry-run", action="store_true", help="say what would be removed, and do nothing")
    add_json(remove)
    remove.set_defaults(run=_remove)


def _list(args: argparse.Namespace) -> int:
    arguments = {"kind": args.kind or "", "matching": args.matching, "limit": args.limit}
    rows = ask(Configuration(args.config), "lists.list", arguments)
    tell(args, rows, lambda: listed(rows, time.time()), first="first")
    return 0


def _add(args: argparse.Namespace) -> int:
    arguments: dict[str, Any] = {"kind": args.kind, "values": args.values, "reason": args.reason}
    arguments["ticks"] = [tick for tick in _TICKS if getattr(args, tick)]
    if args.span:
        arguments["for"] = seconds("--for", args.span)
    rows = ask(Configuration(args.config), "lists.add", arguments)
    if args.json:
        say_json(rows)
    for row in rows if not args.json else ():
        until = "" if row["until_at"] is None else f", ends {due(row['until_at'], time.time())}"
        ticks = f" for {' '.join(row['ticks'])}" if row["ticks"] else ""
        say(safe(f"{row['outcome']}: {row['kind']} {row['value']}{ticks}{until}"))
    complain(*dict.fromkeys(row["note"] for row in rows if row["note"]))
    return 0


def _remove(args: argparse.Namespace) -> int:
    config = Configuration(args.config)
    arguments: dict[str, Any] = {"kind": args.kind, "values": args.values}
    if args.dry_run:
        arguments["dry_run"] = True
    rows = ask(config, "lists.remove", arguments)
    if args.json:
        say_json(rows)
    for row in rows if not args.json else ():
        what = f"{row['kind']} {row['value']}"
        if row["outcome"] == "removed":
            say(safe(f"{'would be ' if args.dry_run else ''}removed: {what}"))
        elif row["outcome"] == "absent":
            complain(safe(f"there is no {what}"))
        else:
            where = config.place_of("lists", row["key"])
            complain(safe(f"{what} stands in the INI: take it out of {where}, and reload"))
    return 0 if all(row["outcome"] == "removed" for row in rows) else 1


def listed(rows: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Entries as a table with a last line that sums it up."""
    cells = [
        (
            row["kind"],
            row["value"],
            " ".join(row["ticks"]) or "-",
            "-" if row["since_at"] is None else span(max(0.0, now - row["since_at"])),
            "-" if row["until_at"] is None else due(row["until_at"], now),
            f"INI, {row['key']}" if row["key"] else shortened(row["author"] or "-", 32),
            row["reason"] or "",
        )
        for row in rows
    ]
    heads = ("LIST", "VALUE", "SPARED", "SINCE", "ENDS", "BY", "REASON")
    written = sum(row["key"] is not None for row in rows)
    return [*table(heads, cells), f"{len(rows)} shown, {written} of them of the INI"]
