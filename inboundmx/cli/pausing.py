"""``inboundmx spool pause`` and ``resume``: stop and start deliveries while mail goes on being accepted."""

from __future__ import annotations

import argparse
import time
from typing import Any

from inboundmx.cli.asking import ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import safe, say, say_json
from inboundmx.cli.querying import paused, seconds
from inboundmx.cli.remembered import add_json


def register(verbs: Any) -> None:
    pause = verbs.add_parser(
        "pause",
        help="stop delivering; mail goes on being accepted",
        description="Stops delivering mail of a domain, or all mail, until it is resumed. Mail goes on being accepted, "
        "and waits in the spool; no slot of its retry list is used up.",
    )
    pause.add_argument("domain", metavar="DOMAIN", nargs="?", default="", help="everything, when it is left out")
    pause.add_argument("--reason", metavar="TEXT", default="", help="for whoever wonders later")
    pause.add_argument("--for", dest="span", metavar="SPAN", help="resume by itself after this: 90s 15m 24h 5d")
    add_json(pause)
    pause.set_defaults(run=_pause)
    resume = verbs.add_parser(
        "resume",
        help="deliver again",
        description="Delivers again what was paused. The pause of everything and that of a domain end each by itself.",
    )
    resume.add_argument("domain", metavar="DOMAIN", nargs="?", default="", help="the pause of everything, without it")
    add_json(resume)
    resume.set_defaults(run=_resume)


def _pause(args: argparse.Namespace) -> int:
    arguments: dict[str, Any] = {"domain": args.domain, "reason": args.reason}
    if args.span:
        arguments["for"] = seconds("--for", args.span)
    rows = ask(Configuration(args.config), "spool.pause", arguments)
    return _tell(args, rows)


def _resume(args: argparse.Namespace) -> int:
    rows = ask(Configuration(args.config), "spool.resume", {"domain": args.domain})
    return _tell(args, rows)


def _tell(args: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    if args.json:
        say_json(rows)
    for row in rows if not args.json else ():
        match row["outcome"]:
            case "paused":
                say(paused(row, time.time()))
            case "resumed":
                say(safe(f"deliveries of {row['domain'] or 'everything'} go on"))
            case _:
                say(safe(f"deliveries of {row['domain'] or 'everything'} were not paused as such"))
    return 0 if rows and all(row["outcome"] != "skipped" for row in rows) else 1
