"""Real chance, from the operating system, for ids that nobody can guess and for spreading things out."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

from inboundmx.model.identity import ALPHABET

_TRANSLATION = bytes(ord(ALPHABET[octet & 31]) for octet in range(256))
# Letters got from the system at once: a token costs 0.2 us instead of 0.8, and every message takes two.
_LETTERS = 1020


class SystemChance:
    """``ports.Chance``."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._letters = ""
        self._at = 0

    def token(self, length: int) -> str:
        at, end = self._at, self._at + length
        if end > len(self._letters):
            self._letters = os.urandom(max(_LETTERS, length)).translate(_TRANSLATION).decode("ascii")
            at, end = 0, length
        self._at = end
        return self._letters[at:end]

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def shuffled(self, items: Sequence[Any]) -> list[Any]:
        return self._random.sample(items, len(items))
