"""What the commands on entries of the spool share: how a query is written on the command line, asked, and answered.

Knows the options and the two looks of an answer, a table and JSON. Does not know where entries are.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from inboundmx.cli.asking import CannotAsk, ask, read, told
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import Table, complain, due, left, safe, say, say_json, say_rows, shortened, size, span
from inboundmx.cli.remembered import add_json

_HEADS = ("ID", "STATE", "AGE", "SIZE", "TRIES", "NEXT", "SENDER", "DONE", "RECIPIENT")
# Of how many it has been delivered to how many.
_DONE = "{}/{}".format
STATES = ("active", "held", "quarantined", "expired")


def verbs_of(commands: Any, noun: str, help: str) -> Any:
    command = commands.add_parser(noun, help=help, description=help[0].upper() + help[1:] + ".")
    return command.add_subparsers(title="verbs", metavar="VERB", required=True)


def add_verb(
    verbs: Any,
    noun: str,
    verb: str,
    help: str,
    *,
    states: Sequence[str] = (),
    changes: bool = False,
    before: Callable[[Any], object] = lambda command: None,
    run: Callable[[argparse.Namespace], int] | None = None,
) -> None:
    """``show`` takes ids alone; every other verb takes ids or a query. ``before`` adds what is written before ids;
    ``run`` does what is neither to list, to show nor to change."""
    command = verbs.add_parser(verb, help=help, description=help[0].upper() + help[1:] + ".")
    before(command)
    only_ids = verb == "show"
    command.add_argument(
        "ids", metavar="ID", nargs="+" if only_ids else "*", help="of an entry, or what the sender was told"
    )
    if not only_ids:
        command.add_argument("--domain", metavar="NAME", help="mail for this domain")
        command.add_argument("--recipient", metavar="ADDRESS", help="mail for this address, or *@DOMAIN")
        command.add_argument("--sender", metavar="ADDRESS", help="mail from this address, *@DOMAIN, or <>")
        command.add_argument("--older", metavar="SPAN", help="received longer ago than this: 90s 15m 24h 5d")
        cause = "mail kept back that this check spoke against, or kept by this"
        command.add_argument("--cause", metavar="CHECK", help=cause)
        command.add_argument("--since", metavar="T", help="received since: 2h (ago), 2026-05-01, 2026-05-01T08:00")
    if states:
        command.add_argument("--state", choices=states, help="mail in this state")
    if verb == "list":
        command.add_argument("--limit", metavar="N", type=_at_least_one, help="the oldest N alone")
    if changes:
        command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add_json(command)
    how = run or {"list": _list, "show": _show}.get(verb, _change)
    command.set_defaults(run=how, operation=f"{noun}.{verb}")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def arguments_of(args: argparse.Namespace) -> dict[str, Any]:
    """What is asked for, without what was left out. Raises CannotAsk."""
    given = {name: getattr(args, name, None) for name in ("ids", "domain", "recipient", "sender", "state", "cause")}
    arguments: dict[str, Any] = {name: value for name, value in given.items() if value}
    if getattr(args, "older", None):
        arguments["older"] = seconds("--older", args.older)
    if getattr(args, "since", None):
        arguments["since"] = _instant(args.since)
    if getattr(args, "priority", None) is not None:
        arguments["priority"] = args.priority
    if getattr(args, "limit", None) is not None:
        arguments["limit"] = args.limit
    if getattr(args, "dry_run", False):
        arguments["dry_run"] = True
    return arguments


def _instant(text: str) -> float:
    """Seconds since the epoch: of a span, that long ago; of a date or a time of ISO 8601, UTC unless it says."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return time.time() - seconds("--since", text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def seconds(option: str, text: str) -> float:
    """A span of the command line. Raises CannotAsk."""
    from inboundmx.app.amounts import span as read_span
    from inboundmx.app.words import Wrong

    try:
        return read_span(text)
    except Wrong as wrong:
        raise CannotAsk(f"{option} {text}: {wrong}", usage=True) from None


def _rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    return ask(Configuration(args.config), args.operation, arguments_of(args))


def _list(args: argparse.Namespace) -> int:
    config = Configuration(args.config)
    arguments = arguments_of(args)
    # Nothing here goes in circles, and looking for that in a hundred thousand rows takes a while.
    gc.disable()
    if args.json:
        say_rows(list(told(config, args.operation, arguments)))
        return 0
    pauses = ask(config, "spool.pauses", {})
    parts = read(told(config, args.operation, arguments | {"columns": True}), at_once=1)
    say(*listed(parts, time.time(), pauses, args.limit))
    return 0


