"""What is due when, in which order, and how much at once."""

import tracemalloc

import pytest
from delivery_fakes import FIRST, SECOND, FakeClock, entry
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.delivery.agenda import AT_ONCE, BURST, BURST_SECONDS, TOLD, TURN, Agenda


class World:
    def __init__(self, room=100):
        self.clock = FakeClock()
        self.started = []
        self.agenda = Agenda(self.clock, lambda id, slot, asked: self.started.append((id, slot)), lambda: room)

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


@pytest.mark.parametrize(
    ("domain", "most"), [("a.example", 1), ("d{}.example", 2)], ids=["one destination", "many destinations"]
)
def test_what_ends_at_once_does_not_nest(domain, most):
    depth, deepest, started = 0, 0, []

    def start(id, slot, asked):
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        started.append(id)
        agenda.finished(id)
        depth -= 1

    clock = FakeClock()
    agenda = Agenda(clock, start, lambda: 1)
    for n in range(3 * TURN):
        agenda.put(entry(f"e{n}", domain=domain.format(n)), 1)
    clock.advance(3)
    assert len(started) == 3 * TURN
    assert 1 <= deepest <= most


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


# --- many ---


def test_an_entry_costs_few_octets(world):
    entries = [entry(f"e{n}", at=float(n), attempts=1) for n in range(20000)]
    tracemalloc.start()
    for each in entries:
        world.agenda.put(each, 60.0)
    octets, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert octets / len(entries) < 300


def test_a_wave_is_spread_and_the_most_urgent_first(world):
    for n in range(5 * BURST):
        world.agenda.put(entry(f"e{n:05}", domain=f"d{n}.example", priority=5), 10)
    world.clock.advance(10)
    assert len(world.started) == BURST
    world.clock.advance(BURST_SECONDS)
    assert len(world.started) == 2 * BURST
    world.clock.advance(1)
    assert len(world.started) == 5 * BURST


def test_a_destination_that_takes_its_time_leaves_room_for_the_first_of_others():
    world = World(room=10**6)
    for n in range(3 * AT_ONCE):
        world.agenda.put(entry(f"slow{n}"), 0)
    world.clock.advance(60)
    assert len(world.started) == AT_ONCE
    for n in range(10):
        world.agenda.put(entry(f"x{n}", domain="x.example"), 0)
    assert len(world.started) == AT_ONCE + 1
    for n in range(5):
        world.agenda.finished(f"slow{n}")
        world.clock.advance(1)
    # They take turns.
    assert {id[0] for id in world.ids[AT_ONCE + 1 :]} == {"s", "x"}


def test_many_destinations_come_back_in_parts_and_are_started_when_all_is_known():
    world = World(room=1)
    for n in range(3 * TURN):
        world.agenda.put(entry(f"e{n}", at=float(n), priority=9 if n == 3 * TURN - 1 else 5), 1000)
    world.agenda.put(entry("fixed"), 500, early=False)
    world.agenda.bring_forward("a.example")
    world.agenda.bring_forward("a.example")
    assert not world.started
    world.agenda.now("e7")
    world.agenda.drop("e0")
    world.clock.advance(0)
    assert world.started == [(f"e{3 * TURN - 1}", False)]
    world.agenda.finished(world.ids[-1])
    assert world.started[-1] == ("e1", False)
    assert world.agenda.counts()["a.example"] == {"later": 1, "due": 3 * TURN - 3, "running": 1}


def test_nothing_is_started_while_it_is_held(world):
    world.agenda.hold()
    world.agenda.put(entry("a", priority=3), 0)
    world.agenda.put(entry("b", priority=9), 0)
    world.agenda.put(entry("later"), 5)
    world.clock.advance(3)
    assert not world.started
    world.agenda.begin()
    assert world.ids == ["b", "a"]
    world.clock.advance(2)
    assert world.ids[-1] == "later"


# --- destinations ---


def test_a_destination_is_forgotten_with_its_last_entry_and_keeps_its_hosts_until_then(world):
    world.agenda.put(entry("a"), 0)
    world.agenda.goes_to("a", (FIRST, SECOND))
    world.agenda.again(entry("a"), 5)
    assert world.agenda.destinations() == (("a.example", ""),)
    assert world.agenda.hosts(("a.example", "")) == (FIRST, SECOND)
    world.clock.advance(5)
    world.agenda.finished("a")
    assert not world.agenda.destinations()
    world.agenda.put(entry("b"), 5)
    world.agenda.drop("b")
    assert not world.agenda.destinations()


def test_a_domain_of_ours_and_mail_that_leaves_us_for_it_are_two_destinations_told_as_one():
    world = World(room=1)
    world.agenda.put(entry("a"), 0)
    world.agenda.put(entry("b", via="outbound"), 0)
    world.agenda.put(entry("c", via="archive", domain="all"), 9)
    assert world.ids == ["a", "b"]
    counts = world.agenda.counts()
    assert counts["a.example"] == {"later": 0, "due": 0, "running": 2}
    assert counts["archive all"]["later"] == 1


def test_only_the_fullest_are_told(world):
    for n in range(TOLD + 50):
        world.agenda.put(entry(f"e{n}", domain=f"d{n}.example"), 9)
    world.agenda.put(entry("one more", domain="d7.example"), 9)
    assert len(world.agenda.counts()) == TOLD
    assert world.agenda.counts()["d7.example"]["later"] == 2


def test_a_knock_takes_one_that_may_come_early(world):
    world.agenda.put(entry("fixed"), 50, early=False)
    world.agenda.put(entry("a"), 60)
    world.agenda.put(entry("b"), 70)
    assert world.agenda.knock("a.example", "")
    assert world.started == [("a", False)]
    assert not world.agenda.knock("b.example", "")


def test_what_is_put_without_a_slot_uses_none(world):
    world.agenda.put(entry("a"), 5, slot=False)
    world.clock.advance(5)
    assert world.started == [("a", False)]


IDS = st.sampled_from("abcdefgh")
STEPS = st.one_of(
    st.tuples(st.just("put"), IDS, st.integers(0, 3), st.booleans()),
    st.tuples(st.sampled_from(["drop", "now", "again", "finished"]), IDS),
    st.tuples(st.sampled_from(["bring", "tick"])),
)


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_the_counts_are_true_and_nothing_is_stranded(steps):
    world = World(room=2)
    agenda = world.agenda
    known = set()
    for step, *rest in steps:
        if step == "put":
            id, seconds, early = rest
            agenda.put(entry(id), seconds, early=early)
            known.add(id)
        elif step == "drop":
            if not agenda.running(rest[0]):
                known.discard(rest[0])
            agenda.drop(rest[0])
        elif step == "now":
            agenda.now(rest[0])
        elif step == "again" and agenda.running(rest[0]):
            agenda.again(entry(rest[0]), 1)
        elif step == "finished" and agenda.running(rest[0]):
            known.discard(rest[0])
            agenda.finished(rest[0])
        elif step == "bring":
            agenda.bring_forward("a.example")
        elif step == "tick":
            world.clock.advance(1)
        running = {id for id in "abcdefgh" if agenda.running(id)}
        due = {id for id in "abcdefgh" if agenda.due(id)}
        assert len(running) <= 2 and not running & due
        counts = agenda.counts().get("a.example", {"later": 0, "due": 0, "running": 0})
        assert (counts["due"], counts["running"], sum(counts.values())) == (len(due), len(running), len(known))
    while known:
        world.clock.advance(5)
        running = {id for id in known if agenda.running(id)}
        assert running
        for id in running:
            agenda.finished(id)
        known -= running
    assert not agenda.counts()
