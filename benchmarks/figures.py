"""What measured figures come to: percentiles, medians over repeats, and ratios taken repeat by repeat.

Knows numbers and which of them is better when lower. Does not know what was measured, nor by whom.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

Figures = dict[str, float]
Spread = dict[str, float]

# Divided so that more than 1 is better for the first of a pair.
HIGHER_IS_BETTER = ("rate", "accepted_rate")
LOWER_IS_BETTER = ("cpu_ms", "mail_p50_ms", "mail_p99_ms", "dot_p50_ms", "dot_p99_ms", "kib_each", "mib", "list_s")


def percentiles(seconds: Sequence[float]) -> Figures:
    """p50, p99 and max in milliseconds; nothing of nothing."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        "p50": ordered[len(ordered) // 2] * 1000,
        "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000,
        "max": ordered[-1] * 1000,
    }


def medians(every: Mapping[str, Sequence[Figures]]) -> dict[str, Figures]:
    """Of each figure over those repeats that have it, by what was measured."""
    return {
        name: {
            key: statistics.median(each[key] for each in repeats if key in each)
            for key in dict.fromkeys(key for each in repeats for key in each)
        }
        for name, repeats in every.items()
    }


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> dict[str, Spread]:
    """Repeat by repeat: median, lowest, highest of each figure that both have and that is not 0."""
    found = {}
    for name in (*HIGHER_IS_BETTER, *LOWER_IS_BETTER):
        pairs = [
            (mine[name], other[name])
            for mine, other in zip(ours, theirs, strict=True)
            if mine.get(name) and other.get(name)
        ]
        if pairs:
            found[name] = spread([mine / other if name in HIGHER_IS_BETTER else other / mine for mine, other in pairs])
    return found
