"""Asks SpamAssassin for its score and makes a word of it: SmarterMail's low, medium and high probability of spam.

Knows thresholds and what SpamAssassin is told beside the message. Does not know how it is spoken to, nor what a word is
worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.settings import KB
from inboundmx.model.verdict import Weight
from inboundmx.policy.stamping import received
from inboundmx.ports import SPAM_SCORE_LIMIT, TooLarge

# Names of rules that are shown.
RULES_SHOWN = 20


class SpamAssassin(Check):
    """``none`` ``low`` ``medium`` ``high``: how SpamAssassin's own score compares with the thresholds, which are
    inclusive. A message above ``max_size`` is not looked at, and ``none``. With ``factor`` the score itself, times the
    factor, is added to what the word weighs.

    It is slow, so it is asked last, and not at all when the verdict is settled without it.
    """

    kind: ClassVar[str] = "spamassassin"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "other"]] = "spam"
    outcomes: ClassVar[frozenset[str]] = frozenset({"none", "low", "medium", "high"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    dear: ClassVar[bool] = True
    options: ClassVar[tuple[Option, ...]] = (
        Option("servers", "servers", ("tcp:127.0.0.1:783",), "spamd's sockets, asked in this order until one answers"),
        Option("attempts", "count", 2, "how often servers are asked for one message, all within the timeout"),
        Option("at_once", "count", 2, "messages given to one server at the same time: not more than spamd's children"),
        Option("max_size", "size", 256 * KB, "larger messages are not looked at, and none"),
        Option("low", "number", 5.0, "SpamAssassin's score from which on a message is low"),
        Option("medium", "number", 8.0, "and medium"),
        Option("high", "number", 12.0, "and high"),
        Option("factor", "number", 0.0, "1 adds the score itself to the sum, 0.5 half of it; 0: the words alone weigh"),
    )

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError when the thresholds do not ascend."""
        self._levels = (("high", options["high"]), ("medium", options["medium"]), ("low", options["low"]))
        if not options["low"] <= options["medium"] <= options["high"]:
            raise ValueError("low, medium and high must ascend")
        self._factor = options["factor"]
        self.most_points = SPAM_SCORE_LIMIT * abs(self._factor)
        if tools is not None:
            self._tools = tools
            self._scorer = tools.scanners.spam(
                options["servers"], options["max_size"], options["attempts"], options["at_once"], tools.timeout
            )

    async def examine(self, case: Case) -> Finding:
        assert case.message is not None
        message, tools = case.message, self._tools
        # It judges the client by the topmost Received field, which is ours.
        trace = received(message, case.session, case.envelope, tools.settings.gateway, tools.clock.now())
        try:
            score, rules = await self._scorer.score(message.body, trace)
        except TooLarge:
            return Finding("none", f"{message.body.size} octets were not looked at")
        word = next((word for word, threshold in self._levels if score >= threshold), "none")
        shown = " ".join(rules[:RULES_SHOWN])
        return Finding(word, f"score {score:g} {shown}".rstrip(), points=self._factor * score)
