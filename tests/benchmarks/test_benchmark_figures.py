"""Percentiles, medians and ratios of the benchmarks, by hand-made figures."""

from __future__ import annotations

import pytest

from benchmarks.figures import medians, percentiles, ratios


@pytest.mark.parametrize(
    "seconds, p50, p99, most",
    [
        ([0.005], 5.0, 5.0, 5.0),
        ([0.003, 0.001, 0.002], 2.0, 3.0, 3.0),
        ([number / 1000 for number in range(1, 101)], 51.0, 100.0, 100.0),
        ([number / 1000 for number in range(1000, 0, -1)], 501.0, 991.0, 1000.0),
    ],
)
def test_percentiles_are_in_milliseconds_of_any_order(
    seconds: list[float], p50: float, p99: float, most: float
) -> None:
    assert percentiles(seconds) == pytest.approx({"p50": p50, "p99": p99, "max": most})


def test_nothing_has_no_percentiles() -> None:
    assert percentiles([]) == {}


def test_a_ratio_above_one_is_better_for_the_first_whichever_way_a_figure_points() -> None:
    ours = [{"rate": 300.0, "cpu_ms": 1.0}, {"rate": 200.0, "cpu_ms": 2.0}, {"rate": 100.0, "cpu_ms": 4.0}]
    theirs = [{"rate": 100.0, "cpu_ms": 3.0}] * 3
    assert ratios(ours, theirs) == {
        "rate": {"median": 2.0, "lowest": 1.0, "highest": 3.0},
        "cpu_ms": {"median": 1.5, "lowest": 0.75, "highest": 3.0},
    }


def test_ratios_are_of_one_repeat_and_not_of_medians() -> None:
    """The machine slows down over the run: each repeat still says the same."""
    ours = [{"rate": 400.0}, {"rate": 40.0}, {"rate": 4.0}]
    theirs = [{"rate": 100.0}, {"rate": 10.0}, {"rate": 1.0}]
    assert ratios(ours, theirs)["rate"] == {"median": 4.0, "lowest": 4.0, "highest": 4.0}


def test_what_one_lacks_or_what_is_zero_has_no_ratio() -> None:
    assert ratios([{"rate": 5.0, "mib": 3.0}], [{"rate": 0.0}]) == {}


def test_a_figure_that_only_some_repeats_have_keeps_its_median() -> None:
    every = {"one": [{"rate": 1.0}, {"rate": 3.0, "p99": 7.0}, {"rate": 9.0}]}
    assert medians(every) == {"one": {"rate": 3.0, "p99": 7.0}}
