"""Strangers' sockets, on a real reactor and loopback: taken in, read, closed, and lost as Twisted's are."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from inboundmx.net.reactor import BEGINNINGS, CROWD, QuickReactor, quicken
from inboundmx.smtp.server_socket import CONNECTIONS_AT_ONCE, CONNECTIONS_IN_A_CROWD, StrangersPort

ROUNDS = 2000


class Heard(Protocol):
    def __init__(self, fault: str = "") -> None:
        self.octets = b""
        self.lost: list[Any] = []
        self.fault = fault

    def connectionMade(self) -> None:
        if self.fault == "made":
            raise RuntimeError("planted")

    def dataReceived(self, data: bytes) -> None:
        if self.fault == "data":
            raise RuntimeError("planted")
        self.octets += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.append(reason.type)


class Line:
    """A reactor turned by hand, a port, and what is logged as a failure meanwhile."""

    def __init__(self, host: str = "127.0.0.1", quick: bool = True) -> None:
        self.reactor: Any = EPollReactor()
        if quick:
            quicken(self.reactor)
            assert type(self.reactor) is QuickReactor
        self.made: list[Heard] = []
        self.fault = ""
        self.failures: list[Any] = []
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self._build  # type: ignore[method-assign]
        self.port = StrangersPort(0, factory, 50, host, self.reactor)
        self.port.startListening()
        self.address = self.port.socket.getsockname()
        globalLogPublisher.addObserver(self._logged)

    def _build(self, address: Any) -> Heard | None:
        if self.fault == "none":
            return None
        self.made.append(Heard(self.fault))
        return self.made[-1]

    def _logged(self, event: Any) -> None:
        if event.get("failure") is not None:
            self.failures.append(event["failure"].type)

    def dial(self) -> socket.socket:
        return socket.create_connection(self.address[:2], 10.0)

    def dial_faulty(self, fault: str, came: Callable[[], object]) -> socket.socket:
        """One with a fault, which no later one has."""
        self.fault = fault
        client = self.dial()
        self.until(came)
        self.fault = ""
        return client

    def until(self, came: Callable[[], object]) -> None:
        for _ in range(ROUNDS):
            if came():
                return
            self.reactor.iterate(0.01)
        raise AssertionError("it never came")

    def end(self) -> None:
        globalLogPublisher.removeObserver(self._logged)
        for selectable in self.reactor.removeAll():
            selectable.connectionLost(_CLOSED)
        self.reactor._poller.close()


_CLOSED = Failure(ConnectionDone())


@pytest.fixture(params=[True, False], ids=["quick", "twisted"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    line = Line(quick=request.param)
    yield line
    line.end()


def test_what_is_said_is_heard_and_answered(line: Line) -> None:
    with line.dial() as client:
        client.sendall(b"EHLO\r\n")
        line.until(lambda: line.made and line.made[0].octets)
        transport: Any = line.made[0].transport
        transport.write(b"250\r\n")
        line.reactor.iterate(0)

        assert line.made[0].octets == b"EHLO\r\n"
        assert client.recv(10) == b"250\r\n"
        assert (transport.getPeer().host, transport.getPeer().port) == client.getsockname()
        assert (transport.getHost().host, transport.getHost().port) == line.address
        assert transport.getTcpNoDelay()


def test_many_are_taken_in_at_once(line: Line) -> None:
    clients = [line.dial() for _ in range(30)]
    line.until(lambda: len(line.made) == 30)
    for client in clients:
        client.close()
    line.until(lambda: all(each.lost for each in line.made))

    assert {each.lost[0] for each in line.made} == {ConnectionDone}
    assert set(line.reactor.getReaders()) == {line.port, *line.reactor._internalReaders}


def test_no_turn_takes_in_so_many_that_others_wait(line: Line) -> None:
    clients = [line.dial() for _ in range(30)]
    taken: list[int] = []

    def turned() -> bool:
        taken.append(len(line.made) - sum(taken))
        return sum(taken) == len(clients)

    line.until(turned)
    for client in clients:
        client.close()

    assert max(taken) == CONNECTIONS_AT_ONCE


class Crowd:
    """More connections than a turn that is not crowded has events, none of which has said anything yet."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.clients: list[socket.socket] = []
        for _ in range(CROWD + 2 * BEGINNINGS):
            # The backlog of the port holds fewer.
            self.clients.append(line.dial())
            line.until(lambda: len(line.made) == len(self.clients))

    def say(self, word: bytes) -> None:
        for client in self.clients:
            client.sendall(word)

    def heard(self, word: bytes) -> int:
        return sum(each.octets.endswith(word) for each in self.line.made)

    def turn(self) -> None:
        self.line.reactor.iterate(0.01)

    def end(self) -> None:
        for client in self.clients:
            client.close()
        self.line.end()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd(Line())
    yield crowd
    crowd.end()


