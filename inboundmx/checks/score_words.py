"""What a scorer's own score becomes: SmarterMail's low, medium and high probability of spam, and points.

Knows thresholds and the factor. Does not know whose score it is, nor what a word is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inboundmx.checks.api import Option
from inboundmx.model.finding import Finding
from inboundmx.ports import SPAM_SCORE_LIMIT

WORDS = frozenset({"none", "low", "medium", "high"})
# Names of rules that are shown.
RULES_SHOWN = 20


def score_options(whose: str, low: float, medium: float, high: float) -> tuple[Option, ...]:
    return (
        Option("low", "number", low, f"{whose}'s score from which on a message is low"),
        Option("medium", "number", medium, "and medium"),
        Option("high", "number", high, "and high"),
        Option("factor", "number", 0.0, "1 adds the score itself to the sum, 0.5 half of it; 0: the words alone weigh"),
    )


class ScoreWords:
    """``none`` ``low`` ``medium`` ``high``: how a score compares with the thresholds, which are inclusive. With
    ``factor`` the score itself, times the factor, is added to what the word weighs: ``most_points`` at most."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Raises ValueError when the thresholds do not ascend."""
        self._levels = (("high", options["high"]), ("medium", options["medium"]), ("low", options["low"]))
        if not options["low"] <= options["medium"] <= options["high"]:
            raise ValueError("low, medium and high must ascend")
        self._factor = options["factor"]
        self.most_points = SPAM_SCORE_LIMIT * abs(self._factor)

    def finding(self, score: float, rules: Sequence[str]) -> Finding:
        word = next((word for word, threshold in self._levels if score >= threshold), "none")
        shown = " ".join(rules[:RULES_SHOWN])
        return Finding(word, f"score {score:g} {shown}".rstrip(), points=self._factor * score)


def not_looked_at(octets: int) -> Finding:
    return Finding("none", f"{octets} octets were not looked at")
