"""The tricks of relay testers, spoken to a gateway that relays for some, backs up some, and knows neither the client
nor the domain."""

from __future__ import annotations

import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
from gate import HOST, Gate, domain, settings
from twisted.internet.address import IPv4Address

from inboundmx.model.custody import Route
from inboundmx.model.settings import BackupSettings, RelaySettings
from inboundmx.smtp.server import SmtpServerFactory

sys.path.insert(0, str(Path(__file__).parent.parent / "smtp"))

from conversation_fake import Client, FakeChance, FakeClock

STRANGER, TRUSTED = "198.51.100.7", "192.0.2.50"
OURS = settings(
    domains=(domain("here.example"), domain("whole.example", subdomains=True), domain("off.example", enabled=False)),
    relay=RelaySettings((ip_network("192.0.2.48/29"),)),
    backup=BackupSettings((ip_network("203.0.113.0/24"),)),
)

RECIPIENTS = [
    "<user@elsewhere.test>",
    "user@elsewhere.test",
    "<user%elsewhere.test@here.example>",
    '<"user%elsewhere.test"@here.example>',
    "<user%elsewhere.test@[192.0.2.1]>",
    "<user%elsewhere.test>",
    '<"user@elsewhere.test"@here.example>',
    '<"user@elsewhere.test"@[192.0.2.1]>',
    '<"user@elsewhere.test">',
    "<@here.example:user@elsewhere.test>",
    "<@[192.0.2.1]:user@elsewhere.test>",
    "<elsewhere.test!user@here.example>",
    "<elsewhere.test!user@[192.0.2.1]>",
    "<elsewhere.test!user>",
    "<user@elsewhere.test@here.example>",
    "<user@elsewhere.test!here.example>",
    "<user@[192.0.2.50]>",
    "<user@[IPv6:::ffff:192.0.2.50]>",
    "<user@192.0.2.50>",
    "<user@off.example>",
    "<user@sub.here.example>",
    "<user@mx.example.net>",
    "<user@localhost>",
    "<user@elsewhere.test> ORCPT=rfc822;user@here.example",
]
SENDERS = [
    "<spam@elsewhere.test>",
    "<spam@here.example>",
    "<user@mx.example.net>",
    "<spam@[192.0.2.1]>",
    "<spam@[192.0.2.50]>",
    "<spam@localhost>",
    "<>",
]


def connect(peer: str) -> tuple[Gate, Client]:
    gate = Gate(OURS)
    factory = SmtpServerFactory(gate.reception, FakeClock(), FakeChance(), OURS)
    client = Client(factory, IPv4Address("TCP", peer, 4000))
    client.say(b"EHLO trusted.here.example\r\n")
    return gate, client


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_a_stranger_does_not_relay(recipient: str) -> None:
    for sender in SENDERS:
        gate, client = connect(STRANGER)
        assert client.codes(f"MAIL FROM:{sender}\r\n".encode()) == ["250"]
        (code,) = client.codes(f"RCPT TO:{recipient}\r\n".encode())
        assert code in {"501", "550", "553"}
        assert client.codes(b"DATA\r\n") == ["554"]
        assert gate.spool.entries() == ()


def test_nothing_a_stranger_can_say_tells_which_domains_we_know() -> None:
    heard = set()
    for name in ("elsewhere.test", "off.example", "sub.off.example", "mx.example.net", "203.0.113.1"):
        _, client = connect(STRANGER)
        client.say(b"MAIL FROM:<>\r\n")
        heard.add(client.say(f"RCPT TO:<user@{name}>\r\n".encode()).rpartition(b" ")[0])
    assert heard == {b"550 5.7.1 relaying denied: no such domain here"}


@pytest.mark.parametrize(
    ("peer", "code"), [(TRUSTED, "250"), ("192.0.2.47", "550"), ("192.0.2.56", "550"), (STRANGER, "550")]
)
def test_the_peer_of_the_connection_alone_is_judged(peer: str, code: str) -> None:
    _, client = connect(peer)
    assert client.codes(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<user@elsewhere.test>\r\n") == ["250", code]


def test_a_domain_whose_backup_we_are_is_taken_and_its_neighbour_is_not() -> None:
    gate, client = connect(STRANGER)
    gate.routes.found["backed.test"] = Route("backed.test", (HOST,), via="backup")
    asked = b"MAIL FROM:<>\r\nRCPT TO:<user@backed.test>\r\nRCPT TO:<user@sub.backed.test>\r\n"
    assert client.codes(asked) == ["250", "250", "550"]
