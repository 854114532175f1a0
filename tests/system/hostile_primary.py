"""A mail server that goes wrong on purpose, in threads: at a chosen step it says what it is told, or hangs, or closes.

Knows just enough SMTP to come to that step. ``taken`` is what it answered 250 for after the final dot, ``offered`` what
came as far as the dot at all.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

STEPS = ("connect", "ehlo", "mail", "rcpt", "data", "dot")
HANG, CLOSE = b"(hang)", b"(close)"
POLITE = {
    "connect": b"220 primary.example ESMTP\r\n",
    "ehlo": b"250-primary.example\r\n250 PIPELINING\r\n",
    "mail": b"250 2.1.0 ok\r\n",
    "rcpt": b"250 2.1.5 ok\r\n",
    "data": b"354 go on\r\n",
    "dot": b"250 2.0.0 kept\r\n",
    "rset": b"250 2.0.0 ok\r\n",
    "quit": b"221 2.0.0 bye\r\n",
    "starttls": b"220 2.0.0 go\r\n",
}
Answers = dict[str, bytes | Callable[[], bytes]]


class HostilePrimary:
    """``answers``: by step, in place of the polite ones; octets, or what makes them each time."""

    def __init__(self, **answers: bytes | Callable[[], bytes]) -> None:
        self.answers: Answers = dict(answers)
        # Whether it closes after an answer of its own.
        self.hasty = False
        self.offered: list[bytes] = []
        self.taken: list[bytes] = []
        self.said: list[bytes] = []
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        return len(self._open)

    def relent(self) -> None:
        """Polite from now on, to whoever comes anew; who hangs is let go."""
        self.answers, self.hasty = {}, False
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.relent()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError, EOFError):
                _Session(self, connection).run()
        finally:
            self._open.discard(connection)
            connection.close()


class _Session:
    def __init__(self, primary: HostilePrimary, connection: socket.socket) -> None:
        self._primary = primary
        self._connection = connection
        self._lines = connection.makefile("rb")

    def run(self) -> None:
        self._answer("connect")
        while line := self._lines.readline():
            self._primary.said.append(line)
            step = line.split()[0].decode("ascii", "replace").lower() if line.strip() else ""
            step = {"helo": "ehlo", "lhlo": "ehlo"}.get(step, step)
            said = self._answer(step)
            if step == "data" and said[:3] == b"354":
                content = b"".join(self._content())
                self._primary.offered.append(content)
                if self._answer("dot") == POLITE["dot"]:
                    self._primary.taken.append(content)
            if step == "quit":
                return

    def _content(self) -> Iterator[bytes]:
        while (line := self._lines.readline()) != b".\r\n":
            if not line:
                raise EOFError
            yield line

    def _answer(self, step: str) -> bytes:
        answer = self._primary.answers.get(step) or POLITE.get(step, b"500 5.5.2 what?\r\n")
        said = answer() if callable(answer) else answer
        if said == CLOSE:
            raise EOFError
        if said == HANG:
            # Until the other end, or the test, has had enough.
            while self._connection.recv(65536):
                pass
            raise EOFError
        self._connection.sendall(said)
        if said.startswith(b"421") or (self._primary.hasty and step in self._primary.answers):
            raise EOFError
        return said
