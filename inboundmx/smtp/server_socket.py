"""Strangers' sockets: accepted, read from and closed as Twisted does it, with less around it.

Knows Twisted's TCP port and transport, and which of their steps a mail server can do without. Does not know what is
said. Whatever is out of the ordinary is left to Twisted.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv6Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python import log
from twisted.python.failure import Failure

OCTETS_AT_ONCE = 64 * 1024
# Connections accepted in one turn of the reactor. Those who are being served go first: of 200 who come together a few
# are done while the others wait to be greeted, instead of all at the end. From MAIL to 250 it is 82 ms in place of 110,
# at the 99th percentile 138 in place of 196, and fewer wait for the primary so long that they are spooled. And whoever
# comes again as soon as he has closed is not counted as many at once: a turn that goes on accepting sees no closing.
CONNECTIONS_AT_ONCE = 8
# And in a turn that has much else to do.
CONNECTIONS_IN_A_CROWD = 4
# What Twisted says of the types of its own insides does not hold in every release.
_Server: Any = tcp.Server
_Port: Any = tcp.Port
_log: Any = log


class StrangerSocket(_Server):  # type: ignore[misc]
    """One connection, of a port that has switched Nagle's algorithm off for all of them."""

    # Nobody else has the descriptor, so to close it is to end the connection: a system call of 9 us less.
    _shouldShutdown = False
    _peer: Any = None
    producer: Any
    begins = True
    """Until the first octets of it are read: for the reactor, who may let it wait for those that have begun."""

    def __init__(
        self, skt: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        # What the constructors of three classes do, but for the texts for a log that nobody reads: 5 us less.
        skt.setblocking(False)
        self.reactor = reactor
        self.socket = skt
        self.fileno = skt.fileno
        self.protocol = protocol
        self.client = client
        self.server = server
        self.sessionno = sessionno
        self.hostname = client[0]
        if len(client) != 2:
            self._addressType = IPv6Address
        self._tempDataBuffer: list[bytes] = []
        self._tempDataLen = 0
        self.connected = 1
        reactor.addReader(self)

    def getPeer(self) -> Any:
        peer = self._peer
        if peer is None:
            peer = self._peer = super().getPeer()
        return peer

    def getHost(self) -> Any:
        return self.server.own_address or super().getHost()

    def setTcpNoDelay(self, enabled: bool) -> None:
        if not enabled:
            super().setTcpNoDelay(enabled)

    def logPrefix(self) -> str:
        return f"{type(self.protocol).__name__},{self.sessionno},{self.hostname}"

    def __repr__(self) -> str:
        return f"<{self.logPrefix()}>"

    def doRead(self) -> Any:
        try:
            octets = self.socket.recv(OCTETS_AT_ONCE)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not octets:
            return CONNECTION_DONE
        self.begins = False
        self.protocol.dataReceived(octets)
        return None

    def connectionLost(self, reason: Failure) -> None:
        if "socket" not in self.__dict__:
            # It was told before.
            return
        if self.disconnecting or self.dataBuffer or self._tempDataBuffer or isinstance(reason.value, ConnectionAborted):
            super().connectionLost(reason)
            return
        self.disconnected = 1
        self.connected = 0
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.reactor.removeReader(self)
        self.socket.close()
        protocol = self.protocol
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(reason)


class StrangersPort(_Port):  # type: ignore[misc]
    """A listening socket. ``own_address``: what its connections come to; None where that differs."""

    transport = StrangerSocket
    own_address: Any = None
    numberAccepts: int
    sessionno: int

    def startListening(self) -> None:
        super().startListening()
        # What is accepted has it from here (Linux): a system call less for each.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        own = self.getHost()
        if own.host not in ("0.0.0.0", "::"):
            self.own_address = own

    def doRead(self) -> None:
        """As Twisted's, but for how many it takes, and without a generator, a log of its own and two looks at the
        family for each connection: 6 us."""
        accept, family = self.socket._accept, int(self.addressFamily)
        most = CONNECTIONS_IN_A_CROWD if getattr(self.reactor, "crowded", False) else CONNECTIONS_AT_ONCE
        wanted, accepted = min(self.numberAccepts, most), 0
        try:
            while accepted < wanted:
                try:
                    descriptor, address = accept()
                except BlockingIOError:
                    break
                except OSError:
                    # There are no descriptors left, or whoever it was is gone.
                    super().doRead()
                    return
                accepted += 1
                self._accepted(socket.socket(family, socket.SOCK_STREAM, 0, descriptor), address)
        except BaseException:  # noqa: BLE001 - one connection fails, the port goes on
            _log.err()
        self.numberAccepts = CONNECTIONS_AT_ONCE if accepted == wanted else max(1, accepted)

    def _accepted(self, connection: socket.socket, address: Any) -> None:
        if len(address) == 4 and address[3]:
            # Of an address that is good on one link only, the link belongs to its name.
            named = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            address = (named[0], *address[1:])
        peer = self._buildAddr(address)
        protocol = self.factory.buildProtocol(peer)
        if protocol is None:
            connection.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        transport = self.transport(connection, protocol, address, self, number, self.reactor)
        transport._peer = peer
        protocol.makeConnection(transport)
