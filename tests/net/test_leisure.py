"""What waits until the reactor has nothing else to do, on a real reactor turned by hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from inboundmx.net import reactor as own
from inboundmx.net.reactor import LEISURE_SECONDS, quicken


class Ear:
    """Hears one octet in each turn, for as long as there are any."""

    def __init__(self, reactor: Any) -> None:
        self.mouth, self._ear = socket.socketpair()
        self.heard = 0
        self._reactor = reactor
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._ear.fileno()

    def logPrefix(self) -> str:
        return "ear"

    def doRead(self) -> None:
        self.heard += len(self._ear.recv(1))

    def close(self) -> None:
        self._reactor.removeReader(self)
        self.mouth.close()
        self._ear.close()


@pytest.fixture
def reactor() -> Iterator[Any]:
    reactor: Any = EPollReactor()
    quicken(reactor)
    yield reactor
    reactor.removeAll()
    reactor._poller.close()


@pytest.fixture
def ear(reactor: Any) -> Iterator[Ear]:
    ear = Ear(reactor)
    yield ear
    ear.close()


def test_with_nothing_else_to_do_there_is_leisure_at_once(reactor: Any) -> None:
    called: list[str] = []
    for name in ("first", "second"):
        reactor.at_leisure(lambda name=name: called.append(name))
    reactor.doPoll(None)
    assert called == ["first", "second"]
    reactor.doPoll(0)
    assert len(called) == 2, "each is called once"


def test_what_can_be_read_comes_first(reactor: Any, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "monotonic", lambda: 100.0)
    called: list[int] = []
    reactor.at_leisure(lambda: called.append(ear.heard))
    ear.mouth.sendall(b"abc")
    for _ in range(4):
        reactor.doPoll(None)
    assert called == [3]


def test_what_is_due_comes_first(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "monotonic", lambda: 100.0)
    called: list[str] = []
    reactor.at_leisure(lambda: called.append("leisure"))
    reactor.callLater(0, called.append, "due")
    assert reactor.timeout() == 0
    reactor.doPoll(0)
    assert called == []
    reactor.runUntilCurrent()
    reactor.doPoll(reactor.timeout())
    assert called == ["due", "leisure"]


def test_a_busy_reactor_takes_its_time_in_the_end(reactor: Any, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(own, "monotonic", lambda: now)
    called: list[int] = []
    reactor.at_leisure(lambda: called.append(ear.heard))
    ear.mouth.sendall(b"abcdef")
    reactor.doPoll(None)
    now += LEISURE_SECONDS * 0.6
    reactor.at_leisure(lambda: called.append(-1))
    reactor.doPoll(None)
    assert called == []
    now += LEISURE_SECONDS * 0.6
    reactor.doPoll(None)
    assert called == [3, -1], "the first decides how long"


def test_what_is_asked_for_meanwhile_has_its_own_turn(reactor: Any) -> None:
    called: list[int] = []

    def again() -> None:
        called.append(len(called))
        reactor.at_leisure(again)

    reactor.at_leisure(again)
    reactor.doPoll(None)
    assert called == [0]
    reactor.doPoll(None)
    assert called == [0, 1]


def test_one_that_fails_does_not_keep_the_others(reactor: Any) -> None:
    called: list[str] = []

    def fails() -> None:
        raise RuntimeError("planted")

    failures: list[Any] = []
    own._log.addObserver(failures.append)
    try:
        reactor.at_leisure(fails)
        reactor.at_leisure(lambda: called.append("other"))
        reactor.doPoll(None)
    finally:
        own._log.removeObserver(failures.append)
    assert called == ["other"]
    assert [each["failure"].type for each in failures if each.get("isError")] == [RuntimeError]
