"""What is decided of a message, and how it was added up."""

from __future__ import annotations

import enum
from typing import Literal

from inboundmx.model.record import record
from inboundmx.model.reply import Reply

# A weight in the INI: a number to add, or a word that decides.
Weight = float | Literal["reject", "defer", "quarantine"]
Forced = Literal["", "reject", "defer"]


class Level(enum.IntEnum):
    """SmarterMail's four categories."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @property
    def word(self) -> str:
        return _WORDS[self]


# An enum tells its name in 0.5 us, and each message asks three times.
_WORDS = ("none", "low", "medium", "high")


Verb = Literal["deliver", "header", "tag", "redirect", "quarantine", "hold", "discard", "reject"]


@record(frozen=True, slots=True)
class Action:
    """What a level does with mail. ``argument``: header line, tag text, address or reject text; empty where none."""

    verb: Verb
    argument: str = ""

    def __str__(self) -> str:
        return f'{self.verb} "{self.argument}"' if self.argument else self.verb


@record(frozen=True, slots=True)
class ScoreLine:
    """One result and what it was worth. ``filtering`` and ``blocking`` say which of the two sums it counts for."""

    check: str
    outcome: str
    weight: Weight
    filtering: bool = True
    blocking: bool = False

    def __str__(self) -> str:
        return f"{self.check}={self.outcome}({written_weight(self.weight)})"


@record(frozen=True, slots=True)
class Score:
    """``filtering`` decides the level; ``blocking`` is compared with the blocking threshold; ``forced`` is the decision
    that a weight of ``reject`` or ``defer`` made, by check ``forced_by``; ``advice`` is what that check has to say to
    the stranger, and ``enhanced`` with which code, or both are empty. Any reject goes before any defer.
    ``quarantined_by``: the first check whose outcome weighs ``quarantine``, which forces nothing before the end."""

    filtering: float
    blocking: float
    lines: tuple[ScoreLine, ...] = ()
    forced: Forced = ""
    forced_by: str = ""
    advice: str = ""
    enhanced: str = ""
    quarantined_by: str = ""


@record(frozen=True, slots=True)
class Verdict:
    """``reply`` is set when the mail is refused or deferred, and then the actions do not matter."""

    level: Level
    actions: tuple[Action, ...]
    score: Score
    reply: Reply | None = None
    reason: str = ""

    def has(self, verb: Verb) -> bool:
        return any(action.verb == verb for action in self.actions)


def written_weight(weight: Weight) -> str:
    """15.0 as "15", 2.50 as "2.5", words as they are."""
    return weight if isinstance(weight, str) else f"{round(weight, 4) + 0.0:.4f}".rstrip("0").rstrip(".")
