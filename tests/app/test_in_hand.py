"""Notes that outlive whoever wrote them."""

from __future__ import annotations

import os
import signal

from inboundmx.app.in_hand import (
    FRAMES,
    SLOTS,
    SharedHand,
    beats,
    last_frames,
    leave_last_words,
    new_notes,
    noted,
)


def test_what_was_taken_and_not_dropped_is_found() -> None:
    notes = new_notes()
    hand = SharedHand(os.dup(notes))
    hand.take("1m80mdefcszyc51")
    hand.take("1m80mdefcszyc52")
    hand.take("1m80mdefcszyc51")
    hand.drop("1m80mdefcszyc51")
    assert len(noted(notes)) == 2, "it was in two hands"
    hand.drop("1m80mdefcszyc51")
    hand.drop("never taken")
    assert noted(notes) == {"1m80mdefcszyc52"}
    hand.drop("1m80mdefcszyc52")
    assert noted(notes) == frozenset()
    os.close(notes)


def test_slots_are_used_again_and_what_is_beyond_them_is_not_noted() -> None:
    notes = new_notes()
    hand = SharedHand(os.dup(notes))
    for number in range(SLOTS + 5):
        hand.take(f"id{number}")
    assert len(noted(notes)) == SLOTS
    for number in range(SLOTS + 5):
        hand.drop(f"id{number}")
    assert noted(notes) == frozenset()
    hand.take("again")
    assert noted(notes) == {"again"}
    os.close(notes)


def test_a_dead_process_left_what_it_had() -> None:
    notes = new_notes()
    pid = os.fork()
    if pid == 0:
        SharedHand(notes).take("poison")
        os._exit(1)
    os.waitpid(pid, 0)
    assert noted(notes) == {"poison"}
    os.close(notes)


def test_beats_are_counted_and_are_no_ids() -> None:
    notes = new_notes()
    hand = SharedHand(os.dup(notes))
    assert beats(notes) == 0
    for _ in range(300):
        hand.beat()
    assert (beats(notes), noted(notes)) == (300, frozenset())
    os.close(notes)


def test_who_is_aborted_leaves_where_it_was() -> None:
    notes = new_notes()
    assert last_frames(notes) == []
    pid = os.fork()
    if pid == 0:
        leave_last_words(notes)
        os.abort()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGABRT
    frames = last_frames(notes)
    assert frames[0].startswith("app/test_in_hand.py:")
    assert frames[0].endswith(" test_who_is_aborted_leaves_where_it_was")
    assert len(frames) <= FRAMES
    os.close(notes)
