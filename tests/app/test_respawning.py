"""When a dead worker is started anew, and which mail is held responsible."""

from __future__ import annotations

from inboundmx.app.respawning import Backoff, Suspects


def test_at_once_then_ever_later_up_to_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.died(1.0) for _ in range(9)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_long_life_begins_anew() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.died(1.0)
    assert backoff.died(600.0) == 0.0
    assert backoff.died(599.0) == 1.0


def test_the_third_time_in_a_row_is_one_too_many() -> None:
    suspects = Suspects()
    assert suspects.crashed({"a", "b"}) == set()
    assert suspects.crashed({"a", "c"}) == set()
    assert suspects.crashed({"a", "b", "c"}) == {"a"}
    # Forgotten with that: released, it has three lives again.
    assert suspects.crashed({"a"}) == set()


def test_what_was_not_in_hand_once_is_innocent() -> None:
    suspects = Suspects()
    for in_hand in ({"a"}, {"a"}, set(), {"a"}, {"a"}):
        assert suspects.crashed(in_hand) == set()
    assert suspects.crashed({"a"}) == {"a"}
