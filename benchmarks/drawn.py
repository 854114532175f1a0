"""What each plot of docs/performance.md shows, as bars and spans, and in words for whoever cannot see it.

Knows scenarios, peers and promises. Does not know shapes (``plots``), nor the page around them (``report``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import plots
from benchmarks.figures import ratios
from benchmarks.judged import Outcome, number
from benchmarks.peers import OURS, POSTFIX, PROXY, QUEUE, SPOOL, TUNED, TWO, TWO_SPOOL
from benchmarks.promises import CHECKED

# In the order of a plot's bars, where they were measured.
PLOTTED = (POSTFIX, TUNED, PROXY, QUEUE, OURS, SPOOL, TWO, TWO_SPOOL)
LATENCIES = ("1x1", "10x1", "50x1", "200x1", "50x10", "slow primary")
# Beside the name of a scenario, which a plot has little room for.
WORDS = {
    "1x1": "1 session",
    "10x1": "10 sessions",
    "50x1": "50 sessions",
    "200x1": "200 sessions",
    "10x10": "10 messages a connection",
    "50x10": "10 messages a connection",
    "10x1 100 KB": "larger messages",
    "slow sync 50x1": "every sync 2 ms longer",
    "dead 50x1 4 KB": "the primary is dead",
    "dead 10x1 100 KB": "the primary is dead",
    "slow primary": "200 ms a message",
    "refused": "unknown recipients",
    "backlog": "drained when the primary is back",
    "checks cached": "SPF, DKIM, lists, greylist",
    "checks cold": "nothing asked before",
}
# Letters of the style of a plot.
COLOURS = {
    OURS: "a",
    SPOOL: "b",
    TWO: "h",
    TWO_SPOOL: "i",
    CHECKED: "g",
    POSTFIX: "c",
    TUNED: "d",
    "postfix, rspamd": "d",
    PROXY: "e",
    QUEUE: "f",
}


def heading(scenario: str) -> str:
    return f"{scenario}: {WORDS[scenario]}" if scenario in WORDS else scenario


def colour(name: str) -> str:
    return COLOURS.get(name, "d")


def rates(results: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> plots.Groups:
    marks = {
        (outcome.promise.scenario, outcome.promise.ours): outcome.promise
        for outcome in outcomes
        if outcome.promise.figure == "rate" and outcome.promise.theirs == POSTFIX
    }
    groups = []
    for result in results:
        every = result["every"]
        if POSTFIX not in every:
            continue
        some = []
        for name in every:
            spread = ratios(every[name], every[POSTFIX]).get("rate") if name != POSTFIX else None
            # How a rate with checks compares with none is told in the table: CPU is what was promised of it.
            if spread is None or (name == TUNED) or "checks" in result["scenario"]:
                continue
            promise = marks.get((result["scenario"], name))
            some.append(
                plots.Bar(
                    name, colour(name), spread["median"], spread["lowest"], spread["highest"],
                    promise.line if promise else None, promise.reach if promise else None,
                    f"{spread['median']:.2f}×",
                )
            )  # fmt: skip
        if some:
            groups.append((heading(result["scenario"]), some))
    return groups


def processor(results: Sequence[Mapping[str, Any]]) -> plots.Groups:
    groups = []
    for result in results:
        figures = result["figures"]
        names = [name for name in (*PLOTTED, *figures) if "cpu_ms" in figures.get(name, {})]
        some = [
            plots.Bar(name, colour(name), figures[name]["cpu_ms"], told=f"{number(figures[name]['cpu_ms'])} ms")
            for name in dict.fromkeys(names)
            if name != TUNED
        ]
        if POSTFIX in figures and some:
            groups.append((heading(result["scenario"]), some))
    return groups


def latency(results: Sequence[Mapping[str, Any]]) -> plots.Groups:
    found = {result["scenario"]: result for result in results}
    groups = []
    for scenario in LATENCIES:
        figures = found.get(scenario, {}).get("figures", {})
        some = []
        for name in PLOTTED:
            values = figures.get(name, {})
            if half := values.get("mail_p50_ms"):
                most = values["mail_p99_ms"]
                some.append(plots.Bar(name, colour(name), most, half, most, told=f"{number(most)} ms"))
        if some:
            groups.append((heading(scenario), some))
    return groups


def in_words(groups: plots.Groups) -> str:
    return "; ".join(f"{name}: " + ", ".join(f"{bar.name} {bar.told}" for bar in some) for name, some in groups)


def ranges(groups: plots.Groups) -> str:
    """From where to where each peer comes, in milliseconds, for whoever cannot see it; the tables have all."""
    values: dict[str, list[float]] = {}
    for _, some in groups:
        for bar in some:
            values.setdefault(bar.name, []).append(bar.value)
    return "; ".join(f"{name} {number(min(each))} to {number(max(each))} ms" for name, each in values.items())


def drawings(results: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> dict[str, tuple[str, str]]:
    """The SVG of each plot for which there are figures, and what it shows in words, by the name of its file."""
    drawn = {}
    if groups := rates(results, outcomes):
        words = f"How many times the rate of stock Postfix each reaches, median of all repeats. {in_words(groups)}."
        drawn["rates.svg"] = plots.bars("Rate, in times that of stock Postfix", words, groups, base=1.0), words
    if groups := processor(results):
        words = "Processor time of all processes of each peer for one message, median of all repeats. "
        words += f"{in_words(groups)}."
        drawn["cpu.svg"] = plots.bars("CPU a message, in milliseconds (less is better)", words, groups), words
    if groups := latency(results):
        title = "From MAIL to 250, in milliseconds (less is better)"
        svg = plots.spans(title, f"p99: {in_words(groups)}.", groups, unit="ms", ends=("p50", "p99, as told"))
        words = f"{title}, p50 and p99 of each peer on a logarithmic axis. p99: {ranges(groups)}."
        drawn["latency.svg"] = svg, words
    return drawn
