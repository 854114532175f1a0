"""Whom the operator trusts is spared what keeps strangers in check, and who is known need not wait to be greeted."""

from __future__ import annotations

import pytest
from conversation_fake import FakeConversation, Server
from twisted.internet.address import IPv4Address

from inboundmx.model.reply import Reply
from inboundmx.ports import Welcome

PEER = IPv4Address("TCP", "192.0.2.7", 1)


def welcomed(welcome: Welcome) -> FakeConversation:
    conversation = FakeConversation({"recipient": Reply(550, "5.1.1", "nobody")})
    conversation.welcome = welcome
    return conversation


@pytest.mark.parametrize("spared", [True, False])
def test_limits(spared: bool) -> None:
    first, second = (welcomed(Welcome(None, spared=spared)) for _ in range(2))
    limits = {"max_bad_commands": 2, "max_bad_recipients": 2, "max_junk_commands": 2}
    server = Server(first, second, max_connections_per_ip=1, **limits)
    server.factory.unlimited = lambda ip: spared
    client, another = server.connect(PEER), server.connect(PEER)
    said = b"HELO x\r\nMAIL FROM:<>\r\n" + b"NOOP\r\n" * 9 + b"WHAT\r\n" * 9 + b"RCPT TO:<a@b.example>\r\n" * 9
    codes = client.codes(said)
    if spared:
        assert codes == ["220", "250", "250"] + ["250"] * 9 + ["500"] * 9 + ["550"] * 9
        assert another.codes() == ["220"]
    else:
        assert codes[-1] == "421"
        assert another.codes() == ["421"]
    assert client.closed is not spared


def test_not_that_on_all_connections() -> None:
    server = Server(FakeConversation(), welcomed(Welcome(None, spared=True)), max_connections=1)
    server.connect(PEER)
    assert server.connect(PEER).codes() == ["421"]


@pytest.mark.parametrize("strange", [True, False])
def test_the_silence_is_for_strangers(strange: bool) -> None:
    server = Server(welcomed(Welcome(None, strange=strange)), banner_delay=2.0)
    client = server.connect(PEER)
    assert client.codes() == ([] if strange else ["220"])


def test_who_is_turned_away_as_it_arrives_need_not_wait() -> None:
    server = Server(welcomed(Welcome(Reply(554, "5.7.1", "no", then_close=True))), banner_delay=2.0)
    client = server.connect(PEER)
    assert client.codes() == ["554"]
    assert client.closed
