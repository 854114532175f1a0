"""The spools of neighbours: asked in time, believed for a while, and what is no answer is trouble with them alone."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from fakes.smtp_wire import Wire, WireClock
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from inboundmx.model.settings import OutboundSettings, Settings
from inboundmx.net.http_get import LIMIT
from inboundmx.net.peers import ANSWER_SECONDS, EVERY_SECONDS, HOLDS_SECONDS, JITTER, PeerLoads

URL = "http://192.0.2.20:9998"
ONE = OutboundSettings("one", status_url=URL, status_username="ann", status_password="s3cret")


def answer(content: bytes, code: str = "200 OK", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + code.encode() + b"\r\nServer: x\r\n" + fields + b"\r\n" + content


def told(waiting: object) -> bytes:
    content = json.dumps({"version": "1", "spool": {"waiting": waiting, "active": 1}}).encode()
    return answer(content, fields=b"Content-Length: %d\r\n" % len(content))


class Peer:
    """The neighbour's end of one connection."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.wire: Any = Wire()
        protocol.makeConnection(self.wire)

    @property
    def heard(self) -> bytes:
        return bytes(self.wire.value())

    def says(self, octets: bytes, piece: int = 100_000) -> None:
        for at in range(0, len(octets), piece):
            if not self.wire.aborted:
                self.protocol.dataReceived(octets[at : at + piece])

    def closes(self, why: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(why or ConnectionDone()))


class World:
    """Us. ``noted`` makes it the health, ``uniform`` chance."""

    def __init__(self, *outbound: OutboundSettings) -> None:
        self.reactor = MemoryReactorClock()
        self.clock = WireClock(self.reactor)
        self.settings = Settings(outbound=outbound or (ONE,))
        self.notes: list[tuple[str, bool, str]] = []
        self.chance = 0.0
        self.loads = PeerLoads(self.reactor, lambda: self.settings, self.clock, self, self)  # type: ignore[arg-type]
        self.loads.start()
        self.advance(0)

    def noted(self, service: str, well: bool, detail: str) -> None:
        self.notes.append((service, well, detail))

    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (-JITTER, JITTER)
        return self.chance

    def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)

    @property
    def asked(self) -> list[tuple[str, int]]:
        return [(client[0], client[1]) for client in self.reactor.tcpClients]

    def accept(self, number: int = -1) -> Peer:
        return Peer(self.reactor.tcpClients[number][2].buildProtocol(None))

    def refuse(self) -> None:
        self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    @property
    def detail(self) -> str:
        ((service, well, detail),) = self.notes
        assert service == f"console {URL}" and not well and self.loads.load("one") is None
        return detail


@pytest.mark.parametrize("piece", [1, 10, 100_000])
def test_what_waits_there(piece: int) -> None:
    world = World()
    assert world.asked == [("192.0.2.20", 9998)]
    assert world.loads.load("one") is None
    peer = world.accept()
    first, *fields = peer.heard.decode().split("\r\n")
    assert first == "GET /api/status HTTP/1.1"
    assert "Host: 192.0.2.20:9998" in fields
    assert f"Authorization: Basic {b64encode(b'ann:s3cret').decode()}" in fields
    assert fields[-2:] == ["", ""]
    peer.says(told(17), piece)
    assert world.loads.load("one") == 17 and peer.wire.aborted
    peer.closes()
    assert world.notes == [(f"console {URL}", True, "")]
    assert world.loads.load("two") is None


def test_an_answer_in_chunks() -> None:
    world = World()
    peer = world.accept()
    peer.says(answer(b'19\r\n{"spool": {"waiting": 3}}\r\n', fields=b"Transfer-Encoding: chunked\r\n"))
    assert world.loads.load("one") is None
    peer.says(b"0\r\n\r\n")
    assert world.loads.load("one") == 3


def test_without_a_name_none_is_said() -> None:
    world = World(OutboundSettings("one", status_url=URL))
    assert b"Authorization" not in world.accept().heard


