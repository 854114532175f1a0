"""A web service that knows recipients, played by the test: lists, questions, silence, and too much of everything."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.checks import FakeClock, FakeOffload
from fakes.smtp_wire import Wire
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from inboundmx.model.address import Address
from inboundmx.net.recipient_questions import HOLDS_SECONDS
from inboundmx.net.recipient_web import ANSWER_SECONDS, LARGEST_LIST, LIST_SECONDS, RENEWED_SECONDS, RecipientWeb
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly

ANN, BOB = Address("Ann", "a.test"), Address("bob", "a.test")


def ok(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content




CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"


class Desk:
    def __init__(self, url: str = "http://192.0.2.9:8080/who", username: str = "", password: str = "") -> None:
        self.clock = FakeClock()
        self.reactor = MemoryReactorClock()
        self.health: list[tuple[bool, str]] = []
        offload: Any = FakeOffload()
        self.web = RecipientWeb(url, username, password, self.reactor, self.clock, offload, self)
        self.heard: list[bytes] = []

    def noted(self, service: str, well: bool, detail: str) -> None:
        self.health.append((well, detail))

    def begin(self, address: Address = ANN) -> list[Any]:
        came: list[Any] = []
        promptly(self.web.holds(address), came.append, came.append)
        return came

    def answers(self, *pieces: bytes, ends: bool = True) -> None:
        """Takes the newest connection and says so much."""
        factory = self.reactor.tcpClients[-1][2]
        protocol = factory.buildProtocol(None)
        wire = Wire()
        protocol.makeConnection(wire)
        self.heard.append(wire.value())
        for piece in pieces:
            protocol.dataReceived(piece)
        if ends:
            protocol.connectionLost(Failure(ConnectionDone()))

    def refuses(self) -> None:
        self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    @property
    def dialled(self) -> int:
        return len(self.reactor.tcpClients)


def reason(came: list[Any]) -> str:
    assert isinstance(came[0].value, Unavailable), came
    found: str = came[0].value.reason
    return found


def test_a_list_serves_everybody_and_is_fetched_anew() -> None:
    desk = Desk(username="me", password="x")
    first, second = desk.begin(), desk.begin(BOB)
    desk.answers(*(bytes([octet]) for octet in ok(b"ann@a.test\n")))
    assert (first, second, desk.dialled) == ([True], [False], 1)
    assert b"GET /who HTTP/1.1\r\n" in desk.heard[0]
    assert b"Authorization: Basic bWU6eA==\r\n" in desk.heard[0]
    desk.clock.task.advance(RENEWED_SECONDS)
    # Nobody waits for the new one while the old one holds.
    assert desk.begin() == [True]
    desk.answers(ok(b"bob@a.test\n"))
    assert (desk.begin(), desk.begin(BOB), desk.dialled) == ([False], [True], 2)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_list_may_come_in_chunks(size: int) -> None:
    octets = CHUNKED + b'4 ;a="b"\r\nann@\r\n0c\r\na.test\r\nbob@\r\n7\r\na.test\n\r\n000\r\nMore: x\r\n\r\nignored'
    desk = Desk()
    came = desk.begin(BOB)
    desk.answers(*(octets[at : at + size] for at in range(0, len(octets), size)), ends=False)
    assert (came, desk.begin(), desk.health) == ([True], [True], [(True, "")])


def test_a_list_that_cannot_be_had_anew_holds_for_ten_minutes() -> None:
    desk = Desk()
    desk.begin()
    desk.answers(ok(b"ann@a.test\n"))
    desk.clock.task.advance(RENEWED_SECONDS)
    desk.begin()
    desk.refuses()
    desk.clock.task.advance(HOLDS_SECONDS - RENEWED_SECONDS - 1)
    assert desk.begin() == [True]
    desk.refuses()
    desk.clock.task.advance(1)
    assert (
        reason(desk.begin())
        == "recipients http://192.0.2.9:8080 cannot be reached: Connection was refused by other side."
    )
    # It is not dialled for each who asks.
    before = desk.dialled
    for _ in range(10):
        desk.begin()
    assert desk.dialled == before


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 500 oops\r\n\r\n", "answers 500"),
        (b"HTTP/1.0 404 no\r\n\r\n", "answers 404"),
        (ok(b""), "holds no address"),
        (ok(b"<html>"), "line 1 is no address"),
        (b"220 mail\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nann", "ends in the middle of its answer"),
        # It may have ended too soon: no list is believed whose end nothing tells.
        (b"HTTP/1.1 200 OK\r\n\r\nann@a.test\n", "gives an answer without a length"),
        (b"HTTP/1.0 200 OK\r\n\r\nann@a.test\n", "gives an answer without a length"),
        (CHUNKED + b"b\r\nann@a.test\n\r\n", "ends in the middle of its answer"),
        (CHUNKED + b"b\r\nann@a.test\n\r\n0\r\n", "ends in the middle of its answer"),
        (CHUNKED + b"b\r\nann@a.test\n#0\r\n\r\n", "gives an answer in broken chunks"),
        (CHUNKED + b"-b\r\nann@a.test\n", "gives an answer in broken chunks"),
        (CHUNKED + b"0" * 1000, "gives an answer in broken chunks"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536, "says more than anybody should"),
        (b"", "closes without an answer"),
    ],
)
def test_what_is_no_list(answer: bytes, said: str) -> None:
    desk = Desk()
    came = desk.begin()
    desk.answers(*([answer] if answer else []))
    assert reason(came) == f"recipients http://192.0.2.9:8080 {said}"
    assert desk.health[-1] == (False, said)


def test_a_list_has_a_largest_size_and_a_longest_time() -> None:
    desk = Desk()
    came = desk.begin()
    desk.answers(CHUNKED, *[b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n"] * (LARGEST_LIST // 2**20), ends=False)
    assert reason(came).endswith("says more than anybody should")
    desk = Desk()
    came = desk.begin()
    desk.answers(CHUNKED, ends=False)
    desk.clock.task.advance(LIST_SECONDS - 1)
    assert came == []
    desk.clock.task.advance(2)
    assert reason(came).endswith("does not answer in time")


def test_whoever_goes_does_not_take_the_list_along() -> None:
    desk = Desk()
    came: list[Any] = []
    waiting = promptly(desk.web.holds(ANN), came.append, came.append)
    assert waiting is not None
    other = desk.begin(BOB)
    waiting.cancel()
    desk.answers(ok(b"bob@a.test\n"))
    assert other == [True]


QUESTION = "http://192.0.2.9/is/{address}?in=a"


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (ok(b""), True),
        (ok(b"yes\r\n"), True),
        (ok(b'{"id": 7}'), True),
        (ok(b"No\r\n"), False),
        (ok(b"false"), False),
        (ok(b'"unknown"\n'), False),
        (b"HTTP/1.0 404 not here\r\n\r\n", False),
        (b"HTTP/1.0 410 gone\r\n\r\n", False),
    ],
)
def test_a_question_about_each(answer: bytes, held: bool) -> None:
    desk = Desk(QUESTION)
    came = desk.begin()
    desk.answers(answer)
    if not held:
        # It is not somebody who denies everybody.
        desk.answers(ok(b""))
        assert b"GET /is/postmaster@a.test?in=a HTTP/1.1\r\n" in desk.heard[1]
    dialled = desk.dialled
    assert came == [held]
    assert b"GET /is/ann@a.test?in=a HTTP/1.1\r\n" in desk.heard[0]
    assert desk.begin() == [held]
    assert desk.dialled == dialled


def test_an_address_cannot_change_the_question() -> None:
    desk = Desk(QUESTION)
    desk.begin(Address('"a b\\r\\nx/../%?#&"', "a.test"))
    desk.answers(ok(b""))
    assert desk.heard[0].split(b"\r\n")[0] == b"GET /is/%22a%20b%5Cr%5Cnx%2F..%2F%25%3F%23%26%22@a.test?in=a HTTP/1.1"


def test_silence_is_no_answer() -> None:
    desk = Desk(QUESTION)
    came = desk.begin()
    desk.answers(ends=False)
    desk.clock.task.advance(ANSWER_SECONDS + 1)
    assert reason(came) == "recipients http://192.0.2.9 does not answer in time"
