"""SMTP's other end with as little in it as can be, for primaries that take mail by the hundred thousand.

Knows lines, dots and polite answers. Does not know what becomes of a message: whoever makes a primary of it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

END = b"\r\n.\r\n"
OK = b"250 2.0.0 ok\r\n"
POLITE = {
    b"EHLO": b"250-primary.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 100000000\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
}


class Session(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = bytearray()
        self._in_content = False
        self._searched = 0

    def answer(self, verb: bytes, line: bytes) -> bytes:
        """To a command; content follows only after 354."""
        return POLITE.get(verb, OK)

    def message(self, content: bytes) -> None:
        """A whole one has come, its dots undone: answers it, or closes."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"220 primary.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self.transport.is_closing() and (self._content() if self._in_content else self._command()):
            pass

    def _command(self) -> bool:
        end = self._received.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        verb = line[:4].upper()
        said = self.answer(verb, line)
        if said.startswith(b"354"):
            # The end is found as well where the content is empty.
            self._received[:0] = b"\r\n"
            self._in_content, self._searched = True, 0
        self.transport.write(said)
        if verb == b"QUIT":
            self.transport.close()
        return True

    def _content(self) -> bool:
        at = self._received.find(END, self._searched)
        if at < 0:
            self._searched = max(0, len(self._received) - len(END) + 1)
            return False
        content = bytes(self._received[: at + 2]).replace(b"\r\n..", b"\r\n.")[2:]
        del self._received[: at + len(END)]
        self._in_content = False
        self.message(content)
        return True


async def serve(port: int, session: Callable[[], Session]) -> None:
    """Until it is killed."""
    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()
