"""``ports.Chance`` without any: tokens are numbers, the lowest of all is drawn, and what is shuffled stays."""

from __future__ import annotations

from typing import Any


class FakeChance:
    def __init__(self) -> None:
        self.count = 0

    def token(self, length: int) -> str:
        self.count += 1
        return f"{self.count:0{length}d}"

    def uniform(self, low: float, high: float) -> float:
        return low

    def shuffled(self, items: Any) -> list[Any]:
        return list(items)
