"""``inboundmx greylist``: who waits, who is known, and forgetting them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from inboundmx.cli.asking import CannotAsk, ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import due, safe, say, say_json, shortened, span, table
from inboundmx.cli.querying import verbs_of

_LIMIT = 1000


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "greylist", "who is put off and who is known")
    listing = verbs.add_parser(
        "list",
        help="show clients, senders and recipients that were seen together",
        description="Shows which clients, senders and recipients were seen together, the newest first.",
    )
    listing.add_argument(
        "matching", metavar="TEXT", nargs="?", default="", help="only those whose network, sender or recipient holds it"
    )
    listing.add_argument("--limit", metavar="N", type=int, default=_LIMIT, help="at most so many (now %(default)s)")
    listing.add_argument("--json", action="store_true", help="a list of JSON objects")
    listing.set_defaults(run=_list)
    forget = verbs.add_parser(
        "forget",
        help="forget some, so that they are new again",
        description="Forgets clients, senders and recipients: they are new again, and put off once.",
    )
    forget.add_argument(
        "matching", metavar="TEXT", nargs="?", default="", help="those whose network, sender or recipient holds it"
    )
    forget.add_argument("--all", action="store_true", help="everything; in place of TEXT")
    forget.add_argument("--dry-run", action="store_true", help="say what would be forgotten, and do nothing")
    forget.add_argument("--json", action="store_true", help="a list of JSON objects")
    forget.set_defaults(run=_forget)


def _list(args: argparse.Namespace) -> int:
    rows = ask(Configuration(args.config), "greylist.list", {"matching": args.matching, "limit": args.limit})
    if args.json:
        say_json(rows)
    elif not rows:
        say("nothing")
    else:
        say(*listed(rows, time.time()))
        if len(rows) == args.limit:
            say(f"the newest {args.limit}; --limit shows more")
    return 0


def _forget(args: argparse.Namespace) -> int:
    if bool(args.matching) == args.all:
        raise CannotAsk("greylist forget needs a text, or --all; nothing was done", usage=True)
    arguments: dict[str, Any] = {"matching": args.matching}
    arguments |= {"all": True} if args.all else {}
    arguments |= {"dry_run": True} if args.dry_run else {}
    rows = ask(Configuration(args.config), "greylist.forget", arguments)
    if args.json:
        say_json(rows)
    elif args.dry_run:
        say(*(listed(rows, time.time()) if rows else ()), "dry run: nothing was forgotten")
    else:
        say(f"{rows[0]['forgotten']} forgotten")
    return 0


def listed(rows: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Triplets as a table with a last line that sums it up."""
    cells = [
        (
            row["state"],
            "-" if row["first_seen_at"] is None else span(max(0.0, now - row["first_seen_at"])),
            due(row["passes_at"], now),
            due(row["expires_at"], now),
            row["network"],
            shortened(row["sender"] or "<>", 36),
            shortened(row["recipient"], 36),
        )
        for row in rows
    ]
    heads = ("STATE", "FIRST SEEN", "PASSES", "FORGOTTEN", "NETWORK", "SENDER", "RECIPIENT")
    known = sum(row["state"] == "known" for row in rows)
    return [*table(heads, cells), safe(f"{len(rows)} shown: {known} known, {len(rows) - known} waiting")]
