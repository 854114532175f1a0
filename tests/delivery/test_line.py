"""A line of things that may wait so long: order, one timer, and who is sent away."""

from delivery_fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.delivery.line import Line


def make(seconds=0.2):
    clock, gone = FakeClock(), []
    return clock, gone, Line(clock, seconds, gone.append)


def test_oldest_newest_and_leaving():
    _, _, line = make()
    for item in "abcd":
        line.join(item)
    line.leave("b")
    line.leave("nobody")
    assert (line.oldest(), line.newest(), len(line), list(line)) == ("a", "d", 1, ["c"])
    assert (line.oldest(), line.oldest(), line.newest()) == ("c", None, None)


def test_one_timer_serves_all():
    clock, gone, line = make()
    for item in range(100):
        line.join(item)
        clock.advance(0.001)
    assert len(clock.turned.getDelayedCalls()) == 1
    clock.advance(0.15)
    assert 0 < len(gone) < 100
    clock.advance(0.2)
    assert gone == list(range(100))
    assert not clock.turned.getDelayedCalls()


def test_closing_forgets_all():
    clock, gone, line = make()
    line.join("a")
    line.close()
    assert not clock.turned.getDelayedCalls()
    line.join("b")
    clock.advance(1)
    assert gone == ["b"]


def test_being_sent_away_may_change_the_line():
    clock, gone = FakeClock(), []

    def expired(item):
        gone.append(item)
        line.leave("b")
        if item == "a":
            line.join("later")

    line = Line(clock, 1.0, expired)
    line.join("a")
    line.join("b")
    clock.advance(1.0)
    assert gone == ["a"]
    clock.advance(1.0)
    assert gone == ["a", "later"]


@given(st.lists(st.tuples(st.sampled_from(["join", "oldest", "newest", "leave"]), st.integers(0, 50)), max_size=60))
def test_everybody_waits_the_same_and_leaves_once(steps):
    clock, line, waiting, gone = FakeClock(), None, {}, []

    def expired(item):
        assert clock.monotonic() >= waiting.pop(item) + 0.2 - 1e-6
        gone.append(item)

    line = Line(clock, 0.2, expired)
    for number, (step, milliseconds) in enumerate(steps):
        if step == "join":
            line.join(number)
            waiting[number] = clock.monotonic()
        elif step == "leave":
            line.leave(milliseconds)
            waiting.pop(milliseconds, None)
        else:
            item = getattr(line, step)()
            expected = None
            if waiting:
                expected = next(iter(waiting)) if step == "oldest" else next(reversed(waiting))
            assert item == expected
            waiting.pop(item, None)
        clock.advance(milliseconds / 1000)
        assert all(clock.monotonic() < since + 0.2 + 1e-5 for since in waiting.values())
    clock.advance(1)
    assert not waiting
    assert len(set(gone)) == len(gone)
