"""The uribl check: which domains are asked about, what lists answer, and what that is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from fakes.checks import begun, examined, tools
from fakes.resolver import FakeResolver, Zone
from fakes.steps import steps
from twisted.internet.defer import CancelledError

from inboundmx.app.values import kind
from inboundmx.checks.api import Case
from inboundmx.checks.list_codes import Meaning
from inboundmx.checks.uribl import UriList
from inboundmx.checks.zones import Zones
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import DomainSettings
from inboundmx.ports import Unavailable

SELF_TEST: Zone = {"test.uri.test": {"A": ["127.0.0.2"]}}
ZONE: Zone = {
    **SELF_TEST,
    "spam.example.uri.test": {"A": ["127.0.0.2"]},
    "spam.co.uk.uri.test": {"A": ["127.0.0.4"]},
    "phish.example.uri.test": {"A": ["127.0.0.8", "127.0.0.2"]},
    "7.100.51.198.uri.test": {"A": ["127.0.0.2"]},
    "blocked.example.uri.test": {"A": ["127.0.0.1"]},
    "silent.example.uri.test": Unavailable("SERVFAIL"),
    "odd.example.uri.test": {"A": ["127.0.0.64"]},
}
CODES = (Meaning(IPv4Address("127.0.0.8"), IPv4Address("127.0.0.8"), "phish"),
         Meaning(IPv4Address("127.0.0.2"), IPv4Address("127.0.0.4"), "spam"))  # fmt: skip
DEFAULTS = {option.name: option.default for option in UriList.options}


class Silent:
    def noted(self, service: str, well: bool, detail: str) -> None:
        """Nobody asks."""


class List:
    def __init__(self, zone: Mapping[str, Any] = ZONE, **options: Any) -> None:
        self.resolver = FakeResolver(zone)
        given = tools(self.resolver)
        settings = replace(given.settings, domains={"here.example": DomainSettings(name="here.example")})
        self.zones = Zones(self.resolver, given.clock, Silent())
        self.options = {**DEFAULTS, "zone": "uri.test", **options}
        self.tools = replace(given, zones=self.zones, settings=settings)
        self.check = UriList(self.options, self.tools)
        self.zones.keep(UriList.probes(self.options))
        self.resolver.asked.clear()

    def ask(self, *links: str) -> Finding:
        return examined(self.check, case(*links))

    @property
    def asked(self) -> list[str]:
        return [name.removesuffix(".uri.test") for name, _ in self.resolver.asked]


def case(*links: str, html: str = "") -> Case:
    subtype, words = ("html", html) if html else ("plain", "\r\n".join(links))
    octets = f"Content-Type: text/{subtype}; charset=utf-8\r\n\r\n{words}\r\n".encode()
    message = Message("m", Body(len(octets), octets, None, b""))
    return Case(Session("s", "192.0.2.1", 4000, "192.0.2.25", 0.0), Envelope(None), None, message)


@pytest.mark.parametrize(
    ("link", "finding"),
    [
        ("http://www.spam.example/x", Finding("listed", "spam.example 127.0.0.2")),
        ("https://a.b.spam.co.uk/", Finding("listed", "spam.co.uk 127.0.0.4")),
        ("http://198.51.100.7/x", Finding("listed", "198.51.100.7 127.0.0.2")),
        ("http://3325256711/x", Finding("listed", "198.51.100.7 127.0.0.2")),
        ("http://good.example/?u=http%3A%2F%2Fspam.example", Finding("listed", "spam.example 127.0.0.2")),
        ("http://good.example/", Finding("absent", "1 domains")),
        ("no link", Finding("absent", "no links")),
    ],
)
def test_outcomes(link: str, finding: Finding) -> None:
    assert List().ask(link) == finding


def test_words_for_codes_the_gravest_of_all_domains_first() -> None:
    listed = List(codes=CODES)
    assert listed.ask("http://spam.example", "http://phish.example") == Finding(
        "phish", "phish.example 127.0.0.2 127.0.0.8"
    )
    assert listed.ask("http://spam.co.uk").outcome == "spam"
    assert listed.ask("http://odd.example").outcome == "absent"
    assert UriList.words({**DEFAULTS, "codes": CODES}) == {"listed", "absent", "mismatch", "phish", "spam"}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (["127.0.0.2"], "absent"),
        (["127.0.0.8"], "harmful"),
        (["127.0.0.16"], "harmful"),
        (["127.0.0.24"], "harmful"),
        (["127.0.0.64"], "listed"),
        (["127.0.0.80"], "harmful"),
        (["127.0.0.194"], "listed"),
        (["127.0.0.128"], "abused"),
        (["127.0.0.128", "127.0.0.66"], "listed"),
        (["127.0.0.254"], "harmful"),
        (["127.0.1.8"], "absent"),
    ],
)
def test_of_codes_that_are_sums_each_bit_has_a_meaning(answer: list[str], outcome: str) -> None:
    codes = kind("codes").read("127.0.0.&24=harmful 127.0.0.&64=listed 127.0.0.&128=abused")
    zone: Zone = {**SELF_TEST, "some.example.uri.test": {"A": answer}}
    assert List(zone, codes=codes).ask("http://some.example/").outcome == outcome


def test_each_domain_is_asked_about_once() -> None:
    listed = List()
    listed.ask("http://a.good.example/", "http://b.good.example/", "www.good.example", "http://192.0.2.9/")
    assert listed.asked == ["good.example", "9.2.0.192"]


def test_who_is_not_asked_about() -> None:
    listed = List(exempt=("fine.example",), addresses=False)
    links = ("http://www.here.example", "http://a.fine.example", "http://198.51.100.7", "http://notfine.example")
    assert listed.ask(*links).outcome == "absent"
    assert listed.asked == ["notfine.example"]
    private = List()
    assert private.ask("http://10.0.0.1/", "http://127.0.0.2/", "http://[::1]/").outcome == "absent"
    assert private.asked == []


def test_what_a_link_costs_does_not_grow_with_our_domains() -> None:
    few, many = (List(exempt=tuple(f"d{number}.example" for number in range(count))) for count in (1, 1000))
    assert steps(lambda: few.ask("http://www.else.example/")) == steps(lambda: many.ask("http://www.else.example/"))


def test_of_many_domains_the_first_and_the_last_are_asked_about() -> None:
    listed = List(most=5)
    finding = listed.ask(*(f"http://d{number}.example" for number in range(9)))
    assert listed.asked == ["d0.example", "d1.example", "d6.example", "d7.example", "d8.example"]
    assert finding == Finding("absent", "5 domains; 5 of 9 domains were asked about")


def test_a_link_that_is_shown_as_another() -> None:
    link = '<a href="http://elsewhere.example/">http://bank.example/</a>'
    assert examined(List().check, case(html=link)) == Finding("mismatch", "bank.example leads to elsewhere.example")
    worse = link + '<a href="http://spam.example/">x</a>'
    assert examined(List().check, case(html=worse)).outcome == "listed"


def test_one_that_is_listed_counts_although_of_others_nothing_is_known() -> None:
    listed = List()
    assert listed.ask("http://silent.example", "http://spam.example").outcome == "listed"
    with pytest.raises(Unavailable, match="SERVFAIL"):
        listed.ask("http://silent.example", "http://good.example")
    with pytest.raises(Unavailable, match=r"does not answer us: 127\.0\.0\.1"):
        listed.ask("http://blocked.example")


def test_all_are_asked_side_by_side_and_given_up_together() -> None:
    listed = List()
    listed.resolver.holding = True
    came, waiting = begun(listed.check, case("http://good.example", "http://spam.example"))
    assert listed.asked == ["good.example", "spam.example"] and not came
    listed.resolver.release()
    assert came[0].outcome == "listed"
    came, waiting = begun(listed.check, case("http://good.example", "http://spam.example"))
    assert waiting is not None
    waiting.cancel()
    assert came[0].check(CancelledError)


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ({**SELF_TEST, "invalid.uri.test": {"A": ["127.0.0.2"]}}, "lists everything, even INVALID"),
        ({"x.uri.test": {"A": ["127.0.0.2"]}}, "lists nothing"),
        ({"test.uri.test": {"A": ["127.255.255.254"]}}, "does not answer us"),
    ],
)
def test_a_list_that_fails_its_test_is_not_believed(zone: Zone, said: str) -> None:
    with pytest.raises(Unavailable, match=said):
        List({**zone, "spam.example.uri.test": {"A": ["127.0.0.2"]}}).ask("http://spam.example")


def test_lists_with_test_points_of_addresses_and_without_any() -> None:
    listed: Zone = {"spam.example.uri.test": {"A": ["127.0.0.2"]}}
    assert List({**listed, "2.0.0.127.uri.test": {"A": ["127.0.0.2"]}}).ask("http://spam.example").outcome == "listed"
    assert List(listed, probe=False).ask("http://spam.example").outcome == "listed"


@pytest.mark.parametrize(
    ("count", "behind", "runs"),
    [(100, "", 0), (101, "", 1), (15, "x" * 1800, 0), (20, "x" * 1800, 1), (6, "%41" * 100, 0), (7, "%41" * 100, 1),
     (50, "\u00fc" * 20, 0), (50, "\u00fc" * 30, 1)],
)  # fmt: skip
def test_a_message_full_of_links_goes_to_a_thread(count: int, behind: str, runs: int) -> None:
    many = "".join(f'<a href="http://d{number}.example/{behind}">x</a>' for number in range(count))
    listed = List()
    offload: Any = listed.tools.offload
    assert examined(listed.check, case(html=many)).outcome == "absent"
    assert offload.runs == runs
    assert len(listed.asked) == min(count, 20)
