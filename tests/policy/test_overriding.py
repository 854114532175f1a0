"""Whom a section of recipients is about, and what is left of what the domain says."""

from __future__ import annotations

import pytest

from inboundmx.model.address import Address
from inboundmx.model.settings import CheckSettings, DomainSettings, LevelSettings, RecipientsSettings, Settings
from inboundmx.model.verdict import Action, Level
from inboundmx.policy.overriding import Overrides

DOMAIN = DomainSettings("a.example", weights={("x", "bad"): 3.0}, skip_checks=("y",), skips=frozenset({"y", "out"}))
SECTIONS = (
    RecipientsSettings("first", ("boss@a.example",), levels={Level.HIGH: {"action": (Action("hold"),)}}),
    RecipientsSettings("loose", ("b*s@a.example", "sales@*")),
    RecipientsSettings("wide", ("*@a.example", "*@*.b.example"), weights={("x", "bad"): 1.0, ("x", "good"): -1.0}),
    RecipientsSettings("listed", ("file:/nowhere",), greylisting=False, skip_checks=("z",), listed=("eva@c.example",)),
)


@pytest.mark.parametrize(
    ("address", "section"),
    [
        ("boss@a.example", "first"), ("BOSS@a.example", "first"), ("bus@a.example", "loose"), ("ann@a.example", "wide"),
        ("sales@elsewhere.example", "loose"), ("ann@sub.b.example", "wide"), ("ann@b.example", ""),
        ("eva@c.example", "listed"), ("ann@c.example", ""), ("abuse@c.example", "role"),
        ("Abuse@a.example", "wide role"),
    ],
)  # fmt: skip
def test_the_first_section_that_matches_holds(address: str, section: str) -> None:
    local, _, name = address.partition("@")
    assert Overrides(Settings(recipients=SECTIONS)).of(Address(local, name), DOMAIN).apart == section


def test_what_it_does_not_say_is_as_the_domain_says() -> None:
    overrides = Overrides(Settings(recipients=SECTIONS))
    wide = overrides.of(Address("ann", "a.example"), DOMAIN)
    assert wide.weights == {("x", "bad"): 1.0, ("x", "good"): -1.0}
    assert (wide.levels, wide.skips, wide.greylisting) == (DOMAIN.levels, DOMAIN.skips, True)
    first = overrides.of(Address("boss", "a.example"), DOMAIN)
    assert first.levels[3] == LevelSettings(Level.HIGH, 30.0, (Action("hold"),)) and first.weights == DOMAIN.weights
    listed = overrides.of(Address("eva", "c.example"), DOMAIN)
    assert (listed.greylisting, listed.skips) == (False, {"z", "out"}), "its own list takes the place of the domain's"


def test_nobody_is_apart_where_mail_leaves_us() -> None:
    outgoing = DomainSettings("a.example", via="outbound")
    overrides = Overrides(Settings(recipients=SECTIONS))
    assert overrides.of(Address("boss", "a.example"), outgoing) is outgoing
    assert overrides.of(Address("postmaster", "a.example"), outgoing) is outgoing


def test_what_somebody_weighs_otherwise_is_contested() -> None:
    domains = {"a.example": DOMAIN}
    checks = (CheckSettings("out", "spf", for_="outgoing"), CheckSettings("in", "spf"))
    sections = RecipientsSettings("s", ("ann@a.example",), weights={("w", "bad"): 1.0}, skip_checks=("z",))
    found = Overrides(Settings(domains=domains, recipients=(sections,), checks=checks)).contested
    assert found == {"x", "y", "z", "w", "out"}


def test_postmasters_are_refused_by_no_sum() -> None:
    levels = (*DOMAIN.levels[:3], LevelSettings(Level.HIGH, 30.0, (Action("header", "X-A: b"), Action("reject"))))
    made = Overrides(Settings()).of(Address("postmaster", "a.example"), DomainSettings("a.example", levels=levels))
    assert made.levels[3].action == (Action("header", "X-A: b"),)
    assert made.blocking.incoming_threshold == float("inf")
    plain = Overrides(Settings()).of(Address("abuse", "a.example"), DomainSettings("a.example"))
    assert plain.levels[3].action == (Action("deliver"),)
