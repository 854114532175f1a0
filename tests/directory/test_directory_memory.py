"""What is remembered of recipients, for how long, and under which spelling."""

import pytest
from fakes.clock import FakeClock
from fakes.state import FakeStateStore

from inboundmx.directory.memory import DAY, MINUTE, SPACE, Memory
from inboundmx.model.address import Address
from inboundmx.ports import Fact, Unavailable
from inboundmx.prompt import promptly

ANN = Address("ann", "a.example")
ANN_ALOUD = Address("Ann", "a.example")


class World:
    def __init__(self):
        self.clock = FakeClock()
        self.state = FakeStateStore(self.clock)
        self.memory = Memory(self.state, self.clock)

    def ask(self, question):
        came = []
        promptly(question, came.append, lambda failure: failure.raiseException())
        return came[0]

    def recall(self, address=ANN):
        return self.ask(self.memory.recall(address))


@pytest.fixture
def world():
    return World()


def test_nothing_is_known_of_nobody(world):
    assert world.recall() is None


@pytest.mark.parametrize(("source", "days"), [("handover", 36), ("delivery", 36), ("import", 36), ("callout", 7)])
def test_a_yes_holds_for_long(world, source, days):
    world.memory.note(ANN, True, source)
    world.clock.advance(days * DAY - 1)
    memo = world.recall()
    assert (memo.exists, memo.source, memo.fresh(world.clock.now())) == (True, source, True)
    world.clock.advance(2)
    assert world.recall() is None


def test_a_no_answers_for_ten_minutes_and_is_known_for_a_day(world):
    world.memory.note(ANN, False, "callout")
    assert world.recall().fresh(world.clock.now())
    world.clock.advance(10 * MINUTE + 1)
    assert not world.recall().fresh(world.clock.now())
    world.clock.advance(DAY - 10 * MINUTE - 2)
    assert world.recall() is not None
    world.clock.advance(2)
    assert world.recall() is None


def test_a_no_is_not_made_fresh_by_a_clock_that_was_put_back(world):
    world.memory.note(ANN, False, "callout")
    memo = world.recall()
    assert not memo.fresh(memo.heard_at - 11 * MINUTE)


def test_a_yes_holds_for_every_spelling_and_a_no_for_its_own(world):
    world.memory.note(ANN_ALOUD, True, "handover")
    assert world.recall().exists
    assert world.recall(ANN_ALOUD).exists
    world.clock.advance(5)
    world.memory.note(ANN_ALOUD, False, "callout")
    assert world.recall().exists
    assert not world.recall(ANN_ALOUD).exists
    world.clock.advance(5)
    world.memory.note(ANN, True, "handover")
    assert world.recall(ANN_ALOUD).exists


def test_the_last_word_counts(world):
    world.memory.note(ANN, True, "handover")
    world.memory.note(ANN, False, "delivery")
    assert not world.recall().exists
    world.memory.note(ANN, True, "delivery")
    assert world.recall().exists


def test_a_busy_mailbox_is_written_down_once_an_hour(world):
    for _ in range(50):
        world.memory.note(ANN, True, "handover")
    assert world.state.puts == 1
    world.clock.advance(3601)
    world.memory.note(ANN, True, "handover")
    assert world.state.puts == 2
    world.memory.note(ANN, True, "callout")
    world.memory.note(ANN, True, "import")
    assert world.recall().source == "handover"
    world.memory.forgotten()
    world.memory.note(ANN, True, "handover")
    assert world.state.puts == 3


def test_what_is_surer_is_written_down_at_once(world):
    for source in ("callout", "import", "delivery"):
        world.memory.note(ANN, True, source)
        assert world.recall().source == source


def test_a_store_that_fails_remembers_nothing(world):
    world.memory.note(ANN, True, "handover")
    world.state.failure = Unavailable("locked")
    assert world.recall() is None
    assert world.ask(world.memory.takes_anybody("a.example")) is None


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, 77.0, 1.0), (1.0, -1.0, 1.0), (1.0, 0.0, 1.0, 9.0)])
def test_what_another_release_wrote_is_not_misread(world, values):
    now = world.clock.now()
    world.state.put(SPACE, str(ANN), Fact(values, now, now + DAY))
    assert world.recall() is None


def test_whether_a_primary_takes_anybody_is_found_out_anew_after_a_while(world):
    for takes, hold in ((True, DAY), (False, DAY), (None, 3600.0)):
        world.memory.note_anybody("a.example", takes)
        world.clock.advance(hold - 1)
        assert world.ask(world.memory.takes_anybody("a.example")) is bool(takes)
        world.clock.advance(2)
        assert world.ask(world.memory.takes_anybody("a.example")) is None
