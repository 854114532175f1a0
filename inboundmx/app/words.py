"""How a wrong value is reported. Knows the nearest valid word; does not know any key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Wrong(ValueError):
    """A text that is no value of its kind. The message says what is wrong with it and what to write instead."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """The end of a sentence: "; did you mean X?", or the choice when nothing is near and it is short."""
    choice = sorted(valid)
    folded = {each.lower(): each for each in choice}
    spelt = any(sign.isalpha() for sign in word)  # of numbers, none is a slip of another
    close = difflib.get_close_matches(word.lower(), folded, n=1) if spelt else []
    if close:
        return f"; did you mean {folded[close[0]]}?"
    return f"; one of: {', '.join(choice)}" if 0 < len(choice) <= 12 else ""


def not_there_yet(what: str, instead: str = "") -> Wrong:
    """For what the design promises and this version does not do: never taken silently."""
    return Wrong(f"{what} is not there yet{f'; {instead}' if instead else ''}")
