"""PROXY headers and XCLIENT: whose word is taken for who the client is, and that the client gains nothing by it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from conversation_fake import FakeConversation, Server, Wire
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import capturedLogs
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from inboundmx.model.reply import Reply
from inboundmx.smtp.naming import Named, named

HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2, 0, 7, 0, 25])
PROXIES = (ip_network("203.0.113.0/28"), ip_network("2001:db8::/64"))
PEER = IPv4Address("TCP", "198.51.100.1", 1)
TRUSTED = (ip_network("198.51.100.1/32"),)


def behind(server: Server, peer: Any, factory: Any = None) -> tuple[Any, Wire]:
    wrapped: Any = HAProxyWrappingFactory(factory or server.factory)  # type: ignore[no-untyped-call]
    protocol, wire = wrapped.buildProtocol(peer), Wire(peer)
    protocol.makeConnection(wire)
    return protocol, wire


# --- PROXY ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [HEADER, V2])
@pytest.mark.parametrize(
    ("peer", "believed"),
    [
        (IPv4Address("TCP", "203.0.113.5", 1), True),
        (IPv6Address("TCP", "::ffff:203.0.113.5", 1), True),
        (IPv6Address("TCP", "2001:db8::5", 1), True),
        (UNIXAddress("/run/x"), True),
        (IPv4Address("TCP", "203.0.113.77", 1), False),
        (IPv4Address("TCP", "127.0.0.1", 1), False),
    ],
)
def test_only_our_proxies_are_believed(header: bytes, peer: Any, believed: bool) -> None:
    server = Server(proxies=PROXIES)
    protocol, wire = behind(server, peer)
    if believed:
        assert wire.value() == b""
    protocol.dataReceived(header + b"HELO x\r\n")
    codes = [line[:3] for line in wire.value().split(b"\r\n")[:-1]]
    assert codes == ([b"220", b"250"] if believed else [b"554"])
    (session,) = server.reception.sessions
    assert (session.peer_ip == "192.0.2.1") is believed
    told = server.reception.conversations[0].told
    assert told == ([] if believed else [("refused", "CONNECT", 554)])
    assert wire.disconnecting is not believed


def test_without_more_than_the_defaults_this_machine_is_believed() -> None:
    for host, believed in (("127.0.0.1", True), ("192.0.2.99", False)):
        server = Server()
        protocol, _ = behind(server, IPv4Address("TCP", host, 1))
        protocol.dataReceived(HEADER)
        assert (server.reception.sessions[0].peer_ip == "192.0.2.1") is believed


def test_an_address_that_is_no_proxy_is_not_counted_as_another() -> None:
    server = Server(proxies=PROXIES, max_connections_per_ip=1)
    for _ in range(3):
        _, wire = behind(server, PEER)
        assert wire.value().startswith(b"554 ")


class Tls(TLSMemoryBIOFactory):
    """As for an endpoint with TLS from the first octet, without a certificate: no handshake is ever made here."""

    def __init__(self, factory: Any) -> None:
        from OpenSSL import SSL

        class Creator:
            def serverConnectionForTLS(self, protocol: Any) -> Any:
                return SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)

        from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
        from zope.interface import directlyProvides

        creator = Creator()
        directlyProvides(creator, IOpenSSLServerConnectionCreator)
        super().__init__(creator, False, factory)  # type: ignore[no-untyped-call]


def test_nobody_else_gets_as_far_as_a_handshake_and_it_is_on_record() -> None:
    server = Server(proxies=PROXIES)
    _, wire = behind(server, PEER, Tls(server.factory))
    assert wire.aborted
    assert server.reception.conversations[0].told == [("refused", "CONNECT", 554)]
    assert server.reception.sessions[0].peer_ip == "198.51.100.1"


def test_who_is_refused_anyway_gets_no_handshake() -> None:
    asked = []

    def refuses(session: Any) -> Reply | None:
        asked.append(session.peer_ip)
        return Reply(554, "5.7.1", "no") if session.peer_ip == PEER.host else None

    server = Server()
    server.reception.refuses = refuses
    for peer, refused in ((PEER, True), (IPv4Address("TCP", "198.51.100.2", 1), False)):
        wire = Wire(peer)
        Tls(server.factory).buildProtocol(peer).makeConnection(wire)
        assert wire.aborted is refused and wire.value() == b""
    assert asked == ["198.51.100.1", "198.51.100.2"]
    assert server.reception.conversations == []
    # Whose connection it is behind a proxy is not known before, and in the clear it is told why.
    behind(server, IPv4Address("TCP", "127.0.0.1", 1), Tls(server.factory))
    server.connect(PEER)
    assert len(asked) == 2


def test_a_fault_of_ours_before_the_handshake_refuses_nobody() -> None:
    def refuses(session: Any) -> Reply | None:
        raise RuntimeError("planted")

    server = Server()
    server.reception.refuses = refuses
    wire = Wire(PEER)
    with capturedLogs() as logged:
        Tls(server.factory).buildProtocol(PEER).makeConnection(wire)
    assert not wire.aborted and logged


# --- XCLIENT ----------------------------------------------------------------------------------------------------------


def test_nobody_else_hears_of_xclient() -> None:
    server = Server()
    client = server.connect(PEER)
    client.heard()
    assert b"XCLIENT" not in client.say(b"EHLO x\r\n")
    assert client.codes(b"XCLIENT ADDR=192.0.2.1\r\n") == ["550"]
    assert len(server.reception.sessions) == 1
    assert ("refused", "XCLIENT", 550) in server.reception.conversations[0].told


def test_a_session_begins_anew_for_the_client_that_is_named() -> None:
    server = Server(xclient=TRUSTED)
    client = server.connect(PEER)
    client.heard()
    assert b"\r\n250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN\r\n" in client.say(b"EHLO proxy.example\r\n")
    line = b"XCLIENT NAME=one.example ADDR=192.0.2.7 PORT=99 PROTO=ESMTP HELO=[192.0.2.7] LOGIN=ann\r\n"
    assert client.codes(line) == ["220"]
    assert client.codes(b"MAIL FROM:<a@b.example>\r\n") == ["503"]
    assert client.codes(b"EHLO proxy.example\r\nMAIL FROM:<a@b.example>\r\n") == ["250", "250"]
    first, second = server.reception.sessions
    assert (second.peer_ip, second.peer_port, second.authenticated_as) == ("192.0.2.7", 99, "")
    assert first.id != second.id
    before, after = server.reception.conversations
    assert before.told[-1] == ("closed", "renamed")
    assert [question[0] for question in before.asked] == ["connected", "hello"]
    assert [question[0] for question in after.asked] == ["connected", "hello", "mail"]
    assert after.asked[1][1].hello == "[192.0.2.7]"
    client.hang_up()
    assert before.told.count(("closed", "renamed")) == 1 and after.told[-1] == ("closed", "lost")
    assert not server.factory._by_ip


def test_one_client_after_the_other() -> None:
    server = Server(xclient=TRUSTED)
    client = server.connect(PEER)
    for number in (1, 2, 3):
        client.say(b"XCLIENT ADDR=IPV6:2001:db8::%d HELO=h%d\r\nEHLO x\r\nMAIL FROM:<>\r\n" % (number, number))
        assert client.codes(b"XCLIENT ADDR=192.0.2.9\r\nRSET\r\n") == ["503", "250"]
    assert [session.peer_ip for session in server.reception.sessions] == [
        "198.51.100.1", "2001:db8::1", "2001:db8::2", "2001:db8::3",
    ]  # fmt: skip


def test_what_is_not_named_stays() -> None:
    server = Server(xclient=TRUSTED)
    client = server.connect(PEER)
    client.say(b"XCLIENT HELO=other.example\r\nHELO x\r\n")
    session = server.reception.sessions[-1]
    assert (session.peer_ip, session.peer_port) == ("198.51.100.1", 1)
    assert server.reception.conversations[-1].asked[-1][1].hello == "other.example"


def test_an_unknown_client_is_nobody() -> None:
    server = Server(xclient=TRUSTED)
    client = server.connect(PEER)
    client.heard()
    assert client.codes(b"XCLIENT ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] HELO=[UNAVAILABLE]\r\n") == ["220"]
    session = server.reception.sessions[-1]
    assert (session.peer_ip, session.peer_port) == ("", 0)


def test_whoever_is_named_may_be_refused() -> None:
    refusing = FakeConversation({"connected": Reply(554, "5.7.1", "no", then_close=True)})
    server = Server(FakeConversation(), refusing, xclient=TRUSTED)
    client = server.connect(PEER)
    client.heard()
    assert client.codes(b"XCLIENT ADDR=192.0.2.7\r\n") == ["554"]
    assert client.closed


def test_those_that_are_named_are_counted_and_who_names_them_is_not() -> None:
    server = Server(xclient=TRUSTED, max_connections_per_ip=1)
    clients = [server.connect(PEER) for _ in range(3)]
    assert [client.codes() for client in clients] == [["220"]] * 3
    said = [client.codes(b"XCLIENT ADDR=192.0.2.7\r\n") for client in clients]
    assert said == [["220"], ["421"], ["421"]]


def test_a_proxy_may_bring_somebody_who_speaks_for_others() -> None:
    server = Server(xclient=(ip_network("192.0.2.1/32"),))
    protocol, _ = behind(server, IPv4Address("TCP", "127.0.0.1", 1))
    protocol.dataReceived(HEADER + b"XCLIENT ADDR=192.0.2.7\r\n")
    assert [session.peer_ip for session in server.reception.sessions] == ["192.0.2.1", "192.0.2.7"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ADDR=192.0.2.7", Named("192.0.2.7")),
        ("addr=IPV6:2001:DB8::1 Port=25", Named("2001:db8::1", 25)),
        ("ADDR=2001:db8::1", Named("2001:db8::1")),
        ("ADDR=IPv6:::ffff:192.0.2.7", Named("192.0.2.7")),
        ("ADDR=[TEMPUNAVAIL] NAME=[TEMPUNAVAIL]", Named("")),
        ("HELO=a+2Eb+2Bc", Named(None, None, "a.b+c")),
        ("LOGIN=ann NAME=x.example PROTO=SMTP", Named()),
        ("", None),
        ("ADDR", None),
        ("ADDR=", None),
        ("ADDR=192.0.2", None),
        ("ADDR=one.example", None),
        ("ADDR=fe80::1%eth0", None),
        ("ADDR=192.0.2.7 ADDR=192.0.2.8", None),
        ("ADDR=192.0.2.7  PORT=1", None),
        ("PORT=0", None),
        ("PORT=65536", None),
        ("PORT=+31", Named(None, 1)),
        ("PORT=٣", None),
        ("PROTO=LMTP", None),
        ("DESTADDR=192.0.2.7", None),
        ("HELO=a+0D+0Ab", None),
        ("HELO=a+20b", None),
        ("HELO=a+b", None),
        ("HELO=" + "x" * 256, None),
    ],
)
def test_what_names_a_client(text: str, found: Named | None) -> None:
    assert named(text) == found


def test_what_cannot_be_a_client_is_refused() -> None:
    server = Server(xclient=TRUSTED)
    client = server.connect(PEER)
    client.heard()
    assert client.codes(b"XCLIENT ADDR=nobody\r\nNOOP\r\n") == ["501", "250"]
    assert len(server.reception.sessions) == 1
