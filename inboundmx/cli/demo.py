"""``inboundmx demo``: a gateway and a primary to try it with. Knows the options; ``app.demo`` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="start a gateway on loopback with a demonstration primary behind it",
        description="Starts a gateway on 127.0.0.1 and a demonstration primary that saves what it receives as files, "
        "and prints what to type next. Needs no INI; Ctrl-C ends both.",
    )
    command.add_argument("--port", type=_port, default=2525, metavar="N", help="of the gateway (default: %(default)s)")
    command.add_argument(
        "--primary-port", type=_port, default=2526, metavar="N", help="of the primary (default: %(default)s)"
    )
    command.add_argument(
        "--folder",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="for the INI, the log, the data and what the primary receives (default: ./%(default)s)",
    )
    command.set_defaults(run=run)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it is a number from 1 to 65535")
    return int(text)


def run(args: argparse.Namespace) -> int:
    if args.port == args.primary_port:
        from inboundmx.cli.asking import CannotAsk

        raise CannotAsk(f"gateway and primary cannot both listen on port {args.port}", usage=True)
    from inboundmx.app import demo

    return demo.run(args.folder, args.port, args.primary_port)
