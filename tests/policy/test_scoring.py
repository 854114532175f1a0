"""Sums: two of them, exact, in any order; and words go before numbers."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.settings import CheckSettings
from inboundmx.model.verdict import ScoreLine, Weight
from inboundmx.policy.scoring import HEAVIEST, score

FILTERING = frozenset({"filtering"})
BLOCKING = frozenset({"blocking"})
BOTH = FILTERING | BLOCKING


def result(check: str, outcome: str = "yes") -> CheckResult:
    return CheckResult(check, "kind", Stage.MESSAGE, Finding(outcome))


def check(name: str, counts_for: frozenset[str] = FILTERING, **weights: Weight) -> CheckSettings:
    return CheckSettings(name, "kind", counts_for=counts_for, weights=weights)


CHECKS = {
    settings.name: settings
    for settings in (
        check("rbl", BOTH, yes=15.0, no=0.0),
        check("helo", yes=2.5),
        check("block", BLOCKING, yes=7.0, bad="reject"),
        check("trust", yes=-4.0),
        check("virus", yes="reject", error="defer"),
        check("grey", yes="defer"),
    )
}


@pytest.mark.parametrize(
    ("said", "filtering", "blocking", "forced"),
    [
        ("", 0, 0, ""),
        ("rbl=yes", 15, 15, ""),
        ("rbl=no", 0, 0, ""),
        ("rbl=yes helo=yes block=yes", 17.5, 22, ""),
        ("helo=yes trust=yes", -1.5, 0, ""),
        ("helo=unheard_of", 0, 0, ""),
        ("gone=yes helo=yes", 2.5, 0, ""),
        ("grey=yes helo=yes", 2.5, 0, "defer by grey"),
        ("grey=yes virus=yes helo=yes", 2.5, 0, "reject by virus"),
        ("virus=yes grey=yes", 0, 0, "reject by virus"),
        ("virus=error grey=yes", 0, 0, "defer by virus"),
        ("virus=yes block=bad", 0, 0, "reject by virus"),
        ("block=bad", 0, 0, "reject by block"),
        ("helo=yes helo=yes", 5, 0, ""),
    ],
)
def test_score(said: str, filtering: float, blocking: float, forced: str) -> None:
    got = score([result(*word.split("=")) for word in said.split()], CHECKS)
    assert (got.filtering, got.blocking) == (filtering, blocking)
    assert (f"{got.forced} by {got.forced_by}" if got.forced else "") == forced
    assert [f"{line.check}={line.outcome}" for line in got.lines] == said.split()


def test_lines_say_what_counted_for_what() -> None:
    got = score([result("rbl"), result("helo"), result("block"), result("grey"), result("gone")], CHECKS)
    assert got.lines == (
        ScoreLine("rbl", "yes", 15.0, True, True),
        ScoreLine("helo", "yes", 2.5, True, False),
        ScoreLine("block", "yes", 7.0, False, True),
        ScoreLine("grey", "yes", "defer", True, False),
        ScoreLine("gone", "yes", 0.0, True, False),
    )


def test_a_domain_has_weights_of_its_own() -> None:
    own: dict[tuple[str, str], Weight] = {("rbl", "yes"): 3.0, ("virus", "yes"): 1.0, ("helo", "yes"): "defer"}
    got = score([result("rbl"), result("virus"), result("trust")], CHECKS, own)
    assert (got.filtering, got.blocking, got.forced) == (0.0, 3.0, "")
    assert score([result("helo")], CHECKS, own).forced == "defer"


def test_ten_tenths_are_one() -> None:
    tenths = {str(n): check(str(n), yes=0.1) for n in range(10)}
    assert score([result(name) for name in tenths], tenths).filtering == 1.0


def test_nothing_is_not_less_than_nothing() -> None:
    assert math.copysign(1, score([result("a")], {"a": check("a", yes=-1e-9)}).filtering) == 1


WORDS: list[Weight] = ["reject", "defer", "quarantine"]
weights: st.SearchStrategy[Weight] = st.one_of(st.floats(), st.floats(-50, 50), st.sampled_from(WORDS))


@given(st.lists(st.tuples(weights, st.sampled_from([FILTERING, BLOCKING, BOTH])), max_size=12), st.randoms())
def test_the_order_of_results_does_not_matter(
    worth: list[tuple[Weight, frozenset[str]]], chance: random.Random
) -> None:
    checks = {str(n): check(str(n), counts_for, yes=weight) for n, (weight, counts_for) in enumerate(worth)}
    results = [result(name) for name in checks]
    first = score(results, checks)
    chance.shuffle(results)
    second = score(results, checks)
    assert (first.filtering, first.blocking, first.forced) == (second.filtering, second.blocking, second.forced)
    assert abs(first.filtering) <= HEAVIEST * 12 and abs(first.blocking) <= HEAVIEST * 12
    words = {weight for weight, _ in worth}
    assert first.forced == ("reject" if "reject" in words else "defer" if "defer" in words else "")
    assert bool(first.quarantined_by) is bool(second.quarantined_by) is ("quarantine" in words)


@pytest.mark.parametrize(
    ("weight", "points", "counted"),
    [
        (0.0, 7.3, 7.3),
        (10.0, -2.5, 7.5),
        (0.0, 0.1 + 0.2, 0.3),
        (5.0, float("nan"), 5.0),
        (5.0, float("inf"), 1e9),
        (-5.0, float("-inf"), -1e9),
    ],
)
def test_points_are_added_to_the_weight(weight: float, points: float, counted: float) -> None:
    result = CheckResult("sa", "sa", Stage.MESSAGE, Finding("high", points=points))
    total = score([result], {"sa": CheckSettings("sa", "sa", weights={"high": weight})})
    assert total.filtering == counted
    assert total.lines[0].weight == counted


def test_points_do_not_change_a_weight_that_decides() -> None:
    result = CheckResult("sa", "sa", Stage.MESSAGE, Finding("high", points=-100.0))
    total = score([result], {"sa": CheckSettings("sa", "sa", weights={"high": "reject"})})
    assert (total.filtering, total.forced, str(total.lines[0])) == (0.0, "reject", "sa=high(reject)")


def test_what_is_excused_weighs_nothing_or_does_not_block() -> None:
    own = {("rbl", "yes"): 50.0, ("virus", "yes"): 5.0}
    for name, weight in [("rbl", 50.0), ("virus", 5.0), ("block", 7.0), ("grey", "defer")]:
        excused = replace(result(name), excused="all", finding=Finding("yes", points=3.0))
        total = score([excused], CHECKS, own)
        assert (total.filtering, total.blocking, total.forced, total.lines[0].weight) == (0, 0, "", 0)
        total = score([replace(result(name), excused="blocking")], CHECKS, own)
        assert (total.blocking, total.lines[0].weight, total.lines[0].blocking) == (0, weight, False)
        assert total.filtering == (weight if name in ("rbl", "virus") else 0)
