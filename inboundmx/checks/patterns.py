"""Regular expressions of operators, made safe to try on what strangers send.

Knows how long Python's backtracking engine may take over a pattern, and so how much text it may be given. Does not know
what the pattern is looked for in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

# Letters a pattern is tried on at most, and at least: one that is too dear for so few is refused.
LONGEST = 8 * 1024
SHORTEST = 64
# The most for one whose work grows faster than the text: each way back costs more than a step ahead.
BACKTRACKED = 3 * 1024
# Steps of the engine by our estimate: on a usual machine at most some 100 ms.
BUDGET = 4e8
# Steps that it takes to go once through a group which is repeated; for a letter that is repeated it is one.
GROUP = 25
_ONE_LETTER = {codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN}


class BoundedPattern:
    """A compiled pattern, and ``limit``, the letters it is tried on: as many as its worst way through allows in the
    time there is. Raises ValueError for a pattern that is wrong, or may take for ever whatever the length, such as
    ``(a+)+b``; a possessive ``(a++)+b`` is fine.
    """

    __slots__ = ("_compiled", "limit")

    def __init__(self, pattern: str) -> None:
        try:
            self._compiled = re.compile(pattern)
            tree = parser.parse(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{pattern} is not a regular expression: {error}") from None
        self.limit = LONGEST if _work(tree, LONGEST) < LONGEST * BACKTRACKED else BACKTRACKED
        while _work(tree, self.limit) > BUDGET:
            self.limit = self.limit * 3 // 4
            if self.limit < SHORTEST:
                raise ValueError(
                    f"{pattern} may take too long: a repeated group holds repeats or alternatives, or too many"
                    " repeats follow one another"
                )

    def found(self, texts: Iterable[str]) -> bool:
        """Whether it is found in one of the texts, of which no more than twice ``limit`` is looked at altogether."""
        left = 2 * self.limit
        for text in texts:
            part = text[: min(self.limit, left)]
            if self._compiled.search(part):
                return True
            left -= len(part)
            if left <= 0:
                break
        return False


def _work(tree: Any, length: int) -> float:
    """The steps a search in ``length`` letters takes at worst."""
    anchored = len(tree) > 0 and tree[0] in ((codes.AT, codes.AT_BEGINNING), (codes.AT, codes.AT_BEGINNING_STRING))
    starts = 1 if anchored and not tree.state.flags & re.MULTILINE else length
    return starts * _sequence(tree, length)[1]


def _sequence(items: Any, length: int) -> tuple[float, float]:
    """Of parts that follow one another: in how many ways they can match at one place, and the steps to try them all."""
    ways, work = 1.0, 1.0
    for code, argument in items:
        more, steps = _part(code, argument, length)
        work += ways * steps
        ways *= more
    return ways, work


def _part(code: Any, argument: Any, length: int) -> tuple[float, float]:
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, most, inner = argument
        times = min(int(most), length)
        ways, work = _sequence(inner, length)
        if len(inner) != 1 or inner[0][0] not in _ONE_LETTER:
            work *= GROUP
        if code is codes.POSSESSIVE_REPEAT:
            return 1.0, max(times, 1) * work
        if ways <= 1.0:
            return float(max(times - min(int(least), length), 0) + 1), max(times, 1) * work
        every = _power(ways, times)
        return every * (times - min(int(least), times) + 1), every * work
    if code is codes.SUBPATTERN:
        return _sequence(argument[3], length)
    if code is codes.ATOMIC_GROUP:
        return 1.0, _sequence(argument, length)[1]
    if code is codes.BRANCH:
        branches = [_sequence(branch, length) for branch in argument[1]]
        return sum(ways for ways, _ in branches), sum(work for _, work in branches)
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return 1.0, _sequence(argument[1], length)[1]
    if code is codes.GROUPREF:
        return 1.0, float(length)
    if code is codes.GROUPREF_EXISTS:
        branches = [_sequence(branch, length) for branch in argument[1:] if branch is not None]
        return sum(ways for ways, _ in branches), sum(work for _, work in branches)
    return 1.0, 1.0


def _power(ways: float, times: int) -> float:
    return math.inf if times * math.log(ways) > 100 else ways**times
