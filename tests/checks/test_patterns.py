"""Patterns of operators: which are refused, and how much text the others are given."""

from __future__ import annotations

import pytest
from fakes.pace import cpu, pace

from inboundmx.checks.patterns import BACKTRACKED, LONGEST, SHORTEST, BoundedPattern


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a*)*",
        "(?:a|aa)+$",
        "(?:a|ab)*c",
        "([a-z]+)*x",
        "(a?a?)*b",
        "((a{0,9}){0,9}){0,9}",
        "(?:a?){30}a{30}",
        "(.*)(.*)(.*)(.*)x",
        "(?:x+x+)+y",
        "(?=(a+)+b)c",
        "(?i:(a+)+)b",
        "(?P<word>\\w+\\s?)*$",
        "(a+|b+)*c",
        "(x(y+)?)*z",
    ],
)
def test_what_may_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="may take too long"):
        BoundedPattern(pattern)


@pytest.mark.parametrize("pattern", ["(a", "[z", "*", "a{2,1}", "(?P<n>a)(?P<n>b)", "(?(1)a|b)"])
def test_what_is_no_expression_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        BoundedPattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("viagra|cialis", "buy cialis"),
        (r"\d{3}-\d{4}", "call 555-1234"),
        ("a.*b", "a to b"),
        ("^x", "xy"),
        ("(ab)+$", "abab"),
        (r"(\d{1,3}\.){3}\d{1,3}", "at 192.0.2.1"),
        (r"([a-z]++\.)+example", "a.b.example"),
        ("(?i)FREE", "free"),
        (r"(['\"]).{0,20}\1", "say 'x'"),
        ("(?>a+)+b", "aab"),
        ("(?=.*a)(?=.*b)", "ba"),
        ("(a)?(?(1)b|c)", "c"),
    ],
)
def test_usual_patterns_are_fine(pattern: str, text: str) -> None:
    bounded = BoundedPattern(pattern)
    assert SHORTEST <= bounded.limit <= LONGEST
    assert bounded.found(["nothing", text])
    assert not bounded.found(["#"])
    assert not bounded.found([])


@pytest.mark.parametrize(
    "pattern",
    ["a.*[bc]", "(?i)a.*b", "a*?b", r"\w+\s?x", r"(\w+\s?)x", "(a|b)*c", "(?:aa)*c", "(a{1,9}){1,3}b",
     "(.*)(.*)x", "(.*)(.*)(.*)x", r"(.*)\1x", "[ab]*[bc]d", "(?:)*x", r"(?i)limited\s+.*offer"],
)  # fmt: skip
def test_a_megabyte_is_tried_in_bounded_time(pattern: str) -> None:
    """Some 100 ms at worst; this is twice as much."""
    bounded, text = BoundedPattern(pattern), "a" * 2**20
    assert cpu(lambda: bounded.found([text])) < 5 * pace()


def test_the_more_freely_a_pattern_repeats_the_less_text_it_is_given() -> None:
    limits = [BoundedPattern(pattern).limit for pattern in ("^ab", "a.*b", "a.*b.*c", "a.*b.*c.*d")]
    assert limits[:2] == [LONGEST, BACKTRACKED]
    assert limits[1] > limits[2] > limits[3] >= SHORTEST


def test_an_anchor_leaves_room_for_more() -> None:
    assert BoundedPattern("^a.*b.*c").limit > BoundedPattern("a.*b.*c").limit
    assert BoundedPattern("(?m)^a.*b.*c").limit == BoundedPattern("a.*b.*c").limit


def test_text_beyond_the_limit_is_not_looked_at() -> None:
    bounded = BoundedPattern("x")
    assert bounded.found(["." * (LONGEST - 1) + "x"])
    assert not bounded.found(["." * LONGEST + "x"])
    assert bounded.found(["." * LONGEST, "x"])
    assert not bounded.found(["." * LONGEST, "." * LONGEST, "x"])
