"""Whether the operator's lists say something of the sender.

Knows which names are a sender's own, and when they count. Does not know how they are found (``policy.listing``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.author import authors
from inboundmx.checks.organization import aligned, load
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.listing import Listed
from inboundmx.model.verdict import Weight
from inboundmx.policy.listing import word_of

# Facts of other checks whose values are domains that are known to be those they say.
_AUTHENTICATED = frozenset({"spf_mailfrom", "spf_helo", "dkim", "dkim_sender"})


class Blocked(Check):
    """``blocked``: the envelope sender is on the list of blocked ones, or everybody at a domain that passed SPF or DKIM
    is, or the author (From) is and his domain passed. ``trusted``: the sender, or the author, is on the list of trusted
    ones and has passed; for the message itself, the author must be of the trusted sender's organisation. ``unlisted``:
    neither."""

    kind: ClassVar[str] = "blocked"
    stage: ClassVar[Stage] = Stage.SENDER
    again: ClassVar[Stage | None] = Stage.MESSAGE
    outcomes: ClassVar[frozenset[str]] = frozenset({"blocked", "trusted", "unlisted"})
    after: ClassVar[frozenset[str]] = frozenset({"spf", "dkim"})
    weights: ClassVar[Mapping[str, Weight]] = {"blocked": "reject"}
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._tools = tools
        if tools is not None:
            load()

    async def examine(self, case: Case) -> Finding:
        assert self._tools is not None
        lists, sender = self._tools.lists, case.envelope.sender
        authenticated = _authenticated(case.results)
        entry = lists.sender_entry(sender, authenticated)
        said = word_of(entry)
        if case.message is None or said == "blocked" or not authenticated:
            return _finding(said, entry, "sender")
        author = authors(case.message).mailbox
        if author is None:
            return Finding("unlisted")
        if said == "trusted":
            assert sender is not None
            if aligned(author.domain, sender.domain):
                return _finding(said, entry, "sender")
        if any(aligned(author.domain, domain) for domain in authenticated):
            entry = lists.sender_entry(author, (author.domain,))
            return _finding(word_of(entry), entry, "author")
        return Finding("unlisted")


def _authenticated(results: Sequence[CheckResult]) -> list[str]:
    return [value for result in results for name, value in result.finding.facts if name in _AUTHENTICATED]


def _finding(said: str, entry: Listed | None, who: str) -> Finding:
    return Finding(said, f"{who} is on the list: {entry}") if said else Finding("unlisted")
