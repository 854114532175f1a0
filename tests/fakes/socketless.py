"""A whole gateway without sockets, threads or disk: a stranger sends, a primary takes, both at once and in memory.

Real are the SMTP server and client, reception, checks, policy, deliveries, the log's lines and the ledger's rows. For
measuring what a message costs us, so what stands around it does as little as it can.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

from fakes.archive import FakeArchive
from fakes.checks import FakeContents, FakeOffload
from fakes.resolver import FakeResolver
from fakes.spool import FakeSpool
from fakes.state import FakeStateStore
from twisted.internet.address import IPv4Address

from inboundmx.app.inside import Inside, Surroundings
from inboundmx.app.maillog import MailLog
from inboundmx.app.settings import load
from inboundmx.checks.api import Tools
from inboundmx.delivery.pausing import Pauses
from inboundmx.net.chance import SystemChance
from inboundmx.smtp.client import SmtpTransmitter
from inboundmx.smtp.server import SmtpServerFactory
from inboundmx.spool.bodies import SpoolBodies
from inboundmx.storage.ledger import Ledger

INI = """
[gateway]
hostname = mx.gateway.example
data = {folder}
workers = 0
[log]
to = {folder}/log
[greylisting]
block = 1m
[domain here.example]
primary = 192.0.2.10
recipients = any
tls = none
[check greylist]
use = greylist
[check pills]
use = headers
header = Subject
value = pills
weight.match = 20
[check bulk]
use = headers
header = Precedence
value = bulk
weight.match = 5
[check mailer]
use = headers
header = X-Mailer
pattern = ^The Bat
weight.match = 5
"""
LETTER = (
    b"".join(b"%s: %s\r\n" % field for field in (
        (b"From", b"Load <load@stranger.example>"), (b"To", b"<user@here.example>"), (b"Subject", b"a letter"),
        (b"Date", b"Sat, 21 Nov 2026 12:00:00 +0000"), (b"MIME-Version", b"1.0"), (b"Content-Type", b"text/plain"),
        *((b"X-Field-%02d" % number, b"v" * 66) for number in range(20)),
    ))
    + b"\r\n" + b"The quick brown fox jumps over the lazy dog, and then once more for good.\r\n" * 30
)  # fmt: skip
VISIT = (
    b"EHLO load.stranger.example\r\n",
    b"MAIL FROM:<load@stranger.example>\r\n",
    b"RCPT TO:<user@here.example>\r\n",
    b"DATA\r\n",
    LETTER + b".\r\n",
    b"QUIT\r\n",
)
REFUSED = (*VISIT[:2], b"RCPT TO:<user@elsewhere.test>\r\n", b"QUIT\r\n")


class RealTime:
    """``ports.Clock`` by the machine's clocks; what is put off waits for ``catch_up``."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.now = time.time
        self._soon: list[Any] = []

    def call_later(self, seconds: float, call: Any, *arguments: object) -> RealTime:
        if seconds <= 0.2 and not arguments:
            self._soon.append(call)
        return self

    def cancel(self) -> None:
        pass

    def catch_up(self) -> None:
        """Does what was put off for a moment: lines are written, rows are kept."""
        soon, self._soon = self._soon, []
        for call in soon:
            call()


