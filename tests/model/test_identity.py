"""Ids are what operators read out on the telephone and sort by time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.identity import made_at, make_id

INSTANTS = st.floats(0, 2**35, allow_nan=False)


@pytest.mark.parametrize(
    ("now", "id"),
    [
        (0.0, "000000000abc123"),
        (0.031, "00000000zabc123"),
        (0.032, "000000010abc123"),
        (1.024, "000000100abc123"),
        (2**45 / 1000 - 1, "zzzzzzz0rabc123"),
    ],
)
def test_the_time_is_written_in_base_32(now: float, id: str) -> None:
    assert make_id(now, "abc123") == id


@given(INSTANTS)
def test_the_time_can_be_read_again(now: float) -> None:
    made = make_id(now, "abc123")
    assert (len(made), made_at(made)) == (15, int(now * 1000) / 1000)


@pytest.mark.parametrize("text", ["", "000000000abc12", "000000000abc1234", "00000000oabc123", "000000000ABC123"])
def test_what_is_no_id_has_no_time(text: str) -> None:
    assert made_at(text) is None


@given(INSTANTS, INSTANTS)
def test_ids_sort_by_time(one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    assert make_id(earlier, "zzzzzz")[:9] <= make_id(later, "000000")[:9]
