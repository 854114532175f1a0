"""Whose mail it is and where it goes."""

from __future__ import annotations

import pytest

from inboundmx.model.address import Address
from inboundmx.model.custody import Host, Route, Terms
from inboundmx.model.settings import DomainSettings, GatewaySettings, Settings
from inboundmx.policy.routing import accepts, bare_postmaster, postmaster, refusal, route_for

HOSTS = (Host("192.0.2.10"), Host("192.0.2.11", 2525), Host("2001:db8::1"))


def settings(postmaster_at: str = "", *domains: str) -> Settings:
    return Settings(
        gateway=GatewaySettings(hostname="mx1.example.net", postmaster=postmaster_at),
        domains={name: DomainSettings(name, primary=HOSTS) for name in domains},
    )


@pytest.mark.parametrize("turn", [0, 1, 2, 3, 1000])
def test_failover_begins_with_the_first(turn: int) -> None:
    domain = DomainSettings("a.test", "backup", HOSTS, tls="required")
    assert route_for(domain, turn) == Route("a.test", HOSTS, Terms("required"), "backup")


def test_round_robin_begins_one_further_each_time() -> None:
    domain = DomainSettings("a.test", primary=HOSTS, balance="round-robin")
    orders = [route_for(domain, turn).hosts for turn in range(4)]
    assert [order[0] for order in orders] == [*HOSTS, HOSTS[0]]
    assert orders[1] == (HOSTS[1], HOSTS[2], HOSTS[0])
    assert all(sorted(order, key=str) == sorted(HOSTS, key=str) for order in orders)


def test_a_domain_without_a_primary_has_an_empty_route() -> None:
    assert route_for(DomainSettings("a.test", balance="round-robin"), 7).hosts == ()


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("user@a.test", "a.test"),
        ("postmaster@b.test", "b.test"),
        ("user@c.test", None),
        ("user@sub.a.test", None),
        ("user@xa.test", None),
        ("user@[192.0.2.25]", None),
        ("user%other.example@a.test", None),
        ("other.example!user@a.test", None),
        ('"user@other.example"@a.test', None),
        ("PostMaster@", "a.test"),
        ("root@", None),
    ],
)
def test_accepts(address: str, domain: str | None) -> None:
    local, _, name = address.rpartition("@")
    got = accepts(Address(local, name), settings("", "a.test", "b.test"))
    assert (None if got is None else got.name) == domain


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
    assert (accepts(Address("Postmaster", ""), ours) is None) is (target is None)


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
