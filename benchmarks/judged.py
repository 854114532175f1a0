"""What became of each promise in a run, and how it is said.

Knows promises and results. Does not know where the words are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import LOWER_IS_BETTER, Spread, ratios, spread
from benchmarks.peers import OURS, POSTFIX, PROXY, TUNED
from benchmarks.promises import CONTENT, PROMISES, Promise

FIGURES = {
    "rate": "messages a second",
    "accepted_rate": "messages stored a second",
    "cpu_ms": "CPU a message",
    "mail_p50_ms": "MAIL to 250, p50",
    "mail_p99_ms": "MAIL to 250, p99",
    "dot_p50_ms": "final dot to reply, p50",
    "kib_each": "memory a connection",
    "mib": "memory with all waiting",
    "list_s": "time to list all",
    "held": "connections held",
}
UNITS = {"cpu_ms": " ms", "mail_p50_ms": " ms", "dot_p50_ms": " ms", "kib_each": " KiB", "list_s": " s"}
OTHERS = {
    POSTFIX: "Postfix",
    TUNED: "tuned Postfix",
    PROXY: "Haraka",
    "postfix, rspamd": "Postfix with rspamd",
    "1 worker": "one worker",
}
# Where a figure means something else than in most scenarios.
SPECIAL = {
    ("backlog", "rate"): "messages drained a second",
    ("refused", "rate"): "refusals a second",
    ("turned away", "rate"): "refusals a second",
    ("turned away", "cpu_ms"): "CPU a refusal",
    ("checks in process", "cpu_ms"): "CPU a message, all own checks",
    ("idle", "mail_p50_ms"): "a new session meanwhile, MAIL to 250, p50",
}


@dataclass(frozen=True)
class Outcome:
    """``reached``: nothing where it was not measured, or not by both; ``reason``: why it says nothing here."""

    promise: Promise
    reached: Spread | None
    reason: str = ""

    @property
    def line_met(self) -> bool:
        return self._met(self.promise.line)

    @property
    def reach_met(self) -> bool:
        return self.promise.reach is not None and self._met(self.promise.reach)

    @property
    def counts(self) -> bool:
        return self.reached is not None and not self.reason

    def _met(self, bound: float) -> bool:
        return self.reached is not None and self.promise.met(self.reached["median"], bound)


def judged(results: list[dict[str, Any]]) -> list[Outcome]:
    by_name = {result["scenario"]: result for result in results}
    return [_judged(promise, by_name.get(promise.scenario)) for promise in PROMISES]


def _judged(promise: Promise, result: Mapping[str, Any] | None) -> Outcome:
    every = result["every"] if result else {}
    ours, theirs = every.get(promise.ours), every.get(promise.theirs)
    reached = None
    if ours and not promise.theirs:
        values = [each[promise.figure] for each in ours if promise.figure in each]
        reached = spread(values) if values else None
    elif ours and theirs:
        reached = ratios(ours, theirs).get(promise.figure)
    reason = (result or {}).get("not_measurable", "")
    return Outcome(promise, reached, reason or ("" if reached else "not measured in this run"))


def figure_words(promise: Promise) -> str:
    words = SPECIAL.get((promise.scenario, promise.figure)) or FIGURES[promise.figure]
    return words if promise.ours in {OURS, CONTENT, "2 workers"} else f"{words}, {promise.ours.partition(', ')[2]}"


def number(value: float) -> str:
    """As short as it is still told apart."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def told(promise: Promise, value: float) -> str:
    """A ratio as operators say it: of what is better when lower, how large a part of the other's it is."""
    if not promise.theirs:
        return f"{number(value)}{UNITS.get(promise.figure, '')}"
    if promise.figure not in LOWER_IS_BETTER:
        return f"{number(value)}×"
    return f"1/{number(value)}" if value > 1 else f"{number(1 / value)}×"


def promised(promise: Promise) -> str:
    bound = told(promise, promise.line)
    if promise.theirs:
        return f"{bound}{' of' if bound.startswith('1/') else ''} {OTHERS[promise.theirs]}"
    return f"{'at least' if promise.at_least else 'at most'} {bound}"


def reached(outcome: Outcome) -> str:
    """The median, and the lowest and the highest of all repeats."""
    if outcome.reached is None:
        return "-"
    one, low, high = (told(outcome.promise, outcome.reached[name]) for name in ("median", "lowest", "highest"))
    return f"{one} ({low} to {high})".replace("× to", " to") if low != high else one


def verdict(outcome: Outcome) -> str:
    if not outcome.counts:
        return "not measurable here" if outcome.reached else outcome.reason
    if outcome.reach_met:
        return "met, and what was hoped for"
    return "met" if outcome.line_met else "**falls short**"


def shortfall(outcome: Outcome) -> str:
    """A sentence of one that is not met."""
    promise, found = outcome.promise, outcome.reached
    assert found is not None
    part = min(promise.line, found["median"]) / max(promise.line, found["median"])
    return (
        f"{promise.scenario}, {figure_words(promise)}: {promised(promise)} was promised, "
        f"{reached(outcome)} was reached, {part * 100:.0f} % of the way."
    )