class Wire:
    """A transport. ``said`` is what was written to it."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def write(self, octets: bytes) -> None:
        self.said.append(octets)

    def getPeer(self) -> IPv4Address:
        return _STRANGER

    def getHost(self) -> IPv4Address:
        return _OURS

    def nothing(self, *_: object) -> None:
        pass

    setTcpNoDelay = registerProducer = unregisterProducer = loseConnection = abortConnection = nothing
    pauseProducing = resumeProducing = nothing


_STRANGER = IPv4Address("TCP", "203.0.113.7", 40000)
_OURS = IPv4Address("TCP", "192.0.2.1", 25)


class Primary(Wire):
    """The other end of our connections to the primary. Its answers wait until we have written."""

    def __init__(self, waiting: deque[Any]) -> None:
        super().__init__()
        self._waiting = waiting
        self.protocol: Any = None
        self.messages = 0
        self.last = b""

    def write(self, octets: bytes) -> None:
        if answer := self.answer(octets):
            self._waiting.append((self.protocol, answer))

    def answer(self, octets: bytes) -> bytes:
        if octets.startswith(b"EHLO"):
            return b"250-mx.primary.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250 8BITMIME\r\n"
        if octets.startswith(b"MAIL"):
            return b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n"
        if octets.endswith(b"\r\n.\r\n") or octets == b".\r\n":
            self.messages += 1
            self.last = octets
            return b"250 2.0.0 queued\r\n"
        return b""


class Connector:
    """What dialling asks of a reactor."""

    def __init__(self, waiting: deque[Any]) -> None:
        self.primary = Primary(waiting)

    def connectTCP(self, host: str, port: int, factory: Any, *_: object, **__: object) -> Connector:
        self.primary.protocol = protocol = factory.buildProtocol(None)
        protocol.makeConnection(self.primary)
        self.primary._waiting.append((protocol, b"220 mx.primary.example ESMTP\r\n"))
        return self

    def disconnect(self) -> None:
        pass


class Lines:
    """Where the log goes."""

    dropped = 0

    def __init__(self) -> None:
        self.written = b""

    def write(self, lines: bytes) -> None:
        self.written = lines


class Nobody:
    """A lane that does nothing: what a thread does is not our time."""

    def __call__(self, job: Any) -> None:
        pass


class SocketlessGateway:
    def __init__(self, folder: Path) -> None:
        config = folder / "inboundmx.ini"
        config.write_text(INI.format(folder=folder))
        settings = load(str(config))
        self.clock = clock = RealTime()
        self.lines = Lines()
        self._waiting: deque[Any] = deque()
        self._connector = Connector(self._waiting)
        journal = MailLog(settings.log, clock, self.lines, None)  # type: ignore[arg-type]
        self.ledger = Ledger(
            str(folder), "0", keep=1e9, keep_size=10**9, clock=clock, report=lambda *_: None,
            from_thread=lambda *_: None, lane=lambda _: Nobody(),
        )  # fmt: skip
        journal.keep_in(self.ledger)
        state, chance = FakeStateStore(clock), SystemChance()
        tools = Tools(settings, clock, FakeResolver({}), state, None, FakeOffload(), FakeContents(), None)  # type: ignore[arg-type]
        transmitter = SmtpTransmitter(self._connector, clock, "mx.gateway.example", str(folder))
        spool = FakeSpool()
        (folder / "spool").mkdir()
        bodies = SpoolBodies(str(folder / "spool"), str(folder))
        pauses = Pauses(clock, journal, lambda kept: None, ())  # type: ignore[arg-type,return-value]
        outside = Surroundings(clock, chance, journal, spool, bodies, transmitter, tools, pauses, archive=FakeArchive())
        self.inside = Inside(outside)
        self.inside.start()
        self.factory = SmtpServerFactory(self.inside.reception, clock, chance, settings)
        # The sender tried an hour ago, and tries again: from now on it is known.
        clock.now = lambda: time.time() - 3600.0
        self.visit()
        clock.now = time.time
        self.visit()

    @property
    def primary(self) -> Primary:
        return self._connector.primary

    def visit(self, said: tuple[bytes, ...] = VISIT) -> list[bytes]:
        """One connection from the greeting to its end; the answers."""
        protocol, wire, waiting = self.factory.buildProtocol(None), Wire(), self._waiting
        protocol.makeConnection(wire)
        for octets in said:
            protocol.dataReceived(octets)
            while waiting:
                listener, answer = waiting.popleft()
                listener.dataReceived(answer)
        protocol.connectionLost()
        return wire.said

    def catch_up(self) -> None:
        self.clock.catch_up()
        self.ledger._rows.clear()
