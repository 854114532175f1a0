"""``inboundmx [--config FILE] COMMAND``: finds the command, runs it, and turns what went wrong into an exit status.

Knows which commands there are. Does not know what they do. 0: done; 1: not done; 2: asked wrongly, or a wrong INI.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

from inboundmx.cli.asking import CannotAsk
from inboundmx.cli.configuration import default_config
from inboundmx.cli.printing import complain

# Each is a module of this package with ``register(commands)``.
COMMANDS = (
    "run",
    "demo",
    "check",
    "version",
    "init",
    "spool",
    "quarantine",
    "greylist",
    "lists",
    "walk",
    "users",
    "recipients",
    "train",
    "blocks",
    "connections",
    "explain",
    "status",
    "selftest",
)


def parser(names: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="inboundmx", description="Inbound mail filtering gateway and backup MX.")
    made.add_argument(
        "--config",
        metavar="FILE",
        default=default_config(),
        help="the INI file (default: $INBOUNDMX_CONFIG, else /etc/inboundmx.ini; now %(default)s)",
    )
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in names:
        import_module(f"inboundmx.cli.{name}").register(commands)
    return made


def _named(argv: Sequence[str]) -> tuple[str, ...]:
    """The command that is asked for: only its module is loaded, for some load half of Twisted. All of them when it is
    not clear which."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    _, rest = first.parse_known_args(argv)
    return (rest[0],) if rest and rest[0] in COMMANDS else COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A sign that the terminal's encoding lacks must not end a list in the middle.
        sys.stdout.reconfigure(errors="replace")
    argv = sys.argv[1:] if argv is None else argv
    args = parser(_named(argv)).parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except CannotAsk as trouble:
        complain(*str(trouble).splitlines())
        return 2 if trouble.usage else 1
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:
        # Whoever read has read enough. Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status
