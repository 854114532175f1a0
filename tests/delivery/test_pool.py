"""Connections to one host: the line, the backlog behind it, what is kept and what is learned."""

import pytest
from delivery_fakes import FIRST, REFUSED, SECOND, FakeChance, FakeClock, FakeTransmitter
from twisted.internet.defer import CancelledError, DeferredSemaphore

from inboundmx.delivery.budget import Budget
from inboundmx.delivery.pool import KEPT_MESSAGES, RESERVED_SECONDS, Kept, Pool
from inboundmx.model.custody import Host, Terms
from inboundmx.model.reply import Reply
from inboundmx.ports import Refused

OPPORTUNISTIC = Terms()
THIRD = Host("192.0.2.12")
TOO_MANY = Refused("lost", "greeting", Reply(421, "4.7.0", "too many"), "too many connections")


class World:
    def __init__(self, cap=3, budget=50, host=FIRST, shared=None, terms=OPPORTUNISTIC):
        self.clock = shared.clock if shared else FakeClock()
        self.transmitter = shared.transmitter if shared else FakeTransmitter(self.clock)
        self.budget = shared.budget if shared else Budget(lambda: budget)
        self.back, self.tripped, self.greeted = [], [], []
        self.pool = Pool(
            host,
            terms,
            self.transmitter,
            self.clock,
            FakeChance(),
            self.budget,
            lambda: cap,
            self.back.append,
            lambda pool, refused: self.tripped.append(refused),
            lambda host: True,
            self.greeted.append,
            DeferredSemaphore(5),
        )

    def join(self):
        return fired(self.pool.join())

    def wait(self):
        return fired(self.pool.wait())

    def open(self, many):
        """So many connections in use by live mail."""
        kept = [self.pool.take() or self.join()[0] for _ in range(many)]
        assert all(isinstance(one, Kept) for one in kept)
        return kept

    def measured(self, seconds):
        """One connection, idle, and a known service time."""
        (kept,) = self.open(1)
        self.pool.give_back(kept, seconds)


def fired(deferred):
    """A list that gets what it fires with; None when there was nothing to wait for."""
    if deferred is None:
        return None
    got = []
    deferred.addBoth(lambda result: got.append(getattr(result, "value", result)))
    return got


@pytest.fixture
def world():
    return World()


def test_the_most_recently_used_is_used_first(world):
    a, b = world.open(2)
    world.pool.give_back(a, 0.01)
    world.pool.give_back(b, 0.01)
    assert world.pool.take() is b
    assert world.pool.take() is a
    assert world.pool.take() is None


def test_one_more_is_opened_for_each_that_finds_none_up_to_the_cap(world):
    world.transmitter.hosts[FIRST] = None
    for _ in range(5):
        world.join()
    assert [seconds for _, seconds, _, _ in world.transmitter.asked] == [5.0] * 3


@pytest.mark.parametrize(
    ("service", "joining"),
    # Three connections serve 600 ms of work within 200 ms: (waiting + 1) x service <= 200 ms x 3.
    [(0.6, 1), (0.61, 0), (0.3, 2), (0.2, 3), (0.01, 60), (0.0, 100)],
)
def test_the_line_is_as_long_as_can_be_served_in_time(world, service, joining):
    kept = world.open(3)
    if service:
        world.pool.give_back(kept.pop(), service)
        world.pool.take()
    answers = [world.pool.join() for _ in range(100)]
    assert [answer is not None for answer in answers] == [True] * joining + [False] * (100 - joining)


def test_the_line_is_served_in_order_and_left_after_200_ms(world):
    kept = world.open(3)
    first, second, third = world.join(), world.join(), world.join()
    world.clock.advance(0.1)
    world.pool.give_back(kept[0], 0.1)
    assert first == [kept[0]]
    assert not second
    world.clock.advance(0.11)
    assert (second, third) == ([None], [None])


def test_only_one_timer_for_the_line(world):
    world.open(3)
    before = len(world.clock.turned.getDelayedCalls())
    for _ in range(50):
        world.join()
    assert len(world.clock.turned.getDelayedCalls()) == before + 1


