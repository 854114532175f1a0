"""Real chance, from the operating system, for ids that nobody can guess and for spreading things out."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

from inboundmx.model.identity import ALPHABET

_TRANSLATION = bytes(ord(ALPHABET[octet & 31]) for octet in range(256))


class SystemChance:
    """``ports.Chance``."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def token(self, length: int) -> str:
        return os.urandom(length).translate(_TRANSLATION).decode("ascii")

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def shuffled(self, items: Sequence[Any]) -> list[Any]:
        return self._random.sample(items, len(items))
