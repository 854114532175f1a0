"""A dear check is spared only where nothing it could say would change a verdict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.settings import DEFAULT_LEVELS, BlockingSettings, CheckSettings, DomainSettings, LevelSettings
from inboundmx.model.verdict import Action, Level, Verdict, Weight
from inboundmx.policy.judging import judge
from inboundmx.policy.scoring import score
from inboundmx.policy.sparing import Unasked, excused, settled

ANN, EVE = Address("ann", "a.example"), Address("eve", "c.example")
BOTH = frozenset({"filtering", "blocking"})
SPAMD = Unasked("sa", frozenset({"none", "low", "medium", "high", "error", "timeout"}))
USUAL: dict[str, Weight] = {"low": 10.0, "medium": 20.0, "high": 30.0}


def check(name: str, weights: dict[str, Weight], counts_for: str = "filtering") -> CheckSettings:
    return CheckSettings(name, name, counts_for=frozenset(counts_for.split()), weights=weights)


def said(name: str, outcome: str, recipient: Address | None = None) -> CheckResult:
    return CheckResult(name, name, Stage.MESSAGE, Finding(outcome), recipient)


def domain(name: str, **more: Any) -> DomainSettings:
    return DomainSettings(name, **more)


REJECT_FROM_20 = (*DEFAULT_LEVELS[:2], LevelSettings(Level.MEDIUM, 20.0, (Action("reject"),)), DEFAULT_LEVELS[3])


@pytest.mark.parametrize(
    ("before", "dear", "spared"),
    [
        # What was seen before weighs so much, and the dear check's words so.
        (0.0, USUAL, False),
        (30.0, USUAL, True),
        (29.0, USUAL, False),
        (30.0, USUAL | {"none": -5.0}, False),
        (35.0, USUAL | {"none": -5.0}, True),
        (0.0, {}, True),
        (0.0, {"high": 9.0}, True),
        (0.0, {"high": 10.0}, False),
        (10.0, {"high": 9.0}, True),
        (11.0, {"high": 9.0}, False),
        (-30.0, USUAL, True),
        (-20.0, USUAL, False),
        ("reject", USUAL, True),
        ("reject", {"high": "reject"}, True),
        ("defer", USUAL, True),
        ("defer", {"high": "defer"}, True),
        ("defer", {"high": "reject"}, False),
        (30.0, {"high": "reject"}, False),
        (30.0, {"error": "defer"}, False),
        (1e9, {"high": 1e9}, True),
    ],
)
def test_whether_it_is_spared(before: Weight, dear: dict[str, Weight], spared: bool) -> None:
    checks = {"list": check("list", {"listed": before}), "sa": check("sa", dear)}
    accepted = {ANN: domain("a.example")}
    assert settled([said("list", "listed")], [SPAMD], checks, accepted) is spared


def test_its_own_score_may_be_anything_up_to_its_bound() -> None:
    checks = {"list": check("list", {"listed": 29.0}), "sa": check("sa", {})}
    accepted = {ANN: domain("a.example")}
    results = [said("list", "listed")]
    assert settled(results, [SPAMD], checks, accepted)
    assert settled(results, [SPAMD._replace(most_points=0.5)], checks, accepted)
    assert not settled(results, [SPAMD._replace(most_points=1.0)], checks, accepted)


def test_the_blocking_sum_settles_as_well() -> None:
    checks = {"list": check("list", {"listed": 30.0}, "blocking"), "sa": check("sa", USUAL)}
    accepted = {ANN: domain("a.example")}
    assert settled([said("list", "listed")], [SPAMD], checks, accepted)
    checks["sa"] = check("sa", USUAL | {"none": -1.0}, "filtering blocking")
    assert not settled([said("list", "listed")], [SPAMD], checks, accepted)


def test_a_blocking_line_of_no_weight_counts_where_the_threshold_is_nothing() -> None:
    checks = {"sa": check("sa", {}, "blocking")}
    assert not settled([], [SPAMD], checks, {ANN: domain("a.example", blocking=BlockingSettings(0.0))})


def test_mail_that_leaves_us_is_settled_by_its_own_threshold() -> None:
    checks = {"list": check("list", {"listed": 20.0}, "blocking"), "sa": check("sa", USUAL, "blocking")}
    blocking = BlockingSettings(incoming_threshold=100.0, outgoing_threshold=20.0)
    seen = [said("list", "listed")]
    assert settled(seen, [SPAMD], checks, {ANN: domain("a.example", via="outbound", blocking=blocking)})
    assert settled(seen, [SPAMD], checks, {ANN: domain("a.example", blocking=blocking)})
    blocking = BlockingSettings(incoming_threshold=100.0, outgoing_threshold=30.0)
    assert not settled(seen, [SPAMD], checks, {ANN: domain("a.example", via="outbound", blocking=blocking)})
    assert settled(seen, [SPAMD], checks, {ANN: domain("a.example", blocking=blocking)})


def test_every_domain_must_be_settled() -> None:
    checks = {"list": check("list", {"listed": 20.0}), "sa": check("sa", USUAL)}
    strict, usual = domain("a.example", levels=REJECT_FROM_20), domain("c.example")
    weighed = domain("c.example", weights={("list", "listed"): "reject"})
    results = [said("list", "listed")]
    assert settled(results, [SPAMD], checks, {ANN: strict}), "medium and high refuse alike"
    lenient = {"list": checks["list"], "sa": check("sa", {"high": 5.0})}
    assert settled(results, [SPAMD], lenient, {ANN: strict, EVE: usual})
    assert not settled(results, [SPAMD], checks, {EVE: usual})
    assert settled(results, [SPAMD], checks, {EVE: weighed})
    assert settled(results, [SPAMD], checks, {ANN: strict, EVE: weighed})
    assert not settled(results, [SPAMD], checks, {ANN: strict, EVE: usual})


def test_a_result_of_one_recipient_speaks_for_his_domain_alone() -> None:
    checks = {"greylist": check("greylist", {"new": "defer"}), "sa": check("sa", USUAL)}
    accepted = {ANN: domain("a.example"), EVE: domain("c.example")}
    results = [said("greylist", "new", ANN)]
    assert settled(results, [SPAMD], checks, {ANN: accepted[ANN]})
    assert not settled(results, [SPAMD], checks, accepted)


def test_there_are_no_two_ways_about_nothing() -> None:
    assert settled([], [], {}, {})


NUMBERS = st.integers(-12, 40).map(float) | st.sampled_from([0.1, 9.95, 0.0])
WEIGHTS = st.one_of(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["reject", "defer", "quarantine"]))
CHECKS = st.builds(
    check,
    st.just("x"),
    st.dictionaries(st.sampled_from(["a", "b", "error"]), WEIGHTS),
    st.sampled_from(["filtering", "blocking", "filtering blocking"]),
)
LEVELS = st.lists(NUMBERS, min_size=3, max_size=3).map(sorted).flatmap(
    lambda thresholds: st.tuples(
        st.just(LevelSettings(Level.NONE)),
        *(
            st.builds(LevelSettings, st.just(level), st.just(threshold), st.sampled_from(
                [(Action("deliver"),), (Action("reject"),), (Action("quarantine"),)]))
            for level, threshold in zip((Level.LOW, Level.MEDIUM, Level.HIGH), thresholds, strict=True)
        ),
    )
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(["list", "helo"]), CHECKS),
    st.dictionaries(st.sampled_from(["sa", "other"]), CHECKS, min_size=1),
    st.data(),
    LEVELS,
    NUMBERS,
    st.sampled_from([0.0, 0.0, 3.0]),
)
@settings(max_examples=150, deadline=None)
def test_sparing_never_changes_a_verdict(
    asked: dict[str, CheckSettings],
    dear: dict[str, CheckSettings],
    data: st.DataObject,
    levels: tuple[LevelSettings, ...],
    blocking: float,
    most_points: float,
) -> None:
    words = st.sampled_from(["a", "b", "error"])
    results = [said(name, data.draw(words)) for name in asked]
    unasked = [Unasked(name, frozenset({"a", "b", "error"}), most_points) for name in dear]
    own = data.draw(st.dictionaries(st.tuples(st.sampled_from(["sa", "list"]), words), WEIGHTS))
    place = domain("a.example", levels=levels, blocking=BlockingSettings(blocking), weights=own)
    checks = asked | dear
    assume(settled(results, unasked, checks, {ANN: place}))

    def verdict(found: list[CheckResult]) -> Verdict:
        return judge(score(found, checks, own), levels, blocking)

    spared = verdict(results)
    for _ in range(5):
        points = data.draw(st.floats(-most_points, most_points))
        heard = [
            CheckResult(name, name, Stage.MESSAGE, Finding(data.draw(words), points=points)) for name in dear
        ]  # fmt: skip
        full = verdict(results + heard)
        assert full.reply == spared.reply
        if spared.reply is None:
            assert (full.level, full.actions) == (spared.level, spared.actions)


@pytest.mark.parametrize(
    ("weighed", "blocking", "expected"),
    [(True, True, ["", ""]), (False, True, ["all", ""]), (True, False, ["blocking"] * 2),
     (False, False, ["all", "blocking"])],
)  # fmt: skip
def test_what_is_excused(weighed: bool, blocking: bool, expected: list[str]) -> None:
    results = [said("dnsbl", "listed"), said("clamav", "clean")]
    found = excused(results, frozenset({"dnsbl", "spf"}), weighed=weighed, blocking=blocking)
    assert [result.excused for result in found] == expected
    assert [result.check for result in found] == ["dnsbl", "clamav"]
