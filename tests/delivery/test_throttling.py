"""What an hour may carry, and what waits for the next."""

from dataclasses import replace

import pytest
from delivery_fakes import FakeClock, domain
from fakes.journal import FakeJournal

from inboundmx.delivery.throttling import HOURS, Throttling


class World:
    def __init__(self):
        self.clock = FakeClock()
        self.journal = FakeJournal()
        self.throttling = Throttling(self.clock, self.journal)

    def take(self, limits, size=100, null=False, outgoing=False):
        return self.throttling.take(limits, outgoing, size, null)


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize(
    ("limits", "messages", "seconds"),
    [
        ({}, [(10**9, True)] * 3, [0, 0, 0]),
        ({"messages_per_hour": 2}, [(1, False)] * 4, [0, 0, 3600, 3600]),
        ({"bandwidth_per_hour": 250}, [(100, False), (150, False), (1, False)], [0, 0, 3600]),
        ({"bandwidth_per_hour": 250}, [(900, False), (1, False)], [0, 3600]),
        ({"bandwidth_per_hour": 250}, [(100, False), (900, False), (150, False)], [0, 3600, 0]),
        ({"bounces_per_hour": 1}, [(1, True), (1, True), (1, False)], [0, 3600, 0]),
    ],
)
def test_limits(world, limits, messages, seconds):
    limits = domain(**limits)
    assert [world.take(limits, *message) for message in messages] == seconds
    world.clock.advance(3600)
    assert world.take(limits, *messages[0]) == 0


def test_an_hour_begins_with_its_first_message_and_is_not_moved_by_a_clock_that_jumps(world):
    limits = domain(messages_per_hour=1)
    world.clock.advance(1234)
    assert world.take(limits) == 0
    world.clock.jump(86400)
    world.clock.advance(600)
    assert world.take(limits) == 3000


def test_it_is_told_once_an_hour_and_shown_while_it_lasts(world):
    limits = domain(messages_per_hour=1)
    for _ in range(3):
        for _ in range(5):
            world.take(limits)
        assert world.throttling.status() == {"a.example": {"limit": "messages_per_hour", "seconds": 3600}}
        world.clock.advance(3600)
        assert not world.throttling.status()
    assert [level for event, _, _, level in world.journal.events if event == "throttled"] == ["warning"] * 3


def test_what_is_sent_is_counted_apart_from_what_comes_in(world):
    limits = domain(messages_per_hour=1)
    assert [world.take(limits), world.take(limits, outgoing=True)] == [0, 0]
    assert world.take(limits) and world.take(limits, outgoing=True)
    assert world.throttling.status().keys() == {"a.example", "a.example (outgoing)"}


def test_what_was_not_delivered_is_given_back(world):
    limits = domain(messages_per_hour=1, bandwidth_per_hour=100, bounces_per_hour=1)
    assert world.take(limits, null=True) == 0
    world.throttling.give_back(limits, False, 100, True)
    assert world.take(limits, null=True) == 0
    assert world.take(limits, null=True) == 3600


def test_domains_without_limits_and_hours_that_are_over_cost_nothing(world):
    world.take(domain())
    assert not world.throttling._hours
    for number in range(3 * HOURS):
        world.take(replace(domain(messages_per_hour=1), name=f"d{number}.example"))
        world.clock.advance(10)
    assert len(world.throttling._hours) <= HOURS + 360
