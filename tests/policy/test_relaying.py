"""Networks and authentication let a client send out; nothing it says does."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from fakes.lists import lists

from inboundmx.model.session import Session
from inboundmx.model.settings import RelaySettings
from inboundmx.policy.relaying import may_relay, same, within

TRUSTED = RelaySettings((ip_network("192.0.2.0/28"), ip_network("2001:db8:1::/48")))
CLIENT = Session("id", "198.51.100.7", 4000, "203.0.113.1", 0.0)


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        ("192.0.2.0", True),
        ("192.0.2.15", True),
        ("192.0.2.16", False),
        ("::ffff:192.0.2.3", True),
        ("::ffff:192.0.2.99", False),
        ("2001:db8:1::25", True),
        ("2001:db8:2::25", False),
        ("::192.0.2.3", False),
        ("", False),
        ("192.0.2.3.example", False),
        ("192.0.2", False),
    ],
)
def test_a_peer_in_a_trusted_network(peer: str, may: bool) -> None:
    assert may_relay(replace(CLIENT, peer_ip=peer), TRUSTED) is may
    assert within(peer, TRUSTED.allow) is may


def test_nobody_may_by_default() -> None:
    for peer in ("127.0.0.1", "::1", "10.0.0.1", "192.0.2.1", "203.0.113.1"):
        assert not may_relay(replace(CLIENT, peer_ip=peer, local_ip=peer), RelaySettings())


def test_whoever_has_authenticated_may_from_anywhere() -> None:
    assert may_relay(replace(CLIENT, authenticated_as="ann"), RelaySettings())


def test_what_a_client_says_of_itself_does_not_count() -> None:
    said = replace(CLIENT, hello="[192.0.2.3]", reverse_name="192.0.2.3", local_ip="192.0.2.3", tls="TLSv1.3")
    assert not may_relay(said, TRUSTED)


def test_addresses_are_the_same_however_they_are_written() -> None:
    assert same("2001:db8::1", "2001:0DB8:0::1")
    assert same("::ffff:192.0.2.1", "192.0.2.1")
    assert not same("mx.example", "mx.example")
    assert not same("192.0.2.1", "192.0.2.2")


def test_whitelisted_clients_may_where_the_settings_say_so() -> None:
    white = lists(whitelist_smtp="192.0.2.64/28", whitelist_spam="192.0.2.80", whitelist_greylisting="192.0.2.81")
    beside = RelaySettings(("whitelisted", ip_network("192.0.2.1")))
    for peer, may in [("192.0.2.65", True), ("192.0.2.1", True), ("192.0.2.80", False), ("192.0.2.81", False)]:
        session = replace(CLIENT, peer_ip=peer)
        assert may_relay(session, beside, white) is may
        assert may_relay(session, RelaySettings((ip_network("192.0.2.1"),)), white) is (peer == "192.0.2.1")
        assert not may_relay(session, RelaySettings(), white)
