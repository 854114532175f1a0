"""What the commands on things that are remembered or listed share: a list of so many, and forgetting some.

Knows the options and what is said around a table. Does not know what a row says.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inboundmx.cli.asking import CannotAsk, ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import say, say_json

_LIMIT = 1000


def add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="a list of JSON objects")


def add_limit(command: argparse.ArgumentParser) -> None:
    command.add_argument("--limit", metavar="N", type=int, default=_LIMIT, help="at most so many (now %(default)s)")


def tell(
    args: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    lines: Callable[[], Sequence[str]],
    nothing: str = "nothing",
    first: str = "newest",
) -> None:
    """The rows as JSON, or ``lines`` of them as a table."""
    if args.json:
        say_json(rows)
    elif not rows:
        say(nothing)
    else:
        say(*lines())
        if len(rows) == args.limit:
            say(f"the {first} {args.limit}; --limit shows more")


def forget_some(
    args: argparse.Namespace, noun: str, lines: Callable[[Sequence[Mapping[str, Any]]], Sequence[str]]
) -> int:
    """``lines`` makes a table of what would be forgotten. Raises CannotAsk."""
    if bool(args.matching) == args.all:
        raise CannotAsk(f"{noun} forget needs a text, or --all; nothing was done", usage=True)
    arguments: dict[str, Any] = {"matching": args.matching}
    arguments |= {"all": True} if args.all else {}
    arguments |= {"dry_run": True} if args.dry_run else {}
    rows = ask(Configuration(args.config), f"{noun}.forget", arguments)
    if args.json:
        say_json(rows)
    elif args.dry_run:
        say(*(lines(rows) if rows else ()), "dry run: nothing was forgotten")
    else:
        say(f"{rows[0]['forgotten']} forgotten")
    return 0
