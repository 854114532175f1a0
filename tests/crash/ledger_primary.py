"""A primary that keeps books and nothing else, run as a child: ``ledger_primary.py PORT JOURNAL [DROP]``.

Each event is a line of JSON in JOURNAL, written before what it speaks of is said: connections, messages (serial, hash,
hash of the stamps above them), and answers to the final dot. Of a DROP-th message it keeps the line and closes without
an answer, once for each serial. Swift, so that the gateway and not the primary is what a run is about.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path

MARK = b"X-Serial: "
END = b"\r\n.\r\n"


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


class Session(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._received = bytearray()
        self._content = False
        self._searched = 0
        self._name = f"{os.getpid()}.{id(self)}.{time.monotonic()}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._journal.write("open", self._name)
        transport.write(b"220 primary.example ESMTP\r\n")

    def connection_lost(self, _: Exception | None) -> None:
        self._journal.write("close", self._name)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self.transport.is_closing() and (self._message() if self._content else self._command()):
            pass

    def _command(self) -> bool:
        line, end, rest = self._received.partition(b"\r\n")
        if not end:
            return False
        self._received = rest
        verb = bytes(line[:4]).upper()
        if verb == b"EHLO":
            said = b"250-primary.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 50000000\r\n"
        elif verb == b"DATA":
            # Found as well where the content is empty.
            self._received[:0] = b"\r\n"
            self._content, self._searched, said = True, 0, b"354 go on\r\n"
        elif verb == b"QUIT":
            said = b"221 2.0.0 bye\r\n"
        else:
            said = b"250 2.0.0 ok\r\n"
        self.transport.write(said)
        if verb == b"QUIT":
            self.transport.close()
        return True

    def _message(self) -> bool:
        at = self._received.find(END, self._searched)
        if at < 0:
            self._searched = max(0, len(self._received) - len(END) + 1)
            return False
        content = bytes(self._received[: at + 2]).replace(b"\r\n..", b"\r\n.")[2:]
        del self._received[: at + len(END)]
        self._content = False
        start = max(0, content.find(MARK))
        serial = content[start:].removeprefix(MARK).partition(b"\r\n")[0].decode("ascii", "replace")
        digest, stamps = (hashlib.sha256(part).hexdigest() for part in (content[start:], content[:start]))
        self._journal.write("kept", self._name, serial, digest, stamps)
        if self._journal.drops(serial):
            self.transport.abort()
            return False
        self.transport.write(b"250 2.0.0 kept\r\n")
        self._journal.write("said", self._name)
        return True


async def main(port: int, path: Path, drop: int) -> None:
    journal = Journal(path, drop)
    server = await asyncio.get_running_loop().create_server(
        lambda: Session(journal), "127.0.0.1", port, backlog=1000, reuse_address=True
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0))
