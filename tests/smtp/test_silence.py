"""The silence before the greeting: who speaks into it is early, and who waits loses nothing but the time."""

from __future__ import annotations

from typing import Any

import pytest
from conversation_fake import FakeConversation, Server, Wire
from twisted.internet.address import IPv4Address
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from inboundmx.model.reply import Reply
from inboundmx.smtp.server_connection import WAITING_LIMIT


def delayed(*conversations: FakeConversation, **smtp: Any) -> Server:
    return Server(*conversations, banner_delay=2.0, **smtp)


def asked(server: Server) -> list[Any]:
    return server.reception.conversations[0].asked


def test_who_waits_is_greeted_and_not_early() -> None:
    server = delayed()
    client = server.connect()
    server.clock.advance(1.9)
    assert client.heard() == b"" and asked(server) == []
    server.clock.advance(0.1)
    assert client.codes() == ["220"]
    assert client.codes(b"HELO x\r\n") == ["250"]
    connected, hello = asked(server)
    assert connected == ("connected",)
    assert not hello[1].early


@pytest.mark.parametrize("said", [[b"HELO x\r\nNOOP\r\n"], [b"H", b"ELO x\r\n", b"NOOP\r\n"]])
def test_who_does_not_wait_is_early_and_heard_after_the_greeting(said: list[bytes]) -> None:
    server = delayed()
    client = server.connect()
    server.clock.advance(0.05)
    for each in said:
        assert client.say(each) == b""
    server.clock.advance(2)
    assert client.codes() == ["220", "250", "250"]
    connected, hello = asked(server)
    assert connected == ("connected", "early")
    assert hello[1].early


def test_who_is_refused_for_it_is_not_heard() -> None:
    conversation = FakeConversation({"connected": Reply(554, "5.7.1", "no", then_close=True)})
    server = delayed(conversation)
    client = server.connect()
    client.say(b"HELO x\r\n")
    server.clock.advance(2)
    assert client.codes() == ["554"]
    assert client.closed
    assert [question[0] for question in conversation.asked] == ["connected"]


def test_without_a_delay_nobody_is_early() -> None:
    server = Server()
    client = server.connect()
    assert client.codes(b"HELO x\r\n") == ["220", "250"]
    assert asked(server)[0] == ("connected",)


def test_what_is_said_early_is_bounded() -> None:
    server = delayed()
    client = server.connect()
    fed = 0
    while client.wire.producerState == "producing":
        client.say(b"NOOP\r\n" * 100)
        fed += 600
    assert fed <= WAITING_LIMIT + 600


def test_another_protocol_is_known_after_the_greeting() -> None:
    server = delayed()
    client = server.connect()
    client.say(b"GET / HTTP/1.1\r\n")
    server.clock.advance(2)
    assert client.codes() == ["220", "554"]
    assert client.closed


def test_one_connection_too_many_need_not_wait() -> None:
    server = delayed(max_connections_per_ip=1)
    peer = IPv4Address("TCP", "192.0.2.7", 1)
    server.connect(peer)
    assert server.connect(peer).codes() == ["421"]


def test_who_hangs_up_leaves_nothing_behind() -> None:
    server = delayed()
    client = server.connect()
    client.hang_up()
    assert not [call for call in server.clock.twisted.getDelayedCalls() if call.active()]
    server.clock.advance(5)
    assert server.reception.conversations[0].told == [("closed", "lost")]


def test_a_stop_does_not_wait_for_the_greeting() -> None:
    server = delayed()
    client = server.connect()
    drained = server.factory.drain(5.0)
    assert client.codes() == ["421"]
    assert client.closed
    client.hang_up()
    assert drained.called


def test_behind_a_proxy_the_silence_begins_with_the_header() -> None:
    server = delayed()
    wrapped: Any = HAProxyWrappingFactory(server.factory)  # type: ignore[no-untyped-call]
    proxy = IPv4Address("TCP", "127.0.0.1", 1)
    protocol, wire = wrapped.buildProtocol(proxy), Wire(proxy)
    protocol.makeConnection(wire)
    server.clock.advance(10)
    protocol.dataReceived(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n")
    server.clock.advance(1.9)
    assert wire.value() == b""
    protocol.dataReceived(b"HELO x\r\n")
    server.clock.advance(0.2)
    assert wire.value().startswith(b"220 ")
    assert asked(server)[0] == ("connected", "early")
