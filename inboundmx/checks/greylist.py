"""Greylisting: a client, sender and recipient never seen together are put off once, for real mail servers try again.

Knows who is exempt, and where facts are asked for and put. Does not know the rule itself (``policy.greylisting``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.verdict import Weight
from inboundmx.policy.greylisting import decide, exempt, triplet

# Where its facts stand in the state store.
SPACE = "greylist"


class Greylist(Check):
    """``new``: never seen, or the retry came too late. ``early``: a retry within the block period. ``passed``: the
    retry that was waited for. ``known``: passed before. ``exempt``: a domain with ``greylisting = no``, an
    authenticated client, a null sender, postmaster or abuse."""

    kind: ClassVar[str] = "greylist"
    stage: ClassVar[Stage] = Stage.RECIPIENT
    outcomes: ClassVar[frozenset[str]] = frozenset({"new", "early", "passed", "known", "exempt"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {"new": "defer", "early": "defer"}
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._tools = tools

    async def examine(self, case: Case) -> Finding:
        tools, recipient, sender = self._tools, case.recipient, case.envelope.sender
        assert tools is not None and recipient is not None
        if case.session.authenticated_as:
            return Finding("exempt", "authenticated")
        domain = tools.settings.domain(recipient.domain)
        if domain is not None and not domain.greylisting:
            return Finding("exempt", f"{domain.name} has greylisting = no")
        if reason := exempt(sender, recipient):
            return Finding("exempt", reason)
        settings = tools.settings.greylisting
        key = triplet(case.session.peer_ip, sender, recipient, settings)
        outcome, fact, wait = decide(await tools.state.get(SPACE, key), tools.clock.now(), settings)
        if fact is not None:
            tools.state.put(SPACE, key, fact)
        if not wait:
            return Finding(outcome)
        minutes = math.ceil(wait / 60)
        span = f"{minutes} minute{'' if minutes == 1 else 's'}"
        return Finding(outcome, f"may be tried again in {span}", "", f"greylisted, please try again in {span}")
