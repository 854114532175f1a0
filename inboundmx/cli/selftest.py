"""``inboundmx selftest durability``: what an operator's own disk does to a promise. Knows the options and how a report
reads; ``app.durability`` does the work. 0: every promise was kept; 1: not, or no sync is one here; 2: asked wrongly."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inboundmx.cli.asking import CannotAsk
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import complain, safe, say, say_json

if TYPE_CHECKING:
    from inboundmx.app.durability import Report

_UNKNOWN = (
    "What this cannot know is whether the disk keeps what it says it has written. Only pulling the plug shows that,",
    "of a machine without mail of its own, while it writes.",
)


def register(commands: Any) -> None:
    selftest = commands.add_parser(
        "selftest", help="try out this machine", description="Tries out what the gateway stands on, on this machine."
    )
    verbs = selftest.add_subparsers(title="tests", metavar="TEST", required=True)
    command = verbs.add_parser(
        "durability",
        help="kill a private gateway again and again and count what it promised",
        description="Starts a gateway of its own on loopback, with its spool in a new folder where the configured "
        "spool is, sends it mail, kills it with SIGKILL in the middle, and checks that all mail that was answered 250 "
        "comes out whole. Measures what a sync takes there, and tells what is known of the disk. The running gateway "
        "and its spool are not touched; the new folder is removed, unless something was wrong.",
        epilog="exit status 0: every promise was kept; 1: not so, or a sync is none on this file system; 2: it could "
        "not be tried",
    )
    command.add_argument(
        "--spool", metavar="DIR", help="any folder of the disk to try (default: where the configured spool is)"
    )
    command.add_argument(
        "--messages", type=_count, default=1000, metavar="N", help="to be promised (default: %(default)s)"
    )
    command.add_argument(
        "--seconds", type=_count, default=60, metavar="S", help="to send for at the most (default: %(default)s)"
    )
    command.add_argument(
        "--kills", type=_count, default=10, metavar="N", help="how often to kill it (default: %(default)s)"
    )
    command.add_argument("--json", action="store_true", help="the report as one JSON object")
    command.set_defaults(run=run)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000000")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from inboundmx.app.durability import CannotTry, try_out

    folder = Path(args.spool) if args.spool else _configured(args.config)
    if not folder.is_dir():
        raise CannotAsk(f"{folder} is no folder: give one of the disk to try with --spool", usage=True)
    try:
        report = try_out(folder.absolute(), args.messages, args.seconds, args.kills, _progress)
    except CannotTry as trouble:
        complain(safe(str(trouble)))
        return 2
    if args.json:
        say_json(_facts(report))
    else:
        say(*map(safe, _lines(report)))
    return 0 if report.good else 1


def _configured(config: str) -> Path:
    """The folder with the workers' spools, which may be a disk of its own; before a first start, the one above it."""
    data = Path(Configuration(config).data)
    return data / "spool" if (data / "spool").is_dir() else data


def _progress(line: str) -> None:
    """For who watches, and out of the way of who reads the answer by a program."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{safe(line)}\n")


def _facts(report: Report) -> dict[str, Any]:
    return dataclasses.asdict(report) | {
        "doubts": [doubt._asdict() for doubt in report.doubts],
        "good": report.good,
    }


def _lines(report: Report) -> list[str]:
    place, syncs = report.place, report.syncs
    on = f"{place.kind} on {place.device} ({','.join(place.options)})" if place else "an unknown file system"
    disk = f", write cache: {place.write_cache}" if place and place.write_cache else ""
    lines = [
        f"{report.folder} is {on}{disk}",
        f"A sync takes {syncs.median * 1000:.3g} ms; one in a hundred takes {syncs.p99 * 1000:.3g} ms or more.",
        f"{report.messages_a_second:.0f} messages a second were kept and answered 250.",
        f"{report.promised} messages promised, {report.kills} times killed: {report.lost} lost, {report.altered} "
        f"altered, {report.waiting} still waiting, {report.copies} arrived twice (SMTP leaves that open). "
        f"It served again after {report.ready_seconds:.1f} s at the most.",
    ]
    lines += [f"{'Wrong' if doubt.certain else 'Doubt'}: {doubt.text}." for doubt in report.doubts]
    if report.dead:
        lines.append(f"Wrong: killed, it did not serve again: {report.dead}.")
    if report.kept_at:
        lines.append(f"Everything of this trial, with its log, is left in {report.kept_at}.")
    if report.good:
        lines.append("Every promise outlived the gateway that made it.")
        return [*lines, *_UNKNOWN]
    if not report.kept:
        return [*lines, "NOT every promise was kept."]
    return [*lines, "Every promise outlived the gateway that made it, but not one would outlive a power cut here."]
