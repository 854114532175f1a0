"""``inboundmx recipients``: who is known to exist or not, forgetting them, and taking over a list."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from inboundmx.app.recipient_operations import IMPORTED_AT_ONCE
from inboundmx.cli.asking import CannotAsk, ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import due, safe, say, say_json, shortened, span, table
from inboundmx.cli.querying import verbs_of
from inboundmx.cli.remembered import add_json, add_limit, forget_some, tell
from inboundmx.directory.listed import LARGEST, listed
from inboundmx.ports import Unavailable


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "recipients", "who is known to exist, and who not")
    listing = verbs.add_parser(
        "list",
        help="show what is known of recipients",
        description="Shows which recipients are known to exist or not, by what, how surely, and since when; the newest "
        "first. A row that begins with *@ says whether the primary of a domain takes any recipient.",
    )
    listing.add_argument("matching", metavar="TEXT", nargs="?", default="", help="only addresses that hold it")
    add_limit(listing)
    add_json(listing)
    listing.set_defaults(run=_list)
    forget = verbs.add_parser(
        "forget",
        help="forget some, so that they are asked about anew",
        description="Forgets what is known of recipients: who can be asked is asked anew.",
    )
    forget.add_argument("matching", metavar="TEXT", nargs="?", default="", help="addresses that hold it")
    forget.add_argument("--all", action="store_true", help="everything; in place of TEXT")
    forget.add_argument("--dry-run", action="store_true", help="say what would be forgotten, and do nothing")
    add_json(forget)
    forget.set_defaults(run=_forget)
    importing = verbs.add_parser(
        "import",
        help="take over a list of addresses that exist",
        description="Takes the addresses in a file for known, as if they had been learned: they are accepted while "
        "nobody can be asked, and a refusal by the primary corrects them.",
    )
    importing.add_argument("file", metavar="FILE", help="one address a line, # comments; - reads standard input")
    add_json(importing)
    importing.set_defaults(run=_import)


def _list(args: argparse.Namespace) -> int:
    rows = ask(Configuration(args.config), "recipients.list", {"matching": args.matching, "limit": args.limit})
    tell(args, rows, lambda: shown(rows, time.time()))
    return 0


def _forget(args: argparse.Namespace) -> int:
    return forget_some(args, "recipients", lambda rows: shown(rows, time.time()))


def _import(args: argparse.Namespace) -> int:
    addresses = _addresses(args.file)
    config = Configuration(args.config)
    sums = {"imported": 0, "elsewhere": 0}
    for start in range(0, len(addresses), IMPORTED_AT_ONCE):
        some = addresses[start : start + IMPORTED_AT_ONCE]
        for row in ask(config, "recipients.import", {"addresses": some}):
            sums = {name: count + row[name] for name, count in sums.items()}
    if args.json:
        say_json([sums])
    else:
        say(f"{sums['imported']} imported")
        if sums["elsewhere"]:
            say(f"{sums['elsewhere']} left out: they are of no [domain] here")
    return 0


def _addresses(file: str) -> list[str]:
    try:
        if file == "-":
            octets = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with open(file, "rb") as opened:
                octets = opened.read(LARGEST + 1)
        if len(octets) > LARGEST:
            raise CannotAsk(f"{file} is larger than {LARGEST // 2**20}MB; nothing was done")
        found = listed(octets)
    except OSError as error:
        raise CannotAsk(f"{file}: {error.strerror or error}") from None
    except Unavailable as trouble:
        raise CannotAsk(f"{file} {trouble.reason}; nothing was done") from None
    if found.domains:
        raise CannotAsk(f"{file} names all of {min(found.domains)}: import takes addresses; nothing was done")
    return sorted(found.addresses)


def shown(rows: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Recipients as a table with a last line that sums it up."""
    cells = [
        (
            row["state"] if row["fresh"] else f"{row['state']}, old",
            row["source"],
            "-" if row["confidence"] is None else f"{row['confidence']:g}",
            span(row["age_seconds"]),
            due(row["expires_at"], now),
            shortened(row["address"], 60),
        )
        for row in rows
    ]
    heads = ("STATE", "SOURCE", "CONFIDENCE", "AGE", "FORGOTTEN", "ADDRESS")
    counts = {word: sum(row["state"] == word for row in rows) for word in ("exists", "unknown")}
    return [*table(heads, cells), safe(f"{len(rows)} shown: {counts['exists']} exist, {counts['unknown']} do not")]
