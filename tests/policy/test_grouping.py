"""What was seen of one recipient is not held against another."""

from __future__ import annotations

from inboundmx.model.address import Address
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.settings import CheckSettings, DomainSettings
from inboundmx.policy.grouping import groups

ANN, BOB, CID, EVE = (Address(name, "a.example") for name in ("ann", "bob", "cid", "eve"))
FAR = Address("far", "c.example")
HERE, THERE = DomainSettings("a.example"), DomainSettings("c.example")
CHECKS = {"memory": CheckSettings("memory", "greylist", weights={"new": 3.0, "early": 3.0})}


def seen(outcome: str, recipient: Address | None = None) -> CheckResult:
    return CheckResult("memory" if recipient else "list", "", Stage.RECIPIENT, Finding(outcome), recipient)


def test_each_recipient_is_judged_by_what_was_seen_of_it():
    results = [seen("listed"), seen("new", ANN), seen("early", BOB), seen("known", CID), seen("passed", EVE)]
    results += [seen("new", FAR), seen("clean")]
    found = groups(results, CHECKS, dict.fromkeys((ANN, BOB, CID, EVE), HERE) | {FAR: THERE})
    assert [(group.domain, group.recipients) for group in found] == [
        (HERE, (ANN, BOB)), (HERE, (CID, EVE)), (THERE, (FAR,)),
    ]  # fmt: skip
    assert [[each.finding.outcome for each in group.results] for group in found] == [
        ["listed", "new", "clean"], ["listed", "known", "clean"], ["listed", "new", "clean"],
    ]  # fmt: skip


def test_the_same_domain_reached_by_another_way_is_another():
    leaving = DomainSettings("a.example", via="outbound")
    found = groups([seen("listed")], CHECKS, {ANN: HERE, BOB: leaving})
    assert [(group.domain, group.recipients) for group in found] == [(HERE, (ANN,)), (leaving, (BOB,))]


def test_without_anything_of_their_own_those_of_a_domain_are_one():
    results = [seen("listed")]
    [one] = groups(results, CHECKS, {ANN: HERE, BOB: HERE})
    assert (one.recipients, one.results) == ((ANN, BOB), results)
    assert groups(results, CHECKS, {}) == []
