"""The trials of ``make faults`` with small numbers: what is promised of each fault, but for what depends on how busy
the machine is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "faults"))

from faults import FAULTS, tried

SCALE = 0.05
# Told with every fault at every step by test_hostile_primaries.
ELSEWHERE = {"hostile-primaries"}


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - ELSEWHERE))
def test_what_is_promised_of_it(fault: str) -> None:
    figures = tried(fault, SCALE)
    assert [str(figure) for figure in figures if not figure.timed and not figure.met] == []
    assert len(figures) > 1