def test_in_a_crowd_few_begin_in_a_turn_and_all_in_the_end(crowd: Crowd) -> None:
    crowd.say(b"EHLO\r\n")
    crowd.turn()
    first = crowd.heard(b"EHLO\r\n")
    crowd.turn()
    second = crowd.heard(b"EHLO\r\n")
    crowd.line.until(lambda: crowd.heard(b"EHLO\r\n") == len(crowd.clients))

    assert (first, second) == (BEGINNINGS, 2 * BEGINNINGS)


def test_a_crowd_of_those_who_have_begun_does_not_wait(crowd: Crowd) -> None:
    crowd.say(b"EHLO\r\n")
    crowd.line.until(lambda: crowd.heard(b"EHLO\r\n") == len(crowd.clients))
    crowd.say(b"MAIL\r\n")
    crowd.turn()

    assert crowd.heard(b"MAIL\r\n") == len(crowd.clients)


def test_a_crowd_has_fewer_taken_in_beside_it(crowd: Crowd) -> None:
    others = [crowd.line.dial() for _ in range(CONNECTIONS_AT_ONCE)]
    crowd.say(b"EHLO\r\n")
    crowd.turn()
    taken = len(crowd.line.made) - len(crowd.clients)
    for other in others:
        other.close()

    assert taken == CONNECTIONS_IN_A_CROWD


@pytest.mark.parametrize("last", ["", "a last word"])
def test_a_connection_we_end_is_ended(line: Line, last: str) -> None:
    with line.dial() as client:
        line.until(lambda: line.made)
        transport: Any = line.made[0].transport
        if last:
            transport.write(last.encode())
        transport.loseConnection()
        line.until(lambda: line.made[0].lost)

        assert client.recv(100) == last.encode()
        assert client.recv(100) == b""


def test_a_client_that_breaks_off_is_lost(line: Line) -> None:
    client = line.dial()
    line.until(lambda: line.made)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    line.until(lambda: line.made[0].lost)

    assert line.made[0].lost in ([ConnectionLost], [ConnectionDone])


def test_an_abort_breaks_the_connection_off(line: Line) -> None:
    with line.dial() as client:
        line.until(lambda: line.made)
        transport: Any = line.made[0].transport
        transport.abortConnection()
        line.until(lambda: line.made[0].lost)

        with pytest.raises(ConnectionResetError):
            client.recv(10)
        assert line.made[0].lost == [ConnectionAborted]
        transport.connectionLost(_CLOSED)
        assert line.made[0].lost == [ConnectionAborted]


def test_a_fault_in_hearing_is_logged_and_ends_that_connection_alone(line: Line) -> None:
    first = line.dial_faulty("data", lambda: line.made)
    second = line.dial()
    line.until(lambda: len(line.made) == 2)
    first.sendall(b"x")
    line.until(lambda: line.made[0].lost)
    second.sendall(b"y")
    line.until(lambda: line.made[1].octets)

    assert line.failures == [RuntimeError]
    assert line.made[0].lost == [RuntimeError]
    assert first.recv(1) == b""
    first.close()
    second.close()


def test_a_fault_in_taking_one_in_is_logged_and_the_port_goes_on(line: Line) -> None:
    first = line.dial_faulty("made", lambda: line.failures)
    second = line.dial()
    second.sendall(b"y")
    line.until(lambda: len(line.made) == 2 and line.made[1].octets)

    assert line.failures == [RuntimeError]
    first.close()
    second.close()


def test_who_is_not_wanted_is_closed(line: Line) -> None:
    line.fault = "none"
    with line.dial() as client:
        client.settimeout(0.0)
        gone: list[bytes] = []

        def closed() -> bool:
            try:
                gone.append(client.recv(1))
            except BlockingIOError:
                return False
            return True

        line.until(closed)

        assert gone == [b""]


def test_without_descriptors_the_port_is_left_to_twisted(line: Line) -> None:
    class Scarce:
        """A socket that has a descriptor to give to Twisted, and none to us."""

        def __init__(self, real: Any) -> None:
            self.real, self.refused = real, 0

        def _accept(self) -> Any:
            self.refused += 1
            raise OSError(errno.EMFILE, "Too many open files")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    scarce = Scarce(line.port.socket)
    line.port.socket = scarce
    with line.dial() as client:
        client.sendall(b"z")
        line.until(lambda: line.made and line.made[0].octets)
        line.port.socket = scarce.real

    assert scarce.refused
    assert line.failures == []


def test_a_port_for_every_address_says_which_one_it_is_for_each_connection() -> None:
    line = Line(host="::")
    try:
        with socket.create_connection(("127.0.0.1", line.address[1]), 10.0):
            line.until(lambda: line.made)
            transport: Any = line.made[0].transport
            assert transport.getHost().host == "::ffff:127.0.0.1"
            assert transport.getPeer().host == "::ffff:127.0.0.1"
    finally:
        line.end()


def test_only_twisteds_own_epoll_is_made_quick() -> None:
    class Another(EPollReactor):
        pass

    other = Another()
    quicken(other)
    quicken(object())

    assert type(other) is Another
    other.removeAll()
    other._poller.close()
