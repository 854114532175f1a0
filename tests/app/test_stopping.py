"""A stop goes on whatever becomes of one part of it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.clock import FakeClock
from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.app.assemble import GatewayService


class Journal:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        self.told.append({"event": event, "level": level, **fields})


@pytest.mark.parametrize(
    ("ending", "trouble"),
    [(Deferred(), "TimeoutError"), (fail(OSError("the disk is gone")), "OSError: the disk is gone"), (succeed(1), "")],
    ids=["never", "badly", "well"],
)
def test_the_next_part_has_its_turn(ending: Deferred[Any], trouble: str) -> None:
    service = GatewayService.__new__(GatewayService)
    clock, journal = FakeClock(), Journal()
    service._clock, service._journal, service._reactor = clock, journal, clock.turned  # type: ignore[assignment]
    over: list[bool] = []
    Deferred.fromCoroutine(service._ended("part", ending, clock.monotonic() + 5.0)).addCallback(
        lambda _: over.append(True)
    )
    clock.advance(5.0)
    assert over == [True]
    assert [(row["event"], row["level"], row["part"]) for row in journal.told] == (
        [("stop_incomplete", "error", "part")] if trouble else []
    )
    assert all(row["trouble"].startswith(trouble) for row in journal.told)
