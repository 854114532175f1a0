"""Whose mail it is and where it goes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from inboundmx.model.address import Address
from inboundmx.model.custody import Host, Route, Terms
from inboundmx.model.settings import BackupSettings, DomainSettings, GatewaySettings, Settings
from inboundmx.policy.routing import bare_postmaster, destination, postmaster, refusal, route_for

HOSTS = (Host("192.0.2.10"), Host("192.0.2.11", 2525), Host("2001:db8::1"))


def settings(postmaster_at: str = "", *domains: str) -> Settings:
    return Settings(
        gateway=GatewaySettings(hostname="mx1.example.net", postmaster=postmaster_at),
        domains={name: DomainSettings(name, primary=HOSTS) for name in domains},
    )


@pytest.mark.parametrize("turn", [0, 1, 2, 3, 1000])
def test_failover_begins_with_the_first(turn: int) -> None:
    domain = DomainSettings("a.test", "backup", HOSTS, tls="required")
    assert route_for(domain, turn) == Route("a.test", HOSTS, Terms("required"))


def test_round_robin_begins_one_further_each_time() -> None:
    domain = DomainSettings("a.test", primary=HOSTS, balance="round-robin")
    orders = [route_for(domain, turn).hosts for turn in range(4)]
    assert [order[0] for order in orders] == [*HOSTS, HOSTS[0]]
    assert orders[1] == (HOSTS[1], HOSTS[2], HOSTS[0])
    assert all(sorted(order, key=str) == sorted(HOSTS, key=str) for order in orders)


def test_a_domain_without_a_primary_has_an_empty_route() -> None:
    assert route_for(DomainSettings("a.test", balance="round-robin"), 7).hosts == ()


OUTSIDE = "198.51.100.7"
EVERYTHING = DomainSettings("*", primary=(Host("192.0.2.10"),), except_=("kept.test",))
WIDE = replace(
    settings("", "a.test", "b.test"),
    domains={
        "a.test": DomainSettings("a.test", primary=HOSTS),
        "whole.test": DomainSettings("whole.test", primary=HOSTS, subdomains=True),
        "own.whole.test": DomainSettings("own.whole.test"),
        "off.test": DomainSettings("off.test", enabled=False, subdomains=True),
    },
    everything=None,
)


@pytest.mark.parametrize(
    ("address", "via"),
    [
        ("user@a.test", ""),
        ("postmaster@whole.test", ""),
        ("user@deep.below.whole.test", ""),
        ("user@own.whole.test", ""),
        ("user@sub.own.whole.test", ""),
        ("user@off.test", None),
        ("user@sub.off.test", None),
        ("user@c.test", "else"),
        ("user@sub.a.test", "else"),
        ("user@xa.test", "else"),
        ("user@test", "else"),
        ("user@[192.0.2.25]", None),
        ("user@[IPv6:2001:db8::1]", None),
        ("user@192.0.2.25", None),
        ("user@3221225985", None),
        ("user@0xc0000219", None),
        ("user@192.0.2.0x19", None),
        ("user@4.com.test", "else"),
        ("user%other.example@a.test", None),
        ("other.example!user@a.test", None),
        ('"user@other.example"@a.test', None),
        ("user%other.example@c.test", None),
        ("PostMaster@", None),
        ("root@", None),
    ],
)
def test_what_holds_for_a_recipient(address: str, via: str | None) -> None:
    """``else``: a domain without a section. Whoever may relay sends it out, of one we may be backup, all others hear
    no; what no section of ours names, ``[domain *]`` takes from everybody."""
    local, _, name = address.rpartition("@")

    def found(ours: Settings, relays: bool) -> str | None:
        domain = destination(Address(local, name), ours, relays, OUTSIDE)
        assert domain is None or domain.name == name
        return None if domain is None else domain.via

    backing = replace(WIDE, backup=BackupSettings((ip_network("192.0.2.0/24"),)))
    for ours, relays, otherwise in (
        (WIDE, False, None),
        (WIDE, True, "outbound"),
        (backing, False, "backup"),
        (backing, True, "outbound"),
        (replace(backing, everything=EVERYTHING), False, ""),
        (replace(backing, everything=EVERYTHING), True, ""),
        (replace(WIDE, everything=replace(EVERYTHING, enabled=False)), False, None),
    ):
        assert found(ours, relays) == (otherwise if via == "else" else via)


@pytest.mark.parametrize(
    ("address", "peer", "via"),
    [
        ("user@kept.test", OUTSIDE, "outbound"),
        ("user@c.test", OUTSIDE, ""),
        ("user@c.test", "192.0.2.10", "outbound"),
        ("user@c.test", "::ffff:192.0.2.10", "outbound"),
        ("user@a.test", "192.0.2.10", ""),
        ("user@deep.whole.test", "192.0.2.10", ""),
    ],
)
def test_a_primary_does_not_get_back_what_it_sends_out(address: str, peer: str, via: str) -> None:
    ours = replace(WIDE, everything=EVERYTHING)
    local, _, name = address.rpartition("@")
    domain = destination(Address(local, name), ours, True, peer)
    assert domain is not None and domain.via == via


@pytest.mark.parametrize(
    ("configured", "domains", "target"),
    [
        ("", ("a.test", "b.test"), "postmaster@a.test"),
        ("hm@b.test", ("a.test", "b.test"), "hm@b.test"),
        ("hm@B.Test", ("a.test", "b.test"), "hm@b.test"),
        ("hm@elsewhere.test", ("a.test",), "postmaster@a.test"),
        ("hm@a.test", (), None),
        ("a.test", ("a.test",), "postmaster@a.test"),
    ],
)
def test_bare_postmaster_goes_to(configured: str, domains: tuple[str, ...], target: str | None) -> None:
    ours = settings(configured, *domains)
    got = postmaster(ours)
    assert (None if got is None else str(got)) == target


def test_bare_postmaster_is_never_of_a_domain_that_is_switched_off() -> None:
    assert str(postmaster(replace(WIDE, domains=dict(reversed(WIDE.domains.items()))))) == "postmaster@own.whole.test"
    assert postmaster(replace(WIDE, domains={"off.test": WIDE.domains["off.test"]})) is None


def test_where_every_domain_is_ours_so_is_that_of_the_gateway() -> None:
    assert str(postmaster(replace(WIDE, domains={}, everything=EVERYTHING))) == "postmaster@mx1.example.net"


def test_only_postmaster_may_be_bare() -> None:
    assert bare_postmaster(Address("POSTMASTER", ""))
    assert not bare_postmaster(Address("postmaster", "a.test"))
    assert not bare_postmaster(Address("root", ""))


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (Address("a", "c.test"), 550),
        (Address("a", "[192.0.2.1]"), 553),
        (Address("a%b", "a.test"), 550),
        (Address("r", ""), 550),
    ],
)
def test_refusals_are_permanent_and_echo_nothing(address: Address, code: int) -> None:
    reply = refusal(address)
    assert reply.code == code and reply.permanent
    assert address.local not in reply.text.split() and (not address.domain or address.domain not in reply.text)
