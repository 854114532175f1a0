"""Connections from the first octet to the answer to EHLO, against a server played by the test."""

from __future__ import annotations

import pytest
from fakes.smtp_wire import EHLO, HOST, Network, parcel
from twisted.internet.error import ConnectionRefusedError as Refusal
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.python.failure import Failure

from inboundmx.model.custody import Host
from inboundmx.ports import Refused


def test_a_connection_opens() -> None:
    network = Network()
    outcome = network.dial()
    line = network.answer()
    assert line.wire.no_delay
    assert line.says(b"220 mx.primary.example\r\n") == b"EHLO gateway.example\r\n"
    assert not outcome.fired
    assert line.says(EHLO) == b""
    connection = outcome.value
    assert connection.usable
    assert connection.host == HOST
    assert connection.tls == ""
    assert connection.extensions == {"PIPELINING": "", "SIZE": "100000", "8BITMIME": "", "SMTPUTF8": ""}


def test_the_source_address_and_port_are_used() -> None:
    network = Network()
    network.dial(Host("192.0.2.77", 2525), source="192.0.2.5")
    host, port, _, _, bind = network.reactor.tcpClients[0]
    assert (host, port, bind) == ("192.0.2.77", 2525, ("192.0.2.5", 0))


@pytest.mark.parametrize(
    ("address", "source", "bound"),
    [
        ("2001:db8::1", "2001:db8::5", ("2001:db8::5", 0)),
        ("2001:db8::1", "192.0.2.5", None),
        ("192.0.2.10", "2001:db8::5", None),
        ("192.0.2.10", "", None),
    ],
)
def test_only_a_source_of_the_hosts_family_is_used(address: str, source: str, bound: object) -> None:
    network = Network()
    network.dial(Host(address), source=source)
    assert network.reactor.tcpClients[0][4] == bound


def test_ipv6() -> None:
    network = Network()
    network.dial(Host("2001:db8::1", 25))
    assert network.reactor.tcpClients[0][0] == "2001:db8::1"


def test_lmtp_says_lhlo() -> None:
    network = Network()
    network.dial(Host("192.0.2.10", 24, "lmtp"))
    assert network.answer().says(b"220 lmtp\r\n") == b"LHLO gateway.example\r\n"


@pytest.mark.parametrize("code", [b"500", b"502"])
def test_helo_when_ehlo_is_unknown(code: bytes) -> None:
    network = Network()
    outcome = network.dial(tls="opportunistic")
    line = network.answer()
    line.says(b"220 old\r\n")
    assert line.says(code + b" what?\r\n") == b"HELO gateway.example\r\n"
    line.says(b"250 old\r\n")
    assert outcome.value.extensions == {}
    assert outcome.value.usable


@pytest.mark.parametrize(
    ("banner", "answer", "trouble", "phase", "code"),
    [
        (b"554 5.7.1 go away\r\n", b"", "rejects_us", "greeting", 554),
        (b"521 no mail here\r\n", b"", "rejects_us", "greeting", 521),
        (b"421 busy\r\n", b"", "lost", "greeting", 421),
        (b"450 busy\r\n", b"", "lost", "greeting", 450),
        (b"250 odd\r\n", b"", "garbage", "greeting", 250),
        (b"HTTP/1.1 400 Bad Request\r\n", b"", "garbage", "greeting", None),
        (b"x" * 70000, b"", "garbage", "greeting", None),
        (b"220-many\r\n" * 10000 + b"220 lines\r\n", b"", "garbage", "greeting", None),
        (b"\x00" * 70000, b"", "garbage", "greeting", None),
        (b"\x00\r\n", b"", "garbage", "greeting", None),
        (b"220\x00hi\r\n", b"", "garbage", "greeting", None),
        (b"22\x000 hi\r\n", b"", "garbage", "greeting", None),
        (b"220 hi\r\n250 too eager\r\n", b"", "garbage", "hello", None),
        (b"220 hi\r\n", b"550 5.7.1 not you\r\n", "rejects_us", "hello", 550),
        (b"220 hi\r\n", b"421 closing\r\n", "lost", "hello", 421),
        (b"220 hi\r\n", b"451 later\r\n", "lost", "hello", 451),
        (b"220 hi\r\n", b"354 odd\r\n", "garbage", "hello", 354),
        (b"220 hi\r\n", EHLO + b"250 more\r\n", "garbage", "hello", None),
        (b"220 hi\r\n", b"250-X%d\r\n" * 10_000 % tuple(range(10_000)), "garbage", "hello", None),
    ],
)
def test_a_server_that_does_not_want_us(
    banner: bytes, answer: bytes, trouble: str, phase: str, code: int | None
) -> None:
    network = Network()
    outcome = network.dial()
    line = network.answer()
    line.says(banner)
    if answer:
        line.says(answer)
    refused = outcome.error
    assert isinstance(refused, Refused)
    assert (refused.trouble, refused.phase) == (trouble, phase)
    assert (refused.reply.code if refused.reply else None) == code
    assert refused.detail.isprintable()
    assert line.wire.disconnecting
    line.hangs_up()
    assert network.timers == 0


