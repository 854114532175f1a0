"""The dnsbl check: what lists answer, what their codes mean, and lists that are not to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from fakes.checks import FakeClock, begun, examined, tools
from fakes.resolver import FakeResolver, Zone

from inboundmx.checks import dnsbl as module
from inboundmx.checks.api import Case
from inboundmx.checks.dnsbl import DnsList
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
    (IPv4Address(first), IPv4Address(last), word)
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
        given: Any = replace(tools(self.resolver), health=self.health)
        self.clock: FakeClock = given.clock
        self.check = DnsList({**DEFAULTS, "zone": "bl.test", **options}, given)

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
        ("192.0.2.4", "error"),
        ("192.0.2.5", "error"),
        ("192.0.2.6", "error"),
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
        ("192.0.2.4", Finding("error", "bl.test does not answer us: 127.255.255.254")),
        ("192.0.2.5", Finding("error", "bl.test answers 203.0.113.1, which is no code of a list")),
    ],
)
def test_words_for_codes(peer: str, finding: Finding) -> None:
    assert List(codes=CODES).ask(peer) == finding


def test_the_words_are_outcomes() -> None:
    assert DnsList.words({**DEFAULTS, "codes": CODES}) == {"listed", "absent", "exploited", "policy", "x"}
    assert DnsList.words(DEFAULTS) == {"listed", "absent"}


def test_ignore_replaces_what_is_ignored() -> None:
    assert List(ignore=(IPv4Network("127.0.0.200"),)).ask("192.0.2.8").outcome == "error"
    assert List(ignore=(IPv4Network("127.0.0.200"),)).ask("192.0.2.4").outcome == "listed"
    assert List(ignore=()).ask("192.0.2.4").outcome == "listed"
    assert List(ignore=()).ask("192.0.2.5").outcome == "error"


@pytest.mark.parametrize(
    "peer",
    ["127.0.0.1", "127.0.0.2", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "::1", "fd00::1",
     "fe80::1", "::ffff:10.0.0.1", "", "unix"],
)  # fmt: skip
def test_clients_of_our_own_network_are_not_asked_about(peer: str) -> None:
    listed = List()
    assert listed.ask(peer).outcome == "absent"
    assert listed.resolver.asked == []


def test_silence_is_unavailable_and_noted() -> None:
    listed = List()
    with pytest.raises(Unavailable):
        listed.ask("192.0.2.7")
    listed.ask("192.0.2.1")
    listed.ask("192.0.2.99")
    assert listed.health.notes == [("bl.test", False, "SERVFAIL"), ("bl.test", True, "answers")]


# --- lists that are not to be believed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ({"2.0.0.127.bl.test": {"A": ["127.0.0.2"]}, "1.0.0.127.bl.test": {"A": ["127.0.0.2"]}}, "lists everything"),
        ({"x.bl.test": {"A": ["127.0.0.2"]}}, "lists nothing"),
        ({}, "lists nothing"),
        ({"2.0.0.127.bl.test": {"A": ["127.255.255.254"]}}, "does not answer us"),
        ({"2.0.0.127.bl.test": {"A": ["203.0.113.7"]}}, "no code of a list"),
    ],
)
def test_a_list_that_fails_its_test_is_suspended(zone: Mapping[str, Any], said: str) -> None:
    listed = List({**zone, "1.2.0.192.bl.test": {"A": ["127.0.0.2"]}})
    for _ in range(3):
        finding = listed.ask("192.0.2.1")
        assert finding.outcome == "error"
        assert finding.detail.startswith("suspended: ") and said in finding.detail
    assert [(service, well) for service, well, _ in listed.health.notes] == [("bl.test", False)]
    assert len(listed.resolver.asked) == 2 + ("nothing" in said)


def test_a_list_of_ipv6_addresses_alone_is_believed() -> None:
    """RFC 5782 5: such a list names ::FFFF:7F00:2."""
    mapped = "2.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20
    client = ".".join(reversed(f"{0x20010DB8 << 96 | 1:032x}"))
    listed = List({f"{name}.bl.test": {"A": ["127.0.0.2"]} for name in (mapped, client)})
    assert [listed.ask(peer).outcome for peer in ("2001:db8::1", "2001:db8::2")] == ["listed", "absent"]


def test_why_a_list_is_not_believed_is_told_after_other_trouble() -> None:
    listed = List({"2.0.0.127.bl.test": Unavailable("silence")})
    with pytest.raises(Unavailable):
        listed.ask("192.0.2.1")
    listed.rewrite({})
    listed.ask("192.0.2.1")
    said = "suspended: bl.test lists nothing, not even 127.0.0.2"
    assert listed.health.notes == [("bl.test", False, "silence"), ("bl.test", False, said)]


@pytest.mark.parametrize(("seconds", "noted"), [(5.0, [False]), (1.0, [])])
def test_a_list_that_is_not_waited_for_any_longer_is_told_of(seconds: float, noted: list[bool]) -> None:
    """Nothing is known of a list when the client hangs up before the time is over."""
    listed = List()
    listed.resolver.holding = True
    _, waiting = begun(listed.check, listed.case("192.0.2.1"))
    assert waiting is not None
    listed.clock.task.advance(seconds)
    waiting.cancel()
    assert [well for _, well, _ in listed.health.notes] == noted


def test_a_list_is_tested_again_and_believed_again() -> None:
    listed = List()
    assert listed.ask("192.0.2.1").outcome == "listed"
    everything = {**ZONE, "1.0.0.127.bl.test": {"A": ["127.0.0.2"]}}
    listed.rewrite(everything)
    listed.clock.task.advance(module.PASSED_SECONDS - 1)
    assert listed.ask("192.0.2.1").outcome == "listed"
    listed.clock.task.advance(2)
    assert listed.ask("192.0.2.1").outcome == "error"
    listed.rewrite(ZONE)
    listed.clock.task.advance(module.FAILED_SECONDS - 1)
    assert listed.ask("192.0.2.1").outcome == "error"
    listed.clock.task.advance(2)
    assert listed.ask("192.0.2.1").outcome == "listed"
    assert [well for _, well, _ in listed.health.notes] == [True, False, True]


def test_a_list_that_could_not_be_tested_is_not_believed_yet() -> None:
    listed = List({"2.0.0.127.bl.test": Unavailable("silence"), "1.2.0.192.bl.test": {"A": ["127.0.0.2"]}})
    for _ in range(2):
        with pytest.raises(Unavailable):
            listed.ask("192.0.2.1")
    listed.rewrite(ZONE)
    assert listed.ask("192.0.2.1").outcome == "listed"


def test_a_test_that_cannot_be_repeated_now_changes_little() -> None:
    listed = List()
    listed.ask("192.0.2.1")
    listed.rewrite({**ZONE, "2.0.0.127.bl.test": Unavailable("silence")})
    listed.clock.task.advance(module.PASSED_SECONDS + 1)
    with pytest.raises(Unavailable):
        listed.ask("192.0.2.1")
    assert listed.ask("192.0.2.1").outcome == "listed"


def test_many_clients_at_once_wait_for_the_first_test_together() -> None:
    listed = List()
    listed.resolver.holding = True
    came = [begun(listed.check, listed.case(f"192.0.2.{last}")) for last in (1, 2, 99)]
    for _ in range(3):
        listed.resolver.release()
    assert [findings[0].outcome for findings, _ in came] == ["listed", "listed", "absent"]


def test_who_gives_up_during_the_test_leaves_it_to_the_next() -> None:
    listed = List()
    listed.resolver.holding = True
    _, waiting = begun(listed.check, listed.case("192.0.2.1"))
    assert waiting is not None
    waiting.cancel()
    listed.resolver.holding = False
    assert listed.ask("192.0.2.1").outcome == "listed"


def test_a_zone_is_needed() -> None:
    (zone,) = [option for option in DnsList.options if option.name == "zone"]
    assert zone.required
