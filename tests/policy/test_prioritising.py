"""Which mail goes first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry
from inboundmx.model.settings import PrioritySettings, Settings
from inboundmx.policy.prioritising import after_attempt, at_reception

SENDER = Address("s", "b.example")
SMALL, LARGE = 2 * 2**20, 2 * 2**20 + 1


@pytest.mark.parametrize(
    ("size", "sender", "rules", "priority"),
    [
        (LARGE, None, {}, 5),
        (SMALL, SENDER, {"over_size": 2, "null_sender": 1}, 5),
        (LARGE, SENDER, {"over_size": 2}, 2),
        (SMALL, SENDER, {"over_size": 2}, 5),
        (SMALL, SENDER, {"over_size": 2, "message_size_threshold": 1000}, 2),
        (SMALL, None, {"null_sender": 9}, 9),
        (LARGE, None, {"null_sender": 9, "over_size": 2}, 2),
        (LARGE, None, {"null_sender": 1, "over_size": 2}, 1),
        (LARGE, None, {"null_sender": 1}, 1),
    ],
)
def test_at_reception(size: int, sender: Address | None, rules: dict[str, Any], priority: int) -> None:
    assert at_reception(5, size, sender, PrioritySettings(**rules)) == priority


@pytest.mark.parametrize(
    ("attempts", "second", "third", "priority"),
    [
        (0, 3, 1, 7),
        (1, 3, 1, 3),
        (2, 3, 1, 1),
        (3, 3, 1, 7),
        (1, None, 1, 7),
        (2, 3, None, 7),
    ],
)
def test_after_an_attempt(attempts: int, second: int | None, third: int | None, priority: int) -> None:
    entry = replace(SpoolEntry("i", "m", "b", 0.0, SENDER, (), 1, "a.example"), priority=7, attempts=attempts)
    ours = Settings(priority=PrioritySettings(second_attempt=second, third_attempt=third))
    assert after_attempt(entry, ours) == priority
