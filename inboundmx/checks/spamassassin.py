"""Asks SpamAssassin for its score and makes a word of it: SmarterMail's low, medium and high probability of spam.

Knows what SpamAssassin is told beside the message. Does not know how it is spoken to, nor what a word is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.score_words import WORDS, ScoreWords, not_looked_at, score_options
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.settings import KB
from inboundmx.model.verdict import Weight
from inboundmx.policy.stamping import received
from inboundmx.ports import TooLarge


class SpamAssassin(Check):
    """``none`` ``low`` ``medium`` ``high``: how SpamAssassin's own score compares with the thresholds, which are
    inclusive. A message above ``max_size`` is not looked at, and ``none``. With ``factor`` the score itself, times the
    factor, is added to what the word weighs.

    It is slow, so it is asked last, and not at all when the verdict is settled without it.
    """

    kind: ClassVar[str] = "spamassassin"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "other"]] = "spam"
    outcomes: ClassVar[frozenset[str]] = WORDS
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    dear: ClassVar[bool] = True
    options: ClassVar[tuple[Option, ...]] = (
        Option("servers", "servers", ("tcp:127.0.0.1:783",), "spamd's sockets, asked in this order until one answers"),
        Option("attempts", "count", 2, "how often servers are asked for one message, all within the timeout"),
        Option("at_once", "count", 2, "messages given to one server at the same time: not more than spamd's children"),
        Option("max_size", "size", 256 * KB, "larger messages are not looked at, and none"),
        *score_options("SpamAssassin", 5.0, 8.0, 12.0),
    )

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError when the thresholds do not ascend."""
        self._words = ScoreWords(options)
        self.most_points = self._words.most_points
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
            return not_looked_at(message.body.size)
        return self._words.finding(score, rules)
