"""A stop goes on whatever becomes of one part of it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.app.stopping import Stopping


@pytest.mark.parametrize(
    ("ending", "trouble"),
    [(Deferred(), "TimeoutError"), (fail(OSError("the disk is gone")), "OSError: the disk is gone"), (succeed(1), "")],
    ids=["never", "badly", "well"],
)
def test_the_next_part_has_its_turn(ending: Deferred[Any], trouble: str) -> None:
    clock, journal = FakeClock(), FakeJournal()
    stopping = Stopping(clock, clock.turned, journal, 5.0)
    over: list[bool] = []
    Deferred.fromCoroutine(stopping.ended("part", ending)).addCallback(lambda _: over.append(True))
    clock.advance(5.0)
    assert over == [True]
    assert [(event, level, fields["part"]) for event, _, fields, level in journal.events] == (
        [("stop_incomplete", "error", "part")] if trouble else []
    )
    assert all(fields["trouble"].startswith(trouble) for _, _, fields, _ in journal.events)
