"""Which deliveries are paused, as a small file under the data folder.

Knows its JSON and that it is replaced whole or not at all. Does not know what a pause does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from inboundmx.delivery.pausing import Pause
from inboundmx.ports import Unavailable
from inboundmx.storage.disk import replace_file, sync_folder

NAME = "paused.json"


class PauseFile:
    """Every method blocks."""

    def __init__(self, data_folder: str) -> None:
        self._folder = data_folder
        self._path = os.path.join(data_folder, NAME)

    def read(self) -> list[Pause]:
        """A file that makes no sense pauses all: what an operator stopped must not start by itself, and mail is safe in
        the spool. Raises Unavailable when it cannot be read."""
        try:
            with open(self._path, "rb") as file:
                return [_pause(row) for row in json.load(file)["paused"]]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unavailable(f"{self._path}: {os.strerror(error.errno or 0)}") from error
        except (ValueError, TypeError, KeyError, RecursionError):
            reason = f"{NAME} is damaged, so nobody knows what was paused; resume when all may be delivered"
            return [Pause("", reason, "the gateway", os.stat(self._path).st_mtime, None)]

    def write(self, pauses: Sequence[Pause]) -> None:
        """Raises Unavailable, with the file as it was."""
        octets = json.dumps({"paused": [asdict(pause) for pause in pauses]}, indent=1).encode("ascii")
        try:
            replace_file(self._path, octets)
            sync_folder(self._folder)
        except OSError as error:
            raise Unavailable(f"{self._path}: {os.strerror(error.errno or 0)}") from error


def _pause(row: Mapping[str, Any]) -> Pause:
    until = row["until_at"]
    for name in ("domain", "reason", "asked_by"):
        if not isinstance(row[name], str):
            raise ValueError(name)
    return Pause(
        row["domain"], row["reason"], row["asked_by"], float(row["since_at"]), None if until is None else float(until)
    )
