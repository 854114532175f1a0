"""How like spam a message is, by how often its words were in spam and in other mail.

Knows Robinson's way of weighing words that were seen seldom, and Fisher's of putting many of them together. Does not
know words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# With fewer messages of either kind nothing is said.
LEAST_TRAINED = 100
# What is thought of a word that was never seen, and how many messages it takes to think otherwise.
UNSEEN, STRENGTH = 0.5, 0.45
# Words that tell less are left out, and of the others those that tell most are put together.
TELLING = 0.1
MOST_WORDS = 150


class Counted(NamedTuple):
    """Messages of either kind that were learned from, and of each known word in how many of them it was: spam, ham."""

    spam: int
    ham: int
    words: Sequence[tuple[int, int]]

    @property
    def trained(self) -> bool:
        return self.spam >= LEAST_TRAINED and self.ham >= LEAST_TRAINED


class Likeness(NamedTuple):
    """``spam`` from 0 (ham) to 1; ``words``: how many told something."""

    spam: float
    words: int


def likeness(counted: Counted) -> Likeness:
    """0.5 where nothing tells anything. There must be messages of both kinds."""
    strengths = sorted(_strengths(counted), key=lambda each: abs(each - 0.5), reverse=True)[:MOST_WORDS]
    if not strengths:
        return Likeness(0.5, 0)
    of_spam = sum(map(math.log, strengths))
    of_ham = sum(math.log(1.0 - each) for each in strengths)
    # Each is how unlikely such words are if they were thrown together by chance.
    spam, ham = chi_square(-2.0 * of_ham, len(strengths)), chi_square(-2.0 * of_spam, len(strengths))
    return Likeness((1.0 + ham - spam) / 2.0, len(strengths))


def _strengths(counted: Counted) -> Iterable[float]:
    of_all_spam, of_all_ham = 1.0 / counted.spam, 1.0 / counted.ham
    for spam, ham in counted.words:
        seen = spam + ham
        in_spam, in_ham = spam * of_all_spam, ham * of_all_ham
        strength = (STRENGTH * UNSEEN + seen * in_spam / (in_spam + in_ham)) / (STRENGTH + seen)
        if abs(strength - 0.5) >= TELLING:
            yield strength


def chi_square(value: float, half: int) -> float:
    """The chance that a chi-squared of ``2 * half`` degrees of freedom is at least ``value``."""
    middle = value / 2.0
    # By logarithms: of many words exp(-middle) alone would be 0.
    term = -middle
    total = math.exp(term)
    log_middle = math.log(middle) if middle > 0.0 else -math.inf
    for step in range(1, half):
        term += log_middle - math.log(step)
        total += math.exp(term)
    return min(total, 1.0)
