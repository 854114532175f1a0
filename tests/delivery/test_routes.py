"""Where mail goes now: look-ups, turns, fallbacks, and never anywhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from delivery_fakes import FakeChance
from fakes.resolver import FakeResolver, Zone
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from inboundmx.delivery.routes import RouteFinder
from inboundmx.model.address import Address
from inboundmx.model.custody import Host, Route, Terms
from inboundmx.model.settings import (
    BackupSettings,
    DeliverySettings,
    DomainSettings,
    GatewaySettings,
    OutboundSettings,
    Settings,
)
from inboundmx.policy.mx import ADDRESSES_LIMIT, LOOP, NO_ADDRESS, NO_DOMAIN, NULL_MX, RECORDS_LIMIT
from inboundmx.policy.routing import refusal
from inboundmx.ports import NoRoute, Unavailable
from inboundmx.prompt import promptly

SERVFAIL = Unavailable("SERVFAIL")
P, P2, P6, STRANGER = "192.0.2.10", "192.0.2.11", "2001:db8::10", "203.0.113.9"
PUBLIC, LOCAL, BEHIND = "198.51.100.1", "198.51.100.2", "10.0.0.5"
NAME, OTHER_NAME = "mx2.example.net", "mx3.example.org"
SOURCES = ("198.51.100.8",)
SETTINGS = Settings(
    gateway=GatewaySettings(hostname=NAME, hostnames={LOCAL: OTHER_NAME}, addresses=(PUBLIC,)),
    delivery=DeliverySettings(source_address=SOURCES),
    backup=BackupSettings((ip_network("192.0.2.10/31"), ip_network(f"{P6}/128"))),
    domains={"own.test": DomainSettings("own.test", outbound="own")},
)
SENDER = Address("user", "plain.test")
ZONE: Zone = {
    "one.test": {"MX": [(10, "mx.one.test")]},
    "mx.one.test": {"A": [P], "AAAA": [P6]},
    "plain.test": {"A": [P2]},
    "bare.test": {"TXT": ["nothing to send mail to"]},
    "null.test": {"MX": [(0, "")], "A": [P]},
    "broken.test": {"MX": SERVFAIL, "A": [P]},
    "half.test": {"MX": [(10, "mx.silent.test"), (20, "mx.two.test")]},
    "mx.silent.test": SERVFAIL,
    "mx.two.test": {"A": [P2]},
    "lost.test": {"MX": [(10, "mx.silent.test"), (20, "gone.one.test")]},
    "gone-mx.test": {"MX": [(10, "gone.one.test")]},
    "home.test": {"MX": [(10, "localhost.one.test")]},
    "localhost.one.test": {"A": ["127.0.0.1"], "AAAA": ["::1"]},
    "alias.test": {"MX": [(10, "www.one.test"), (20, "mx.two.test")]},
    "alias-only.test": {"MX": [(10, "www.one.test")]},
    "www.one.test": {"CNAME": ["mx.one.test"]},
    "best.test": {"MX": [(10, NAME), (20, "mx.two.test")]},
    "us.test": {"A": [PUBLIC]},
    "backed.test": {"MX": [(10, "mx.one.test"), (20, NAME), (30, "mx.two.test")]},
    "backed-other.test": {"MX": [(10, "mx.one.test"), (20, OTHER_NAME)]},
    "backed-address.test": {"MX": [(10, "mx.one.test"), (20, "alike.test")]},
    "alike.test": {"A": [BEHIND]},
    "backed-local.test": {"MX": [(10, "mx.one.test"), (20, "local.test")]},
    "local.test": {"A": [LOCAL]},
    "backed-by-worse.test": {"MX": [(10, NAME), (20, "mx.one.test")]},
    "stranger.test": {"MX": [(10, "mx.stranger.test"), (20, NAME)]},
    "mx.stranger.test": {"A": [STRANGER]},
    "unknown.test": {"MX": [(10, "mx.silent.test"), (20, NAME)]},
}


class Finding:
    """A RouteFinder over a fake DNS. ``loads``: by name of a gateway."""

    def __init__(
        self, settings: Settings = SETTINGS, zone: Zone | None = None, *, holding: bool = False, **options: Any
    ) -> None:
        self.settings = settings
        self.resolver = FakeResolver(ZONE if zone is None else zone, holding=holding)
        self.loads: dict[str, int] = {}
        self.finder = RouteFinder(
            lambda: self.settings,
            self.resolver,
            options.pop("chance", FakeChance()),
            lambda: [BEHIND],
            self.loads.get,
            **options,
        )

    def begin(self, name: str, via: str = "outbound", sender: Address | None = SENDER, priority: int = 5) -> Any:
        """What came of it, in a list that is empty while it waits; and what it waits for."""
        domain = self.settings.domain(name, via)
        assert domain is not None
        came: list[Any] = []

        def failed(failure: Any) -> None:
            error = failure.value
            came.append(error.reply if isinstance(error, NoRoute) else error)

        return came, promptly(self.finder.find(domain, sender, priority), came.append, failed)

    def find(self, *arguments: Any, **options: Any) -> Any:
        """The Route, the reply of NoRoute, or the exception."""
        came, waiting = self.begin(*arguments, **options)
        assert waiting is None, "nothing was to be waited for"
        return came[0]


def addresses(route: Any) -> str:
    assert isinstance(route, Route), route
    return " ".join(host.address for host in route.hosts)


# --- directly ---------------------------------------------------------------------------------------------------------


def test_a_direct_route() -> None:
    route = Finding().find("one.test")
    assert route == Route(
        "one.test",
        (Host(P6, 25, name="mx.one.test"), Host(P, 25, name="mx.one.test")),
        Terms(SETTINGS.outgoing.tls, sources=SOURCES),
        "outbound",
    )


@pytest.mark.parametrize(
    ("domain", "came"),
    [
        ("plain.test", P2),
        ("half.test", P2),
        ("alias.test", P2),
        ("alias-only.test", f"{P6} {P}"),
        ("backed.test", f"{P6} {P}"),
        ("null.test", NULL_MX),
        ("nowhere.test", NO_DOMAIN),
        ("bare.test", NO_ADDRESS),
        ("gone-mx.test", NO_ADDRESS),
        ("home.test", NO_ADDRESS),
        ("best.test", LOOP),
        ("us.test", LOOP),
        ("alike.test", LOOP),
    ],
)
def test_directly(domain: str, came: Any) -> None:
    got = Finding().find(domain)
    assert (addresses(got) if isinstance(came, str) else got) == came


@pytest.mark.parametrize("domain", ["broken.test", "lost.test"])
def test_what_cannot_be_looked_up_is_unavailable(domain: str) -> None:
    assert isinstance(Finding().find(domain), Unavailable)


def test_loopback_only_where_nobody_forbids_it() -> None:
    assert addresses(Finding(forbidden=lambda address: address == "::1").find("home.test")) == "127.0.0.1"


def test_hosts_of_equal_preference_are_shuffled() -> None:
    class Backwards(FakeChance):
        def shuffled(self, items: Sequence[Any]) -> list[Any]:
            return list(reversed(items))

    zone = {
        "a.test": {"MX": [(10, "x.a.test"), (20, "z.a.test"), (10, "y.a.test")]},
        **{f"{name}.a.test": {"A": [f"192.0.2.{number}"]} for number, name in enumerate("xyz")},
    }
    assert addresses(Finding(zone=zone).find("a.test")) == "192.0.2.0 192.0.2.1 192.0.2.2"
    assert addresses(Finding(zone=zone, chance=Backwards()).find("a.test")) == "192.0.2.1 192.0.2.0 192.0.2.2"


def test_one_host_costs_three_look_ups() -> None:
    finding = Finding()
    finding.find("one.test")
    assert finding.resolver.asked == [("one.test", "MX"), ("mx.one.test", "AAAA"), ("mx.one.test", "A")]


@pytest.mark.parametrize("via", ["outbound", "backup"])
def test_a_huge_set_is_not_looked_up_whole(via: str) -> None:
    zone: dict[str, Any] = {"a.test": {"MX": [(n, f"h{n}.a.test") for n in range(500)] + [(900, NAME)]}}
    zone |= {f"h{n}.a.test": {"A": [f"192.0.2.{i}" for i in range(100)]} for n in range(500)}
    finding = Finding(zone=zone)
    came = finding.find("a.test", via)
    assert len(finding.resolver.asked) <= 1 + RECORDS_LIMIT * (3 if via == "outbound" else 2)
    assert via == "backup" or len(came.hosts) == ADDRESSES_LIMIT


def test_look_ups_are_made_side_by_side() -> None:
    finding = Finding(holding=True)
    came, _ = finding.begin("backed.test")
    assert finding.resolver.asked == [("backed.test", "MX")]
    finding.resolver.release()
    # We are in the set by name: what is no better than us is not asked about.
    assert finding.resolver.asked[1:] == [("mx.one.test", "AAAA"), ("mx.one.test", "A")] and not came
    finding.resolver.release()
    assert addresses(came[0]) == f"{P6} {P}"


@pytest.mark.parametrize("via", ["outbound", "backup"])
@pytest.mark.parametrize("releases", [0, 1])
def test_it_can_be_given_up(via: str, releases: int) -> None:
    finding = Finding(holding=True)
    came, waiting = finding.begin("backed.test", via)
    for _ in range(releases):
        finding.resolver.release()
    assert isinstance(waiting, Deferred) and not came
    waiting.cancel()
    assert [type(each) for each in came] == [CancelledError]
    finding.resolver.release()
    assert len(came) == 1


class OddFault(Exception):
    pass


def test_a_fault_is_not_taken_for_an_answer() -> None:
    class Faulty(FakeResolver):
        async def look_up(self, name: str, type: str) -> Any:
            if type == "A":
                raise OddFault
            return await super().look_up(name, type)

    finding = Finding()
    finding.finder._resolver = Faulty(ZONE)
    assert isinstance(finding.find("one.test"), OddFault)
    finding.finder._resolver = faulty = Faulty(ZONE, holding=True)
    came, _ = finding.begin("one.test")
    faulty.release()
    faulty.release()
    assert isinstance(came[0], OddFault)


# --- domains of ours --------------------------------------------------------------------------------------------------

PRIMARIES = (Host(P), Host(P2, 2525))


def forwarding(**domains: DomainSettings) -> Settings:
    return replace(SETTINGS, domains={name.replace("_", "."): domain for name, domain in domains.items()})


def test_primaries_need_no_look_up() -> None:
    domain = DomainSettings("a.test", "backup", PRIMARIES, tls="required", client_facts="xclient")
    finding = Finding(forwarding(a_test=domain))
    route = Route("a.test", PRIMARIES, Terms("required", sources=SOURCES, client_facts="xclient"))
    assert [finding.find("a.test", "") for _ in range(3)] == [route] * 3
    assert finding.resolver.asked == []


def test_a_reload_is_in_force_for_the_next_message() -> None:
    domain = DomainSettings("a.test", primary=PRIMARIES)
    finding = Finding(forwarding(a_test=domain))
    assert finding.find("a.test", "").terms.tls == "opportunistic"
    finding.settings = forwarding(a_test=replace(domain, tls="required"))
    assert finding.find("a.test", "").terms.tls == "required"
    finding.settings = replace(finding.settings, delivery=DeliverySettings(source_address=("192.0.2.200",)))
    assert finding.find("a.test", "").terms.sources == ("192.0.2.200",)


def test_domains_take_turns_each_for_itself() -> None:
    finding = Finding(
        forwarding(
            a_test=DomainSettings("a.test", primary=PRIMARIES, balance="round-robin"),
            b_test=DomainSettings("b.test", primary=(*PRIMARIES, Host(P6)), balance="round-robin"),
        )
    )
    begun = {"a.test": "", "b.test": ""}
    for name in ["a.test", "b.test"] * 6:
        begun[name] += finding.find(name, "").hosts[0].address + " "
    assert begun["a.test"].split() == [P, P2] * 3
    assert begun["b.test"].split() == [P, P2, P6] * 2


# --- by a gateway -----------------------------------------------------------------------------------------------------


def relaying(*outbound: OutboundSettings) -> Settings:
    return replace(SETTINGS, outbound=outbound)


def gateway(name: str, **keys: Any) -> OutboundSettings:
    return OutboundSettings(name, server=(Host(f"{name}.example", 587), Host(f"{name}2.example")), **keys)


def chain(route: Route | None) -> str:
    """The first host of each route of the chain."""
    found = []
    while route is not None:
        found.append(route.hosts[0].address)
        route = route.fallback
    return " ".join(found)


def test_a_gateway_needs_no_look_up() -> None:
    finding = Finding(relaying(gateway("a", username="us", password="secret")))
    route = finding.find("one.test")
    assert route == Route(
        "one.test",
        (Host("a.example", 587), Host("a2.example")),
        Terms("opportunistic", "us", "secret", sources=SOURCES),
        "outbound",
    )
    assert finding.resolver.asked == []


def test_gateways_take_turns_and_stand_in_for_each_other() -> None:
    finding = Finding(relaying(gateway("a"), gateway("b"), gateway("c")))
    assert [chain(finding.find("one.test")) for _ in range(4)] == [
        "a.example b.example c.example",
        "b.example c.example a.example",
        "c.example a.example b.example",
        "a.example b.example c.example",
    ]


def test_the_less_waits_the_more_a_gateway_is_given() -> None:
    finding = Finding(relaying(gateway("a"), gateway("b"), gateway("c")))
    finding.loads |= {"a": 10, "b": 30}
    begun = Counter(chain(finding.find("one.test")).split()[0] for _ in range(700))
    # 1/20, 1/40, and 1/30 for the one of which nothing is known.
    assert {name: round(number / 10) for name, number in begun.items()} == {
        "a.example": pytest.approx(32, abs=1),
        "b.example": pytest.approx(16, abs=1),
        "c.example": pytest.approx(22, abs=1),
    }


def test_a_sender_with_a_gateway_of_its_own() -> None:
    finding = Finding(relaying(gateway("a"), gateway("own", mode="domains")))
    assert chain(finding.find("one.test", sender=Address("user", "own.test"))) == "own.example"
    assert chain(finding.find("one.test")) == "a.example"
    assert chain(finding.find("one.test", sender=None)) == "a.example"


def test_a_priority_that_no_gateway_takes_goes_directly() -> None:
    finding = Finding(relaying(gateway("a", priority=(1, 4))))
    assert chain(finding.find("one.test", priority=4)) == "a.example"
    assert addresses(finding.find("one.test", priority=5)) == f"{P6} {P}"


@pytest.mark.parametrize(
    ("domain", "came"),
    [
        ("one.test", f"{P6} a.example b.example"),
        ("broken.test", "a.example b.example"),
        ("lost.test", "a.example b.example"),
        ("bare.test", "a.example b.example"),
        ("best.test", "a.example b.example"),
        ("null.test", NULL_MX),
        ("nowhere.test", NO_DOMAIN),
    ],
)
def test_directly_first(domain: str, came: Any) -> None:
    got = Finding(relaying(gateway("a", exclusive=False), gateway("b"))).find(domain)
    assert (chain(got) if isinstance(came, str) else got) == came


def test_the_one_whose_turn_it_is_says_whether_directly_first() -> None:
    finding = Finding(relaying(gateway("a", exclusive=False), gateway("b")))
    assert [chain(finding.find("plain.test")) for _ in range(2)] == [
        f"{P2} a.example b.example",
        "b.example a.example",
    ]


# --- as backup --------------------------------------------------------------------------------------------------------


def denied(name: str) -> Any:
    return refusal(Address("user", name))


def test_a_backup_route() -> None:
    assert Finding().find("backed.test", "backup") == Route(
        "backed.test", (Host(P6), Host(P)), Terms(SETTINGS.backed_up.tls, sources=SOURCES), "backup"
    )


def test_a_primary_is_named_only_where_its_certificate_must_have_the_name() -> None:
    """Else it would have connections, limits and a breaker for each of the names that its domains have for it."""
    verified = replace(SETTINGS, backed_up=replace(SETTINGS.backed_up, tls="verified", client_facts="xclient"))
    route = Finding(verified).find("backed.test", "backup")
    assert route.hosts == (Host(P6, name="mx.one.test"), Host(P, name="mx.one.test"))
    assert route.terms == Terms("verified", sources=SOURCES, client_facts="xclient")


@pytest.mark.parametrize("name", ["backed.test", "backed-other.test", "backed-address.test", "backed-local.test"])
def test_we_are_backup_by_any_name_or_address(name: str) -> None:
    assert addresses(Finding().find(name, "backup")) == f"{P6} {P}"


@pytest.mark.parametrize(
    "name",
    ["backed-by-worse.test", "stranger.test", "one.test", "plain.test", "null.test", "bare.test", "nowhere.test"],
)
def test_we_are_no_backup(name: str) -> None:
    assert Finding().find(name, "backup") == denied(name)


@pytest.mark.parametrize("name", ["broken.test", "unknown.test"])
def test_whether_we_are_backup_cannot_be_said(name: str) -> None:
    assert isinstance(Finding().find(name, "backup"), Unavailable)


def test_without_primaries_we_are_backup_of_nobody_and_ask_nothing() -> None:
    finding = Finding(replace(SETTINGS, backup=BackupSettings()))
    assert finding.find("backed.test", "backup") == denied("backed.test")
    assert finding.resolver.asked == []


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        # A set of one preference has nobody better than us: most domains that strangers ask about are such.
        ("one.test", 1),
        ("stranger.test", 3),
        ("backed.test", 3),
        ("backed-address.test", 5),
    ],
)
def test_a_stranger_costs_few_look_ups(name: str, asked: int) -> None:
    finding = Finding()
    finding.find(name, "backup")
    assert len(finding.resolver.asked) == asked


def test_it_is_looked_up_anew_each_time() -> None:
    finding = Finding()
    assert addresses(finding.find("backed.test", "backup")) == f"{P6} {P}"
    finding.resolver.zone["mx.one.test"] = {"A": [P2, STRANGER]}
    assert addresses(finding.find("backed.test", "backup")) == P2
    finding.resolver.zone["mx.one.test"] = {"A": [STRANGER]}
    assert finding.find("backed.test", "backup") == denied("backed.test")


NAMES = [f"h{n}.test" for n in range(6)]
ADDRESSES = [P, P2, P6, PUBLIC, LOCAL, BEHIND, STRANGER, "2001:db8::99", "127.0.0.1", "::ffff:192.0.2.10"]


def some(of: Sequence[str], version: int) -> Any:
    fitting = [address for address in of if ip_address(address).version == version]
    return st.one_of(st.just(SERVFAIL), st.lists(st.sampled_from(fitting), max_size=3, unique=True))


RECORDS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([*NAMES, NAME, OTHER_NAME, ""])), max_size=6)
HOSTS = st.fixed_dictionaries({"A": some(ADDRESSES, 4), "AAAA": some(ADDRESSES, 6)})
WORLDS = st.fixed_dictionaries(
    {"a.test": st.fixed_dictionaries({"MX": st.one_of(st.just(SERVFAIL), RECORDS)})},
    optional={name: st.one_of(st.just(SERVFAIL), HOSTS) for name in NAMES},
)


@given(WORLDS)
def test_mail_we_are_backup_for_goes_to_primaries_alone_whatever_its_owner_writes(world: Any) -> None:
    came = Finding(zone=world).find("a.test", "backup")
    if isinstance(came, Unavailable):
        assert unanswered(world)
        return
    if not isinstance(came, Route):
        assert came == denied("a.test")
        return
    assert came.hosts and came.fallback is None
    records = world["a.test"]["MX"]
    ours = min(preference for preference, name in records if names_us(world, name))
    for host in came.hosts:
        assert host.address in (P, P2, P6) and host.port == 25
        named = [
            preference
            for preference, name in records
            if any(host.address in row for row in rows(world, name) if row is not SERVFAIL)
        ]
        assert named and min(named) < ours


def rows(world: Any, name: str) -> list[Any]:
    host = world.get(name, {})
    return [SERVFAIL] if host is SERVFAIL else list(host.values())


def unanswered(world: Any) -> bool:
    records = world["a.test"]["MX"]
    return records is SERVFAIL or any(SERVFAIL in rows(world, name) for _, name in records)


def names_us(world: Any, name: str) -> bool:
    known = [address for row in rows(world, name) if row is not SERVFAIL for address in row]
    return name in (NAME, OTHER_NAME) or not {PUBLIC, LOCAL, BEHIND}.isdisjoint(known)


@given(WORLDS)
def test_direct_mail_never_comes_to_ourselves(world: Any) -> None:
    came = Finding(zone=world).find("a.test")
    if isinstance(came, Route):
        assert came.hosts
        assert {PUBLIC, LOCAL, BEHIND, "127.0.0.1", "::ffff:192.0.2.10"}.isdisjoint(host.address for host in came.hosts)
    elif isinstance(came, Unavailable):
        assert unanswered(world)
    else:
        assert came in (NULL_MX, NO_ADDRESS, LOOP)