@pytest.mark.parametrize(
    "url, where",
    [("http://192.0.2.20", ("192.0.2.20", 80)), ("https://192.0.2.20", ("192.0.2.20", 443)),
     ("https://[2001:db8::1]:8443", ("2001:db8::1", 8443)), ("http://ann@192.0.2.20:1", ("192.0.2.20", 1))],
)  # fmt: skip
def test_where_it_is_asked(url: str, where: tuple[str, int]) -> None:
    assert World(OutboundSettings("one", status_url=url)).asked == [where]


def test_over_tls_nothing_is_said_before_the_handshake() -> None:
    world = World(OutboundSettings("one", status_url="https://192.0.2.20", status_password="s3cret"))
    peer = world.accept()
    assert peer.heard[:1] == b"\x16" and b"GET" not in peer.heard
    peer.says(told(1))
    peer.closes()
    assert world.loads.load("one") is None
    ((_, well, detail),) = world.notes
    assert not well and detail


@pytest.mark.parametrize(
    "url", ["http://192.0.2.20:99999", "http://192.0.2.20:x", "http://[::1", "http://caf\u00e9\ud800.test"]
)
def test_an_address_that_is_none(url: str) -> None:
    world = World(OutboundSettings("one", status_url=url))
    assert [well for _, well, _ in world.notes] == [False]


# --- when -------------------------------------------------------------------------------------------------------------


def test_again_and_again() -> None:
    world = World()
    world.accept().says(told(1))
    world.advance(EVERY_SECONDS - 1)
    assert len(world.asked) == 1
    world.chance = JITTER
    world.advance(1)
    assert len(world.asked) == 2
    world.accept().says(told(2))
    assert world.loads.load("one") == 2
    world.advance(EVERY_SECONDS * (1 + JITTER) - 0.1)
    assert len(world.asked) == 2
    world.advance(0.2)
    assert len(world.asked) == 3


def test_an_answer_holds_two_minutes() -> None:
    world = World()
    world.accept().says(told(5))
    for _ in range(int(HOLDS_SECONDS / EVERY_SECONDS)):
        world.advance(EVERY_SECONDS)
        world.refuse()
    assert world.loads.load("one") == 5
    world.advance(0.1)
    assert world.loads.load("one") is None
    world.advance(EVERY_SECONDS)
    world.accept().says(told(6))
    assert world.loads.load("one") == 6


def test_each_is_asked_alone() -> None:
    world = World(ONE, replace(ONE, name="two", status_url="http://192.0.2.21:9998"))
    assert world.asked == [("192.0.2.20", 9998), ("192.0.2.21", 9998)]
    world.accept(1).says(told(2))
    assert (world.loads.load("one"), world.loads.load("two")) == (None, 2)
    world.advance(ANSWER_SECONDS)
    assert [well for _, well, _ in world.notes] == [True, False]


@pytest.mark.parametrize("change", [{"enabled": False}, {"status_url": ""}])
def test_who_is_not_asked(change: dict[str, Any]) -> None:
    world = World(replace(ONE, **change))
    world.advance(EVERY_SECONDS)
    assert world.asked == []


def test_new_settings() -> None:
    world = World()
    world.accept().says(told(5))
    world.settings = Settings(outbound=(replace(ONE, status_url="http://192.0.2.21:9998"),))
    world.advance(EVERY_SECONDS)
    assert world.asked[-1] == ("192.0.2.21", 9998)
    assert world.loads.load("one") is None
    world.accept().says(told(6))
    world.settings = Settings()
    world.advance(EVERY_SECONDS)
    assert len(world.asked) == 2 and world.loads.load("one") is None


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_nobody_there() -> None:
    world = World()
    world.refuse()
    assert "cannot be reached" in world.detail


