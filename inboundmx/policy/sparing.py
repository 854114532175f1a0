"""Which checks count, and whether a dear one need not be asked because nothing it could say would change anything.

Knows what a check may say at its lightest and at its heaviest, and that both sums only move a verdict one way. Does not
know why a check is dear, who asks it, nor why somebody is spared what checks say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from inboundmx.model.address import Address
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.settings import CheckSettings, DomainSettings
from inboundmx.model.verdict import Verdict, Weight
from inboundmx.policy.grouping import groups
from inboundmx.policy.judging import blocking_threshold, judge
from inboundmx.policy.scoring import score


class Unasked(NamedTuple):
    """A check that has not been asked: its name in the INI, the words it may say, and how far from 0 the points may be
    that it adds by itself."""

    check: str
    outcomes: frozenset[str]
    most_points: float = 0.0


def excused(
    results: Sequence[CheckResult], spam: Collection[str], *, weighed: bool, blocking: bool
) -> tuple[CheckResult, ...]:
    """``results`` as they count for a client or sender that is spared something. ``spam``: the kinds that are about
    spam; unless ``weighed`` they weigh nothing. Unless ``blocking`` none counts for blocking."""
    made = []
    for result in results:
        if not weighed and result.kind in spam:
            result = replace(result, excused="all")
        elif not blocking:
            result = replace(result, excused="blocking")
        made.append(result)
    return tuple(made)


def settled(
    results: Sequence[CheckResult],
    unasked: Sequence[Unasked],
    checks: Mapping[str, CheckSettings],
    accepted: Mapping[Address, DomainSettings],
) -> bool:
    """Whether for every recipient the verdict stays as it is now, whatever ``unasked`` would say. ``results`` are those
    of all stages, ``accepted`` the recipients with the settings of their domains."""
    return all(_settled(group.results, unasked, checks, group.domain) for group in groups(results, checks, accepted))


def _settled(
    results: Sequence[CheckResult],
    unasked: Iterable[Unasked],
    checks: Mapping[str, CheckSettings],
    domain: DomainSettings,
) -> bool:
    lightest, heaviest = list(results), list(results)
    decisions: set[Weight] = set()
    for check in unasked:
        if check.check in domain.skips:
            continue
        worth: list[tuple[float, str]] = []
        for outcome in check.outcomes:
            weight = score([_said(check, outcome)], checks, domain.weights).lines[0].weight
            if isinstance(weight, str):
                decisions.add(weight)
            else:
                worth.append((weight, outcome))
        if worth:
            lightest.append(_said(check, min(worth)[1], -check.most_points))
            heaviest.append(_said(check, max(worth)[1], check.most_points))
    forced = score(results, checks, domain.weights).forced
    # The first reject decides, else the first defer; those who are asked last come last.
    if forced == "reject" or (forced == "defer" and "reject" not in decisions):
        return True
    if decisions:
        return False
    now, *extremes = (
        judge(score(each, checks, domain.weights), domain.levels, blocking_threshold(domain))
        for each in (results, lightest, heaviest)
    )
    return all(_alike(now, other) for other in extremes)


def _said(check: Unasked, outcome: str, points: float = 0.0) -> CheckResult:
    return CheckResult(check.check, "", Stage.MESSAGE, Finding(outcome, points=points))


def _alike(one: Verdict, other: Verdict) -> bool:
    """Where mail is refused, the actions do not matter."""
    if one.reply is not None or other.reply is not None:
        return one.reply == other.reply
    return one.level is other.level and one.actions == other.actions
