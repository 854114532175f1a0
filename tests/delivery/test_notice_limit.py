"""How many notices are written in an hour, in all and to one address."""

from __future__ import annotations

from delivery_fakes import FakeClock, entry, settings
from fakes.journal import FakeJournal

from inboundmx.delivery.notice_limit import ADDRESS_LIMIT, NoticeLimit
from inboundmx.model.address import Address
from inboundmx.policy.retrying import Settlement

TOLD, HELD = Settlement(None, fate="notify"), Settlement(None, fate="held")


class World:
    def __init__(self, per_hour: int = 1000) -> None:
        self.clock = FakeClock()
        self.journal = FakeJournal()
        self.settings = settings(notices_per_hour=per_hour)
        self.limit = NoticeLimit(lambda: self.settings, self.clock, self.journal)

    def write(self, sender: Address, times: int) -> int:
        """How many of so many notices there was room for."""
        written = 0
        for _ in range(times):
            room = self.limit.room(sender)
            written += room
            self.limit.settled(entry(sender=sender, may_notify=True), TOLD if room else HELD)
        return written


def sender(number: int = 0) -> Address:
    return Address(f"s{number}", "b.example")


def test_one_address_is_told_little_and_others_as_before() -> None:
    world = World()
    assert world.write(sender(), 50) == ADDRESS_LIMIT
    assert world.write(sender(1), 3) == 3


def test_an_hour_has_its_notices_and_the_next_one_as_many_again() -> None:
    world = World(per_hour=10)
    assert sum(world.write(sender(n), 1) for n in range(30)) == 10
    world.clock.advance(3599)
    assert not world.limit.room(sender(99))
    world.clock.advance(1)
    assert sum(world.write(sender(n), 1) for n in range(30)) == 10


def test_a_wall_clock_that_jumps_gives_no_room() -> None:
    world = World(per_hour=1)
    assert world.write(sender(), 1) == 1
    world.clock.jump(86400)
    assert not world.limit.room(sender())


def test_that_there_was_no_room_is_said_once_an_hour() -> None:
    world = World(per_hour=2)
    for _ in range(2):
        world.write(sender(), 50)
        world.clock.advance(3600)
    assert [event for event, _, _, _ in world.journal.events] == ["notice_throttled"] * 2
    _, _, fields, level = world.journal.events[0]
    assert (fields["sender"], fields["notices_per_hour"], level) == ("s0@b.example", 2, "warning")


def test_mail_that_is_held_because_nobody_may_be_told_is_no_want_of_room() -> None:
    world = World()
    world.limit.settled(entry(may_notify=False), HELD)
    assert not world.journal.events


def test_a_changed_limit_holds_at_once() -> None:
    world = World(per_hour=1)
    assert world.write(sender(), 2) == 1
    world.settings = settings(notices_per_hour=5)
    assert world.write(sender(), 9) == 4


def test_the_null_sender_needs_no_room() -> None:
    assert World().limit.room(None) is False