@pytest.mark.parametrize("said", [None, b"", b"HTTP/1.1 200 OK\r\n", answer(b"{", fields=b"Content-Length: 99\r\n")])
def test_too_slow(said: bytes | None) -> None:
    world = World()
    peer = None if said is None else world.accept()
    if peer:
        peer.says(said or b"")
    world.advance(ANSWER_SECONDS - 0.1)
    assert world.notes == []
    world.advance(0.1)
    assert "in time" in world.detail
    if peer:
        assert peer.wire.aborted
        peer.closes()
    assert len(world.reactor.getDelayedCalls()) == 1


@pytest.mark.parametrize(
    "said, detail",
    [(answer(b"", "302 Found", b"Location: http://192.0.2.99/\r\n"), "redirect"), (answer(b"", "401 X"), "password"),
     (answer(b"", "403 X"), "closed"), (answer(b"", "429 X"), "wrong passwords"), (answer(b"", "503 X"), "answers 503"),
     (answer(b"", "204 X"), "answers 204"), (b"220 mx.stranger.example ESMTP\r\n\r\n", "does not speak HTTP"),
     (b"HTTP/1.1 999\r\n\r\n", "does not speak HTTP"), (b"x" * (LIMIT + 1), "more than"),
     (answer(b"x" * LIMIT, fields=b"Content-Length: 999999999\r\n"), "more than"),
     (answer(b"", fields=b"Content-Length: 1\r\nContent-Length: 2\r\n"), "without a length"),
     (answer(b"", fields=b"Content-Length: -1\r\n"), "without a length"),
     (answer(b"", fields=b"Transfer-Encoding: gzip, chunked\r\n"), "without a length"),
     (answer(b"{}"), "without a length"),
     (told(-1), "does not say"), (told("7"), "does not say"), (told(True), "does not say"), (told(1.5), "does not say"),
     (told(None), "does not say"),
     (told(10**9 + 1), "does not say"), (told(10**4000), "does not say"),
     (answer(b"", fields=b"Content-Length: 0\r\n"), "does not say"),
     (answer(b"[" * 9999, fields=b"Content-Length: 9999\r\n"), "does not say"),
     (answer(b"[1]", fields=b"Content-Length: 3\r\n"), "does not say"),
     (answer(b'{"spool":"waiting"}', fields=b"Content-Length: 19\r\n"), "does not say"),
     (answer(b"\xff\xfe{}", fields=b"Content-Length: 4\r\n"), "does not say")],
    ids=range(26),
)  # fmt: skip
def test_what_is_no_answer(said: bytes, detail: str) -> None:
    world = World()
    peer = world.accept()
    peer.says(said)
    assert peer.wire.aborted
    peer.closes()
    assert detail in world.detail


@pytest.mark.parametrize(
    "said, why, detail",
    [(b"", None, "without an answer"), (b"HTTP/1.1 2", None, "in the middle"), (b"", ConnectionLost(), "breaks"),
     (answer(b"{", fields=b"Content-Length: 2\r\n"), None, "in the middle"),
     (b"", ValueError("certificate verify failed"), "certificate verify failed")],
    ids=range(5),
)  # fmt: skip
def test_the_connection_ends_too_soon(said: bytes, why: Exception | None, detail: str) -> None:
    world = World()
    peer = world.accept()
    peer.says(said)
    peer.closes(why)
    assert detail in world.detail


@given(st.lists(st.binary(max_size=50), max_size=5), st.booleans())
def test_noise(pieces: list[bytes], headed: bool) -> None:
    world = World()
    peer = world.accept()
    peer.says(b"HTTP/1.1 200 OK\r\n" if headed else b"")
    for piece in pieces:
        peer.says(piece)
    peer.closes()
    assert world.loads.load("one") is None and len(world.notes) == 1


@pytest.mark.parametrize("connected", [False, True])
def test_stopping(connected: bool) -> None:
    world = World()
    peer = world.accept() if connected else None
    world.loads.stop()
    assert peer is None or peer.wire.aborted
    assert world.reactor.getDelayedCalls() == [] and world.notes == []
    world.advance(10 * EVERY_SECONDS)
    assert len(world.asked) == 1
