"""A stop goes on whatever becomes of one part of it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.app.assemble import GatewayService


@pytest.mark.parametrize(
    ("ending", "trouble"),
    [(Deferred(), "TimeoutError"), (fail(OSError("the disk is gone")), "OSError: the disk is gone"), (succeed(1), "")],
    ids=["never", "badly", "well"],
)
def test_the_next_part_has_its_turn(ending: Deferred[Any], trouble: str) -> None:
    service = GatewayService.__new__(GatewayService)
    clock, journal = FakeClock(), FakeJournal()
    service._clock, service._journal, service._reactor = clock, journal, clock.turned  # type: ignore[assignment]
    over: list[bool] = []
    Deferred.fromCoroutine(service._ended("part", ending, clock.monotonic() + 5.0)).addCallback(
        lambda _: over.append(True)
    )
    clock.advance(5.0)
    assert over == [True]
    assert [(event, level, fields["part"]) for event, _, fields, level in journal.events] == (
        [("stop_incomplete", "error", "part")] if trouble else []
    )
    assert all(fields["trouble"].startswith(trouble) for _, _, fields, _ in journal.events)
