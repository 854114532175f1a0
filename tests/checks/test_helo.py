"""The helo check: what strangers call themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.checks import examined, tools
from fakes.resolver import FakeResolver, Zone

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.helo import Helo
from inboundmx.model.envelope import Envelope
from inboundmx.model.session import Session
from inboundmx.model.settings import GatewaySettings, Settings
from inboundmx.ports import Unavailable

ZONE: Zone = {
    "mail.a.test": {"A": ["192.0.2.1"]},
    "six.a.test": {"AAAA": ["2001:db8::1"]},
    "a.test": {"MX": [(10, "mail.a.test")]},
    "null.a.test": {"MX": [(0, "")]},
    "text.a.test": {"TXT": ["hello"]},
    "broken.test": Unavailable("SERVFAIL"),
    "mx.gateway.example": {"A": ["203.0.113.25"]},
}
GATEWAY = GatewaySettings(
    hostname="mx.gateway.example", hostnames={"192.0.2.26": "mx2.gateway.example"}, addresses=("203.0.113.25",)
)


def given(resolver: FakeResolver) -> Tools:
    return replace(tools(resolver), settings=Settings(gateway=GATEWAY))


def outcome(hello: str, peer: str = "198.51.100.1") -> str:
    session = Session("s", peer, 25000, "192.0.2.25", 0.0, hello)
    return examined(Helo({}, given(FakeResolver(ZONE))), Case(session, Envelope(None))).outcome


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        ("mail.a.test", "ok"),
        ("MAIL.A.Test.", "ok"),
        ("six.a.test", "ok"),
        ("a.test", "ok"),
        ("null.a.test", "unresolvable"),
        ("text.a.test", "unresolvable"),
        ("nobody.test", "unresolvable"),
        ("mx.gateway.example", "our_name"),
        ("MX2.Gateway.Example", "our_name"),
        ("[192.0.2.25]", "our_name"),
        ("[192.0.2.26]", "our_name"),
        ("[203.0.113.25]", "our_name"),
        ("[198.51.100.1]", "literal"),
        ("[IPv6:2001:db8::1]", "literal"),
        ("[ipv6:2001:DB8::1]", "literal"),
        ("[IPv6:192.0.2.1]", "invalid"),
        ("[2001:db8::1]", "invalid"),
        ("[192.0.2.1", "invalid"),
        ("[mail.a.test]", "invalid"),
        ("[]", "invalid"),
        ("192.0.2.1", "invalid"),
        ("2001:db8::1", "invalid"),
        ("localhost", "invalid"),
        ("friend", "invalid"),
        ("büro.test", "invalid"),
        ("a..test", "invalid"),
        ("x'||(select 1)||'.test", "invalid"),
        ("<script>.test", "invalid"),
        ("", "invalid"),
    ],
)
def test_outcomes(hello: str, expected: str) -> None:
    assert outcome(hello) == expected


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "192.0.2.25"])
def test_this_very_machine_may_have_our_name(peer: str) -> None:
    assert outcome("mx.gateway.example", peer) == "ok"
    assert outcome("[192.0.2.25]", peer) == "literal"


def test_what_cannot_be_known_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        outcome("broken.test")


def test_a_name_that_is_there_is_asked_for_once() -> None:
    for hello, asked in (("mail.a.test", 1), ("nobody.test", 1), ("text.a.test", 3), ("friend", 0)):
        resolver = FakeResolver(ZONE)
        session = Session("s", "198.51.100.1", 25000, "192.0.2.25", 0.0, hello)
        examined(Helo({}, given(resolver)), Case(session, Envelope(None)))
        assert len(resolver.asked) == asked
