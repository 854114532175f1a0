"""The short form of ``make crash``: the real program is killed at random and at the boundaries of system calls."""

from __future__ import annotations

import pytest
from boundaries import LIVES, Life, boundaries
from campaigns import Report, kills

# The primary is away now and then.
SEED = 4714
# So long only on a machine that is busy with other things.
pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def in_order(report: Report) -> None:
    assert report.verdict() == []
    assert report.audit.promised > 0


@pytest.mark.parametrize(
    ("workers", "handover", "victim"), [(0, "spool", "gateway"), (2, "cut-through", "worker")], ids=["all", "worker"]
)
def test_kills_at_random_lose_and_alter_nothing(workers: int, handover: str, victim: str) -> None:
    report = kills(workers, handover, victim, times=4, messages=300, seed=SEED, tell=print, latest=0.8)
    in_order(report)
    assert report.audit.promised >= 300
    assert report.faults["kills"] >= 4


@pytest.mark.root
@pytest.mark.parametrize(("life", "every"), [(LIVES[0], 90), (LIVES[1], 110), (LIVES[-1], 60)], ids=str)
def test_a_kill_before_any_system_call_breaks_no_promise(life: Life, every: int) -> None:
    in_order(boundaries(life, every, tell=print))
