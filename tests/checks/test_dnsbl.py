"""The dnsbl check: what lists answer, and what their codes mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from fakes.checks import FakeClock, examined, tools
from fakes.resolver import FakeResolver, Zone

from inboundmx.checks.api import Case
from inboundmx.checks.dnsbl import DnsList
from inboundmx.checks.list_codes import Meaning
from inboundmx.checks.zones import Zones
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.session import Session
from inboundmx.ports import Unavailable

NIBBLES = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
SELF_TEST: Zone = {"2.0.0.127.bl.test": {"A": ["127.0.0.2"]}}
ZONE: Zone = {
    **SELF_TEST,
    "1.2.0.192.bl.test": {"A": ["127.0.0.2"]},
    "2.2.0.192.bl.test": {"A": ["127.0.0.10"]},
    "3.2.0.192.bl.test": {"A": ["127.0.0.11", "127.0.0.3", "127.0.0.2"]},
    "4.2.0.192.bl.test": {"A": ["127.255.255.254"]},
    "5.2.0.192.bl.test": {"A": ["203.0.113.1"]},
    "6.2.0.192.bl.test": {"A": ["127.0.0.2", "203.0.113.1"]},
    "7.2.0.192.bl.test": Unavailable("SERVFAIL"),
    "8.2.0.192.bl.test": {"A": ["127.0.0.200"]},
    f"{NIBBLES}.bl.test": {"A": ["127.0.0.2"]},
}
CODES = tuple(
    Meaning(IPv4Address(first), IPv4Address(last), word)
    for first, last, word in (
        ("127.0.0.2", "127.0.0.3", "exploited"),
        ("127.0.0.10", "127.0.0.11", "policy"),
        ("127.0.0.3", "127.0.0.3", "x"),
    )
)  # fmt: skip
DEFAULTS = {option.name: option.default for option in DnsList.options}


class Notes:
    def __init__(self) -> None:
        self.notes: list[tuple[str, bool, str]] = []

    def noted(self, service: str, well: bool, detail: str) -> None:
        """Keeps what is news: everything is counted, a change is told."""
        if self.notes[-1:] != [(service, well, detail)]:
            self.notes.append((service, well, detail))


class List:
    def __init__(self, zone: Mapping[str, Any] = ZONE, **options: Any) -> None:
        self.resolver = FakeResolver(zone)
        self.health = Notes()
        given: Any = tools(self.resolver)
        self.clock: FakeClock = given.clock
        self.zones = Zones(self.resolver, self.clock, self.health)
        self.options = {**DEFAULTS, "zone": "bl.test", **options}
        self.check = DnsList(self.options, replace(given, zones=self.zones))
        self.begin()

    def begin(self) -> None:
        self.zones.keep(DnsList.probes(self.options))

    def case(self, peer: str) -> Case:
        return Case(Session("s", peer, 25000, "192.0.2.25", 0.0), Envelope(None))

    def ask(self, peer: str) -> Finding:
        return examined(self.check, self.case(peer))

    def rewrite(self, zone: Mapping[str, Any]) -> None:
        self.resolver.zone.clear()
        self.resolver.zone.update(zone)


@pytest.mark.parametrize(
    ("peer", "outcome"),
    [
        ("192.0.2.1", "listed"),
        ("::ffff:192.0.2.1", "listed"),
        ("192.0.2.8", "listed"),
        ("2001:db8::1", "listed"),
        ("192.0.2.99", "absent"),
        ("2001:db8::99", "absent"),
    ],
)
def test_outcomes(peer: str, outcome: str) -> None:
    assert List().ask(peer).outcome == outcome


@pytest.mark.parametrize(
    ("peer", "finding"),
    [
        ("192.0.2.1", Finding("exploited", "127.0.0.2")),
        ("192.0.2.2", Finding("policy", "127.0.0.10")),
        # The first of codes, whatever the order of the answer.
        ("192.0.2.3", Finding("exploited", "127.0.0.2 127.0.0.3 127.0.0.11")),
        ("192.0.2.8", Finding("absent", "127.0.0.200 is not among the codes")),
        ("192.0.2.99", Finding("absent")),
    ],
)
def test_words_for_codes(peer: str, finding: Finding) -> None:
    assert List(codes=CODES).ask(peer) == finding


def test_the_words_are_outcomes() -> None:
    assert DnsList.words({**DEFAULTS, "codes": CODES}) == {"listed", "absent", "exploited", "policy", "x"}
    assert DnsList.words(DEFAULTS) == {"listed", "absent"}


def test_ignore_replaces_what_is_ignored() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.200"):
        List(ignore=(IPv4Network("127.0.0.200"),)).ask("192.0.2.8")
    assert List(ignore=(IPv4Network("127.0.0.200"),)).ask("192.0.2.4").outcome == "listed"
    assert List(ignore=()).ask("192.0.2.4").outcome == "listed"
    with pytest.raises(Unavailable, match="no code of a list"):
        List(ignore=()).ask("192.0.2.5")


@pytest.mark.parametrize(
    "peer",
    ["127.0.0.1", "127.0.0.2", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "::1", "fd00::1",
     "fe80::1", "::ffff:10.0.0.1", "", "unix"],
)  # fmt: skip
def test_clients_of_our_own_network_are_not_asked_about(peer: str) -> None:
    listed = List()
    listed.resolver.asked.clear()
    assert listed.ask(peer).outcome == "absent"
    assert listed.resolver.asked == []


def test_silence_is_unavailable() -> None:
    listed = List()
    with pytest.raises(Unavailable, match="SERVFAIL"):
        listed.ask("192.0.2.7")


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("192.0.2.4", "bl.test does not answer us: 127.255.255.254"),
        ("192.0.2.5", "bl.test answers 203.0.113.1, which is no code of a list"),
        ("192.0.2.6", "bl.test answers 203.0.113.1, which is no code of a list"),
    ],
)
def test_what_no_list_answers_is_unavailable(peer: str, said: str) -> None:
    with pytest.raises(Unavailable, match=said):
        List().ask(peer)


def test_what_is_known_to_be_clean() -> None:
    with pytest.raises(ValueError, match="more than 10"):
        DnsList({**DEFAULTS, "zone": "bl.test", "clean": tuple(f"192.0.2.{last}" for last in range(11))})
    listed = List(clean=("192.0.2.99", "192.0.2.1"))
    with pytest.raises(Unavailable, match=r"suspended: bl.test lists 192\.0\.2\.1, which is known to be clean"):
        listed.ask("192.0.2.2")


def test_a_list_without_test_points() -> None:
    own = {"1.2.0.192.bl.test": {"A": ["127.0.0.2"]}}
    with pytest.raises(Unavailable, match="lists nothing"):
        List(own).ask("192.0.2.1")
    assert List(own, probe=False).ask("192.0.2.1").outcome == "listed"


def test_a_zone_is_needed() -> None:
    (zone,) = [option for option in DnsList.options if option.name == "zone"]
    assert zone.required
