"""Greylisting: a client, sender and recipient never seen together are put off once, for real mail servers try again.

Knows who is exempt, and where facts are asked for and put. Does not know the rule itself (``policy.greylisting``), nor
how a client becomes known for good mail (``intake.goodwill``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.model.address import Address
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.listing import Listed
from inboundmx.model.verdict import Weight
from inboundmx.policy.greylisting import (
    STATES,
    allowed,
    correspondence,
    decide,
    exempt,
    good_names,
    names,
    told,
    triplet,
)
from inboundmx.policy.listing import Listing, written
from inboundmx.ports import Fact

# Where its facts stand in the state store: triplets; clients that need not wait, and their good mail, counted; whom our
# users have written to.
SPACE, GOOD, COUNTED, WRITTEN = "greylist", "greylist-good", "greylist-counted", "greylist-written"


class Greylist(Check):
    """``new``: never seen, or the retry came too late. ``early``: a retry within the block period. ``passed``: the
    retry that was waited for, or one that an operator lets through. ``known``: passed before. ``exempt``: need not
    wait; the detail says why."""

    kind: ClassVar[str] = "greylist"
    stage: ClassVar[Stage] = Stage.RECIPIENT
    client: ClassVar[Literal["", "address", "connection"]] = "connection"
    outcomes: ClassVar[frozenset[str]] = frozenset({"new", "early", "passed", "known", "exempt"})
    after: ClassVar[frozenset[str]] = frozenset({"spf"})
    weights: ClassVar[Mapping[str, Weight]] = {"new": "defer", "early": "defer"}
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._tools = tools
        if tools is not None:
            settings = tools.settings.greylisting
            # Patterns and networks are found as those of an operator's lists are, however many there be.
            self._except = Listing(Listed("blocked-sender", each) for each in settings.except_recipients)
            self._bypass = Listing(Listed("whitelist", written(each), ("greylisting",)) for each in settings.bypass)

    async def examine(self, case: Case) -> Finding:
        tools, recipient, sender, peer = self._tools, case.recipient, case.envelope.sender, case.session.peer_ip
        assert tools is not None and recipient is not None
        authenticated = sender is not None and any(
            fact == ("spf_mailfrom", sender.domain) for result in case.results for fact in result.finding.facts
        )
        if reason := self._exempt(case, recipient, authenticated):
            return Finding("exempt", reason)
        settings, state, now = tools.settings.greylisting, tools.state, tools.clock.now()
        clients = names(peer, sender, authenticated, settings)
        key = triplet(clients[0], sender, recipient)
        fact = await state.get(SPACE, key)
        moved = False
        if len(clients) > 1 and (fact is None or len(fact.values) < STATES["known"]):
            # Known by its other name: since another key was chosen, or while SPF could not be asked.
            other = await state.get(SPACE, triplet(clients[1], sender, recipient))
            moved = other is not None and (fact is None or len(other.values) >= STATES["known"])
            fact = other if moved else fact
        outcome, kept, wait = decide(fact, now, settings)
        if wait and (reason := await self._acquainted(peer, sender, recipient, authenticated)):
            return Finding("exempt", reason)
        if kept is not None or moved:
            changed = kept or fact
            assert changed is not None
            state.put(SPACE, key, changed)
        client = told(clients[0])
        if not wait:
            return Finding(outcome, _why_now(client, outcome, fact))
        minutes = math.ceil(wait / 60)
        span = f"{minutes} minute{'' if minutes == 1 else 's'}"
        return Finding(outcome, f"{client} may try again in {span}", "", f"greylisted, please try again in {span}")

    def _exempt(self, case: Case, recipient: Address, authenticated: bool) -> str:
        """What is known without looking into the store."""
        tools, peer, sender = self._tools, case.session.peer_ip, case.envelope.sender
        assert tools is not None
        if case.session.authenticated_as:
            return "authenticated"
        domain = case.domain or tools.settings.domain(recipient.domain)
        if domain is None and not tools.settings.backed_up.greylisting:
            return "[backup] has greylisting = no"
        if domain is not None and not domain.greylisting:
            whose = "[backup]" if domain.via == "backup" else recipient if domain.apart else domain.name
            return f"{whose} has greylisting = no"
        if self._except.sender(recipient, ()):
            return f"{recipient} is in [greylisting] except_recipients"
        if reason := exempt(sender, recipient):
            return reason
        lists = tools.lists
        for tick in ("smtp", "greylisting"):
            if lists.whitelisted(peer, tick):
                return f"{peer} is whitelisted for {tick}"
        if self._bypass.whitelisted(peer, "greylisting"):
            return f"{peer} is in [greylisting] bypass"
        if lists.bypasses(peer):
            return f"{peer} is a bypass gateway"
        if authenticated and sender is not None and lists.sender(sender, (sender.domain,)) == "trusted":
            return f"{sender} is a trusted sender"
        return ""

    async def _acquainted(
        self, peer: str, sender: Address | None, recipient: Address, authenticated: bool
    ) -> str:
        """Why one who would have to wait need not, for what was seen of him before."""
        tools = self._tools
        assert tools is not None and sender is not None
        settings, state = tools.settings.greylisting, tools.state
        if settings.auto_allow:
            for name in good_names(peer, sender, authenticated, settings):
                if count := allowed(await state.get(GOOD, name), settings):
                    return f"{told(name)} is auto-allowed after {count} good deliveries"
        # Whom somebody writes to is easily guessed: a name alone is not believed.
        if authenticated and await state.get(WRITTEN, correspondence(sender, recipient.domain)) is not None:
            return f"a user of {recipient.domain} has written to {sender}"
        return ""


def _why_now(client: str, outcome: str, fact: Fact | None) -> str:
    if outcome == "known":
        return f"{client} is known"
    let = fact is not None and len(fact.values) >= STATES["released"]
    return f"{client} was let through by an operator" if let else f"{client} has come again"
