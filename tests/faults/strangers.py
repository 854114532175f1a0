"""Strangers who send errand after errand through a trusted proxy, so that they come from addresses of their own.

Knows the sending side of SMTP in all its manners, and keeps the ledger of what was answered with 250. Does not know
what becomes of it.
"""

from __future__ import annotations

import random
import socket
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, field

from corpus import Corpus, Errand

PATIENCE = 120.0
# Messages on one connection, at most.
PER_CONNECTION = 6


@dataclass
class Ledger:
    """``promised``: by serial, for whom 250 was said; ``digests``: of every serial that was sent at all. ``answers``
    counts the last answers, ``broken`` what ended without any."""

    promised: dict[str, tuple[str, ...]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    sent: int = 0


class Line:
    """A connection by way of the proxy."""

    def __init__(self, port: int, source: str) -> None:
        self._socket: socket.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.say(b"PROXY TCP4 %b 192.0.2.200 4321 25\r\n" % source.encode())

    def say(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def reply(self) -> tuple[int, bytes]:
        """A whole reply: its code and last line."""
        while True:
            line, found, rest = self._buffer.partition(b"\r\n")
            if found:
                self._buffer = rest
                if line[3:4] != b"-":
                    return int(line[:3]), line
                continue
            received = self._socket.recv(65536)
            if not received:
                raise EOFError
            self._buffer += received

    def ask(self, line: bytes) -> int:
        self.say(line + b"\r\n")
        return self.reply()[0]

    def encrypt(self, context: ssl.SSLContext) -> None:
        self._socket = context.wrap_socket(self._socket, server_hostname="mx.gateway.example")

    def close(self) -> None:
        self._socket.close()


class Strangers:
    """``threads`` of them, until ``count`` messages were sent. ``resting`` is set while they may not begin another."""

    def __init__(self, corpus: Corpus, port: int, count: int, threads: int, trusting: ssl.SSLContext | None) -> None:
        self.ledger = Ledger()
        self._corpus = corpus
        self._port = port
        self._count = count
        self._trusting = trusting
        self._lock = threading.Lock()
        self._going = threading.Event()
        self._going.set()
        self._stopped = False
        self._busy = 0
        self._threads = [threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def busy(self) -> int:
        """How many have something on its way."""
        return self._busy

    def rest(self) -> None:
        self._going.clear()

    def go_on(self) -> None:
        self._going.set()

    def stop(self) -> None:
        self._stopped = True
        self._going.set()

    def _serial(self, errand: Errand) -> str:
        with self._lock:
            self.ledger.sent += 1
            serial = f"s{self.ledger.sent}"
            self.ledger.digests[serial] = errand.letter.digest
            return serial

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        while self.ledger.sent < self._count and not self._stopped:
            self._going.wait()
            with self._lock:
                self._busy += 1
            try:
                self._visit(chance)
            except (OSError, EOFError, ValueError) as trouble:
                with self._lock:
                    self.ledger.broken[type(trouble).__name__] += 1
            finally:
                with self._lock:
                    self._busy -= 1

    def _visit(self, chance: random.Random) -> None:
        errand = self._corpus.errand(chance)
        line = Line(self._port, errand.source)
        try:
            if errand.manner == "early":
                line.say(b"EHLO early.stranger.example\r\n")
                line.reply()
            if line.reply()[0] != 220 and errand.manner != "early":
                return self._counted("greeting refused")
            if errand.manner == "http":
                line.say(b"GET / HTTP/1.1\r\nHost: here.example\r\n\r\n")
                line.reply()
                return self._counted("http")
            if errand.manner == "nonsense":
                for _ in range(20):
                    line.ask(chance.randbytes(chance.randrange(1, 40)).hex().encode())
            line.ask(b"EHLO client.stranger.example")
            if errand.manner == "tls" and self._trusting is not None and line.ask(b"STARTTLS") == 220:
                line.encrypt(self._trusting)
                line.ask(b"EHLO client.stranger.example")
            for _ in range(chance.randrange(1, PER_CONNECTION + 1)):
                self._one(line, errand, chance)
                if errand.manner == "drops in DATA":
                    return None
                errand = self._corpus.errand(chance)
            line.say(b"QUIT\r\n")
        finally:
            line.close()
        return None

    def _one(self, line: Line, errand: Errand, chance: random.Random) -> None:
        serial = self._serial(errand)
        mail = b"MAIL FROM:<%b>" % errand.sender.encode()
        recipients = [b"RCPT TO:<%b>" % each.encode() for each in errand.recipients]
        if errand.manner == "pipelined":
            line.say(b"\r\n".join([mail, *recipients, b"DATA", b""]))
            answers = [line.reply() for _ in (mail, *recipients)]
            go, last = line.reply()
        else:
            answers = []
            for each in (mail, *recipients):
                line.say(each + b"\r\n")
                answers.append(line.reply())
            line.say(b"DATA\r\n")
            go, last = line.reply()
        if go != 354:
            self._counted(f"{max(answers)[0]} before DATA")
            line.ask(b"RSET")
            return
        octets = errand.letter.wired(serial)
        if errand.manner == "drops in DATA":
            line.say(octets[: chance.randrange(len(octets) - 3)])
            self._counted("dropped in DATA")
            return
        line.say(octets)
        code, last = line.reply()
        if code == 250:
            taken = (to for to, (code, _) in zip(errand.recipients, answers[1:], strict=True) if code == 250)
            with self._lock:
                self.ledger.promised[serial] = tuple(taken)
        self._counted(last[:9].decode())

    def _counted(self, answer: str) -> None:
        with self._lock:
            self.ledger.answers[answer] += 1
