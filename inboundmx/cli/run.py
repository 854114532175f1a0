"""``inboundmx run``: the gateway in the foreground. Knows nothing of it; ``app.process`` does."""

from __future__ import annotations

import argparse
from typing import Any


def register(commands: Any) -> None:
    command = commands.add_parser(
        "run",
        help="run the gateway in the foreground",
        description="Runs the gateway in the foreground, the same service as: twistd -n inboundmx --config FILE. "
        "SIGHUP reads the INI again; SIGTERM or Ctrl-C stops.",
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Twisted and the whole gateway are loaded only here: the other commands start without them.
    from inboundmx.app import process

    return process.run(args.config)
