"""What hosts could take when they were last heard, kept for when they are down."""

import pytest
from delivery_fakes import FIRST, SECOND, FakeClock
from fakes.state import FakeStateStore
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.delivery.capabilities import HOSTS, Capabilities
from inboundmx.model.custody import Host
from inboundmx.ports import Unavailable


class World:
    def __init__(self):
        self.clock = FakeClock()
        self.state = FakeStateStore(self.clock)
        self.capabilities = Capabilities(self.state, self.clock)

    def again(self):
        """A process starts."""
        self.capabilities = Capabilities(self.state, self.clock)
        self.capabilities.recall()

    def unable(self, size=1000, utf8=False, host=FIRST):
        reply = self.capabilities.unable(host, size, utf8)
        return "" if reply is None else f"{reply.code} {reply.enhanced}"


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize(
    ("extensions", "size", "utf8", "said"),
    [
        ({"SIZE": "1000"}, 1000, False, ""),
        ({"SIZE": "1000"}, 1001, False, "552 5.3.4"),
        ({"SIZE": "1000", "SMTPUTF8": ""}, 0, True, ""),
        ({"SIZE": "0"}, 10**9, False, ""),
        ({"SIZE": ""}, 10**9, False, ""),
        ({"SIZE": "much"}, 10**9, False, ""),
        ({}, 10**9, False, ""),
        ({}, 1, True, "553 5.6.7"),
        ({"SIZE": "1"}, 2, True, "552 5.3.4"),
    ],
)
def test_what_it_could_not_take(world, extensions, size, utf8, said):
    world.capabilities.greeted(FIRST, extensions)
    assert world.unable(size, utf8) == said
    world.again()
    assert world.unable(size, utf8) == said


def test_of_a_host_never_heard_nothing_is_known(world):
    world.capabilities.greeted(FIRST, {"SIZE": "1"})
    assert world.unable(host=SECOND) == ""


def test_the_last_word_counts(world):
    world.capabilities.greeted(FIRST, {"SIZE": "10"})
    world.capabilities.greeted(FIRST, {"SIZE": "9999"})
    assert world.unable() == ""
    world.again()
    assert world.unable() == ""


def test_what_is_unchanged_is_written_once_a_day(world):
    for _ in range(48):
        for _ in range(10):
            world.capabilities.greeted(FIRST, {"SIZE": "10"})
        world.clock.advance(3600)
    assert world.state.puts == 2


def test_it_is_forgotten_after_a_month(world):
    world.capabilities.greeted(FIRST, {"SIZE": "10"})
    world.clock.advance(31 * 86400)
    world.again()
    assert world.unable() == ""


def test_a_store_that_cannot_be_read_is_no_trouble(world):
    world.state.failure = Unavailable("no disk")
    world.again()
    assert world.unable() == ""


def test_what_was_heard_since_the_start_is_not_replaced_by_what_was_kept(world):
    world.capabilities.greeted(FIRST, {"SIZE": "10"})
    kept = world.state.facts("ehlo", "", 10).result
    world.capabilities.greeted(FIRST, {"SIZE": "9999"})
    world.capabilities._recalled(kept)
    assert world.unable() == ""


def test_only_so_many_hosts_are_remembered(world):
    for number in range(HOSTS + 10):
        world.capabilities.greeted(Host("192.0.2.1", 1000 + number), {"SIZE": "10"})
    assert len(world.capabilities._known) == HOSTS
    assert world.unable(host=Host("192.0.2.1", 1009)) == ""
    assert world.unable(host=Host("192.0.2.1", 1010)) == "552 5.3.4"


@given(st.text(max_size=30))
def test_whatever_a_host_says_of_size(said):
    world = World()
    world.capabilities.greeted(FIRST, {"SIZE": said})
    assert world.unable(10**20) in ("", "552 5.3.4")
    world.again()
    assert world.unable(10**20) in ("", "552 5.3.4")
