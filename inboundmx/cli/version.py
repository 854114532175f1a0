"""``inboundmx version``: what is installed, for a bug report."""

from __future__ import annotations

import argparse
import platform
import sqlite3
import ssl
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any

import inboundmx
from inboundmx.cli.printing import say, say_json


def register(commands: Any) -> None:
    command = commands.add_parser(
        "version",
        help="print the version, and those of what it runs on",
        description="Prints the version, and those of what it runs on.",
    )
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    versions = {
        "inboundmx": inboundmx.__version__,
        "Python": platform.python_version(),
        "Twisted": _version_of("twisted"),
        "OpenSSL": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
        "SQLite": sqlite3.sqlite_version,
    }
    if args.json:
        say_json(versions)
    else:
        say(*(f"{name} {version}" for name, version in versions.items()))
    return 0


def _version_of(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return "unknown"
