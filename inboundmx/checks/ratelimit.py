"""How much somebody sends, counted by recipients.

Knows by what it may be counted. Does not know how counts are kept for all workers (the state store does).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.model.address import written
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.settings import GreylistingSettings
from inboundmx.model.verdict import Weight
from inboundmx.policy.limiting import network, subject

SPACE = "rate"

_BY: Mapping[str, Callable[[Case, GreylistingSettings], str]] = {
    "address": lambda case, _: subject(case.session.peer_ip),
    "network": lambda case, settings: network(case.session.peer_ip, *settings.network),
    "user": lambda case, _: case.session.authenticated_as,
    "sender": lambda case, _: written(case.envelope.sender).lower(),
    "sender-domain": lambda case, _: case.envelope.sender.domain if case.envelope.sender else "<>",
    "recipient": lambda case, _: str(case.recipient).lower(),
    "recipient-domain": lambda case, _: case.recipient.domain if case.recipient else "",
}


class RateLimit(Check):
    """``within``: not more than ``limit`` recipients within ``window``, or there is nothing to count by: no
    authenticated user, a bypass gateway in place of the client, or a client that is whitelisted for smtp. ``over``:
    more."""

    kind: ClassVar[str] = "ratelimit"
    stage: ClassVar[Stage] = Stage.RECIPIENT
    about: ClassVar[Literal["spam", "origin", "rate", "other"]] = "rate"
    outcomes: ClassVar[frozenset[str]] = frozenset({"within", "over"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {"over": "defer"}
    options: ClassVar[tuple[Option, ...]] = (
        Option("by", f"word:{' '.join(_BY)}", "address", "what is counted together; network: as in [greylisting]"),
        Option("limit", "count", 0, "recipients in a window", required=True),
        Option("window", "limit", 3600.0, "counted together for so long, from the first on"),
    )

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._tools = tools
        self._by: str = options["by"]
        self._limit: float = options["limit"]
        self._window: float = options["window"]

    async def examine(self, case: Case) -> Finding:
        tools = self._tools
        assert tools is not None
        if tools.lists.whitelisted(case.session.peer_ip, "smtp"):
            return Finding("within", "whitelisted")
        if self._by in ("address", "network") and tools.lists.bypasses(case.session.peer_ip):
            return Finding("within", "a bypass gateway")
        who = _BY[self._by](case, tools.settings.greylisting)
        if not who:
            return Finding("within", f"no {self._by}")
        # Several checks may count by the same: the limit and the window tell them apart.
        key = f"{self._by} {self._limit:g} {self._window:g} {who}"
        total = tools.state.add(SPACE, key, 1.0, self._window)
        detail = f"{total:g} of {self._limit:g} by {self._by}"
        if total <= self._limit:
            return Finding("within", detail)
        minutes = max(1, math.ceil(self._window / 60))
        span = f"{minutes} minute{'' if minutes == 1 else 's'}"
        return Finding("over", detail, "", f"too much within {span}, please try again later")
