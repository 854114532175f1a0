"""Whether the operator's lists say something of the sender.

Knows which names are a sender's own, and when they count. Does not know how they are found (``policy.listing``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.organization import aligned, load
from inboundmx.model.address import Address
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.listing import Listed
from inboundmx.model.message import Message
from inboundmx.model.verdict import Weight
from inboundmx.policy.listing import word_of

# An author's field may be as long as this: a stranger writes it.
FIELD_LIMIT = 2048
# Facts of other checks whose values are domains that are known to be those they say.
_AUTHENTICATED = frozenset({"spf_mailfrom", "spf_helo", "dkim", "dkim_sender"})
# One mailbox of RFC 5322 3.4, its name quoted or not, its domain as A-labels. What is written in another way is the
# address of nobody.
_MAILBOX = re.compile(
    r"""\s*(?:(?:"(?:[^"\\]|\\.)*"|[^"<>(),:;@\\])*<([^<>@\s"(),:;\\]+)@([A-Za-z0-9.-]+)>"""
    r"""|([^<>@\s"(),:;\\]+)@([A-Za-z0-9.-]+))\s*""",
    re.DOTALL,
)


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
        author = _author(case.message)
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


def _author(message: Message) -> Address | None:
    """The only mailbox of the only From field, if that is what there is."""
    fields = [field for field in message.fields if field.name == "from"]
    if len(fields) != 1 or len(fields[0].value) > FIELD_LIMIT:
        return None
    found = _MAILBOX.fullmatch(fields[0].text())
    if found is None:
        return None
    return Address(found[1] or found[3], (found[2] or found[4]).lower())


def _finding(said: str, entry: Listed | None, who: str) -> Finding:
    return Finding(said, f"{who} is on the list: {entry}") if said else Finding("unlisted")
