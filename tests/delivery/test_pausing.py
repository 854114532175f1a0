"""Pauses: what they stop, when they end, and that they survive."""

import pytest
from delivery_fakes import DOMAIN, FakeClock, parcel, route, run
from fakes.journal import FakeJournal
from twisted.internet.defer import Deferred, succeed

from inboundmx.delivery.pausing import Pause, Pauses, PausingCourier
from inboundmx.ports import Unavailable


class World:
    def __init__(self, *kept):
        self.clock = FakeClock()
        self.journal = FakeJournal()
        self.written = list(kept)
        self.trouble = None
        self.ended = []
        self.pauses = Pauses(self.clock, self.journal, self.keep, kept)
        self.pauses.ended = self.ended.append

    async def keep(self, pauses):
        if self.trouble:
            raise self.trouble
        self.written = list(pauses)

    def pause(self, domain=DOMAIN, seconds=None):
        now = self.clock.now()
        pause = Pause(domain, "new server", "ann", now, None if seconds is None else now + seconds)
        return run(self.pauses.pause(pause))

    def restarted(self):
        again = World(*self.written)
        again.clock.offset = self.clock.now()
        again.pauses.start()
        return again


@pytest.fixture
def world():
    made = World()
    made.pauses.start()
    return made


def test_a_pause_is_its_domain_s_own(world):
    world.pause()
    assert world.pauses.of(DOMAIN).reason == "new server"
    assert world.pauses.of("b.example") is None


def test_a_pause_of_all_goes_beside_that_of_a_domain(world):
    world.pause("")
    world.pause()
    assert world.pauses.of("b.example").domain == ""
    run(world.pauses.resume("", "bob"))
    assert world.pauses.of("b.example") is None and world.pauses.of(DOMAIN)
    assert world.ended == [""]
    assert world.journal.named("paused", "resumed") == [("paused", ""), ("paused", ""), ("resumed", "")]
    assert world.journal.events[-1][2]["asked_by"] == "bob"


def test_what_is_not_paused_cannot_be_resumed(world):
    world.pause()
    got, _ = run(world.pauses.resume("", "bob"))
    assert got == [None] and not world.ended and len(world.written) == 1


def test_a_pause_ends_by_itself(world):
    world.pause("", 100)
    world.pause(DOMAIN, 50)
    world.clock.advance(49)
    assert not world.ended
    world.clock.advance(1)
    assert world.ended == [DOMAIN] and world.pauses.of(DOMAIN).domain == ""
    world.clock.advance(50)
    assert world.ended == [DOMAIN, ""] and world.pauses.of(DOMAIN) is None
    assert not world.clock.turned.getDelayedCalls()


def test_a_pause_that_a_clock_put_forward_ends_is_told_to_what_waits_behind_it(world):
    world.pause(seconds=36000)
    world.clock.jump(86400)
    assert world.pauses.of(DOMAIN) is None
    world.clock.advance(60)
    assert world.ended == [DOMAIN]
    assert world.journal.named("resumed") == [("resumed", "")]


def test_a_pause_survives_a_restart_and_still_ends(world):
    world.pause(seconds=100)
    world.clock.advance(40)
    again = world.restarted()
    assert again.pauses.of(DOMAIN) == world.pauses.of(DOMAIN)
    assert again.journal.named("still_paused") == [("still_paused", "")]
    again.clock.advance(60)
    assert again.ended == [DOMAIN]


def test_a_pause_that_ended_while_nobody_ran_is_over(world):
    world.pause(seconds=100)
    world.clock.advance(100)
    again = world.restarted()
    assert again.pauses.of(DOMAIN) is None and again.pauses.all() == []


def test_what_cannot_be_written_does_not_pause(world):
    world.trouble = Unavailable("disk")
    (failed,), _ = world.pause()
    assert isinstance(failed, Unavailable) and world.pauses.of(DOMAIN) is None
    world.trouble = None
    world.pause()
    world.trouble = Unavailable("disk")
    run(world.pauses.resume(DOMAIN, "bob"))
    assert world.pauses.of(DOMAIN) is not None and not world.ended


def test_two_who_pause_at_once_are_written_one_after_the_other(world):
    writing = []

    def slowly(pauses):
        writing.append((Deferred(), list(pauses)))
        return writing[-1][0]

    world.pauses._keep = slowly
    world.pause("a.example")
    world.pause("b.example")
    assert len(writing) == 1
    writing[0][0].callback(None)
    writing[1][0].callback(None)
    assert [pause.domain for pause in writing[1][1]] == ["a.example", "b.example"]


def test_a_stop_leaves_no_timer(world):
    world.pause(seconds=100)
    world.pauses.stop()
    assert not world.clock.turned.getDelayedCalls()


class Courier:
    def hand_over(self, parcel, route):
        return succeed("handed over")


def test_mail_of_a_paused_domain_is_spooled_at_once(world):
    courier = PausingCourier(Courier(), world.pauses)

    async def hand_over():
        return await courier.hand_over(parcel(), route())

    assert run(hand_over())[0] == ["handed over"]
    world.pause()
    (handover,), _ = run(hand_over())
    assert (handover.kind, handover.detail) == ("postponed", "paused by ann: new server")
