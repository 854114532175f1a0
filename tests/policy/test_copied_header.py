"""Fields that a program may add to its copy, and those of a sender who would like to be it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.policy.copied_header import numbers, without

NAME = "X-Score"


@pytest.mark.parametrize(
    ("octets", "left"),
    [
        (b"A: b\r\nX-Score: 5\r\nC: d\r\n\r\nX-Score: 6\r\n", b"A: b\r\nC: d\r\n\r\nX-Score: 6\r\n"),
        (b"x-sCORE :5\r\n\t6\r\n 7\r\nA: b\r\n\r\n", b"A: b\r\n\r\n"),
        (b"X-Score: 5\r\nX-Score: 6\r\n\r\n", b"\r\n"),
        (b"X-Score: 5\nA: b\n\nX-Score: 6", b"A: b\n\nX-Score: 6"),
        (b"X-Score-2: 5\r\nNo-X-Score: 6\r\n X-Score: 7\r\n\r\n",) * 2,
        (b"\r\nX-Score: 5\r\n", b"\r\nX-Score: 5\r\n"),
        (b"A: b\r\nX-Score: 5", b"A: b\r\n"),
        (b"", b""),
    ],
)
def test_without(octets: bytes, left: bytes) -> None:
    assert without(octets, NAME) == left
    assert without(left, NAME) == left


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"A: b\r\nX-Score: 5\r\nX-Score:-12.50 \r\n\r\nX-Score: 6\r\n", [5.0, -12.5]),
        (b"x-score: +3\n\n", [3.0]),
        (b"X-Score: 5 points\r\nX-Score:\r\nX-Score: nan\r\nX-Score: 1e9\r\nX-Score: 5\r\n 6\r\n\r\n", [None] * 5),
        (b"X-Score: 1234567890\r\n\r\n", [None]),
        (b"\r\nX-Score: 5\r\n", []),
        (b"", []),
    ],
)
def test_numbers(octets: bytes, found: list[float | None]) -> None:
    assert numbers(octets, NAME) == found


@given(st.text("X-Score: 5\r\n\ta.", max_size=60))
def test_nothing_a_sender_writes_is_taken_for_the_program(text: str) -> None:
    assert numbers(without(text.encode(), NAME), NAME) == []
