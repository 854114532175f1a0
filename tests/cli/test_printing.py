"""Columns, ages and sizes, and text that no terminal obeys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.cli.printing import due, safe, shortened, size, span, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.9, "0s"), (59, "59s"), (90, "90s"), (119.9, "119s"), (120, "2m"), (540, "9m"), (7199, "119m"),
     (7200, "2h"), (172799, "47h"), (172800, "2d"), (8640000, "100d")],
)  # fmt: skip
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [(None, "-"), (1000.0, "now"), (0.0, "now"), (1000.5, "in 1s"), (1540.0, "in 9m"),
     # What was asked for a moment ago is told as it was asked for.
     (1599.9, "in 10m"), (22599.8, "in 6h"), (8190.0, "in 2h"), (433000.0, "in 5d"), (1119.9, "in 2m"),
     (1090.0, "in 90s")],
)  # fmt: skip
def test_due(at: float | None, text: str) -> None:
    assert due(at, 1000.0) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0KB"), (4300, "4.2KB"), (2**20, "1.0MB"), (3 * 2**30, "3.0GB")],
)
def test_size(octets: int, text: str) -> None:
    assert size(octets) == text


def test_shortened() -> None:
    assert (shortened("abcdef", 6), shortened("abcdefg", 6)) == ("abcdef", "abcd..")


def test_table_aligns_and_ends_without_blanks() -> None:
    assert table(("A", "BIG", "C"), [("long", "1", "x"), ("s", "10", "")], right=(1,)) == [
        "A     BIG  C",
        "long    1  x",
        "s      10",
    ]


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_safe_text_is_one_printable_line_as_long_as_before(text: str) -> None:
    assert safe(text).isprintable() and len(safe(text)) == len(text)
    assert not text.isprintable() or safe(text) == text
