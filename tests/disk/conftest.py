"""Tests of the disk speak with the same programs as those of the whole system."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "system")]

from programs import Stage, stage  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/disk/" in item.path.as_posix():
            item.add_marker(pytest.mark.system)


@pytest.fixture
def play() -> Iterator[Stage]:
    with stage() as made:
        yield made
    assert made.faults() == []
