"""The breaker with its shared probe, and the suspicion that it is us who are refused."""

import pytest
from delivery_fakes import REFUSED, FakeChance, FakeClock
from twisted.internet.defer import Deferred

from inboundmx.delivery.health import SAME_REFUSALS, Breaker, Suspicion
from inboundmx.model.reply import Reply


class World:
    def __init__(self):
        self.clock = FakeClock()
        self.knocks, self.back, self.tripped = [], [], []
        self.wanted = True
        self.breaker = Breaker(
            self.clock, FakeChance(), self.connect, self.back.append, self.tripped.append, lambda: self.wanted
        )

    def connect(self):
        self.knocks.append(Deferred())
        return self.knocks[-1]

    def knock(self):
        got = []
        self.breaker.knock().addCallback(got.append)
        return got


@pytest.fixture
def world():
    return World()


def test_closed_means_go(world):
    assert (world.breaker.state, world.breaker.open, world.knock()) == ("closed", False, [None])
    assert not world.knocks


def test_open_half_open_closed(world):
    world.breaker.trip(REFUSED)
    world.breaker.trip(REFUSED)
    assert world.tripped == [REFUSED]
    assert world.breaker.state == "open"
    world.clock.advance(29.99)
    assert not world.knocks
    world.clock.advance(0.31)
    assert world.breaker.state == "half-open"
    world.knocks[0].callback("connection")
    assert (world.breaker.state, world.back) == ("closed", ["connection"])
    world.clock.advance(1000)
    assert len(world.knocks) == 1


def test_a_probe_every_half_minute_while_nobody_answers(world):
    world.breaker.trip(REFUSED)
    for turn in range(1, 5):
        world.clock.advance(30.3)
        assert len(world.knocks) == turn
        world.knocks[-1].errback(REFUSED)
    assert world.breaker.open


def test_who_knocks_shares_one_connect(world):
    world.breaker.trip(REFUSED)
    assert world.knock() == [REFUSED]  # it was tried this very second
    world.clock.advance(5)
    asked = [world.knock() for _ in range(100)]
    assert len(world.knocks) == 1
    world.knocks[0].errback(REFUSED)
    assert asked == [[REFUSED]] * 100
    assert world.knock() == [REFUSED]
    assert len(world.knocks) == 1
    world.clock.advance(1.5)
    asked = world.knock()
    world.knocks[1].callback("connection")
    assert asked == [None]
    assert world.back == ["connection"]


def test_closing_ends_the_probe(world):
    world.breaker.trip(REFUSED)
    world.clock.advance(5)
    asked = world.knock()
    world.breaker.close()
    assert asked[0].trouble == "abandoned"
    assert not world.clock.turned.getDelayedCalls()


def test_a_host_that_no_settings_name_is_not_probed_for_ever(world):
    world.breaker.trip(REFUSED)
    world.wanted = False
    world.clock.advance(31)
    assert not world.knocks
    assert not world.clock.turned.getDelayedCalls()
    assert world.breaker.state == "closed"


def replies(*words):
    return [Reply(int(word[0]) * 100 + 50, word, "x") for word in words]


@pytest.mark.parametrize(
    ("heard", "certain", "alarms"),
    [
        (["5.7.1"] * (SAME_REFUSALS - 1), False, 0),
        (["5.7.1"] * SAME_REFUSALS, True, 1),
        (["5.7.1"] * SAME_REFUSALS * 3, True, 1),
        (["5.7.1"] * 10 + ["5.7.26"] * 10, False, 0),
        (["5.7.1"] * 19 + ["2.0.0"] + ["5.7.1"] * 19, False, 0),
        (["5.7.1"] * 19 + ["5.1.1"] + ["5.7.1"] * 19, False, 0),
        (["5.1.1"] * 50, False, 0),
        (["5.7.1"] * SAME_REFUSALS + ["2.0.0"], False, 1),
        (["5.7.1"] * 19 + ["4.2.0"] * 5 + ["5.7.1"], True, 1),
    ],
)
def test_when_it_is_us_who_are_refused(heard, certain, alarms):
    suspicion = Suspicion()
    assert sum(suspicion.heard(reply) for reply in replies(*heard)) == alarms
    assert suspicion.certain is certain


def test_what_another_process_found_is_not_told_on_and_seldom_probed(world):
    world.breaker.trip(REFUSED, heard=True)
    assert (world.breaker.state, world.tripped) == ("open", [])
    world.clock.advance(299)
    assert not world.knocks
    world.clock.advance(5)
    assert len(world.knocks) == 1


def test_told_to_look_it_probes_now_and_goes_on_by_itself(world):
    world.breaker.look()
    assert not world.knocks, "nothing was down"
    world.breaker.trip(REFUSED, heard=True)
    world.breaker.look()
    assert len(world.knocks) == 1
    world.knocks[0].errback(REFUSED)
    world.clock.advance(30.3)
    assert len(world.knocks) == 2
    world.knocks[1].callback("connection")
    assert (world.breaker.state, world.back) == ("closed", ["connection"])