def test_an_lmtp_server_that_does_not_know_lhlo() -> None:
    network = Network()
    outcome = network.dial(Host("192.0.2.10", 24, "lmtp"))
    line = network.answer()
    line.says(b"220 hi\r\n")
    line.says(b"500 what?\r\n")
    assert outcome.error.trouble == "rejects_us"


@pytest.mark.parametrize(
    ("reason", "trouble"), [(Refusal(), "refused"), (ConnectTimedOut(), "timeout"), (OSError("no route"), "refused")]
)
def test_no_connection(reason: Exception, trouble: str) -> None:
    network = Network()
    outcome = network.dial()
    factory = network.reactor.tcpClients[0][2]
    factory.clientConnectionFailed(network.reactor.connectors[0], Failure(reason))
    assert (outcome.error.trouble, outcome.error.phase) == (trouble, "connect")
    assert outcome.error.detail
    assert network.timers == 0


def test_a_server_without_the_encryption_that_is_asked_for() -> None:
    network = Network()
    outcome = network.dial(tls="required")
    line = network.answer()
    line.says(b"220 hi\r\n")
    line.says(EHLO)
    assert (outcome.error.trouble, outcome.error.detail) == ("tls", "the server does not offer STARTTLS")


@pytest.mark.parametrize("said", [b"", b"220 hi\r\n", b"220-slow\r\n"])
def test_one_limit_bounds_the_whole(said: bytes) -> None:
    network = Network()
    outcome = network.dial(seconds=5.0)
    line = network.answer()
    network.reactor.advance(4.0)
    if said:
        line.says(said)
    network.reactor.advance(0.9)
    assert not outcome.fired
    network.reactor.advance(0.2)
    assert outcome.error.trouble == "timeout"
    assert line.wire.aborted
    line.hangs_up()
    assert network.timers == 0


def test_the_limit_holds_while_nothing_answers_at_all() -> None:
    network = Network()
    outcome = network.dial(seconds=5.0)
    network.reactor.advance(5.1)
    assert (outcome.error.trouble, outcome.error.phase) == ("timeout", "connect")
    assert network.timers == 0


def test_a_server_that_hangs_up() -> None:
    network = Network()
    outcome = network.dial()
    line = network.answer()
    line.says(b"220 hi\r\n")
    line.hangs_up()
    assert (outcome.error.trouble, outcome.error.phase) == ("lost", "hello")
    assert network.timers == 0


def test_cancelling_closes() -> None:
    network = Network()
    outcome = network.dial()
    line = network.answer()
    outcome.deferred.cancel()
    assert line.wire.aborted
    assert outcome.fired
    line.hangs_up()
    assert network.timers == 0


# --- encryption, up to the handshake (which needs real sockets: test_client_tls) ---


@pytest.mark.parametrize(("tls", "opens"), [("opportunistic", True), ("required", False), ("verified", False)])
def test_a_server_without_starttls(tls: str, opens: bool) -> None:
    network = Network()
    outcome = network.dial(tls=tls)
    line = network.answer()
    line.says(b"220 hi\r\n")
    line.says(EHLO)
    if opens:
        assert outcome.value.usable
    else:
        assert (outcome.error.trouble, outcome.error.phase) == ("tls", "tls")
        assert line.wire.disconnecting


def starttls(network: Network, tls: str) -> tuple[object, object]:
    outcome = network.dial(tls=tls)
    line = network.answer()
    line.says(b"220 hi\r\n")
    assert line.says(b"250-mx\r\n250 STARTTLS\r\n") == b"STARTTLS\r\n"
    return outcome, line


def test_lmtp_is_encrypted_too() -> None:
    network = Network()
    network.dial(Host("192.0.2.10", 24, "lmtp"), tls="required")
    line = network.answer()
    assert line.says(b"220 hi\r\n") == b"LHLO gateway.example\r\n"
    assert line.says(b"250-mx\r\n250 STARTTLS\r\n") == b"STARTTLS\r\n"


def test_none_never_encrypts() -> None:
    network = Network()
    outcome = network.dial(tls="none")
    line = network.answer()
    line.says(b"220 hi\r\n")
    assert line.says(b"250-mx\r\n250 STARTTLS\r\n") == b""
    assert outcome.value.tls == ""


