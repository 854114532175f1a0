"""Strangers who send numbered messages over many connections at once, and send each again until it is answered 250.

Knows SMTP's client side and writes every answer into the books. Does not know who kills what, nor the primary.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import threading
import time

from books import Books
from programs import DOMAIN, Wire

SENDERS = 20
SMALLEST, LARGEST = 1_000, 200_000
# So many are larger than what a row of the spool holds, and become a file.
LARGE_SHARE, LARGE = 0.02, (280_000, 500_000)
PER_CONNECTION = 8
# A stranger waits so long for an answer, and comes back so soon when there is none.
ANSWER_SECONDS = 60.0
AGAIN_SECONDS = 0.03

HEAD = (
    "X-Serial: {serial}\r\nFrom: <someone@stranger.example>\r\nTo: <user@{domain}>\r\nSubject: {serial}\r\n"
    "Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{serial}@stranger.example>\r\n\r\n"
)


def _text() -> bytes:
    """Lines of everyday length without meaning, some of them beginning with dots."""
    lines = base64.encodebytes(random.Random(1).randbytes(800_000)).splitlines()
    for number in range(0, len(lines), 7):
        lines[number] = b"." * (1 + number % 3) + lines[number]
    return b"\r\n".join(lines)


TEXT = _text()


def message(serial: str, size: int, chance: random.Random) -> bytes:
    begin = TEXT.index(b"\r\n", chance.randrange(len(TEXT) - LARGE[1] - 200)) + 2
    return HEAD.format(serial=serial, domain=DOMAIN).encode() + TEXT[begin : begin + size].rstrip(b"\r\n") + b"\r\n"


def size(chance: random.Random) -> int:
    """Of 1 to 200 kB, small ones more often; and a few that are larger."""
    if chance.random() < LARGE_SHARE:
        return chance.randint(*LARGE)
    return int(SMALLEST * (LARGEST / SMALLEST) ** chance.random())


class Strangers:
    """Send until ``finish``, at most ``limit`` messages."""

    def __init__(self, port: int, books: Books, seed: int, limit: int) -> None:
        self._port = port
        self._books = books
        self._limit = limit
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}.{number}"),), daemon=True)
            for number in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        """Whether all that there was to be sent was answered."""
        return not any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(ANSWER_SECONDS + 10)
            assert not thread.is_alive(), "a stranger is stuck"

    def _run(self, chance: random.Random) -> None:
        waiting: tuple[str, bytes] | None = None
        while not self._stop.is_set():
            stage = "connect"
            try:
                with Wire(self._port, timeout=ANSWER_SECONDS) as wire:
                    stage = "dialogue"
                    if wire.reply().code != 220 or wire.ask("EHLO client.stranger.example").code != 250:
                        continue
                    for _ in range(chance.randint(1, PER_CONNECTION)):
                        waiting = waiting or self._next(chance)
                        if waiting is None:
                            return
                        stage = "dialogue"
                        serial, content = waiting
                        answers = wire.envelope("someone@stranger.example", f"user@{DOMAIN}")
                        code, id = next(((answer.code, "") for answer in answers if answer.code >= 400), (0, ""))
                        if not code:
                            stage = "content"
                            answer = wire.content(content)
                            code, id = answer.code, answer.id
                        self._books.answered(serial, time.monotonic(), code, id)
                        if code == 250:
                            waiting = None
                        elif code == 421:
                            break
                        if self._stop.is_set():
                            break
            except (OSError, EOFError, ValueError):
                # Killed, or stopped: come back, as mail servers do.
                if stage == "connect":
                    self._books.not_connected()
                elif stage == "content" and waiting is not None:
                    self._books.not_answered(waiting[0], time.monotonic())
                time.sleep(AGAIN_SECONDS)

    def _next(self, chance: random.Random) -> tuple[str, bytes] | None:
        number = next(self._numbers)
        if number >= self._limit:
            return None
        serial = f"s{number:06d}"
        content = message(serial, size(chance), chance)
        self._books.sent(serial, hashlib.sha256(content).hexdigest())
        return serial, content