def test_the_service_time_is_a_moving_average(world):
    world.measured(0.1)
    assert world.pool.service_seconds == pytest.approx(0.1)
    world.pool.give_back(world.pool.take(), 0.2)
    assert world.pool.service_seconds == pytest.approx(0.11)
    world.pool.give_back(world.pool.take(), None)
    assert world.pool.service_seconds == pytest.approx(0.11)


def test_the_live_go_before_the_backlog(world):
    kept = world.open(3)
    behind, live = world.wait(), world.join()
    world.pool.give_back(kept[0], 0.1)
    assert (live, behind) == ([kept[0]], [])
    world.pool.give_back(kept[1], 0.1)
    assert behind == [kept[1]]


def test_the_backlog_leaves_the_last_two_while_live_mail_comes():
    world = World(cap=6)
    world.measured(0.1)
    (first,) = world.wait()
    world.pool.give_back(first, 0.1)  # nothing waits any more: the slow start is over
    got = [world.wait() for _ in range(9)]
    assert sum(bool(one) for one in got) == 4
    assert world.pool.take() is None
    assert isinstance(world.join()[0], Kept)
    assert isinstance(world.join()[0], Kept)


def test_the_backlog_takes_all_once_no_live_mail_has_come_for_a_while():
    world = World(cap=6)
    world.measured(0.1)
    world.clock.advance(RESERVED_SECONDS)
    (first,) = world.wait()
    world.pool.give_back(first, 0.1)
    behind = [world.wait() for _ in range(9)]
    assert sum(bool(one) for one in behind) == 6
    # What comes live is served before the others, and then has its two again.
    assert world.pool.take() is None
    live = world.join()
    busy = [one[0] for one in behind if one]
    world.pool.give_back(busy.pop(), 0.01)
    world.pool.give_back(live.pop(), 0.01)
    world.pool.give_back(busy.pop(), 0.01)
    assert isinstance(world.pool.take(), Kept)
    assert isinstance(world.pool.take(), Kept)
    assert sum(bool(one) for one in behind) == 6


def test_the_backlog_begins_slowly_after_the_host_was_down():
    world = World(cap=20)
    world.transmitter.hosts[FIRST] = REFUSED
    assert world.wait() == [REFUSED]
    world.transmitter.hosts[FIRST] = "up"
    world.clock.advance(31)
    assert world.back == [world.pool]
    got = [world.wait() for _ in range(100)]
    rounds = []
    while busy := [one.pop() for one in got if one]:
        rounds.append(len(busy))
        for kept in busy:
            world.pool.give_back(kept, 0.01)
    assert rounds[:5] == [1, 2, 4, 8, 10]
    assert max(rounds) == 10
    assert sum(rounds) == 100


def test_idle_connections_are_closed_after_half_a_minute(world):
    kept = world.open(2)
    world.pool.give_back(kept[0], 0.1)
    world.clock.advance(20)
    world.pool.give_back(kept[1], 0.1)
    world.clock.advance(11)
    assert world.transmitter.live() == [kept[1].connection]
    world.clock.advance(20)
    assert not world.transmitter.live()


def test_a_connection_is_renewed_after_so_many_messages_or_minutes(world):
    (kept,) = world.open(1)
    for _ in range(KEPT_MESSAGES - 1):
        world.pool.give_back(kept, 0.001)
        assert world.pool.take() is kept
    world.pool.give_back(kept, 0.001)
    assert not world.transmitter.live()
    (kept,) = world.open(1)
    world.clock.advance(301)
    world.pool.give_back(kept, 0.001)
    assert not world.transmitter.live()


def test_an_idle_connection_the_host_closed_is_not_taken(world):
    world.measured(0.1)
    world.transmitter.connections[0].open = False
    assert world.pool.take() is None
    assert world.pool.status()["connections"] == 0


def test_a_lost_connection_is_replaced_for_those_who_wait(world):
    kept = world.open(3)
    waiting = world.join()
    kept[0].connection.open = False
    world.pool.give_back(kept[0], None)
    assert isinstance(waiting[0], Kept)
    assert len(world.transmitter.connections) == 4


