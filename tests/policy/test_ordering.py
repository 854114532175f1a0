"""Tiers: early enough, in order, and never for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.finding import Stage
from inboundmx.policy.ordering import Position, tiers


def positions(text: str) -> list[Position]:
    """``spf dkim dmarc:spf,dkim`` as checks named like their kinds."""
    made = []
    for word in text.split():
        kind, _, after = word.partition(":")
        made.append(Position(f"my-{kind}", kind, Stage.MESSAGE, frozenset(after.split(",")) - {""}))
    return made


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ("", []),
        ("a b c", ["a b c"]),
        ("dmarc:spf,dkim spf dkim", ["spf dkim", "dmarc"]),
        ("a:b b:c c", ["c", "b", "a"]),
        ("a b:a c", ["a c", "b"]),
        ("a:nobody", ["a"]),
    ],
)
def test_tiers(checks: str, expected: list[str]) -> None:
    got = tiers(Stage.MESSAGE, positions(checks))
    assert [" ".join(name.removeprefix("my-") for name in tier) for tier in got] == expected


def test_other_stages_are_not_waited_for() -> None:
    spf = Position("spf", "spf", Stage.SENDER)
    dmarc = Position("dmarc", "dmarc", Stage.MESSAGE, frozenset({"spf"}))
    assert tiers(Stage.MESSAGE, [dmarc, spf]) == (("dmarc",),)
    assert tiers(Stage.SENDER, [dmarc, spf]) == (("spf",),)


def test_all_checks_of_a_kind_are_waited_for() -> None:
    both = [Position("one", "spf", Stage.SENDER), Position("two", "spf", Stage.SENDER, frozenset({"x"}))]
    after = Position("reader", "reader", Stage.SENDER, frozenset({"spf"}))
    assert tiers(Stage.SENDER, [after, *both]) == (("one", "two"), ("reader",))


@pytest.mark.parametrize("checks", ["a:a", "a:b b:a", "x a:b b:c c:a"])
def test_a_circle_is_refused_by_name(checks: str) -> None:
    with pytest.raises(ValueError, match="my-a"):
        tiers(Stage.MESSAGE, positions(checks))


@given(st.lists(st.sets(st.integers(0, 9)), max_size=10))
def test_everything_runs_once_and_after_what_it_reads(reads: list[set[int]]) -> None:
    checks = [
        Position(str(n), str(n), Stage.MESSAGE, frozenset(str(other) for other in after if other < n))
        for n, after in enumerate(reads)
    ]
    place = {name: depth for depth, tier in enumerate(tiers(Stage.MESSAGE, checks)) for name in tier}
    assert set(place) == {check.name for check in checks}
    for check in checks:
        assert all(place[other] < place[check.name] for other in check.after)
        assert place[check.name] == max((place[other] + 1 for other in check.after), default=0)


def test_dear_checks_come_last() -> None:
    made = [Position(f"my-{p.kind}", p.kind, p.stage, p.after, p.kind.startswith("dear")) for p in positions(
        "dear1 a b:a dear2:b reader:dear1")]  # fmt: skip
    assert [" ".join(tier) for tier in tiers(Stage.MESSAGE, made)] == ["my-a", "my-b", "my-dear1 my-dear2", "my-reader"]
