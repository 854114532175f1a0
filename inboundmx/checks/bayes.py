"""What the words of a message say, judged by the mail that this gateway was trained with.

Knows how words become one of four outcomes. Does not know how they were learned, nor how they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.reading import read
from inboundmx.checks.walking import walked
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.message import Message
from inboundmx.model.settings import MB
from inboundmx.model.verdict import Weight
from inboundmx.policy.bayesian import LEAST_TRAINED, Counted, likeness
from inboundmx.policy.mime import Walked
from inboundmx.policy.mime_text import Text
from inboundmx.policy.tokens import tokens
from inboundmx.ports import Learned

# Letters of text that are judged at once, within a few milliseconds; more of them in a thread.
AT_ONCE = 16 * 1024


class Bayes(Check):
    """``spam`` and ``ham``: the likeness to spam, from 0 to 1, is at least the one threshold, at most the other;
    ``unsure``: between them; ``untrained``: there were fewer than 100 messages of either kind to learn from."""

    kind: ClassVar[str] = "bayes"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "other"]] = "spam"
    outcomes: ClassVar[frozenset[str]] = frozenset({"spam", "ham", "unsure", "untrained"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = (
        Option("spam", "number", 0.95, "likeness to spam from which on a message is spam, above 0.5 and at most 1"),
        Option("ham", "number", 0.2, "likeness to spam up to which a message is ham, below 0.5"),
        Option(
            "messages_for_update", "count", 500,
            "messages learned one by one, such as those released, after which they are judged by (SmarterMail: Messages"
            " required for filter update); inboundmx train has its own judged by at once",
        ),
        Option(
            "max_memory", "size", 10 * MB,
            "octets of the words that are judged by, once for all workers; the rarest are left out of more",
        ),
        Option(
            "learn_released", "yes", False, "mail that an operator releases from quarantine by its id is learned as ham"
        ),
    )  # fmt: skip

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError when the thresholds make no sense."""
        self._spam, self._ham = options["spam"], options["ham"]
        if not 0.0 <= self._ham < 0.5 < self._spam <= 1.0:
            raise ValueError("ham must be below 0.5, and spam above it and at most 1")
        if tools is not None:
            self._tools = tools

    async def examine(self, case: Case) -> Finding:
        assert case.message is not None and self._tools.vocabulary is not None
        learned = await self._tools.vocabulary.learned()
        if learned is None or learned.spam < LEAST_TRAINED or learned.ham < LEAST_TRAINED:
            spam, ham = (0, 0) if learned is None else (learned.spam, learned.ham)
            return Finding(
                "untrained", f"{spam} messages of spam and {ham} of ham are known; {LEAST_TRAINED} are needed"
            )
        parts = await walked(case, self._tools)
        text = await read(case, self._tools, parts)
        if len(text.plain) <= AT_ONCE:
            found = judged(learned, case.message, parts, text)
        else:
            found = await self._tools.offload.run(judged, learned, case.message, parts, text)
        like, words = found
        word = "spam" if like >= self._spam else "ham" if like <= self._ham else "unsure"
        return Finding(word, f"{like:.4f} by {words} words")


def judged(learned: Learned, message: Message, parts: Walked, text: Text) -> tuple[float, int]:
    counts = learned.counts(tokens(message.fields, parts, text))
    return likeness(Counted(learned.spam, learned.ham, counts))
