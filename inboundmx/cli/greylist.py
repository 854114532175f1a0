"""``inboundmx greylist``: who waits, who is known, letting one through, and forgetting them."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inboundmx.cli.asking import CannotAsk, ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.explain import story
from inboundmx.cli.printing import due, safe, say, say_json, shortened, span, table
from inboundmx.cli.querying import verbs_of
from inboundmx.cli.remembered import add_json, add_limit, forget_some, tell
from inboundmx.model.identity import made_at

_STATES = ("waiting", "known", "released", "auto-allowed", "written-to")


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "greylist", "who is put off and who is known")
    listing = verbs.add_parser(
        "list",
        help="show who waits, who is known, and who need not wait",
        description="Shows which clients, senders and recipients were seen together, which clients need not wait for "
        "their good mail, and whom our users have written to; the newest first.",
    )
    listing.add_argument(
        "matching", metavar="TEXT", nargs="?", default="", help="only those whose network, sender or recipient holds it"
    )
    listing.add_argument("--state", choices=_STATES, help="those in this state alone")
    add_limit(listing)
    add_json(listing)
    listing.set_defaults(run=_list)
    release = verbs.add_parser(
        "release",
        help="let one that waits through now",
        description="Lets what waits through: the next try of each passes, as if it had waited, whenever it comes "
        "within the pass period.",
    )
    release.add_argument(
        "what", metavar="ID|TEXT", help="what the sender was told, or those whose client, sender or recipient holds it"
    )
    release.add_argument("--dry-run", action="store_true", help="say what would be let through, and do nothing")
    add_json(release)
    release.set_defaults(run=_release)
    forget = verbs.add_parser(
        "forget",
        help="forget some, so that they are new again",
        description="Forgets clients, senders and recipients: they are new again, and put off once. Also forgets the "
        "good mail of clients, and whom our users have written to.",
    )
    forget.add_argument(
        "matching", metavar="TEXT", nargs="?", default="", help="those whose network, sender or recipient holds it"
    )
    forget.add_argument("--all", action="store_true", help="everything; in place of TEXT")
    forget.add_argument("--dry-run", action="store_true", help="say what would be forgotten, and do nothing")
    add_json(forget)
    forget.set_defaults(run=_forget)


def _list(args: argparse.Namespace) -> int:
    arguments = {"matching": args.matching, "limit": args.limit} | ({"state": args.state} if args.state else {})
    rows = ask(Configuration(args.config), "greylist.list", arguments)
    tell(args, rows, lambda: listed(rows, time.time()))
    return 0


def _forget(args: argparse.Namespace) -> int:
    return forget_some(args, "greylist", lambda rows: listed(rows, time.time()))


def _release(args: argparse.Namespace) -> int:
    config = Configuration(args.config)
    arguments: dict[str, Any] = {"dry_run": True} if args.dry_run else {}
    id = args.what.strip().lower()
    if made_at(id) is None:
        arguments["matching"] = args.what
    else:
        arguments |= {"id": id, "visits": _visits(config, id)}
    rows = ask(config, "greylist.release", arguments)
    if args.json:
        say_json(rows)
        return 0
    if not rows:
        say(f"nothing waits that holds {safe(args.what)}")
        return 1
    known = sum(row["state"] == "known" for row in rows)
    say(*listed(rows, time.time()))
    if args.dry_run:
        say("dry run: nothing was let through")
    elif known < len(rows):
        say(f"{len(rows) - known} let through with the next try")
    return 0


def _visits(config: Configuration, id: str) -> list[list[str]]:
    """Who was put off under this id: a client's address, a sender and a recipient each. Raises CannotAsk."""
    found = []
    events = story(Path(config.data), id, patient=True)
    for event in events:
        fields = event.fields
        checks = fields.get("checks")
        put_off = isinstance(checks, list) and any(check[1:2] in (["new"], ["early"]) for check in checks)
        if event.event == "refused" and put_off and fields.get("recipient"):
            found.append([str(fields.get(name, "")) for name in ("ip", "sender", "recipient")])
    if not found:
        why = "it was not put off by greylisting" if events else "no such id was given, or it is older than [log] keep"
        raise CannotAsk(f"{safe(id)}: {why}; nothing was done")
    return found


def listed(rows: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """What is remembered as a table with a last line that sums it up."""
    cells = [
        (
            row["state"],
            "-" if row["first_seen_at"] is None else span(max(0.0, now - row["first_seen_at"])),
            due(row["passes_at"], now),
            due(row["expires_at"], now),
            shortened(_client(row), 48),
            "-" if row["state"] == "auto-allowed" else shortened(row["sender"] or "<>", 36),
            shortened(row["recipient"] or "-", 36),
        )
        for row in rows
    ]
    heads = ("STATE", "FIRST SEEN", "PASSES", "FORGOTTEN", "CLIENT", "SENDER", "RECIPIENT")
    states = Counter(row["state"] for row in rows)
    return [
        *table(heads, cells),
        safe(f"{len(rows)} shown: {', '.join(f'{states[state]} {state}' for state in sorted(states))}"),
    ]


def _client(row: Mapping[str, Any]) -> str:
    if row["domain"] is None:
        return row["network"] or "-"
    return f"{row['domain']} (DKIM) in {row['network']}" if row["network"] else f"{row['domain']} (SPF)"
