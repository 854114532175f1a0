"""Which recipients of a message are judged together.

Knows that what was seen of one recipient is not held against another, that a check which somebody skips does not count
for him, and that those of one domain, reached by one way, by the same settings, of whom the same was seen, as weights
go, share a verdict. Does not know what a verdict is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from inboundmx.model.address import Address
from inboundmx.model.finding import CheckResult
from inboundmx.model.settings import CheckSettings, DomainSettings
from inboundmx.policy.scoring import score


class Group(NamedTuple):
    """``results``: what was seen of the message and of the first of the recipients; of the others the same weighs."""

    domain: DomainSettings
    recipients: tuple[Address, ...]
    results: Sequence[CheckResult]


def groups(
    results: Sequence[CheckResult], checks: Mapping[str, CheckSettings], accepted: Mapping[Address, DomainSettings]
) -> list[Group]:
    """``results`` are those of all stages, ``accepted`` the recipients with the settings of their domains, in order."""
    if len(accepted) == 1:
        [(recipient, domain)] = accepted.items()
        return [Group(domain, (recipient,), counted(results, domain) if domain.skips else results)]
    own: dict[Address, list[CheckResult]] = {}
    for result in results:
        if result.recipient is not None:
            own.setdefault(result.recipient, []).append(result)
    alike: dict[tuple[object, ...], list[Address]] = {}
    for recipient, domain in accepted.items():
        lines = score(counted(own.get(recipient, ()), domain), checks, domain.weights).lines
        seen = ((line.check, line.weight) for line in lines)
        alike.setdefault((domain.name, domain.via, domain.apart, *seen), []).append(recipient)
    return [
        Group(
            accepted[recipients[0]],
            tuple(recipients),
            counted(
                [result for result in results if result.recipient in (None, recipients[0])], accepted[recipients[0]]
            ),
        )
        for recipients in alike.values()
    ]


def counted(results: Sequence[CheckResult], domain: DomainSettings) -> Sequence[CheckResult]:
    """Those of the checks that count for recipients who are judged by ``domain``."""
    skips = domain.skips
    return [result for result in results if result.check not in skips] if skips else results


def skipped_by_all(accepted: Mapping[Address, DomainSettings]) -> frozenset[str]:
    """The checks that count for none of the recipients."""
    first, *others = accepted.values()
    skips = first.skips
    for domain in others:
        if not skips:
            break
        skips &= domain.skips
    return skips
