"""When a cause is far from what is usual, in numbers."""

from __future__ import annotations

import pytest

from inboundmx.model.settings import DAY, HOUR, CausesSettings
from inboundmx.policy.banding import MEMORY_SECONDS, Counted, believable, faded, highest, learned, outside

CAUSES = CausesSettings()


@pytest.mark.parametrize(
    ("usual", "share"),
    [
        # Of nothing, and of what is rare, 1 in 100 is usual.
        (Counted(), 0.092),
        (Counted(0, 10_000), 0.092),
        (Counted(1, 10_000), 0.092),
        (Counted(100, 10_000), 0.092),
        (Counted(500, 10_000), 0.345),
        (Counted(3000, 10_000), 0.811),
        (Counted(4000, 10_000), 0.870),
        # What speaks against half of all mail anyway is never doubted.
        (Counted(5000, 10_000), 1.0),
        (Counted(10_000, 10_000), 1.0),
    ],
)
def test_where_the_band_ends(usual, share):
    assert highest(usual, CAUSES) == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize(
    ("now", "usual", "known", "doubted"),
    [
        (Counted(90, 100), Counted(50, 10_000), 3 * DAY, True),
        # A fresh gateway, or a check that is new, is still learning what is usual.
        (Counted(90, 100), Counted(), 0.0, False),
        (Counted(90, 100), Counted(50, 10_000), DAY - 1, False),
        (Counted(90, 100), Counted(50, 10_000), DAY, True),
        # Too few to say.
        (Counted(49, 49), Counted(50, 10_000), 3 * DAY, False),
        (Counted(50, 50), Counted(50, 10_000), 3 * DAY, True),
        # As common as it may be.
        (Counted(90, 1000), Counted(100, 10_000), 3 * DAY, False),
        (Counted(93, 1000), Counted(100, 10_000), 3 * DAY, True),
        # A wave of what is common is a wave.
        (Counted(700, 1000), Counted(3000, 10_000), 3 * DAY, False),
        (Counted(900, 1000), Counted(3000, 10_000), 3 * DAY, True),
        # More mail in all is no reason.
        (Counted(5000, 100_000), Counted(100, 10_000), 3 * DAY, False),
        (Counted(0, 0), Counted(), 3 * DAY, False),
    ],
)
def test_what_is_doubted(now, usual, known, doubted):
    assert outside(now, usual, CAUSES, known) is doubted


@pytest.mark.parametrize(
    ("now", "again"),
    [(Counted(0, 49), False), (Counted(0, 50), True), (Counted(5, 60), True), (Counted(30, 60), False)],
)
def test_when_a_doubted_cause_is_believed_again(now, again):
    assert believable(now, Counted(100, 10_000), CAUSES) is again


def test_a_fault_becomes_usual_slowly_and_what_stays_in_the_end():
    usual = Counted(100.0, 10_000.0)
    hours = 0
    while outside(Counted(100, 100), usual, CAUSES, 3 * DAY):
        fired = learned(usual, Counted(100, 100), CAUSES)
        usual = Counted(faded(fired, HOUR), faded(usual.asked + 100, HOUR))
        hours += 1
        assert hours < 10_000
    assert 3 * 24 < hours < 14 * 24


def test_the_past_fades():
    assert faded(100.0, 0.0) == 100.0
    assert faded(100.0, MEMORY_SECONDS) == pytest.approx(36.8, abs=0.1)
    assert faded(100.0, -5.0) == 100.0, "a clock that was set back makes nothing more"
