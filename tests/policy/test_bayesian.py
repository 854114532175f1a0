"""How words are put together, and how a filter is tried on what it was trained with."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.policy.bayesian import Counted, chi_square, likeness
from inboundmx.policy.validating import Accuracy, Judged, validated


def like(*words: tuple[int, int], spam: int = 100, ham: int = 100) -> float:
    return likeness(Counted(spam, ham, words)).spam


def test_chi_square_is_the_textbook_s() -> None:
    """Values of a table of the distribution."""
    for value, half, chance in ((2.706, 0.5, 0.1), (5.991, 1, 0.05), (9.488, 2, 0.05), (18.307, 5, 0.05)):
        if half >= 1:
            assert chi_square(value, int(half)) == pytest.approx(chance, rel=0.01)
    assert chi_square(0.0, 3) == 1.0
    assert chi_square(3000.0, 150) == pytest.approx(0.0)
    assert 0.4 < chi_square(300.0, 150) < 0.6


def test_words_that_tell_nothing_tell_nothing() -> None:
    assert likeness(Counted(100, 100, ())) == (0.5, 0)
    assert likeness(Counted(100, 100, [(50, 50)] * 10)) == (0.5, 0)
    # As often as the other, of a quarter as many messages.
    assert likeness(Counted(400, 100, [(40, 10)])) == (0.5, 0)


def test_likeness() -> None:
    assert like(*[(20, 0)] * 10) > 0.999
    assert like(*[(0, 20)] * 10) < 0.001
    assert like(*[(20, 0)] * 10, *[(0, 20)] * 10) == pytest.approx(0.5)
    assert 0.5 < like((1, 0)) < like((20, 0)) < like((20, 0), (20, 0))


def test_the_words_that_tell_most_are_put_together() -> None:
    found = likeness(Counted(100, 100, [(6, 4)] * 1000 + [(50, 0)] * 150))
    assert found.words == 150 and found.spam > 0.999


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)).filter(any), max_size=300))
def test_it_is_always_a_number_from_0_to_1(words: list[tuple[int, int]]) -> None:
    found = like(*words, spam=10_000, ham=10_000)
    assert math.isfinite(found) and 0.0 <= found <= 1.0


def test_nobody_is_judged_by_what_he_teaches_himself() -> None:
    """Each message has a word of its own, which alone would tell."""
    alike = [(spam, (1, 2, 1000 + number)) for number, spam in enumerate([True, False] * 20)]
    assert validated(alike, 0.95, 0.2) == Accuracy(Judged(0, 20, 0), Judged(0, 20, 0))


def test_a_filter_that_can_tell_is_seen_to() -> None:
    telling = [(spam, tuple(range(10)) if spam else tuple(range(100, 110))) for spam in [True, False] * 30]
    # One that was put on the wrong side is judged as what it is.
    telling.append((False, tuple(range(10))))
    assert validated(telling, 0.95, 0.2) == Accuracy(Judged(30, 0, 0), Judged(1, 0, 30))
