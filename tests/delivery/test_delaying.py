"""Notices of delay when their time has come, whatever the schedule, the breaker and operators say."""

import pytest
from delivery_fakes import ANN, BOB, CONTENT, FIRST, OK, REFUSED, domain, entry, settings
from test_delivery_service import BACKUP, HOME, World
from twisted.internet.defer import Deferred

from inboundmx.delivery.delaying import LOOK_SECONDS, TURN
from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolRecipient, State
from inboundmx.ports import Damaged

HOUR = 3600.0


def down(*domains, **delivery):
    """A world whose primary of a.example is down, and which delivers notices."""
    world = World(*(domains or (BACKUP, HOME)), **delivery)
    world.transmitter.hosts[FIRST] = REFUSED
    world.answering(OK)
    return world


def told(world):
    """What the delivered notices say."""
    return [sent.parcel.content.body.head for sent in world.transmitter.sent if sent.connection.host != FIRST]


@pytest.mark.parametrize("paused", [False, True])
def test_between_two_attempts_the_sender_is_told_in_time_and_once(paused):
    world = down()
    world.paused |= {"a.example"} if paused else set()
    world.deposit(entry(may_notify=True))
    world.clock.advance(4 * HOUR - 1)
    assert told(world) == []
    world.clock.advance(LOOK_SECONDS + 1)
    (notice,) = told(world)
    assert b"Action: delayed" in notice and b"Will-Retry-Until" in notice
    kept = world.row()
    assert (kept.delay_notified, kept.attempts) == (True, 0 if paused else 4)
    assert world.journal.named("delay_notified") == [("delay_notified", "m-entry1")]
    world.clock.advance(12 * HOUR)
    assert len(told(world)) == 1


def test_its_schedule_is_what_it_was():
    """Slots, and that it is brought forward when its primary is back."""
    worlds = down(), down(delay_notice=0.0)
    for world in worlds:
        world.deposit(entry(may_notify=True))
        world.clock.advance(10 * HOUR)
    one, other = (world.row() for world in worlds)
    assert (one.slots_used, one.next_attempt_at) == (other.slots_used, other.next_attempt_at)
    for world in worlds:
        world.transmitter.hosts[FIRST] = "up"
        world.clock.advance(31)
        assert world.spool.removed[-1] == "entry1"


@pytest.mark.parametrize(
    "facts",
    [
        {"may_notify": False},
        {"may_notify": True, "sender": None},
        {"may_notify": True, "notice": True},
        {"may_notify": True, "delay_notified": True},
        {
            "may_notify": True,
            "recipients": (SpoolRecipient(ANN, notify="FAILURE"), SpoolRecipient(BOB, notify="NEVER")),
        },
        {"may_notify": True, "state": State.HELD, "next_attempt_at": None},
    ],
)
def test_nobody_is_told_who_may_not_be_or_asked_not_to(facts):
    world = down()
    world.deposit(entry(**facts))
    world.clock.advance(9 * HOUR)
    assert told(world) == [] and not world.journal.named("delay_notified")


@pytest.mark.parametrize(("section", "kept"), [(BACKUP, True), (domain(), False)])
def test_what_is_held_in_the_end_is_not_promised_to_be_told_of(section, kept):
    world = down(section, HOME)
    world.deposit(entry(may_notify=True))
    world.clock.advance(5 * HOUR)
    (notice,) = told(world)
    text = b" ".join(notice.split())
    assert (b"kept here until somebody decides" in text) is kept
    assert (b"You will be told if it fails" in text) is not kept


def test_what_waits_for_its_turn_while_paused_still_has_its_slot():
    world = down()
    world.paused.add("a.example")
    world.deposit(entry(may_notify=True))
    world.clock.advance(5 * HOUR)
    assert len(told(world)) == 1
    world.paused.clear()
    world.service.resumed("a.example")
    assert (world.row().slots_used, world.row().attempts) == (1, 1)


def test_while_the_notice_is_written_nobody_else_has_the_entry():
    world = down()
    world.deposit(entry(may_notify=True))
    reading = Deferred()
    world.spool.content = lambda id: reading
    world.clock.advance(5 * HOUR)
    assert world.service.set_aside(["entry1"]) == set()
    world.service.force(["entry1"])
    assert world.row().attempts == 4
    reading.callback(CONTENT)
    assert world.row().delay_notified
    assert world.service.set_aside(["entry1"]) == {"entry1"}


def test_what_an_operator_has_set_aside_is_left_alone():
    world = down()
    world.deposit(entry(may_notify=True))
    world.service.set_aside(["entry1"])
    world.clock.advance(5 * HOUR)
    assert told(world) == []
    world.service.changed(["entry1"])
    world.clock.advance(LOOK_SECONDS)
    assert len(told(world)) == 1


def test_what_cannot_be_read_is_for_the_next_attempt_to_find():
    world = down()
    world.deposit(entry(may_notify=True))
    world.clock.advance(3 * HOUR)
    world.spool.damaged = Damaged("hash")
    world.clock.advance(2 * HOUR)
    assert (world.row().state, world.row().delay_notified) == (State.ACTIVE, False)


def test_beyond_the_notices_of_an_hour_the_next_hour_tells():
    world = down(BACKUP, HOME, notices_per_hour=2)
    senders = [Address(f"s{n}", "b.example") for n in range(5)]
    world.deposit(*(entry(f"e{n}", may_notify=True, sender=sender) for n, sender in enumerate(senders)))
    world.clock.advance(4 * HOUR + 2 * LOOK_SECONDS)
    assert len(told(world)) == 2
    world.clock.advance(2 * HOUR)
    assert len(told(world)) == 5


def test_a_large_spool_is_looked_through_in_parts():
    world = down(BACKUP, HOME, notices_per_hour=10**6)
    world.paused.add("a.example")
    many = 2 * TURN + 5
    world.deposit(*(entry(f"e{n}", may_notify=n == many - 1) for n in range(many)))
    world.clock.advance(5 * HOUR)
    assert len(told(world)) == 1


def test_nothing_is_looked_for_when_nothing_waits():
    world = down()
    world.deposit(entry(may_notify=True))
    world.transmitter.hosts[FIRST] = "up"
    world.clock.advance(20 * 60)
    assert not world.spool.rows
    assert not world.clock.turned.getDelayedCalls()


def test_a_stop_ends_it():
    world = down()
    world.deposit(entry(may_notify=True))
    reading = Deferred()
    world.spool.content = lambda id: reading
    world.clock.advance(5 * HOUR)
    stopped = world.service.stop(5.0)
    world.clock.advance(5)
    assert stopped.called
    world.clock.advance(5 * HOUR)
    assert not world.row().delay_notified


def test_a_changed_span_holds_for_what_waits_already():
    world = down(delay_notice=0.0)
    world.deposit(entry(may_notify=True))
    world.clock.advance(9 * HOUR)
    assert told(world) == []
    world.settings = settings(BACKUP, HOME, delay_notice=HOUR)
    world.clock.advance(LOOK_SECONDS)
    assert len(told(world)) == 1
