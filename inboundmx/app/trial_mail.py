"""Mail for a trial of the gateway: strangers who send it, a primary that takes it, and the books of both.

Knows serials and hashes, and just enough SMTP; blocking, in threads. Does not know why it is sent, nor who is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import smtplib
import socketserver
import threading
import time
from collections import Counter

DOMAIN = "selftest.test"
SENDERS = 8
_FIELD = b"X-Inboundmx-Selftest: "
_SERIAL = re.compile(re.escape(_FIELD) + rb"([0-9]+)\r\n")
# Most mail is small; a large body is kept as a file of its own.
_SIZES = (2_000, 2_000, 4_000, 4_000, 8_000, 20_000)
_LARGE, _LARGE_EVERY = 300_000, 50
_ANSWER_SECONDS = 30.0
_AGAIN_SECONDS = 0.05


class Books:
    """What was offered, what was answered 250, what arrived; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offered: dict[int, bytes] = {}
        self._promised: set[int] = set()
        self._arrived: Counter[int] = Counter()
        self._altered: set[int] = set()

    def offer(self) -> tuple[int, bytes]:
        """The next message and its serial."""
        with self._lock:
            serial = len(self._offered)
            octets = _message(serial)
            self._offered[serial] = hashlib.sha256(octets).digest()
            return serial, octets

    def promise(self, serial: int) -> None:
        with self._lock:
            self._promised.add(serial)

    def arrive(self, octets: bytes) -> None:
        """What we added stands above what was sent, and is no business of these books."""
        found = _SERIAL.search(octets)
        if found is None:
            return
        serial = int(found[1])
        with self._lock:
            self._arrived[serial] += 1
            if hashlib.sha256(octets[found.start() :]).digest() != self._offered.get(serial):
                self._altered.add(serial)

    @property
    def offered(self) -> int:
        with self._lock:
            return len(self._offered)

    @property
    def promised(self) -> int:
        with self._lock:
            return len(self._promised)

    @property
    def missing(self) -> set[int]:
        """Promised and not arrived."""
        with self._lock:
            return self._promised - set(self._arrived)

    @property
    def altered(self) -> set[int]:
        with self._lock:
            return set(self._altered)

    @property
    def copies(self) -> int:
        """How many arrived more often than once, counted each time."""
        with self._lock:
            return sum(times - 1 for times in self._arrived.values())


def _message(serial: int) -> bytes:
    size = _LARGE if serial % _LARGE_EVERY == _LARGE_EVERY - 1 else _SIZES[serial % len(_SIZES)]
    body = random.Random(serial).randbytes(size // 2).hex()
    lines = [body[at : at + 76] for at in range(0, len(body), 76)]
    head = f"From: <trial@{DOMAIN}>\r\nTo: <trial@{DOMAIN}>\r\nSubject: trial {serial}\r\n\r\n"
    return _FIELD + f"{serial}\r\n{head}".encode() + "\r\n".join([*lines, "..", ""]).encode()


class Strangers:
    """Send until they are told to stop; whoever is cut off comes back."""

    def __init__(self, port: int, books: Books) -> None:
        self._port = port
        self._books = books
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * _ANSWER_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, f"client.{DOMAIN}", _ANSWER_SECONDS) as line:
                    line.ehlo()
                    while not self._stop.is_set():
                        self._one(line)
            except (OSError, smtplib.SMTPException):
                time.sleep(_AGAIN_SECONDS)

    def _one(self, line: smtplib.SMTP) -> None:
        serial, octets = self._books.offer()
        answers = [line.mail(f"trial@{DOMAIN}")[0], line.rcpt(f"trial@{DOMAIN}")[0]]
        if answers == [250, 250] and line.data(octets)[0] == 250:
            self._books.promise(serial)
        else:
            line.rset()


class Primary(socketserver.ThreadingTCPServer):
    """Takes everything at once, on a free port of loopback."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 100

    def __init__(self, books: Books) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.books = books
        self.port: int = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A gateway that is killed leaves its connections in the middle."""


class _Session(socketserver.StreamRequestHandler):
    server: Primary

    def handle(self) -> None:
        self._say(b"220 primary.selftest.test")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                self._say(b"250-primary.selftest.test\r\n250-PIPELINING\r\n250 8BITMIME")
            elif verb == b"DATA":
                self._say(b"354 go on")
                if (octets := self._content()) is None:
                    return
                self.server.books.arrive(octets)
                self._say(b"250 2.0.0 taken")
            else:
                self._say(b"221 2.0.0 bye" if verb == b"QUIT" else b"250 2.0.0 ok")
            if verb == b"QUIT":
                return

    def _content(self) -> bytes | None:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return None
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    def _say(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(line + b"\r\n")
