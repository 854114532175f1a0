"""How well a Bayesian filter judges, tried on the messages it was trained with (cross-validation).

Knows that nobody is judged by what was learned from himself. Does not know words, only their numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from inboundmx.policy.bayesian import Counted, likeness

# The messages are dealt into so many parts, and each is judged by what all the others teach.
FOLDS = 10

# Whether a message is spam, and the numbers of its words, each once.
Sample = tuple[bool, Sequence[int]]


class Judged(NamedTuple):
    """Of messages of one kind: as what they were judged."""

    spam: int
    unsure: int
    ham: int


class Accuracy(NamedTuple):
    spam: Judged
    ham: Judged


def validated(samples: Sequence[Sample], spam_from: float, ham_to: float) -> Accuracy:
    """There must be two of each kind at least."""
    of_kind = [[numbers for spam, numbers in samples if spam is kind] for kind in (False, True)]
    known: list[Counter[int]] = [Counter(), Counter()]
    for kind, several in enumerate(of_kind):
        for numbers in several:
            known[kind].update(numbers)
    judged = [[0, 0, 0], [0, 0, 0]]
    for fold in range(FOLDS):
        left_out = [several[fold::FOLDS] for several in of_kind]
        counted = [Counter[int](), Counter[int]()]
        for kind, several in enumerate(left_out):
            for numbers in several:
                counted[kind].update(numbers)
        totals = [len(of_kind[kind]) - len(left_out[kind]) for kind in (0, 1)]
        for kind, several in enumerate(left_out):
            for numbers in several:
                counts = []
                for number in numbers:
                    ham = known[0][number] - counted[0][number]
                    spam = known[1][number] - counted[1][number]
                    if spam or ham:
                        counts.append((spam, ham))
                like = likeness(Counted(totals[1], totals[0], counts)).spam
                judged[kind][0 if like >= spam_from else 2 if like <= ham_to else 1] += 1
    return Accuracy(Judged(*judged[1]), Judged(*judged[0]))
