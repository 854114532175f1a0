"""``inboundmx spool export``: messages as files, as they would be transmitted.

Knows files and folders of whoever typed the command. Does not know where entries are.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inboundmx.cli.asking import CannotAsk, ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import complain, safe, say, say_json, size
from inboundmx.cli.querying import arguments_of, complete, needs_a_query

# What is asked for at once, and so kept in memory: a message, or many small ones.
_OCTETS_AT_ONCE = 16 * 2**20
_IDS_AT_ONCE = 500
# Names of files come from ids alone, whatever is in a message.
_ID = re.compile(r"[0-9a-z]{1,64}")


def add_folder(command: Any) -> None:
    command.add_argument(
        "--to", metavar="FOLDER", required=True, help="where to write ID.eml, readable by you alone; made when absent"
    )


def run(args: argparse.Namespace) -> int:
    needs_a_query(args)
    config, folder = Configuration(args.config), Path(args.to)
    try:
        if not args.dry_run:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotAsk(f"{folder}: {error.strerror or error}") from None
    found = ask(config, args.operation, arguments_of(args) | {"dry_run": True})
    written: list[dict[str, Any]] = []
    status = complete(args, found)
    for ids in () if args.dry_run else _portions(found):
        for id, octets in _contents(ask(config, args.operation, {"ids": ids, "exact": True})):
            if octets is None:
                status = 1
                continue
            path = folder / f"{id}.eml"
            try:
                _write(path, octets)
            except OSError as error:
                complain(safe(f"{path}: {error.strerror or error}; not written"))
                status = 1
            else:
                written.append({"id": id, "file": str(path), "size": len(octets)})
    if args.dry_run:
        written = [{"id": row["id"], "file": str(folder / f"{row['id']}.eml"), "size": row["size"]} for row in found]
    if args.json:
        say_json(written)
    else:
        done = "would be written" if args.dry_run else "written"
        say(*(safe(f"{row['file']} {done}, {size(row['size'])}") for row in written))
    return status


def _portions(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    ids: list[str] = []
    octets = 0
    for row in rows:
        if ids and (octets + row["size"] > _OCTETS_AT_ONCE or len(ids) == _IDS_AT_ONCE):
            yield ids
            ids, octets = [], 0
        ids.append(row["id"])
        octets += row["size"]
    if ids:
        yield ids


def _contents(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, bytes | None]]:
    """Each id with its octets; None, after a complaint, when they cannot be had."""
    whole: dict[str, bytearray] = {}
    for row in rows:
        id = row["id"]
        if row.get("damaged") or not _ID.fullmatch(id):
            complain(safe(f"{id} cannot be read: {row.get('damaged')}"))
            yield id, None
        elif "part" in row:
            whole[id] += base64.b64decode(row["part"])
        else:
            whole[id] = bytearray()
    for id, octets in whole.items():
        yield id, bytes(octets)


def _write(path: Path, octets: bytes) -> None:
    """A file of the caller's own: working on the gateway's files, root had become their owner. Never in place of one
    that is there."""
    os.seteuid(os.getuid())
    os.setegid(os.getgid())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
    except OSError:
        path.unlink(missing_ok=True)
        raise
