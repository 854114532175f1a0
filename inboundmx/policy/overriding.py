"""What holds for one recipient: what his domain says, and what is said of him alone.

Knows whom a pattern is about, that the first section that is about somebody holds, and what is owed to postmasters.
Does not know how mail is judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from inboundmx.model.address import Address
from inboundmx.model.finding import CheckResult
from inboundmx.model.settings import BlockingSettings, DomainSettings, RecipientsSettings, Settings
from inboundmx.model.verdict import Action
from inboundmx.policy.listing import fits, is_loose, of_domain

# Whom people write to when our checks are wrong (RFC 5321 4.5.1, RFC 2142 4): no sum refuses what is for them.
ROLES = frozenset({"abuse", "postmaster"})
FILE = "file:"

_NEVER = BlockingSettings(math.inf, math.inf)


class Overrides:
    """Made of one set of settings. ``contested``: checks of which somebody's section says otherwise than their own, so
    that what they say decides nothing before it is known for whom mail is."""

    def __init__(self, settings: Settings) -> None:
        self._sections = settings.recipients
        # Pattern to place; the loose ones are tried one by one, in order.
        self._places: dict[str, int] = {}
        self._loose: list[tuple[str, int]] = []
        for place, some in enumerate(settings.recipients):
            for pattern in (*some.match, *some.listed):
                if pattern.startswith(FILE):
                    continue
                if is_loose(pattern):
                    self._loose.append((pattern, place))
                else:
                    self._places.setdefault(pattern, place)
        self._for_outgoing = frozenset(check.name for check in settings.checks if check.for_ == "outgoing")
        contested = set(self._for_outgoing)
        sections: tuple[DomainSettings | RecipientsSettings, ...] = (*settings.sections, *settings.recipients)
        for section in sections:
            contested |= {check for check, _ in section.weights}
            contested.update(section.skip_checks or ())
        self.contested = frozenset(contested)

    def of(self, recipient: Address, domain: DomainSettings) -> DomainSettings:
        """The settings that mail for ``recipient`` is judged by; ``domain`` are those of his domain. Mail that leaves
        us is judged by these alone."""
        local = recipient.local.lower()
        role = local in ROLES
        if not (role or self._sections) or domain.via == "outbound":
            return domain
        section = self._section(local, recipient.domain) if self._sections else None
        if section is not None:
            domain = self._overridden(domain, section)
        return _reachable(domain) if role else domain

    def uncontested(self, results: Sequence[CheckResult]) -> Sequence[CheckResult]:
        """Those that say the same to everybody."""
        contested = self.contested
        return [result for result in results if result.check not in contested] if contested else results

    def _section(self, local: str, domain: str) -> RecipientsSettings | None:
        whole = f"{local}@{domain}"
        none = len(self._sections)
        first = min(self._places.get(pattern, none) for pattern in (whole, f"{local}@*", *of_domain(domain)))
        for pattern, place in self._loose:
            if place >= first:
                break
            if fits(pattern, whole):
                first = place
                break
        return self._sections[first] if first < none else None

    def _overridden(self, domain: DomainSettings, section: RecipientsSettings) -> DomainSettings:
        skips = domain.skips
        if section.skip_checks is not None:
            # What his domain skips and is for outgoing mail alone is not taken up again.
            skips = skips - frozenset(domain.skip_checks) | frozenset(section.skip_checks) | self._for_outgoing
        return replace(
            domain,
            levels=tuple([replace(level, **section.levels.get(level.level, {})) for level in domain.levels]),
            blocking=replace(domain.blocking, **section.blocking) if section.blocking else domain.blocking,
            weights={**domain.weights, **section.weights},
            greylisting=domain.greylisting if section.greylisting is None else section.greylisting,
            skips=skips,
            apart=section.name,
        )


NO_OVERRIDES = Overrides(Settings())


def _reachable(domain: DomainSettings) -> DomainSettings:
    """As ``domain``, but that no sum refuses mail: it is taken, and marked by what it scored."""
    levels = []
    for level in domain.levels:
        actions = tuple([action for action in level.action if action.verb != "reject"])
        levels.append(replace(level, action=actions or (Action("deliver"),)))
    return replace(domain, levels=tuple(levels), blocking=_NEVER, apart=f"{domain.apart} role".strip())