def test_a_failed_connect_leaves_the_host_alone_and_turns_all_away(world):
    world.transmitter.hosts[FIRST] = None
    waiting = [world.join(), world.join(), world.wait()]
    world.transmitter.asked[0][2].errback(REFUSED)
    assert waiting == [[REFUSED], [REFUSED], [REFUSED]]
    assert world.tripped == [REFUSED]
    assert world.pool.down


def test_a_lower_cap_is_learned_from_421_at_the_banner_for_a_while():
    world = World(cap=10)
    kept = world.open(4)
    world.transmitter.hosts[FIRST] = TOO_MANY
    assert world.join() == [TOO_MANY]
    assert not world.pool.down
    assert world.pool.cap == 4
    assert world.join() == []  # in the line, behind the four
    world.pool.give_back(kept[0], 0.1)
    world.clock.advance(601)
    assert world.pool.cap == 10


def test_a_connect_that_fails_beside_others_is_not_tried_again_and_again():
    world = World(cap=10)
    kept = world.open(2)
    world.transmitter.hosts[FIRST] = REFUSED
    behind = [world.wait() for _ in range(5)]
    assert len(world.transmitter.asked) == 3
    assert not world.pool.down
    world.pool.give_back(kept[0], 0.1)
    assert [bool(one) for one in behind] == [True, False, False, False, False]
    world.clock.advance(6)
    assert world.pool.cap == 10


def test_the_backlog_takes_an_idle_connection_rather_than_wait_for_one_that_cannot_be_opened():
    world = World(cap=3)
    for kept in world.open(2):
        world.pool.give_back(kept, 0.1)
    first, second = world.wait(), world.wait()
    assert not second  # the other two are for live mail
    world.transmitter.hosts[FIRST] = TOO_MANY
    first[0].connection.open = False
    world.pool.give_back(first[0], None)
    assert isinstance(second[0], Kept)


def test_421_at_the_banner_without_another_connection_means_down(world):
    world.transmitter.hosts[FIRST] = TOO_MANY
    assert world.join() == [TOO_MANY]
    assert world.pool.down


def test_our_short_clock_alone_does_not_make_a_host_down(world):
    world.transmitter.hosts[FIRST] = "silent"
    waiting = world.join()
    world.clock.advance(5.1)
    assert waiting[0].trouble == "timeout"
    assert not world.pool.down
    behind = world.wait()
    world.clock.advance(30.1)
    assert behind[0].trouble == "timeout"
    assert world.pool.down


def test_who_stops_waiting_leaves_the_line(world):
    kept = world.open(3)
    live, behind = world.pool.join(), world.pool.wait()
    for waiting in (live, behind):
        waiting.addErrback(lambda failure: failure.trap(CancelledError) and None)
        waiting.cancel()
    world.pool.give_back(kept[0], 0.1)
    assert world.pool.take() is kept[0]


def test_the_budget_is_shared_and_an_idle_connection_makes_room():
    one = World(cap=3, budget=3)
    other = World(cap=3, host=SECOND, shared=one)
    kept = one.open(2)
    one.pool.give_back(kept[0], 0.1)
    other.open(2)
    assert not kept[0].connection.open
    assert other.pool.join() is not None  # at the budget: in the line
    assert len(one.transmitter.live()) == 3


def test_who_found_the_budget_spent_is_served_when_a_connection_comes_free():
    one = World(cap=3, budget=2)
    other = World(cap=3, host=SECOND, shared=one)
    kept = one.open(2)
    behind = other.wait()
    assert not behind
    kept[0].connection.open = False
    one.pool.give_back(kept[0], None)
    assert behind[0].connection.host == SECOND


def test_a_connection_that_comes_free_is_not_offered_only_to_who_does_not_want_it_any_more():
    one = World(cap=3, budget=1)
    gone, other = World(cap=3, host=SECOND, shared=one), World(cap=3, host=THIRD, shared=one)
    (kept,) = one.open(1)
    leaving = gone.pool.wait()
    leaving.addErrback(lambda failure: failure.trap(CancelledError) and None)
    leaving.cancel()
    behind = other.wait()
    kept.connection.open = False
    one.pool.give_back(kept, None)
    assert behind[0].connection.host == THIRD