@pytest.mark.parametrize("tls", ["opportunistic", "required", "verified"])
@pytest.mark.parametrize("injected", [b"250 x\r\n", b"2", b"250-mx\r\n250 SIZE 1\r\n"])
def test_nothing_slips_in_before_the_handshake(tls: str, injected: bytes) -> None:
    network = Network()
    outcome, line = starttls(network, tls)
    assert line.says(b"220 go\r\n" + injected) == b""
    assert outcome.error.trouble == "garbage"
    assert line.wire.aborted
    assert len(network.reactor.tcpClients) == 1


@pytest.mark.parametrize("tls", ["opportunistic", "required"])
def test_a_permanent_refusal_of_starttls_is_a_refusal_of_us(tls: str) -> None:
    network = Network()
    outcome, line = starttls(network, tls)
    line.says(b"554 5.7.3 no\r\n")
    assert outcome.error.trouble == "rejects_us"


def test_opportunistic_goes_on_in_the_clear_on_a_new_connection() -> None:
    network = Network()
    outcome, line = starttls(network, "opportunistic")
    line.says(b"454 4.7.0 not now\r\n")
    assert line.wire.aborted
    assert len(network.reactor.tcpClients) == 2
    line = network.answer()
    line.says(b"220 hi\r\n")
    assert line.says(b"250-mx\r\n250 STARTTLS\r\n") == b""
    assert outcome.value.usable
    assert outcome.value.tls == ""


def test_required_does_not_go_on_in_the_clear() -> None:
    network = Network()
    outcome, line = starttls(network, "required")
    line.says(b"454 4.7.0 not now\r\n")
    assert (outcome.error.trouble, outcome.error.reply.code) == ("tls", 454)
    assert len(network.reactor.tcpClients) == 1


def test_a_password_keeps_opportunistic_from_going_on_in_the_clear() -> None:
    network = Network()
    outcome = network.dial(tls="opportunistic", username="gateway", password="secret")
    line = network.answer()
    line.says(b"220 hi\r\n")
    assert line.says(b"250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n") == b"STARTTLS\r\n"
    line.says(b"454 4.7.0 not now\r\n")
    assert (outcome.error.trouble, outcome.error.phase, outcome.error.reply.code) == ("tls", "tls", 454)
    assert len(network.reactor.tcpClients) == 1


@pytest.mark.parametrize("tls", ["none", "opportunistic"])
def test_a_password_needs_encryption(tls: str) -> None:
    network = Network()
    outcome = network.dial(tls=tls, username="gateway", password="secret")
    line = network.answer()
    line.says(b"220 hi\r\n")
    assert line.says(b"250-mx\r\n250 AUTH PLAIN CRAM-MD5\r\n") == b""
    assert (outcome.error.trouble, outcome.error.phase) == ("tls", "tls")
    assert "password may not go in the clear" in outcome.error.detail
    assert line.wire.disconnecting
    assert len(network.reactor.tcpClients) == 1


# --- between transactions ---


@pytest.mark.parametrize("octets", [b"421 idle for too long\r\n", b"250 what\r\n", b"x", b"\r\n"])
def test_whatever_is_heard_while_idle_ends_the_connection(octets: bytes) -> None:
    network = Network()
    connection, line = network.connection()
    gone: list[object] = []
    connection.gone.addCallback(gone.append)
    line.says(octets)
    assert not connection.usable
    assert line.wire.aborted
    line.hangs_up()
    assert gone == [None]


def test_a_lost_idle_connection_is_told() -> None:
    network = Network()
    connection, line = network.connection()
    gone: list[object] = []
    connection.gone.addCallback(gone.append)
    assert connection.usable
    line.hangs_up()
    assert gone == [None]
    assert not connection.usable
    connection.close()
    transmission = connection.transmit(parcel(), answer_seconds=5.0, dot_seconds=60.0)
    attempt = transmission.done.result
    assert (attempt.trouble, attempt.dot_sent) == ("lost", False)
    assert [reply.code for _, reply in attempt.replies] == [451]


def test_close_says_quit_and_does_not_wait() -> None:
    network = Network()
    connection, line = network.connection()
    connection.close()
    connection.close()
    assert line.heard() == b"QUIT\r\n"
    assert line.wire.disconnecting
    assert not line.wire.aborted
    assert not connection.usable
    network.reactor.advance(5.1)
    assert line.wire.aborted


def test_after_close_nothing_ticks() -> None:
    network = Network()
    connection, line = network.connection()
    connection.close()
    line.says(b"221 bye\r\n")
    line.hangs_up()
    assert network.timers == 0
