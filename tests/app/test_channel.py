"""Packets between processes, and values in memory without a name."""

from __future__ import annotations

import os
import socket

import pytest

from inboundmx.app.channel import Channel, Said, pair, receive, sealed, send, unsealed
from inboundmx.app.orders import Orders
from inboundmx.model.settings import Settings
from inboundmx.smtp.tls import Pem


class Reader:
    """The part of a reactor that a channel asks for."""

    def __init__(self) -> None:
        self.readers: set[object] = set()
        self.addReader = self.readers.add
        self.removeReader = self.readers.discard


def test_a_packet_with_its_descriptors_arrives_whole() -> None:
    ours, theirs = pair()
    with ours, theirs:
        orders = Orders(1, 2, 4711, Settings(), Pem(b"chain", b"key"), ((1, "tcp:25"),), frozenset({"x"}))
        sealed_orders = sealed(orders)
        send(ours, {"do": "load"}, [sealed_orders])
        os.close(sealed_orders)
        said, descriptors = receive(theirs)
        assert said == {"do": "load"}
        assert not os.get_inheritable(descriptors[0])
        assert unsealed(descriptors[0]) == orders
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptors[0])


def test_the_end_is_told_once_and_nothing_is_said_after_it() -> None:
    ours, theirs = pair()
    reactor, heard, ended = Reader(), [], []
    channel = Channel(reactor, ours, lambda said, _: heard.append(said), lambda: ended.append(True))
    send(theirs, {"a": 1})
    theirs.send(b"no JSON")
    theirs.send(b"[1]")
    send(theirs, {"b": 2})
    channel.doRead()
    assert heard == [{"a": 1}, {"b": 2}]
    theirs.close()
    channel.doRead()
    assert ended == [True]
    assert reactor.readers == set()
    assert not channel.tell({"too": "late"})
    channel.close()


def test_who_does_not_listen_does_not_hold_us_up() -> None:
    ours, theirs = pair()
    channel = Channel(Reader(), ours, lambda said, _: None, lambda: None)
    said: Said = {"long": "x" * 10_000}
    told = [channel.tell(said) for _ in range(1000)]
    assert told[0] and not told[-1]
    channel.close()
    theirs.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_that_nobody_wants_are_closed_whatever_comes_with_them() -> None:
    ours, theirs = pair()
    heard: list[tuple[Said, list[int]]] = []
    channel = Channel(Reader(), ours, lambda *told: heard.append(told), lambda: None)
    before = open_descriptors()
    send(theirs, {"a": 1}, [0] * 100)
    socket.send_fds(theirs, [b"no JSON"], [0] * 100)
    socket.send_fds(theirs, [b"[1]"], [0])
    channel.doRead()
    assert heard == [({"a": 1}, [])]
    assert open_descriptors() == before
    # Nor where descriptors are wanted, but nothing can be made of what was said.
    theirs.setblocking(True)
    ours.setblocking(True)
    for nonsense in (b"no JSON", b"[1]"):
        socket.send_fds(theirs, [nonsense], [0] * 100)
        with pytest.raises(ValueError):
            receive(ours)
    assert open_descriptors() == before
    channel.close()
    theirs.close()
