"""What the checks saw, added up.

Knows weights and the two sums of SmarterMail. Does not know levels, actions or replies, nor how a check came to its
word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import fsum

from inboundmx.model.finding import CheckResult
from inboundmx.model.settings import CheckSettings
from inboundmx.model.verdict import Forced, Score, ScoreLine, Weight

# A weight counts for no more than this, so that no sum overflows; nobody's threshold lies beyond.
HEAVIEST = 1e9
# Sums are rounded to so many digits: ten times 0.1 reaches a threshold of 1.
DIGITS = 6

# Names, words and weights come from the settings, so there are few different lines; the same ones are used again.
_line = lru_cache(maxsize=4096)(ScoreLine)

_NO_WEIGHTS: Mapping[tuple[str, str], Weight] = {}


def score(
    results: Iterable[CheckResult],
    checks: Mapping[str, CheckSettings],
    weights: Mapping[tuple[str, str], Weight] = _NO_WEIGHTS,
) -> Score:
    """Adds up ``results``. ``checks`` are the settings by check name; ``weights`` the recipient domain's own, by (check
    name, outcome), which replace those of the check. An outcome without a weight, and a check that is no longer
    configured, weigh 0; to a number are added the points that the check itself gave. What is excused weighs 0 whatever
    anybody says. The sums do not depend on the order of the results; ``lines`` keep it.
    """
    lines: list[ScoreLine] = []
    filtering: list[float] = []
    blocking: list[float] = []
    forced: Forced = ""
    forced_by = advice = enhanced = quarantined_by = ""
    for result in results:
        name, outcome = result.check, result.finding.outcome
        settings = checks.get(name)
        own = weights.get((name, outcome)) if weights else None
        weight: Weight = own if own is not None else 0.0 if settings is None else settings.weights.get(outcome, 0.0)
        points = result.finding.points
        if points and not isinstance(weight, str):
            weight = round(_bounded(_bounded(weight) + _bounded(points)), DIGITS)
        filters = settings is None or "filtering" in settings.counts_for
        blocks = settings is not None and "blocking" in settings.counts_for
        if result.excused:
            blocks = False
            if result.excused == "all":
                weight = 0.0
        lines.append(_line(name, outcome, weight, filters, blocks))
        if weight == "quarantine":
            quarantined_by = quarantined_by or name
            continue
        if isinstance(weight, str):
            if not forced or (forced == "defer" and weight == "reject"):
                forced, forced_by, advice = weight, name, result.finding.advice
                enhanced = result.finding.enhanced
            continue
        counted = _bounded(weight)
        if filters:
            filtering.append(counted)
        if blocks:
            blocking.append(counted)
    return Score(_total(filtering), _total(blocking), tuple(lines), forced, forced_by, advice, enhanced, quarantined_by)


def _total(weights: list[float]) -> float:
    return round(fsum(weights), DIGITS) + 0.0 if weights else 0.0


def _bounded(weight: float) -> float:
    """The weight as a number that can be added: "not a number" is nothing, and infinity is merely heavy."""
    if -HEAVIEST <= weight <= HEAVIEST:
        return weight
    if weight != weight:
        return 0.0
    return HEAVIEST if weight > 0 else -HEAVIEST
