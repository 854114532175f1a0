"""What is written at once, and what is left to the transport: nothing is lost, doubled, or in another order."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server
from twisted.internet.testing import MemoryReactorClock, StringTransport

from inboundmx.smtp.server_socket import StrangerSocket
from inboundmx.smtp.writing import write, write_last

SOME = b"250 2.0.0 OK\r\n"
# More than any kernel takes in one piece.
MUCH = bytes(range(256)) * 2**12


class Wire:
    """A transport of ``kind`` on one end of a pair of sockets; nobody turns its reactor but ``turn``."""

    def __init__(self, kind: Any) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
        server: Any = type("Port", (), {"_realPortNumber": 25})()
        address = IPv4Address("TCP", "192.0.2.1", 40000)
        self.transport: Any = kind(ours, Protocol(), ("192.0.2.1", 40000), server, 1, self.reactor)
        self.transport.client = (address.host, address.port)

    @property
    def waits_to_write(self) -> bool:
        return self.transport in self.reactor.getWriters()

    def turn(self) -> object:
        return self.transport.doWrite()

    def heard(self) -> bytes:
        pieces = []
        try:
            while piece := self.theirs.recv(2**20):
                pieces.append(piece)
        except BlockingIOError:
            pass
        return b"".join(pieces)

    def heard_in_the_end(self) -> bytes:
        heard = self.heard()
        while self.waits_to_write:
            assert self.turn() is None
            heard += self.heard()
        return heard


@pytest.fixture(params=[Server, StrangerSocket])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = Wire(request.param)
    yield wire
    wire.theirs.close()
    if hasattr(wire.transport, "socket"):
        wire.transport.socket.close()


def test_what_fits_leaves_at_once_and_the_reactor_is_not_asked(wire: Wire) -> None:
    write(wire.transport, SOME)
    assert wire.heard() == SOME
    assert not wire.waits_to_write


def test_what_the_kernel_does_not_take_follows_in_order(wire: Wire) -> None:
    write(wire.transport, MUCH)
    write(wire.transport, SOME)
    assert wire.waits_to_write
    assert wire.heard_in_the_end() == MUCH + SOME


@pytest.mark.parametrize("octets", [SOME, MUCH])
def test_it_never_overtakes_what_the_transport_still_holds(wire: Wire, octets: bytes) -> None:
    wire.transport.write(b"first\r\n")
    write(wire.transport, octets)
    assert wire.heard() == b""
    assert wire.heard_in_the_end() == b"first\r\n" + octets


def test_a_full_kernel_takes_nothing_and_nothing_is_lost(wire: Wire) -> None:
    wire.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent = 0
    try:
        while True:
            sent += wire.transport.socket.send(b"x" * 512)
    except BlockingIOError:
        pass
    write(wire.transport, SOME)
    assert wire.waits_to_write
    assert wire.heard_in_the_end() == b"x" * sent + SOME


def test_a_producer_is_paused_for_what_is_left_as_ever(wire: Wire) -> None:
    told: list[str] = []
    producer = type(
        "Producer",
        (),
        {
            "pauseProducing": lambda _: told.append("pause"),
            "resumeProducing": lambda _: told.append("resume"),
            "stopProducing": lambda _: None,
        },
    )()
    wire.transport.registerProducer(producer, True)
    write(wire.transport, SOME)
    assert told == []
    write(wire.transport, MUCH)
    assert told == ["pause"]
    assert wire.heard_in_the_end() == SOME + MUCH
    assert told == ["pause", "resume"]


def test_somebody_who_is_gone_is_noticed_by_the_transport(wire: Wire) -> None:
    wire.theirs.close()
    write(wire.transport, SOME)
    assert wire.waits_to_write
    assert isinstance(wire.turn(), Exception)


def test_nothing_is_said_after_an_abort(wire: Wire) -> None:
    wire.transport.abortConnection()
    write(wire.transport, SOME)
    assert wire.heard() == b""


def test_what_is_said_while_closing_is_left_to_the_transport(wire: Wire) -> None:
    wire.transport.loseConnection()
    write(wire.transport, SOME)
    assert wire.heard() == b""
    wire.turn()
    assert wire.heard() == SOME


def test_encryption_is_never_passed_by(wire: Wire) -> None:
    said: list[bytes] = []
    wire.transport.TLS = True
    wire.transport.protocol = type("Encryption", (), {"write": lambda _, octets: said.append(octets)})()
    write(wire.transport, SOME)
    assert said == [SOME]
    assert wire.heard() == b""


def test_any_other_transport_is_asked_itself() -> None:
    transport: Any = StringTransport()  # type: ignore[no-untyped-call]
    write(transport, SOME)
    assert transport.value() == SOME


class Watching(Protocol):
    def __init__(self) -> None:
        self.reasons: list[Any] = []

    def connectionLost(self, reason: Any = None) -> None:
        self.reasons.append(reason)


def test_a_connection_whose_last_words_fit_ends_at_once(wire: Wire) -> None:
    wire.transport.protocol = watching = Watching()
    write_last(wire.transport, SOME)
    assert [reason.type for reason in watching.reasons] == [ConnectionDone]
    assert wire.theirs.recv(100) == SOME
    assert wire.theirs.recv(100) == b""
    assert wire.transport not in [*wire.reactor.getReaders(), *wire.reactor.getWriters()]


def test_a_connection_whose_last_words_do_not_fit_ends_after_them(wire: Wire) -> None:
    wire.transport.protocol = watching = Watching()
    write_last(wire.transport, MUCH)
    heard = b""
    while not isinstance(wire.turn(), Exception):
        assert watching.reasons == []
        heard += wire.heard()
    assert heard + wire.heard() == MUCH


@pytest.mark.parametrize("before", [b"first\r\n", b""])
def test_a_connection_that_still_holds_something_or_says_nothing_ends_as_ever(wire: Wire, before: bytes) -> None:
    wire.transport.protocol = watching = Watching()
    wire.transport.write(before)
    write_last(wire.transport, SOME if before else b"")
    assert watching.reasons == []
    assert isinstance(wire.turn(), Exception)
    assert wire.heard() == (before + SOME if before else b"")


def test_any_other_transport_is_closed_by_itself() -> None:
    transport: Any = StringTransport()  # type: ignore[no-untyped-call]
    write_last(transport, SOME)
    assert (transport.value(), transport.disconnecting) == (SOME, True)
