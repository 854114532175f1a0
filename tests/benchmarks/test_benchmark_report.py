"""The page and its plots, written from made-up figures: what is met, what is not, and what was not measured."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plots
from benchmarks.drawn import COLOURS
from benchmarks.judged import Outcome, judged, promised, reached, shortfall, verdict
from benchmarks.peers import OURS, SPOOL, TWO, TWO_SPOOL
from benchmarks.promises import PROMISES, Promise
from benchmarks.report import renewed, write

SVG = "{http://www.w3.org/2000/svg}"


def result(scenario: str, every: dict[str, list[dict[str, float]]], **more: Any) -> dict[str, Any]:
    figures = {name: repeats[0] for name, repeats in every.items()}
    return {"scenario": scenario, "what": f"what {scenario} is", "figures": figures, "every": every} | more


def loads(rate: float, cpu_ms: float, p99_ms: float) -> list[dict[str, float]]:
    """Three repeats, of which the middle one is this."""
    return [
        {
            "rate": rate * factor, "cpu_ms": cpu_ms, "mail_p50_ms": p99_ms / 10, "mail_p99_ms": p99_ms,
            "load_share": 0.4, "failed": 0.0,
        }
        for factor in (1.0, 0.9, 1.1)
    ]  # fmt: skip


def run(**more: Any) -> dict[str, Any]:
    fifty = {
        "postfix": loads(400, 2.4, 1000),
        "postfix, tuned": loads(410, 2.5, 90),
        "haraka, queue": loads(300, 4, 200),
        "inboundmx": loads(2080, 0.45, 30),
        "inboundmx, spool": loads(1000, 0.6, 50),
        "inboundmx, 2 workers": loads(2400, 0.45, 30),
        "inboundmx, spool, 2 workers": loads(1300, 0.6, 50),
    }
    workers = {"1 worker": [{"rate": 1000.0}], "2 workers": [{"rate": 900.0}]}
    return {
        "machine": {"cores": "2"},
        "versions": {"Postfix": "3.7"},
        "taken_at": "2026-11-22 07:25 UTC",
        "seconds": 60.0,
        "effort": {"scale": 1.0, "repeats": 5, "seconds": 2.0, "held": 0},
        "complete": True,
        "left_out": {},
        "trouble": [],
        "results": [result("50x1", fifty), result("workers", workers, not_measurable="2 cores, all busy")],
    } | more


def outcome(outcomes: list[Outcome], *names: str) -> Outcome:
    (found,) = [
        each for each in outcomes
        if (each.promise.scenario, each.promise.ours, each.promise.theirs, each.promise.figure) == names
    ]  # fmt: skip
    return found


def test_a_promise_is_judged_by_the_median_of_its_ratios() -> None:
    outcomes = judged(run()["results"])
    rate = outcome(outcomes, "50x1", "inboundmx", "postfix", "rate")
    assert (verdict(rate), reached(rate)) == ("met, and what was hoped for", "5.2×")
    latency = outcome(outcomes, "50x1", "inboundmx", "postfix, tuned", "mail_p99_ms")
    assert (verdict(latency), promised(latency.promise), reached(latency)) == ("met", "1/2 of tuned Postfix", "1/3")
    spool = outcome(outcomes, "50x1", "inboundmx, spool", "postfix", "rate")
    assert verdict(spool) == "**falls short**"
    assert (
        shortfall(spool)
        == "50x1, messages a second, spool: 2.8× Postfix was promised, 2.5× was reached, 89 % of the way."
    )


def test_what_was_not_measured_or_says_nothing_here_is_not_judged() -> None:
    outcomes = judged(run()["results"])
    absent = outcome(outcomes, "idle", "inboundmx", "", "kib_each")
    assert (absent.counts, verdict(absent), reached(absent)) == (False, "not measured in this run", "-")
    workers = outcome(outcomes, "workers", "2 workers", "1 worker", "rate")
    assert (workers.counts, verdict(workers), reached(workers)) == (False, "not measurable here", "0.9×")
    assert len(outcomes) == len(PROMISES)


@pytest.mark.parametrize(
    "promise, median, line_met, reach_met",
    [
        (Promise("s", "rate", 2, 3), 1.99, False, False),
        (Promise("s", "rate", 2, 3), 2.0, True, False),
        (Promise("s", "rate", 2, 3), 3.0, True, True),
        (Promise("s", "rate", 2), 9.0, True, False),
        (Promise("s", "list_s", 0.5, 0.1, theirs="", at_least=False), 0.51, False, False),
        (Promise("s", "list_s", 0.5, 0.1, theirs="", at_least=False), 0.5, True, False),
        (Promise("s", "list_s", 0.5, 0.1, theirs="", at_least=False), 0.05, True, True),
        (Promise("s", "held", 10_000, theirs=""), 9_999.0, False, False),
        (Promise("s", "held", 10_000, theirs=""), 10_000.0, True, False),
    ],
)
def test_a_line_is_met_when_it_is_reached_exactly(
    promise: Promise, median: float, line_met: bool, reach_met: bool
) -> None:
    found = Outcome(promise, {"median": median, "lowest": median, "highest": median})
    assert (found.line_met, found.reach_met) == (line_met, reach_met)


@pytest.mark.parametrize(
    "promise, words",
    [
        (Promise("s", "cpu_ms", 3.5), "1/3.5 of Postfix"),
        (Promise("s", "cpu_ms", 1 / 1.5), "1.5× Postfix"),
        (Promise("s", "rate", 1), "1× Postfix"),
        (Promise("s", "held", 10_000, theirs=""), "at least 10,000"),
        (Promise("s", "kib_each", 10, theirs="", at_least=False), "at most 10 KiB"),
    ],
)
def test_a_promise_is_said_as_operators_say_it(promise: Promise, words: str) -> None:
    assert promised(promise) == words


def test_the_page_tells_what_fell_short_was_left_out_and_went_wrong(tmp_path: Path) -> None:
    told = run(left_out={"haraka, proxy": "node is not installed"}, trouble=["idle: it fell over\nat length"])
    page_file = write(told, tmp_path)[-1]
    page = page_file.read_text(encoding="utf-8")
    assert page_file.name == "performance.md"
    assert "- 50x1, messages a second, spool: 2.8× Postfix was promised" in page
    assert "- haraka, proxy: node is not installed\n" in page
    assert "- idle: it fell over\n" in page
    assert "- workers, messages a second: 2 cores, all busy. 0.9× was measured all the same." in page
    assert "Not measured in this run: 1x1, 10x1, 200x1," in page
    assert "that counts**" not in page


@pytest.mark.parametrize("more", [{"complete": False}, {"effort": {"scale": 1.0, "repeats": 2, "seconds": 2.0}}])
def test_a_part_of_a_run_says_that_it_is_one(tmp_path: Path, more: dict[str, Any]) -> None:
    page = write(run(**more), tmp_path)[-1].read_text(encoding="utf-8")
    assert "**some of the scenarios only**" in page or "**shorter than a run is that counts**" in page


def test_what_was_measured_again_takes_the_place_of_what_was(tmp_path: Path) -> None:
    before = run(versions={"inboundmx": "commit a"})
    (fifty, _) = before["results"]
    again = result("50x1", {name: [each | {"rate": 100.0} for each in loads] for name, loads in fifty["every"].items()})
    later = run(
        versions={"inboundmx": "commit b"}, taken_at="2026-11-23 08:00 UTC", results=[again, result("idle", {})]
    )
    both = renewed(before, [later])
    assert [each["scenario"] for each in both["results"]] == ["50x1", "workers", "idle"]
    assert outcome(judged(both["results"]), "50x1", "inboundmx", "postfix", "rate").reached["median"] == 1.0
    page = write(both, tmp_path)[-1].read_text(encoding="utf-8")
    assert "\n50x1, idle: again 2026-11-23 08:00 UTC, commit b.\n" in page
    assert "again" not in write(before, tmp_path)[-1].read_text(encoding="utf-8")


def test_every_row_of_a_table_has_as_many_cells_as_its_head(tmp_path: Path) -> None:
    page = write(run(), tmp_path)[-1].read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_plots_are_well_formed_named_and_shown_with_a_text_in_their_place(tmp_path: Path) -> None:
    *drawn, page_file = write(run(), tmp_path)
    page = page_file.read_text(encoding="utf-8")
    assert [path.name for path in drawn] == ["rates.svg", "cpu.svg", "latency.svg"]
    for path in drawn:
        alt = re.search(rf"!\[([^\]]+)\]\(performance/{path.name}\)", page)
        assert alt is not None and len(alt[1]) > 40
        root = ET.parse(path).getroot()
        title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert title is not None and title.text
        assert description is not None and description.text and "inboundmx" in description.text
        assert "prefers-color-scheme: dark" in path.read_text()
        width, height = (float(each) for each in root.attrib["viewBox"].split()[2:])
        for shape in root.iter(f"{SVG}rect"):
            assert float(shape.get("x", 0)) + float(shape.attrib["width"]) <= width
            assert float(shape.get("y", 0)) + float(shape.attrib["height"]) <= height


def test_the_bar_of_a_rate_has_the_marks_of_its_promise(tmp_path: Path) -> None:
    rates = ET.parse(write(run(), tmp_path)[0]).getroot()
    kinds = [line.attrib["class"] for line in rates.iter(f"{SVG}line")]
    # Of inboundmx and of its spool, with one worker and with two, and one of each in the legend.
    assert kinds.count("line") == kinds.count("reach") == 5
    bars = [shape for shape in rates.iter(f"{SVG}rect") if float(shape.attrib["height"]) == plots.BAR]
    assert [f"--{COLOURS[name]}" in bar.attrib["style"] for bar, name in
            zip(bars, ("haraka, queue", OURS, SPOOL, TWO, TWO_SPOOL), strict=True)] == [True] * 5  # fmt: skip
    assert float(bars[1].attrib["width"]) == pytest.approx(float(bars[2].attrib["width"]) * 5.2 / 2.5, rel=0.01)


def test_nothing_to_compare_with_leaves_plots_out_and_says_so_in_words(tmp_path: Path) -> None:
    alone = result("idle", {"inboundmx": [{"held": 10_000.0, "kib_each": 12.0, "failed": 0.0, "mail_p50_ms": 3.0}]})
    written = write(run(results=[alone], left_out={"postfix": "not installed"}), tmp_path)
    assert [path.name for path in written] == ["performance.md"]
    assert "idle, memory a connection: at most 10 KiB was promised, 12 KiB was reached, 83 % of the way." in written[
        -1
    ].read_text(encoding="utf-8")


def test_a_plot_of_which_nothing_was_measured_is_left_out(tmp_path: Path) -> None:
    """A rate with checks is no part of the plot of rates, and of a load without a single answer there is no latency."""
    checked = {"postfix": loads(600, 2.6, 20), "inboundmx, checks": loads(900, 1.1, 14)}
    silent = {"inboundmx": [{"rate": 0.0, "failed": 5.0}]}
    written = write(run(results=[result("checks cached", checked), result("1x1", silent)]), tmp_path)
    assert [path.name for path in written] == ["cpu.svg", "performance.md"]
    assert "rates.svg" not in written[-1].read_text(encoding="utf-8")


def test_who_has_no_ratio_is_not_said_to_be_as_good(tmp_path: Path) -> None:
    page = write(run(results=[result("1x1", {"postfix": loads(400, 2, 9), "inboundmx": loads(0, 3, 8)})]), tmp_path)[-1]
    assert "| inboundmx | 0 | 3 | 0.8 | 8 | - | 0.67 |\n" in page.read_text(encoding="utf-8")


def test_words_from_outside_are_text_in_a_plot() -> None:
    svg = plots.bars("a < b", "c & d", [("<script>", [plots.Bar("x", "a", 1.0)])])
    root = ET.fromstring(svg)
    assert "<script>" in [text.text for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    "highest, last, count", [(5.2, 6.0, 7), (1.0, 1.0, 6), (10, 10, 6), (0.04, 0.04, 5), (99, 100, 6), (0, 1e-9, 2)]
)
def test_an_axis_ends_at_a_round_figure_that_is_not_exceeded(highest: float, last: float, count: int) -> None:
    grid = plots.steps(highest)
    assert grid[0] == 0
    assert grid[-1] >= highest
    assert len(grid) <= 8
    if highest:
        assert grid[-1] == pytest.approx(last)


def test_decades_enclose_what_is_shown() -> None:
    assert plots.decades(0.9, 1016) == [0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0]


def test_the_same_figures_write_the_same_page(tmp_path: Path) -> None:
    told = json.loads(json.dumps(run()))
    first = [path.read_bytes() for path in write(told, tmp_path / "one")]
    assert first == [path.read_bytes() for path in write(told, tmp_path / "two")]
