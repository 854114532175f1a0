"""What is due when, in which order, and how much at once."""

import pytest
from delivery_fakes import FakeClock, entry

from inboundmx.delivery.agenda import TURN, Agenda


class World:
    def __init__(self, room=100):
        self.clock = FakeClock()
        self.started = []
        self.agenda = Agenda(self.clock, lambda id, slot: self.started.append((id, slot)), lambda: room)

    @property
    def ids(self):
        return [id for id, _ in self.started]


@pytest.fixture
def world():
    return World()


def test_each_at_its_time_with_one_timer(world):
    for id, seconds in (("c", 30), ("a", 10), ("b", 20), ("now", 0)):
        world.agenda.put(entry(id), seconds)
    assert len(world.clock.turned.getDelayedCalls()) == 1
    assert world.ids == ["now"]
    world.clock.advance(20)
    assert world.started == [("now", True), ("a", True), ("b", True)]
    world.clock.advance(10)
    assert world.ids[-1] == "c"
    assert not world.clock.turned.getDelayedCalls()


def test_the_highest_priority_first_then_the_oldest():
    world = World(room=1)
    world.agenda.put(entry("running"), 0)
    for id, priority, at in (("new", 5, 9.0), ("old", 5, 1.0), ("low", 1, 0.0), ("high", 10, 99.0)):
        world.agenda.put(entry(id, priority=priority, at=at), 0)
    for id in ("running", "high", "old", "new", "low"):
        assert world.ids[-1] == id
        world.agenda.finished(id)


def test_room_is_each_destination_s_own():
    world = World(room=2)
    for n in range(5):
        world.agenda.put(entry(f"a{n}"), 0)
    world.agenda.put(entry("b", domain="b.example"), 0)
    assert world.ids == ["a0", "a1", "b"]
    assert world.agenda.counts() == {
        "a.example": {"later": 0, "due": 3, "running": 2},
        "b.example": {"later": 0, "due": 0, "running": 1},
    }


def test_what_comes_back_is_brought_forward_unless_it_may_not_come_early(world):
    world.agenda.put(entry("may"), 100)
    world.agenda.put(entry("may not"), 100, early=False)
    world.agenda.put(entry("other", domain="b.example"), 100)
    world.agenda.bring_forward("a.example")
    world.agenda.bring_forward("unknown.example")
    assert world.started == [("may", False)]
    world.clock.advance(100)
    assert sorted(world.started[1:]) == [("may not", True), ("other", True)]


def test_now_is_out_of_turn_and_the_old_time_is_forgotten(world):
    world.agenda.put(entry("a"), 100)
    world.agenda.now("a")
    world.agenda.now("nobody")
    assert world.started == [("a", False)]
    world.agenda.finished("a")
    world.clock.advance(200)
    assert len(world.started) == 1


def test_the_last_word_counts(world):
    world.agenda.put(entry("a"), 10)
    world.agenda.put(entry("a"), 50)
    world.agenda.put(entry("b"), 10)
    world.agenda.drop("b")
    world.clock.advance(49)
    assert not world.started
    world.clock.advance(2)
    assert world.ids == ["a"]


def test_what_runs_is_not_started_twice(world):
    world.agenda.put(entry("a"), 0)
    world.agenda.put(entry("a"), 0)
    world.agenda.bring_forward("a.example")
    assert world.ids == ["a"]
    world.agenda.finished("a")
    world.agenda.put(entry("a"), 0)
    assert world.ids == ["a", "a"]


def test_what_ends_at_once_does_not_nest():
    depth, deepest, started = 0, 0, []

    def start(id, slot):
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        started.append(id)
        agenda.finished(id)
        depth -= 1

    clock = FakeClock()
    agenda = Agenda(clock, start, lambda: 1)
    for n in range(3 * TURN):
        agenda.put(entry(f"e{n}"), 1)
    clock.advance(3)
    assert len(started) == 3 * TURN
    assert deepest == 1


def test_a_host_that_flaps_leaves_nothing_behind(world):
    for _ in range(50):
        for n in range(100):
            world.agenda.put(entry(f"e{n}"), 86400)
        world.agenda.bring_forward("a.example")
        for n in range(100):
            world.agenda.finished(f"e{n}")
        world.clock.advance(1)
    assert len(world.started) == 5000
    assert len(world.agenda._wakes) <= 2 * TURN
    assert not world.agenda.counts()


def test_stop_starts_nothing_more(world):
    world.agenda.put(entry("a"), 1)
    world.agenda.stop()
    world.agenda.put(entry("b"), 0)
    world.agenda.now("a")
    world.clock.advance(10)
    assert not world.started
    assert not world.clock.turned.getDelayedCalls()