def test_closing_turns_away_and_closes_what_is_given_back(world):
    kept = world.open(2)
    world.pool.give_back(kept[0], 0.1)
    world.transmitter.hosts[FIRST] = None
    world.open(1)
    waiting, behind = world.join(), world.wait()
    world.pool.close()
    assert waiting[0].trouble == behind[0].trouble == "abandoned"
    assert world.wait()[0].trouble == "abandoned"
    for one in kept:
        world.pool.give_back(one, None)
    assert not world.transmitter.live()
    assert not world.clock.turned.getDelayedCalls()


# --- where we connect from ---


FROM = ("192.0.2.101", "2001:db8::101", "192.0.2.102")


def opened_from(world, many):
    for kept in world.open(many):
        kept.connection.open = False
        world.pool.give_back(kept, None)
    return world.transmitter.sources


@pytest.mark.parametrize(
    ("address", "sources"),
    [
        ("192.0.2.10", ["192.0.2.101", "192.0.2.102", "192.0.2.101"]),
        ("2001:db8::10", ["2001:db8::101"] * 3),
        ("mx.b.example", ["192.0.2.101", "2001:db8::101", "192.0.2.102"]),
    ],
)
def test_our_addresses_of_the_host_s_family_take_turns(address, sources):
    assert opened_from(World(host=Host(address), terms=Terms(sources=FROM)), 3) == sources


def test_without_an_address_of_its_family_the_system_chooses():
    assert opened_from(World(host=Host("2001:db8::10"), terms=Terms(sources=FROM[:1])), 1) == [""]


def test_a_source_that_fails_at_once_is_tried_once_and_then_none():
    world = World(terms=Terms(sources=FROM))
    world.transmitter.bad_sources = FROM
    assert opened_from(world, 2) == ["192.0.2.101", "", "192.0.2.102", ""]
    assert not world.pool.down


def test_a_host_that_is_silent_is_not_tried_without_the_source():
    world = World(terms=Terms(sources=FROM))
    world.transmitter.hosts[FIRST] = "silent"
    waiting = world.wait()
    world.clock.advance(31)
    assert waiting[0].trouble == "timeout"
    assert world.transmitter.sources == ["192.0.2.101"]


def test_closing_ends_the_second_try():
    world = World(terms=Terms(sources=FROM))
    world.transmitter.bad_sources = FROM
    world.transmitter.hosts[FIRST] = "silent"
    waiting = world.wait()
    assert world.transmitter.sources == ["192.0.2.101", ""]
    world.pool.close()
    assert waiting[0].trouble == "abandoned"
    assert not world.clock.turned.getDelayedCalls()


# --- hosts that do not answer ---


def test_what_is_opened_to_hosts_that_were_never_heard_is_half_of_all_and_live_mail_is_not_held_back():
    one = World(cap=9, budget=8, host=Host("192.0.2.100"))
    one.transmitter.hosts = dict.fromkeys([Host(f"192.0.2.{n}") for n in range(100, 110)], "silent")
    silent = [one, *(World(host=Host(f"192.0.2.{n}"), shared=one) for n in range(101, 110))]
    for world in silent:
        world.wait()
    assert len(one.transmitter.asked) == 4
    live = World(host=SECOND, shared=one)
    assert isinstance(live.join()[0], Kept)
    one.clock.advance(31)
    assert len(one.transmitter.asked) == 4 + 1 + 4


def test_a_pool_is_unused_when_nobody_holds_or_waits_for_anything(world):
    assert world.pool.unused
    (kept,) = world.open(1)
    assert not world.pool.unused
    world.pool.give_back(kept, 0.1)
    assert not world.pool.unused
    world.clock.advance(31)
    assert world.pool.unused
    world.transmitter.hosts[FIRST] = "silent"
    world.wait()
    assert not world.pool.unused
    world.clock.advance(31)
    assert world.pool.down and world.pool.unused
    knocking = fired(world.pool.breaker.knock())
    assert not knocking and not world.pool.unused


def test_who_answers_is_told(world):
    world.open(1)
    assert world.greeted == world.transmitter.connections
