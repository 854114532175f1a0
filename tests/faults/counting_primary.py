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

SERIAL = re.compile(rb"(?m)^X-Serial: (\w+)\r\n")
_PATH = re.compile(rb"<([^>]*)>")


def digest(octets: bytes) -> str:
    return hashlib.blake2b(octets, digest_size=8).hexdigest()


class Session(asyncio.Protocol):
    def __init__(self, file: int, seen: Counter[bytes]) -> None:
        self._file = file
        self._seen = seen
        self._buffer = bytearray()
        self._in_data = False
        self._recipients: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 primary.example ESMTP\r\n")

    def data_received(self, octets: bytes) -> None:
        # Where the end may begin that is completed by what came now.
        searched = max(0, len(self._buffer) - 4)
        self._buffer += octets
        while True:
            if self._in_data:
                end = self._buffer.find(b"\r\n.\r\n", searched)
                if end < 0:
                    return
                content = bytes(self._buffer[: end + 2])
                del self._buffer[: end + 5]
                self._in_data = False
                self._content(content.replace(b"\r\n..", b"\r\n."))
            else:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    return
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 2]
                self._command(line)
            searched = 0

    def _command(self, line: bytes) -> None:
        verb, say = line[:4].upper(), self._transport.write
        if verb == b"EHLO":
            say(b"250-primary.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 100000000\r\n")
        elif verb == b"RCPT":
            found = _PATH.search(line)
            address = found[1] if found else b""
            if address.startswith(b"gone"):
                say(b"550 5.1.1 nobody of that name\r\n")
            elif address.startswith(b"later") and self._seen[address] < 2:
                self._seen[address] += 1
                say(b"450 4.7.1 come again\r\n")
            else:
                self._recipients.append(address)
                say(b"250 2.1.5 ok\r\n")
        elif verb == b"DATA":
            self._in_data = bool(self._recipients)
            say(b"354 go on\r\n" if self._in_data else b"554 5.5.1 nobody to send it to\r\n")
        elif verb == b"QUIT":
            say(b"221 2.0.0 bye\r\n")
            self._transport.close()
        else:
            self._recipients = []
            say(b"250 2.0.0 ok\r\n")

    def _content(self, content: bytes) -> None:
        # A notice shows the header of what it tells of, serial and all.
        notice = b"multipart/report" in content.partition(b"\r\n\r\n")[0]
        found = None if notice else SERIAL.search(content)
        serial = found[1].decode() if found else "-"
        kept = digest(content[found.end() :]) if found else "notice"
        recipients, self._recipients = b",".join(self._recipients).decode(), []
        os.write(self._file, f"{serial} {kept} {recipients}\n".encode())
        self._transport.write(b"250 2.0.0 taken\r\n")


async def main(port: int, path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seen: Counter[bytes] = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(file, seen), "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
