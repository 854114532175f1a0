"""A clock and a wire in memory, for tests of the SMTP client: the test plays the server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from inboundmx.model.address import Address
from inboundmx.model.custody import Content, Host, Parcel, Terms
from inboundmx.model.message import Body
from inboundmx.smtp.client import SmtpTransmitter

HOST = Host("192.0.2.10", 25)
EHLO = b"250-mx.primary.example\r\n250-PIPELINING\r\n250-SIZE 100000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
SENDER = Address("sender", "a.example")
ANN, BOB, EVE = Address("ann", "b.example"), Address("bob", "b.example"), Address("eve", "b.example")


class _Call:
    def __init__(self, delayed: Any) -> None:
        self._delayed = delayed

    def cancel(self) -> None:
        if self._delayed.active():
            self._delayed.cancel()


class WireClock:
    """``ports.Clock`` over a reactor in memory."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        self.reactor = reactor

    def now(self) -> float:
        return 1_800_000_000.0 + self.reactor.seconds()

    def monotonic(self) -> float:
        return self.reactor.seconds()

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> _Call:
        return _Call(self.reactor.callLater(seconds, call, *arguments))


class Wire(StringTransport):
    """A TCP transport in memory that knows how it was closed."""

    aborted = False
    no_delay = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True


class Line:
    """The server's end of one connection."""

    def __init__(self, protocol: Any, wire: Wire) -> None:
        self.protocol = protocol
        self.wire = wire

    def says(self, octets: bytes) -> bytes:
        """Sends, and returns what the client wrote since it was last looked at."""
        self.protocol.dataReceived(octets)
        return self.heard()

    def heard(self) -> bytes:
        octets = self.wire.value()
        self.wire.clear()
        return octets

    def hangs_up(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Network:
    """A transmitter under test and the connections it makes."""

    def __init__(self, folder: str = "", hostname: str = "gateway.example") -> None:
        self.reactor = MemoryReactorClock()
        self.clock = WireClock(self.reactor)
        self.transmitter = SmtpTransmitter(self.reactor, self.clock, hostname, folder)

    def dial(
        self, host: Host = HOST, tls: str = "none", seconds: float = 5.0, source: str = "", **terms: Any
    ) -> Outcome:
        return Outcome(self.transmitter.connect(host, terms=Terms(tls, **terms), seconds=seconds, source=source))

    def answer(self) -> Line:
        """Accepts the connection the client asked for last."""
        factory = self.reactor.tcpClients[-1][2]
        protocol, wire = factory.buildProtocol(IPv4Address("TCP", "192.0.2.10", 25)), Wire()
        protocol.makeConnection(wire)
        return Line(protocol, wire)

    def connection(self, ehlo: bytes = EHLO, host: Host = HOST, **terms: Any) -> tuple[Any, Line]:
        """One that is ready to transmit."""
        outcome = self.dial(host, **terms)
        line = self.answer()
        line.says(b"220 mx.primary.example ESMTP\r\n")
        line.says(ehlo)
        return outcome.value, line

    @property
    def timers(self) -> int:
        return len(self.reactor.getDelayedCalls())


class Outcome:
    """What became of a Deferred, looked at without waiting."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.deferred = deferred
        self.results: list[Any] = []
        self.failures: list[Failure] = []
        deferred.addCallbacks(self.results.append, self.failures.append)

    @property
    def value(self) -> Any:
        assert not self.failures, self.failures
        assert len(self.results) == 1, "not fired"
        return self.results[0]

    @property
    def error(self) -> Any:
        assert not self.results, self.results
        assert len(self.failures) == 1, "not fired"
        return self.failures[0].value

    @property
    def fired(self) -> bool:
        return bool(self.results or self.failures)


def body(octets: bytes, path: str | None = None) -> Body:
    return Body(len(octets), octets[: 256 * 1024], path, hashlib.sha256(octets).digest())


def parcel(
    *recipients: Address,
    octets: bytes = b"Subject: x\r\n\r\nhello\r\n",
    sender: Address | None = SENDER,
    prefix: bytes = b"",
    skip: int = 0,
    path: str | None = None,
    **options: Any,
) -> Parcel:
    return Parcel("id1", sender, recipients or (ANN,), Content(prefix, skip, body(octets, path)), **options)


def unstuffed(wire: bytes) -> bytes:
    """Mail data as a receiver reads it, line by line, the plainest way (RFC 5321 4.5.2)."""
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    assert lines[end + 1 :] == [b""], "something follows the final dot"
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines[:end])
