"""Queries on their way to one name server: by UDP on sockets that change, by TCP where an answer does not fit.

Knows sockets, ids, and which octets may be an answer. Does not know what an answer says, nor when to ask again.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Protocol, connectionDone

from inboundmx.net import dns_codec
from inboundmx.ports import Chance

# A socket, and so its port, is used for so many queries, and then let go: who would forge must guess port and id.
SOCKET_USES = 20
# So many messages that answer nothing on one socket are somebody's guesses: what waits there is asked by TCP instead.
STRAYS_LIMIT = 32
MESSAGE_LIMIT = 65535


class Server(NamedTuple):
    address: str
    port: int = 53

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return self.address if self.port == 53 else f"{shown}:{self.port}"


class Try:
    """One query to one server. Exactly one of ``heard`` (a message with our id and question, perhaps truncated) and
    ``failed`` (a short reason) is called, once, unless ``forget`` came first."""

    __slots__ = ("_end", "extended", "id", "question")

    def __init__(self, question: bytes, extended: bool) -> None:
        self.question = question
        self.extended = extended
        self.id = 0
        self._end: Callable[[], None] | None = None

    def heard(self, packet: bytes) -> None:
        raise NotImplementedError

    def failed(self, reason: str) -> None:
        raise NotImplementedError

    def forget(self) -> bool:
        """It is over. False when it was already."""
        end, self._end = self._end, None
        if end is None:
            return False
        end()
        return True

    # --- for the line it is on ----------------------------------------------------------------------------------------

    def begin(self, id: int, end: Callable[[], None]) -> bytes:
        """Its octets; ``end`` is what is to be done once it is over."""
        self.id = id
        self._end = end
        return dns_codec.query(id, self.question, self.extended)

    def matches(self, packet: bytes) -> bool:
        return dns_codec.answers(packet, self.id, self.question)

    def settle(self, packet: bytes) -> None:
        if self.forget():
            self.heard(packet)

    def fail(self, reason: str) -> None:
        if self.forget():
            self.failed(reason)


class Line:
    """The way to one server."""

    def __init__(self, reactor: Any, chance: Chance, server: Server) -> None:
        self.server = server
        self.octets = _octets(server.address)
        self._reactor = reactor
        self._chance = chance
        self._socket: _Socket | None = None

    def by_udp(self, attempt: Try) -> None:
        """Sends it; where that is impossible it fails, perhaps before this returns."""
        lane = self._socket
        if lane is None or lane.uses >= SOCKET_USES:
            if lane is not None:
                lane.retire()
            lane = self._socket = self._opened(attempt)
            if lane is None:
                return
        lane.uses += 1
        id = self._id()
        while id in lane.waiting:
            id = self._id()
        lane.waiting[id] = attempt
        octets = attempt.begin(id, lambda: lane.over(id))
        try:
            lane.transport.write(octets)
        except (OSError, MessageLengthError) as trouble:
            attempt.fail(getattr(trouble, "strerror", None) or "cannot be sent")

    def by_tcp(self, attempt: Try, seconds: float) -> None:
        """``seconds`` bounds the connecting; what comes after, whoever asks."""
        factory = _Factory(attempt, self._id())
        connector = self._reactor.connectTCP(self.server.address, self.server.port, factory, timeout=seconds)
        factory.octets = attempt.begin(factory.id, connector.disconnect)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.retire()
            self._socket = None

    def drop(self, lane: _Socket) -> None:
        """The socket is no good any more."""
        if self._socket is lane:
            self._socket = None
        lane.retire()

    def _id(self) -> int:
        return int(self._chance.uniform(0, 65536)) & 0xFFFF

    def _opened(self, attempt: Try) -> _Socket | None:
        lane = _Socket(self)
        try:
            port = self._reactor.listenUDP(0, lane, interface="::" if ":" in self.server.address else "0.0.0.0")
            lane.port = port
            lane.transport.connect(*self.server)
        except (OSError, CannotListenError) as trouble:
            lane.retire()
            cause = getattr(trouble, "socketError", trouble)
            attempt.begin(0, _nothing)
            attempt.fail(getattr(cause, "strerror", None) or "no socket")
            return None
        return lane


class _Socket(DatagramProtocol):
    """A connected socket: the kernel lets only the server's datagrams through."""

    noisy = False
    transport: Any

    def __init__(self, line: Line) -> None:
        self._line = line
        self.port: Any = None
        self.uses = 0
        self.waiting: dict[int, Try] = {}
        self._strays = 0
        self._retired = False

    def datagramReceived(self, packet: bytes, source: Any) -> None:
        # What came before the socket was connected may be from anywhere.
        if source[1] != self._line.server.port or _octets(source[0]) != self._line.octets:
            return
        attempt = self.waiting.get(packet[0] << 8 | packet[1]) if len(packet) >= dns_codec.HEADER_OCTETS else None
        if attempt is not None and attempt.matches(packet):
            attempt.settle(packet)
            return
        self._strays += 1
        if self._strays == STRAYS_LIMIT:
            self._line.drop(self)
            for each in tuple(self.waiting.values()):
                # As if truncated: the header with nothing but that bit.
                each.settle(struct.pack("!6H", each.id, 0x8200, 0, 0, 0, 0))

    def connectionRefused(self) -> None:
        self._line.drop(self)
        for each in tuple(self.waiting.values()):
            each.fail("connection refused")

    def stopProtocol(self) -> None:
        """The socket is closed. Unless we did it: that is all that Twisted says when an ICMP message tells that nobody
        listens there."""
        self.port = None
        self.connectionRefused()

    def over(self, id: int) -> None:
        del self.waiting[id]
        if self._retired and not self.waiting:
            self._close()

    def retire(self) -> None:
        """Closed as soon as nothing waits on it."""
        self._retired = True
        if not self.waiting:
            self._close()

    def _close(self) -> None:
        port, self.port = self.port, None
        if port is not None:
            port.stopListening()


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, attempt: Try, id: int) -> None:
        self.attempt = attempt
        self.id = id
        self.octets = b""

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Stream(self.attempt, self.octets)

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.attempt.fail("no connection by TCP")


class _Stream(Protocol):
    """One question on one connection (RFC 7766 8): two octets of length, then the message."""

    transport: Any

    def __init__(self, attempt: Try, octets: bytes) -> None:
        self._attempt = attempt
        self._octets = octets
        self._heard = bytearray()

    def connectionMade(self) -> None:
        self.transport.write(struct.pack("!H", len(self._octets)) + self._octets)

    def dataReceived(self, data: bytes) -> None:
        heard = self._heard
        heard += data[: MESSAGE_LIMIT + 2]
        if len(heard) < 2:
            return
        length = heard[0] << 8 | heard[1]
        if len(heard) < length + 2:
            return
        packet = bytes(heard[2 : length + 2])
        if self._attempt.matches(packet):
            self._attempt.settle(packet)
        else:
            self._attempt.fail("an answer to something else")

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self._attempt.fail("closed without an answer")


def _octets(address: str) -> bytes:
    """An address may be written in several ways, a link-local one with its interface."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address.partition("%")[0])


def _nothing() -> None:
    pass
