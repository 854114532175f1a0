"""A primary that keeps books and nothing else, run as a child: ``ledger_primary.py PORT JOURNAL DROP``.

Each event is a line of JSON in JOURNAL, written before what it speaks of is said: connections, messages (serial, hash,
hash of the stamps above them), and answers to the final dot. Of a DROP-th message it keeps the line and closes without
an answer, once for each serial; 0: of none. Swift, so that the gateway and not the primary is what a run is about.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "system"))

from swift_primary import Session, serve

MARK = b"X-Serial: "


class Journal:
    def __init__(self, path: Path, drop: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # What a kill cut short does not spoil the line after it.
        os.write(self._file, b"\n")
        self._drop = drop
        self._seen: set[str] = set()

    def write(self, event: str, line: str, *facts: str) -> None:
        os.write(self._file, json.dumps([event, line, time.monotonic(), *facts]).encode() + b"\n")

    def drops(self, serial: str) -> bool:
        fresh = serial not in self._seen
        self._seen.add(serial)
        return bool(self._drop) and fresh and len(self._seen) % self._drop == 0


class Ledger(Session):
    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal
        self._name = f"{os.getpid()}.{id(self)}.{time.monotonic()}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._journal.write("open", self._name)
        super().connection_made(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._journal.write("close", self._name)

    def message(self, content: bytes) -> None:
        start = max(0, content.find(MARK))
        serial = content[start:].removeprefix(MARK).partition(b"\r\n")[0].decode("ascii", "replace")
        digest, stamps = (hashlib.sha256(part).hexdigest() for part in (content[start:], content[:start]))
        self._journal.write("kept", self._name, serial, digest, stamps)
        if self._journal.drops(serial):
            self.transport.abort()
            return
        self.transport.write(b"250 2.0.0 kept\r\n")
        self._journal.write("said", self._name)


def main(port: int, path: Path, drop: int) -> None:
    journal = Journal(path, drop)
    asyncio.run(serve(port, lambda: Ledger(journal)))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
