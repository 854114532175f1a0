"""Asks rspamd for its score and makes a word of it, as of SpamAssassin's.

Knows what rspamd is told beside the message. Does not know how it is spoken to, nor what a word is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.score_words import WORDS, ScoreWords, not_looked_at, score_options
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.settings import MB
from inboundmx.model.verdict import Weight
from inboundmx.ports import TooLarge


class Rspamd(Check):
    """``none`` ``low`` ``medium`` ``high``: how rspamd's own score compares with the thresholds, which are inclusive. A
    message above ``max_size`` is not looked at, and ``none``. With ``factor`` the score itself, times the factor, is
    added to what the word weighs.

    It is asked last, and not at all when the verdict is settled without it.
    """

    kind: ClassVar[str] = "rspamd"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "other"]] = "spam"
    outcomes: ClassVar[frozenset[str]] = WORDS
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    dear: ClassVar[bool] = True
    options: ClassVar[tuple[Option, ...]] = (
        Option(
            "servers", "servers", ("tcp:127.0.0.1:11333",),
            "sockets of rspamd's normal workers, asked in this order until one answers",
        ),
        Option("password", "secret", "", "file:/path, or the password itself, for a controller's socket"),
        Option("attempts", "count", 2, "how often servers are asked for one message, all within the timeout"),
        Option("at_once", "count", 10, "messages given to one server at the same time"),
        Option("max_size", "size", MB, "larger messages are not looked at, and none"),
        *score_options("rspamd", 4.0, 6.0, 15.0),
    )  # fmt: skip

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError when the thresholds do not ascend."""
        self._words = ScoreWords(options)
        self.most_points = self._words.most_points
        if tools is not None:
            self._scorer = tools.scanners.rspamd(
                options["servers"], options["max_size"], options["attempts"], options["at_once"], tools.timeout,
                options["password"],
            )  # fmt: skip

    async def examine(self, case: Case) -> Finding:
        assert case.message is not None
        body = case.message.body
        try:
            score, rules = await self._scorer.score(body, facts(case))
        except TooLarge:
            return not_looked_at(body.size)
        return self._words.finding(score, rules)


def facts(case: Case) -> list[tuple[str, str]]:
    """What its protocol has fields for, of client and envelope; what is not known is left out."""
    session, envelope = case.session, case.envelope
    told = [
        ("IP", session.peer_ip),
        ("Helo", session.hello),
        ("Hostname", session.reverse_name),
        ("User", session.authenticated_as),
        ("From", f"<{envelope.sender or ''}>"),
        *(("Rcpt", f"<{recipient}>") for recipient in envelope.recipients),
        ("Queue-Id", "" if case.message is None else case.message.id),
    ]
    return [(name, value) for name, value in told if value]
