"""Who hangs: many looks in a row at which nothing has moved, and only those looks count."""

from __future__ import annotations

from inboundmx.app.watching import LOOKS, Watch, look_seconds


def test_who_turns_now_and_then_does_not_hang() -> None:
    watch = Watch()
    for turned in range(1, 50):
        assert not any(watch.hangs(turned) for _ in range(LOOKS))


def test_who_never_turns_hangs_and_is_told_of_once() -> None:
    watch = Watch()
    assert not watch.hangs(7)
    assert [watch.hangs(7) for _ in range(LOOKS + 5)] == [False] * (LOOKS - 1) + [True] + [False] * 5


def test_one_turn_is_enough_to_begin_anew() -> None:
    watch = Watch()
    watch.hangs(1)
    for _ in range(LOOKS - 1):
        assert not watch.hangs(1)
    assert not watch.hangs(2)
    assert [watch.hangs(2) for _ in range(LOOKS)] == [False] * (LOOKS - 1) + [True]


def test_looks_are_as_far_apart_as_their_number_asks_for() -> None:
    assert look_seconds(60.0) * LOOKS == 60.0
    assert look_seconds(0.0) > 0, "whoever is never called hung is looked at as well"
