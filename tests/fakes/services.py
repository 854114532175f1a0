"""Scanning services in memory: the test plays the servers, the threads and the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from fakes.smtp_wire import Wire, WireClock
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from inboundmx.model.message import SMALL_BODY, Body
from inboundmx.net.scanners import ScanningServices
from inboundmx.ports import Unavailable


def body(octets: bytes) -> Body:
    """As a draft makes it; a large one has a path that names nothing."""
    path = "bodies/large" if len(octets) > SMALL_BODY else None
    return Body(len(octets), octets[:SMALL_BODY], path, hashlib.sha256(octets).digest())


class Handle:
    """What a second handle on the socket still has to give."""

    def __init__(self) -> None:
        self.left = b""
        self.closed = False

    def dup(self) -> Handle:
        return self

    def recv(self, octets: int) -> bytes:
        if not self.left:
            raise ConnectionResetError
        left, self.left = self.left[:octets], self.left[octets:]
        return left

    def close(self) -> None:
        self.closed = True


class ServiceWire(Wire):
    def __init__(self) -> None:
        super().__init__()
        self.handle = Handle()
        self.half_closed = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def getHandle(self) -> Handle:
        return self.handle


class Line:
    """The server's end of one connection."""

    def __init__(self, protocol: Any, wire: ServiceWire) -> None:
        self.protocol = protocol
        self.wire = wire

    def says(self, octets: bytes, piece: int = 65536) -> None:
        """As long as anybody listens."""
        for at in range(0, len(octets), piece):
            if self.wire.aborted:
                return
            self.protocol.dataReceived(octets[at : at + piece])

    def closes(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def heard(self) -> bytes:
        octets = self.wire.value()
        self.wire.clear()
        return octets


class Outcome:
    """What came of a coroutine so far."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        self.done = False
        self.deferred: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        self.deferred.addCallbacks(self._came, self._failed)

    def _came(self, value: Any) -> None:
        self.value, self.done = value, True

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, Exception)
        self.error, self.done = failure.value, True

    @property
    def unavailable(self) -> str:
        assert isinstance(self.error, Unavailable), (self.value, self.error)
        return self.error.reason


class Disk:
    """``ports.Offload`` and ``ports.Contents``: reads wait until ``turn``, and find ``octets``."""

    def __init__(self) -> None:
        self.octets = b""
        self.busy = False
        self.waiting: list[Callable[[], object]] = []

    def run(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        if self.busy:
            done.errback(Unavailable("too much waits for a thread"))
        else:
            self.waiting.append(lambda: None if done.called else done.callback(work(*arguments)))
        return done

    def turn(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()

    def whole(self, body: Body) -> bytes:
        return self.octets

    def part(self, body: Body, start: int, octets: int) -> bytes:
        return self.octets[start : start + octets]


class Services:
    """The clients, and all around them."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.clock = WireClock(self.reactor)
        self.disk = Disk()
        self.notes: list[tuple[str, bool, str]] = []
        nothing: Any = None
        self.scanners = ScanningServices(self.reactor, self.clock, self.disk, self.disk, self, nothing)
        self._served = 0

    def noted(self, service: str, well: bool, detail: str) -> None:
        self.notes.append((service, well, detail))

    @property
    def waiting(self) -> int:
        """Connections that were asked for and neither taken nor refused."""
        return len(self.reactor.tcpClients) - self._served

    def asked(self) -> list[str]:
        """Every server that was connected to, in order."""
        return [client[0] for client in self.reactor.tcpClients]

    def accept(self) -> Line:
        protocol = self._next().buildProtocol(None)
        wire = ServiceWire()
        protocol.makeConnection(wire)
        return Line(protocol, wire)

    def refuse(self) -> None:
        self._next().clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    def _next(self) -> Any:
        client = self.reactor.tcpClients[self._served]
        self._served += 1
        return client[2]
