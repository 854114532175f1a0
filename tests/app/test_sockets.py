"""Sockets that change while they are in use: what is new first, or nothing at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory

from inboundmx.app.listening import CurrentCertificate
from inboundmx.app.sockets import Sockets


class Port:
    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=os.dup(descriptor))
        self.stopped = False

    def stopListening(self) -> Deferred[None]:
        self.stopped = True
        self.socket.close()
        return succeed(None)


class Adopting:
    """The part of a reactor that a worker asks for."""

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> Port:
        return Port(descriptor)


@pytest.fixture
def nothing_stays_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def listening() -> int:
    return socket.socket().detach()


@pytest.mark.usefixtures("nothing_stays_open")
def test_a_worker_takes_what_is_new_and_gives_up_what_is_not_told_of_any_more() -> None:
    sockets = Sockets(Adopting(), Factory(), CurrentCertificate())
    sockets.settle(sockets.adopt([(1, "tcp:25"), (2, "tcp:587")], [listening(), listening()]))
    stays = sockets.opened[1]

    change = sockets.adopt([(2, "tcp:587"), (3, "tcp:2525")], [listening(), listening()])

    assert [each.number for each in change.opened] == [3]
    assert [each.number for each in change.closing] == [1]
    assert not change.closing[0].port.stopped, "until the change is settled"
    sockets.settle(change)
    assert change.closing[0].port.stopped
    assert [each.number for each in sockets.opened] == [2, 3]
    assert sockets.opened[0] is stays
    sockets.close()


@pytest.mark.usefixtures("nothing_stays_open")
def test_a_change_that_is_undone_never_was() -> None:
    sockets = Sockets(Adopting(), Factory(), CurrentCertificate())
    sockets.settle(sockets.adopt([(1, "tcp:25"), (2, "tcp:587")], [listening(), listening()]))
    before = sockets.opened

    change = sockets.adopt([(2, "tcp:587"), (3, "tcp:2525")], [listening(), listening()])
    sockets.undo(change)

    assert sockets.opened == before
    assert [each.port.stopped for each in before] == [False, False]
    assert change.opened[0].port.stopped
    sockets.close()


@pytest.mark.usefixtures("nothing_stays_open")
@pytest.mark.parametrize("descriptors", [0, 1, 3])
def test_what_cannot_be_adopted_changes_nothing(descriptors: int) -> None:
    sockets = Sockets(Adopting(), Factory(), CurrentCertificate())
    with pytest.raises(ValueError):
        sockets.adopt([(1, "tcp:25"), (2, "tcp:587")], [listening() for _ in range(descriptors)])
    assert sockets.opened == []
