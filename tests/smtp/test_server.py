"""The shell: connections counted, time limited, hang-ups noticed, nothing kept that is not read."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import pytest
from conversation_fake import Client, FakeConversation, Server, Wire, settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.python.failure import Failure

from inboundmx.model.reply import Reply
from inboundmx.model.settings import GatewaySettings, Settings
from inboundmx.ports import Welcome
from inboundmx.smtp.framing import COMMAND_LIMIT
from inboundmx.smtp.server_connection import QUESTION_SECONDS, WAITING_LIMIT

ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\n"
SPOKEN = [
    *(ENVELOPE, b"\r\n", b"\r\n.\r\n", b"EHLO x\r\n", b"MAIL FROM:<>", b"RCPT TO:<b@d.example>"),
    *(b"DATA\r\n", b"RSET\r\n", b"BDAT 3\r\n", b"STARTTLS\r\n", b"QUIT\r\n", b"VRFY x\r\n"),
    *(b"\0", b" SMTPUTF8", b" SIZE=99999999999", b"." * 3000),
]
ENVELOPE_CODES = ["220", "250", "250", "250", "354"]


def test_a_batch_is_answered_in_one_write() -> None:
    client = Server().connect()
    client.say(ENVELOPE)
    assert client.wire.writes == 2
    assert client.wire.no_delay


@pytest.mark.parametrize(
    ("peer", "ip", "port"),
    [
        (IPv4Address("TCP", "192.0.2.7", 1234), "192.0.2.7", 1234),
        (IPv6Address("TCP", "2001:db8::1", 99), "2001:db8::1", 99),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 99), "192.0.2.7", 99),
        (IPv6Address("TCP", "fe80::1%eth0", 99), "fe80::1", 99),
        (UNIXAddress("/run/x"), "", 0),
    ],
)
def test_who_is_talking(peer: Any, ip: str, port: int) -> None:
    server = Server()
    server.connect(peer)
    session = server.reception.sessions[0]
    assert (session.peer_ip, session.peer_port) == (ip, port)
    assert session.local_ip == "10.0.0.1"
    assert session.tls == ""
    assert len(session.id) >= 10


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP6 2001:db8:: 1 2001:db8::2 1 2",
        b"PROXY TCP6 what:ever 2001:db8::2 1 2",
        b"PROXY TCP4 nobody 192.0.2.2 1 2",
        b"PROXY TCP4 192.0.2.1 here 1 2",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 one 2",
        b"PROXY TCP4 192.0.2.\xff 192.0.2.2 1 2",
    ],
)
def test_a_proxy_header_that_names_nobody_ends_the_connection(header: bytes) -> None:
    server = Server()
    wrapped: Any = HAProxyWrappingFactory(server.factory)  # type: ignore[no-untyped-call]
    proxy = IPv4Address("TCP", "127.0.0.1", 1)
    protocol, wire = wrapped.buildProtocol(proxy), Wire(proxy)
    protocol.makeConnection(wire)
    protocol.dataReceived(header + b"\r\nEHLO x\r\n")
    assert wire.aborted and wire.value() == b""
    assert server.reception.sessions == []
    protocol.connectionLost(Failure(ConnectionLost()))
    assert not server.factory.connections


def test_the_name_is_that_of_the_local_address() -> None:
    server = Server()
    gateway = GatewaySettings("mx.example.net", hostnames={"10.0.0.1": "mx2.example.org"})
    server.factory.settings = Settings(gateway=gateway)
    client = server.connect()
    client.heard()
    assert client.say(b"HELO x\r\n") == b"250 mx2.example.org\r\n"


def test_too_many_from_one_address() -> None:
    server = Server(max_connections_per_ip=2)
    peer, same = IPv4Address("TCP", "192.0.2.7", 1), IPv6Address("TCP", "::ffff:192.0.2.7", 2)
    first, second, third = server.connect(peer), server.connect(same), server.connect(peer)
    other = server.connect(IPv4Address("TCP", "192.0.2.8", 1))
    assert first.codes() == second.codes() == other.codes() == ["220"]
    heard = third.heard()
    assert heard.startswith(b"421 4.7.0 ")
    assert heard.endswith(b" id0123456789\r\n")
    assert third.closed
    third.hang_up()
    refused = server.reception.conversations[2]
    assert refused.asked == []
    assert refused.told == [("refused", "CONNECT", 421), ("closed", "limit")]
    first.hang_up()
    assert server.connect(peer).codes() == ["220"]


def test_limits_of_one_client_do_not_hold_for_who_is_whitelisted() -> None:
    conversations = [FakeConversation() for _ in range(5)]
    for conversation in conversations:
        conversation.welcome = Welcome(None, strange=False, spared=True)
    server = Server(*conversations, max_connections_per_ip=1, max_bad_commands=2, max_connections=4)
    server.factory.unlimited = lambda ip: ip == "192.0.2.7"
    white, other = IPv4Address("TCP", "192.0.2.7", 1), IPv4Address("TCP", "192.0.2.8", 1)
    clients = [server.connect(white) for _ in range(3)]
    assert [client.codes() for client in clients] == [["220"]] * 3
    assert server.connect(other).codes() == ["220"]
    for _ in range(5):
        assert clients[0].say(b"NONSENSE\r\n").startswith(b"500 ")
    assert server.connect(white).heard().startswith(b"421 4.3.2 "), "connections in all are as many as there may be"


def test_peers_without_an_address_are_not_one_stranger() -> None:
    server = Server(max_connections_per_ip=1)
    clients = [server.connect(UNIXAddress(None)) for _ in range(3)]
    assert [client.codes() for client in clients] == [["220"]] * 3


def test_too_many_in_all() -> None:
    server = Server(max_connections=1)
    first = server.connect()
    assert server.connect(IPv4Address("TCP", "192.0.2.8", 1)).heard().startswith(b"421 4.3.2 ")
    first.hang_up()


def test_counts_do_not_grow() -> None:
    server = Server(max_connections_per_ip=3)
    for _ in range(10):
        client = server.connect()
        client.say(b"QUIT\r\n")
        client.hang_up()
    assert not server.factory.connections
    assert server.connect().codes() == ["220"]


@pytest.mark.parametrize("said", [b"", b"EHLO x\r\nNO", ENVELOPE, ENVELOPE + b"text"])
def test_a_hang_up_is_told_once(said: bytes) -> None:
    server = Server()
    client = server.connect()
    client.say(said)
    client.hang_up()
    client.hang_up()
    told = server.reception.conversations[0].told
    assert [what for what in told if what[0] == "closed"] == [("closed", "lost")]
    assert not [call for call in server.clock.twisted.getDelayedCalls() if call.active()]


def test_a_hang_up_cancels_the_question() -> None:
    conversation = FakeConversation(slow=frozenset({"content"}))
    client = Server(conversation).connect()
    client.say(ENVELOPE + b"text\r\n.\r\n")
    assert len(conversation.pending) == 1
    client.heard()
    client.hang_up()
    assert conversation.cancelled == 1
    assert conversation.told == [("closed", "lost")]
    assert client.heard() == b""


def test_quit_is_told_as_such() -> None:
    server = Server()
    client = server.connect()
    assert client.codes(b"QUIT\r\n") == ["220", "221"]
    assert client.closed
    client.hang_up()
    assert server.reception.conversations[0].told == [("closed", "quit")]


def test_nothing_is_heard_after_the_end() -> None:
    server = Server()
    client = server.connect()
    client.say(b"QUIT\r\n")
    assert client.say(b"MAIL FROM:<>\r\n") == b""


def test_a_question_may_be_a_bare_deferred() -> None:
    class Bare(FakeConversation):
        def hello(self, session: Any) -> Any:
            self.waiting: Deferred[Reply] = Deferred()
            return self.waiting

    conversation = Bare()
    client = Server(conversation).connect()
    client.say(b"HELO x\r\n")
    conversation.waiting.callback(Reply(250, "", "hello"))
    assert client.codes(b"NOOP\r\n") == ["250", "250"]


def test_a_reception_that_fails() -> None:
    server = Server()

    def conversation(_: Any) -> Any:
        raise ValueError

    server.reception.conversation = conversation  # type: ignore[method-assign]
    client = server.connect()
    assert client.codes() == ["421"]
    assert client.closed


@pytest.mark.parametrize("late", [False, True])
def test_an_answer_that_is_none(late: bool) -> None:
    class Speechless(FakeConversation):
        async def mail(self, *_: Any) -> Any:
            if late:
                self.waiting: Deferred[None] = Deferred()
                await self.waiting

    conversation = Speechless()
    client = Server(conversation).connect()
    client.say(b"HELO x\r\nMAIL FROM:<>\r\nNOOP\r\n")
    if late:
        conversation.waiting.callback(None)
        assert client.heard().startswith(b"421 4.3.0 ")
    assert client.closed


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(SPOKEN)), max_size=30))
@hypothesis_settings(max_examples=150, deadline=None)
def test_whatever_is_said_is_answered_properly(said: list[bytes]) -> None:
    server = Server(tls_options=object())
    client = server.connect()
    for octets in said:
        client.protocol.dataReceived(octets)
    client.hang_up()
    lines = client.heard().split(b"\r\n")
    assert lines.pop() == b""
    assert all(re.fullmatch(rb"[2-5][0-9]{2}[ -][ -~]*", line) for line in lines)
    assert not [line for line in lines if line.startswith(b"421 4.3.0")]
    told = server.reception.conversations[0].told
    assert len([what for what in told if what[0] == "closed"]) == 1


def test_what_waits_is_bounded() -> None:
    conversation = FakeConversation(slow=frozenset({"mail"}))
    client = Server(conversation, max_junk_commands=100_000).connect()
    client.say(b"HELO x\r\nMAIL FROM:<>\r\n")
    line = b"NOOP\r\n"
    fed = 0
    while client.wire.producerState == "producing":
        client.say(line * 100)
        fed += 100
    assert fed * len(line) <= WAITING_LIMIT + 100 * len(line)
    conversation.fire()
    assert client.codes() == ["250"] * (fed + 1)
    assert client.wire.producerState == "producing"


def test_before_the_greeting_as_well() -> None:
    server = Server(banner_delay=5.0)
    client = server.connect()
    assert client.say(b"EHLO early.example\r\n") == b""
    assert server.reception.conversations[0].asked == []
    client.say(b"NOOP\r\n" * 20_000)
    assert client.wire.producerState == "paused"
    server.clock.advance(5)
    assert client.codes()[:3] == ["220", "250", "250"]
    assert client.wire.producerState == "producing"


def test_a_client_that_does_not_read_is_not_read_either() -> None:
    client = Server().connect()
    client.protocol.pauseProducing()
    assert client.wire.producerState == "paused"
    client.heard()
    assert client.say(b"NOOP\r\nNOOP\r\n") == b""
    client.protocol.resumeProducing()
    assert client.codes() == ["250", "250"]
    assert client.wire.producerState == "producing"


def test_an_endless_line_is_not_kept() -> None:
    client = Server().connect()
    client.heard()
    for _ in range(60):
        assert client.say(b"x" * 1024) == b""
        assert client.protocol._dialogue.waiting <= COMMAND_LIMIT + 1024
    assert client.codes(b"x" * 10_000) == ["500"]
    assert client.closed


def test_answers_that_never_come() -> None:
    conversation = FakeConversation(slow=frozenset({"mail"}))
    server = Server(conversation)
    client = server.connect()
    client.say(b"HELO x\r\nMAIL FROM:<>\r\n")
    server.clock.advance(QUESTION_SECONDS + 1)
    assert client.codes(b"NOOP\r\n") == ["451", "250"]
    assert conversation.cancelled == 1


def test_a_message_that_keeps_coming_is_cut_after_an_hour() -> None:
    server = Server(min_data_rate=1)
    client = server.connect()
    assert client.codes(ENVELOPE) == ENVELOPE_CODES
    for _ in range(59):
        server.clock.advance(60)
        client.say(b"x" * 120)
        assert not client.closed
    server.clock.advance(61)
    assert client.codes() == ["421"]
    client.hang_up()
    assert server.reception.conversations[0].told[-1] == ("closed", "timeout")


def test_a_line_has_longer_within_a_transaction() -> None:
    server = Server()
    client = server.connect()
    client.say(b"HELO x\r\nMAIL FROM:<>\r\nRC")
    client.heard()
    server.clock.advance(299)
    assert client.codes(b"PT TO:<b@d.example>\r\n") == ["250"]


def test_who_does_not_take_the_last_answer_is_cut() -> None:
    server = Server()
    client = server.connect()
    client.say(b"QUIT\r\n")
    assert not client.wire.aborted
    server.clock.advance(31)
    assert client.wire.aborted


def test_new_settings_are_for_new_connections() -> None:
    server = Server(max_message_size=1000)
    old = server.connect()
    server.factory.settings = settings(max_message_size=2000)
    new = server.connect()
    assert b"SIZE 1000\r\n" in old.say(b"EHLO x\r\n")
    assert b"SIZE 2000\r\n" in new.say(b"EHLO x\r\n")


def test_a_certificate_may_come_and_go() -> None:
    before = object()
    server = Server(tls_options=before)
    client = server.connect()
    assert b"STARTTLS" in client.say(b"EHLO x\r\n")
    server.factory.tls_options = None
    assert b"STARTTLS" not in server.connect().say(b"EHLO x\r\n")
    client.say(b"STARTTLS\r\n")
    # A connection that was offered TLS gets it.
    assert client.wire.started_tls == [before]


def test_tls_begins_once_whatever_happens_meanwhile() -> None:
    server = Server(tls_options=object())
    client = server.connect()
    client.say(b"EHLO x\r\nSTARTTLS\r\n")
    client.protocol.pauseProducing()
    client.protocol.resumeProducing()
    drained(server)
    assert len(client.wire.started_tls) == 1
    client.heard()
    client.protocol.handshakeCompleted()
    assert client.codes() == ["421"]


def test_a_handshake_that_is_never_made() -> None:
    server = Server(tls_options=object())
    client = server.connect()
    client.say(b"EHLO x\r\nSTARTTLS\r\n")
    server.clock.advance(121)
    assert client.wire.aborted


def drained(server: Server, seconds: float = 30) -> list[Any]:
    fired: list[Any] = []
    server.factory.drain(seconds).addBoth(fired.append)
    return fired


def test_draining_nobody() -> None:
    server = Server()
    assert drained(server) == [None]
    assert not server.clock.twisted.getDelayedCalls()


def test_a_message_that_does_not_end_in_time_hears_421_and_is_cut() -> None:
    server = Server()
    client = server.connect()
    client.say(ENVELOPE)
    client.heard()
    fired = drained(server, 5)
    server.clock.advance(5)
    assert client.codes() == ["421"]
    assert client.closed and not client.wire.aborted
    server.clock.advance(1)
    assert client.wire.aborted
    client.hang_up()
    assert fired == [None]


def test_draining() -> None:
    asking = FakeConversation(slow=frozenset({"mail"}))
    server = Server(FakeConversation(), asking)
    idle, busy, sending = (server.connect() for _ in range(3))
    busy.say(b"HELO x\r\nMAIL FROM:<>\r\n")
    sending.say(ENVELOPE)
    for client in (idle, busy, sending):
        client.heard()
    fired = drained(server)
    assert idle.codes() == ["421"]
    assert idle.closed
    assert busy.codes() == sending.codes() == []
    asking.fire()
    assert busy.codes() == ["250", "421"]
    assert sending.codes(b"text\r\n.\r\n") == ["250", "421"]
    late = server.connect()
    assert late.codes() == ["421"]
    for client in (idle, busy, sending):
        assert fired == []
        client.hang_up()
    late.hang_up()
    assert fired == [None]
    assert server.reception.conversations[2].contents == [b"text\r\n"]
    assert server.reception.conversations[0].told[-1] == ("closed", "stopping")


def test_draining_has_an_end() -> None:
    server = Server()
    client = server.connect()
    client.say(ENVELOPE)
    drained(server, 30)
    server.clock.advance(29)
    assert not client.closed
    server.clock.advance(2)
    assert client.wire.aborted
    client.hang_up()
    assert server.reception.conversations[0].told[-1] == ("closed", "stopping")


def test_an_idle_connection_is_small() -> None:
    server = Server(max_connections=1000, max_connections_per_ip=1000)
    keep: list[Client] = [server.connect()]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        keep += [server.connect() for _ in range(200)]
        for client in keep:
            client.say(b"EHLO client.example\r\n")
        each = (tracemalloc.get_traced_memory()[0] - before) / 200
    finally:
        tracemalloc.stop()
    # The fakes at both ends are counted too, a transport of Twisted's own is not.
    assert each < 8_000