def listed(
    parts: Iterable[Mapping[str, Sequence[Any]]],
    now: float,
    pauses: Sequence[Mapping[str, Any]] = (),
    limit: int | None = None,
) -> list[str]:
    """Entries as a table with a line that sums it up, and one for each pause that keeps some of them waiting. They come
    as columns (``app.listing``), some at a time."""
    stopped = {pause["domain"] for pause in pauses}
    waiting: set[str | None] = set()
    octets = 0
    count = 0
    made = Table(_HEADS, right=(2, 3, 4))
    # Lines of each part are made while the gateway makes the next.
    for part in parts:
        octets += sum(part["size"])
        comes = list(map(_comes, part["due"]))
        if stopped:
            for number, (state, domain) in enumerate(zip(part["state"], part["domain"], strict=True)):
                if state == "active" and (None in stopped or domain in stopped):
                    comes[number] = "paused"
                    waiting.add(domain)
        count += len(part["id"])
        made.add((
            part["id"],
            part["state"],
            list(map(span, part["age"])),
            list(map(size, part["size"])),
            list(map(str, part["attempts"])),
            comes,
            [shortened(sender or "<>", 28) for sender in part["sender"]],
            list(map(_DONE, part["delivered"], part["recipients"])),
            list(map(_whom, part["recipient"], part["recipients"])),
        ))  # fmt: skip
    if not count:
        return ["nothing"]
    lines = made.lines()
    lines.append(f"{count} {'entry' if count == 1 else 'entries'}, {size(octets)}")
    lines += [paused(pause, now) for pause in pauses if waiting and pause["domain"] in (None, *waiting)]
    if count == limit:
        lines.append(f"the oldest {limit}; a greater --limit may show more")
    return lines


def _comes(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    return "now" if seconds < 0 else f"in {left(seconds)}"


def paused(row: Mapping[str, Any], now: float) -> str:
    """What is paused, since when and until when, by whom and why, on one line."""
    until = "until resumed" if row["until_at"] is None else f"resumes {due(row['until_at'], now)}"
    since = span(max(0.0, now - row["since_at"]))
    reason = f": {row['reason']}" if row["reason"] else ""
    what = row["domain"] or "everything"
    return safe(f"deliveries of {what} are paused since {since}, {until}, by {row['asked_by']}{reason}")


def _whom(first: str, count: int) -> str:
    if count != 1:
        first = f"{first} +{count - 1}" if count else "-"
    return shortened(first, 36)


def _show(args: argparse.Namespace) -> int:
    rows = _rows(args)
    if args.json:
        say_json(rows)
    else:
        for number, row in enumerate(rows):
            say(*([""] if number else []), *shown(row, time.time()))
    return complete(args, rows)


def shown(row: dict[str, Any], now: float) -> list[str]:
    """One entry with its header fields and the beginning of its body."""
    state = row["state"] + (f" ({row['cause']})" if row["cause"] else "")
    lines = [
        f"id          {row['id']}",
        f"told as     {row['message_id']}",
        f"state       {safe(state)}",
        f"received    {span(row['age_seconds'])} ago from {safe(row['peer_ip'] or 'ourselves')}"
        + (f" (helo {safe(row['hello'])})" if row["hello"] else ""),
        f"sender      {safe(row['sender'] or '<>')}",
    ]
    for recipient in row["recipients"]:
        tries = f"{recipient['status']}, {recipient['attempts']} {'try' if recipient['attempts'] == 1 else 'tries'}"
        reply = f": {recipient['last_reply']}" if recipient["last_reply"] else ""
        lines.append(f"recipient   {safe(recipient['address'] + ' ' + tries + reply)}")
    lines += [
        f"size        {size(row['size'])}, level {row['level']}, priority {row['priority']}",
        f"route       {row['domain'] or '-'} by {safe(row['route'] or 'no primary that is configured now')}",
        f"next        {due(row['next_attempt_at'], now)} (attempts made: {row['attempts']})",
    ]
    if row["expires_at"] is not None:
        lines.append(f"kept        {due(row['expires_at'], now).removeprefix('in ')} more")
    if row.get("unverified"):
        lines.append("unverified  whether its recipients exist could not be asked; delivering it is the question")
    if row["damaged"]:
        return [*lines, "", f"the content cannot be shown: {safe(row['damaged'])}"]
    lines += ["", *(safe(f"{name}: {value}") for name, value in row["headers"]), ""]
    lines += map(safe, row["body_head"].splitlines())
    return [*lines, "[...]"] if row["body_cut"] else lines


def needs_a_query(args: argparse.Namespace) -> None:
    """Raises CannotAsk when everything is meant: nobody does that by leaving out a word."""
    if not set(arguments_of(args)) - {"dry_run", "priority"}:
        verb = args.operation.replace(".", " ")
        raise CannotAsk(f"{verb} needs ids or a query, see: inboundmx {verb} --help; nothing was done", usage=True)


def _change(args: argparse.Namespace) -> int:
    needs_a_query(args)
    rows = _rows(args)
    if args.json:
        say_json(rows)
    else:
        would = "would be " if args.dry_run else ""
        for row in rows:
            done = f"{would}{row['outcome'].replace('_', ' ')}"
            if row["outcome"] == "skipped":
                done = f"left alone: it {row['reason']}"
            whose = f"from {row['sender'] or '<>'} to {', '.join(row['recipients'])}"
            say(safe(f"{row['id']} {done} ({shortened(whose, 80)})"))
        if not rows and not args.ids:
            say("nothing meets the query")
    return complete(args, rows) or (1 if any(row["outcome"] == "skipped" for row in rows) else 0)


def complete(args: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> int:
    """1 when an id that was asked for is not among the answers."""
    found = {row["id"] for row in rows} | {row["message_id"] for row in rows}
    missing = [id for id in args.ids if id.lower() not in found]
    complain(
        *(
            f"there is no {safe(id)} {'in quarantine' if 'quarantine' in args.operation else 'in the spool'}; "
            f"explain {safe(id)} tells what became of it"
            for id in missing
        )
    )
    return 1 if missing else 0
