"""Whether the recipient exists behind the gateway, as the domain's ``recipients`` say.

Knows when nobody is asked, and what is done while nobody can be. Does not know who is asked, nor how: that is
``ports.Directory``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.settings import ANY, DomainSettings, Settings
from inboundmx.model.verdict import Weight
from inboundmx.policy.greylisting import decide, exempt, names, triplet

# Where those stand in the state store who are put off because nobody can be asked, and no greylisting does it.
SPACE = "unverified"
# RFC 3463: bad destination mailbox address.
ADDRESS = "1.1"
UNKNOWN = "there is no such recipient here"
UNCLEAR = "the recipient cannot be verified just now, please try again later"
UNVERIFIED = (("unverified", ""),)


class Recipient(Check):
    """``exists``, ``unknown``: so it was said. ``undetermined``: who was asked gave no proper answer, or nobody can be
    asked and the domain defers what it cannot verify. ``unasked``: nobody was asked, and it is taken to be held."""

    kind: ClassVar[str] = "recipient"
    stage: ClassVar[Stage] = Stage.RECIPIENT
    outcomes: ClassVar[frozenset[str]] = frozenset({"exists", "unknown", "undetermined", "unasked"})
    # Whom these put off anyway is told nothing about the recipient, and nobody is asked for him.
    after: ClassVar[frozenset[str]] = frozenset({"greylist"})
    weights: ClassVar[Mapping[str, Weight]] = {
        "unknown": "reject",
        "undetermined": "defer",
        "error": "defer",
        "timeout": "defer",
    }
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._tools = tools

    async def examine(self, case: Case) -> Finding:
        tools, recipient = self._tools, case.recipient
        assert tools is not None and tools.directory is not None and recipient is not None
        domain = case.domain or tools.settings.domain(recipient.domain)
        if domain is None or domain.recipients == ANY:
            return Finding("unasked", "its domain takes everybody")
        if recipient.local.lower() == "postmaster":
            # RFC 5321 4.5.1.
            return Finding("unasked", "postmaster is always taken")
        for result in case.results:
            if decides(result, domain, tools.settings):
                return Finding("unasked", f"{result.check} refuses it anyway")
        known = await tools.directory.who(recipient, domain)
        if known.word == "unknown":
            return Finding("unknown", known.detail, advice=UNKNOWN, enhanced=ADDRESS)
        if known.word == "undetermined":
            return Finding("undetermined", known.detail, advice=UNCLEAR, enhanced=ADDRESS)
        if known.word == "unreachable":
            return await self._unreachable(case, domain, known.detail)
        return Finding(known.word, known.detail)

    async def _unreachable(self, case: Case, domain: DomainSettings, why: str) -> Finding:
        if domain.recipients_unreachable == "defer":
            return Finding("undetermined", why, advice=UNCLEAR, enhanced=ADDRESS)
        if domain.recipients_unreachable == "hold" and not case.results and not await self._came_back(case):
            return Finding("undetermined", f"{why}; put off first", advice=UNCLEAR, enhanced=ADDRESS)
        return Finding("unasked", f"{why}; taken unverified", facts=UNVERIFIED)

    async def _came_back(self, case: Case) -> bool:
        """Whether the client has tried before and waited: greylisting, where no check does that."""
        tools, recipient, sender = self._tools, case.recipient, case.envelope.sender
        assert tools is not None and recipient is not None
        if exempt(sender, recipient):
            return True
        settings = tools.settings.greylisting
        key = triplet(names(case.session.peer_ip, sender, False, settings)[0], sender, recipient)
        _, fact, wait = decide(await tools.state.get(SPACE, key), tools.clock.now(), settings)
        if fact is not None:
            tools.state.put(SPACE, key, fact)
        return not wait


def decides(result: CheckResult, domain: DomainSettings, settings: Settings) -> bool:
    """Whether what another check found refuses or defers the recipient by itself."""
    outcome = result.finding.outcome
    weight = domain.weights.get((result.check, outcome))
    if weight is None:
        weight = next((c.weights.get(outcome, 0.0) for c in settings.checks if c.name == result.check), 0.0)
    return isinstance(weight, str)
