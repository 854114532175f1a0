"""A primary that takes mail by the hundred thousand: ``counting_primary.py PORT FILE``, run as a child.

Each message it takes is one line of FILE, written before 250 is said: its serial, the hash of what follows the serial,
and its recipients. ``gone…`` is refused for good; ``later…`` hears 450 twice: who was asked for together with others is
asked for alone right after.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sys
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "system"))

from swift_primary import Session, serve

SERIAL = re.compile(rb"(?m)^X-Serial: (\w+)\r\n")
_PATH = re.compile(rb"<([^>]*)>")


def digest(octets: bytes) -> str:
    return hashlib.blake2b(octets, digest_size=8).hexdigest()


class Counting(Session):
    def __init__(self, file: int, seen: Counter[bytes]) -> None:
        super().__init__()
        self._file = file
        self._seen = seen
        self._recipients: list[bytes] = []

    def answer(self, verb: bytes, line: bytes) -> bytes:
        if verb == b"RCPT":
            return self._recipient(line)
        if verb == b"DATA" and not self._recipients:
            return b"554 5.5.1 nobody to send it to\r\n"
        if verb in (b"MAIL", b"RSET"):
            self._recipients = []
        return super().answer(verb, line)

    def _recipient(self, line: bytes) -> bytes:
        found = _PATH.search(line)
        address = found[1] if found else b""
        if address.startswith(b"gone"):
            return b"550 5.1.1 nobody of that name\r\n"
        if address.startswith(b"later") and self._seen[address] < 2:
            self._seen[address] += 1
            return b"450 4.7.1 come again\r\n"
        self._recipients.append(address)
        return b"250 2.1.5 ok\r\n"

    def message(self, content: bytes) -> None:
        # A notice shows the header of what it tells of, serial and all.
        notice = b"multipart/report" in content.partition(b"\r\n\r\n")[0]
        found = None if notice else SERIAL.search(content)
        serial = found[1].decode() if found else "-"
        kept = digest(content[found.end() :]) if found else "notice"
        recipients, self._recipients = b",".join(self._recipients).decode(), []
        os.write(self._file, f"{serial} {kept} {recipients}\n".encode())
        self.transport.write(b"250 2.0.0 taken\r\n")


def main(port: int, path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seen: Counter[bytes] = Counter()
    asyncio.run(serve(port, lambda: Counting(file, seen)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
