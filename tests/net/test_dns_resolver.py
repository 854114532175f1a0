"""The resolver against servers that are slow, silent, wrong, truncated, poisoned or gone, on a network in memory."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from fakes.disk import TestClock
from fakes.name_server import NameServer, Network
from fakes.resolver import Zone
from twisted.internet.defer import CancelledError, Deferred

from inboundmx.net import resolver as module
from inboundmx.net.chance import SystemChance
from inboundmx.net.dns_transport import SOCKET_USES, STRAYS_LIMIT, Server
from inboundmx.net.resolver import DnsResolver
from inboundmx.ports import Answer, Unavailable

ZONE: Zone = {
    "a.test": {"A": ["192.0.2.1"], "TXT": ["x" * 2000]},
    "b.test": {"A": ["192.0.2.2"]},
    "*": {},
    "to.test": {"CNAME": ["a.test"]},
}
ONE, TWO, THREE = (Server(f"192.0.2.{last}") for last in (51, 52, 53))
FOUND = Answer(("192.0.2.1",))


class Notes:
    def __init__(self) -> None:
        self.notes: list[tuple[str, bool]] = []

    def noted(self, service: str, well: bool, detail: str) -> None:
        self.notes.append((service, well))


class World:
    def __init__(self, *servers: NameServer, timeout: float = 5.0) -> None:
        self.network = Network()
        self.servers = servers
        self.names = (ONE, TWO, THREE)[: len(servers)]
        for name, server in zip(self.names, servers, strict=True):
            self.network.servers[name] = server
        clock = TestClock()
        clock.task = self.network
        self.health = Notes()
        self.resolver = DnsResolver(self.network, clock, SystemChance(), self.names, timeout, self.health)

    def ask(self, name: str = "a.test", type: str = "A") -> list[Any]:
        """What will have come of it: empty, or an Answer or an error."""
        came: list[Any] = []
        self.deferred = Deferred.fromCoroutine(self.resolver.look_up(name, type))
        self.deferred.addCallbacks(came.append, lambda failure: came.append(failure.value))
        return came

    def after(self, seconds: float) -> None:
        """In steps, so that what happens meanwhile has its consequences in time."""
        while seconds > 0:
            step = min(seconds, 0.05)
            self.network.advance(step)
            seconds -= step

    def settle(self) -> None:
        for _ in range(10):
            self.network.advance(0)

    def asked(self, place: int = 0) -> int:
        return len(self.servers[place].asked)


def unavailable(came: list[Any], said: str = "") -> bool:
    return len(came) == 1 and isinstance(came[0], Unavailable) and said in came[0].reason


def test_what_is_remembered_is_answered_without_waiting() -> None:
    world = World(NameServer(ZONE))
    first = world.ask()
    assert first == []
    world.settle()
    assert first == [FOUND]

    with pytest.raises(StopIteration) as stop:
        world.resolver.look_up("A.test.", "A").send(None)
    assert stop.value.value is first[0]
    assert world.asked() == 1


def test_equal_questions_are_asked_once() -> None:
    world = World(NameServer(ZONE))
    came = [world.ask() for _ in range(50)] + [world.ask("A.TEST")]
    world.settle()

    assert came == [[FOUND]] * 51
    assert world.asked() == 1


def test_one_who_gives_up_takes_nothing_from_the_others() -> None:
    world = World(NameServer(ZONE, delay=1.0))
    first = world.ask()
    world.deferred.cancel()
    second = world.ask()
    world.after(1.1)

    assert [type(each) for each in first] == [CancelledError]
    assert second == [FOUND]


@pytest.mark.parametrize(
    ("ttl", "kept"), [(300, 300), (0, module.SHORTEST), (604800, module.LONGEST), (2**31, module.SHORTEST)]
)
def test_an_answer_is_kept_as_long_as_it_says_within_bounds(ttl: int, kept: int) -> None:
    world = World(NameServer(ZONE, ttl=min(ttl, 2**31 - 1)))
    if ttl == 2**31:
        wire = world.servers[0].reply
        world.servers[0].reply = lambda octets, transport="udp": [  # type: ignore[method-assign]
            packet.replace(struct.pack("!I", 2**31 - 1), struct.pack("!I", 2**31)) for packet in wire(octets, transport)
        ]
    world.ask()
    world.settle()
    world.network.advance(kept - 0.5)
    assert world.ask() == [FOUND]
    world.network.advance(1)
    assert world.ask() == []


def test_that_there_is_nothing_is_kept_as_the_zone_says() -> None:
    world = World(NameServer(ZONE))
    world.ask("none.test")
    world.ask("a.test", "MX")
    world.settle()
    world.network.advance(59)
    assert world.ask("none.test") == [Answer((), False)]
    assert world.ask("a.test", "MX") == [Answer(())]
    world.network.advance(1.5)
    assert world.ask("none.test") == world.ask("a.test", "MX") == []


@pytest.mark.parametrize("mode", ["servfail", "refused", "referral", "garbage", "unreachable"])
def test_who_cannot_answer_is_followed_by_the_next_at_once(mode: str) -> None:
    world = World(NameServer(ZONE, mode), NameServer(ZONE))
    came = world.ask()
    world.settle()

    assert came == [FOUND]
    assert (world.asked(0), world.asked(1)) == (0 if mode == "unreachable" else 1, 1)


def test_no_way_to_a_server_leads_to_the_next() -> None:
    world = World(NameServer(ZONE), NameServer(ZONE))
    del world.network.servers[ONE]
    came = world.ask()
    world.settle()
    assert came == [FOUND]


@pytest.mark.parametrize("mode", ["servfail", "refused", "referral", "garbage", "unreachable"])
def test_where_none_can_answer_it_is_unavailable_and_remembered_for_a_moment(mode: str) -> None:
    world = World(NameServer(ZONE, mode), NameServer(ZONE, mode))
    came = world.ask()
    world.settle()
    assert unavailable(came, "192.0.2.52")

    asked = world.asked(0)
    assert unavailable(world.ask(), "192.0.2.52")
    assert world.asked(0) == asked
    world.servers[0].mode = ""
    world.after(module.FAILURE_SECONDS + 0.1)
    came = world.ask()
    world.settle()
    assert came == [FOUND]


def test_a_silent_server_is_followed_by_the_next_in_time() -> None:
    world = World(NameServer(ZONE, "silent"), NameServer(ZONE))
    came = world.ask()
    world.after(0.45)
    assert came == []
    world.after(0.1)
    assert came == [FOUND]


def test_silence_ends_with_the_time_of_a_look_up() -> None:
    world = World(NameServer(ZONE, "silent"))
    came = world.ask()
    world.after(4.9)
    assert (came, world.asked()) == ([], 3)
    world.after(0.2)
    assert unavailable(came, "no answer in time from 192.0.2.51")


def test_a_late_answer_to_the_first_try_counts() -> None:
    world = World(NameServer(ZONE, delay=4.5))
    came = world.ask()
    world.after(4.6)

    assert came == [FOUND]
    assert world.asked() == 3


def test_what_does_not_fit_is_asked_by_tcp() -> None:
    world = World(NameServer(ZONE, "truncated"))
    came = world.ask("a.test", "TXT")
    world.settle()

    assert came == [Answer((b"x" * 2000,))]
    assert [transport for _, _, transport in world.servers[0].asked] == ["udp", "tcp"]
    world.resolver.close()
    assert world.network.open == 0


def test_a_tcp_connection_that_ends_too_soon_leads_to_the_next_server() -> None:
    world = World(NameServer(ZONE, "truncated", delay=0.1), NameServer(ZONE))
    came = world.ask()
    world.after(0.15)
    world.network.connections[0].hang_up()
    world.settle()
    assert came == [FOUND]


def test_forged_answers_are_not_heard() -> None:
    world = World(NameServer(ZONE, "poisoned"))
    came = world.ask()
    world.settle()
    assert came == [FOUND]

    world = World(NameServer(ZONE, "forged"))
    came = world.ask()
    world.after(5.1)
    assert unavailable(came)


def test_an_answer_from_elsewhere_is_not_heard() -> None:
    world = World(NameServer(ZONE, "silent"))
    came = world.ask()
    (answer,) = NameServer({"a.test": {"A": ["192.0.2.66"]}}).reply(world.servers[0].queries[0])
    world.network.sockets[0].receive(answer, ("192.0.2.66", 53))
    world.network.sockets[0].receive(answer, (ONE.address, 5353))
    assert came == []
    world.network.sockets[0].receive(answer, (ONE.address, 53))
    assert came == [Answer(("192.0.2.66",))]


def test_who_is_guessed_at_asks_by_tcp() -> None:
    world = World(NameServer(ZONE, delay=1.0))
    came = world.ask()
    id = struct.unpack_from("!H", world.servers[0].queries[0])[0]
    for guess in range(1, STRAYS_LIMIT + 1):
        world.network.sockets[0].receive(struct.pack("!H", id ^ guess) + world.servers[0].queries[0][2:], ONE)
    world.settle()
    assert world.servers[0].asked[-1][2] == "tcp"
    world.after(1.1)
    assert came == [FOUND]


def test_a_server_without_edns_is_asked_without() -> None:
    world = World(NameServer(ZONE, "plain"))
    came = world.ask()
    world.settle()
    assert (came, world.asked()) == ([FOUND], 2)


def test_ids_and_ports_change() -> None:
    world = World(NameServer(ZONE))
    for number in range(3 * SOCKET_USES):
        world.ask(f"n{number}.test")
        world.settle()

    assert len(world.network.sockets) == 3
    assert world.network.open == 1
    ids = {query[:2] for query in world.servers[0].queries}
    assert len(ids) > 2 * SOCKET_USES


class Chained(NameServer):
    """An authority that says one link of a chain at a time, and nothing of where it ends."""

    def _fill(self, answer: Any, question: Any, name: str) -> None:
        super()._fill(answer, question, name)
        if name.endswith("to.test"):
            del answer.answer[1:]
            answer.authority.clear()


def test_a_chain_that_the_reply_leaves_open_is_followed() -> None:
    world = World(Chained(ZONE))
    came = world.ask("to.test")
    world.settle()
    assert came == [FOUND]
    assert [name for name, _, _ in world.servers[0].asked] == ["to.test", "a.test"]


def test_an_endless_chain_ends() -> None:
    links = {f"{number}to.test": {"CNAME": [f"{number + 1}to.test"]} for number in range(7)}
    world = World(Chained({**links, "7to.test": {"A": ["192.0.2.1"]}}))
    came = world.ask("0to.test")
    world.settle()
    assert unavailable(came, "chain")
    assert world.asked() == module.HOPS_LIMIT + 1


# --- dead servers -----------------------------------------------------------------------------------------------------


def test_a_dead_server_costs_nobody_time_once_that_is_known() -> None:
    world = World(NameServer(ZONE, "silent"))
    came = [world.ask(f"n{number}.test") for number in range(3)]
    world.after(0.9 + module.PROBE_SECONDS)
    # Three silences, then none to the root: all that wait are told at once.
    assert all(unavailable(each) for each in came)
    assert ("", "NS", "udp") in [(name.strip("."), type, way) for name, type, way in world.servers[0].asked]
    assert unavailable(world.ask("new.test"), "no name server answers")
    assert world.health.notes == [("dns 192.0.2.51", False)]


def test_a_dead_server_is_probed_and_found_alive_again() -> None:
    world = World(NameServer(ZONE, "silent"))
    for number in range(3):
        world.ask(f"n{number}.test")
    world.after(3.0)
    for _ in range(4):
        world.after(module.REST_SECONDS + module.PROBE_SECONDS)
        asked = world.asked()
        assert unavailable(world.ask())
        assert unavailable(world.ask("b.test"))
        # One probe, whoever asks; nobody waits for it.
        assert world.asked() == asked + 1
    world.servers[0].mode = ""
    world.after(module.REST_SECONDS + module.PROBE_SECONDS)
    came = world.ask()
    world.settle()
    assert came == [FOUND]
    assert [well for _, well in world.health.notes] == [False, True]


def test_a_refusing_port_is_found_dead_without_any_wait() -> None:
    world = World(NameServer(ZONE, "unreachable"))
    came = [world.ask(f"n{number}.test") for number in range(5)]
    world.settle()
    assert all(unavailable(each, "connection refused") for each in came)
    came = [world.ask(f"m{number}.test") for number in range(5)]
    world.settle()
    assert all(unavailable(each) for each in came)
    assert world.health.notes == [("dns 192.0.2.51", False)]
    assert world.network.open == 0


def test_a_refusal_that_is_heard_while_sending_is_one() -> None:
    world = World(NameServer(ZONE, "silent"), NameServer(ZONE))
    came = world.ask()
    world.network.sockets[0].protocol.connectionRefused()
    world.settle()
    assert came == [FOUND]


def test_a_dead_server_leaves_the_work_to_the_living() -> None:
    world = World(NameServer(ZONE, "silent"), NameServer(ZONE))
    for number in range(3):
        world.ask(f"n{number}.test")
    world.after(3.0)
    asked = world.asked(0)
    came = world.ask()
    world.settle()
    assert (came, world.asked(0)) == ([FOUND], asked)


class Selective(NameServer):
    """Recursive, but some names' own servers are silent."""

    def reply(self, octets: bytes, transport: str = "udp") -> list[bytes]:
        packets = super().reply(octets, transport)
        return [] if self.asked[-1][0].endswith("tarpit.test") else packets


def test_names_that_nobody_answers_for_do_not_condemn_the_server() -> None:
    world = World(Selective(ZONE))
    stuck = [world.ask(f"n{number}.tarpit.test") for number in range(20)]
    world.after(4.0)
    came = world.ask()
    world.settle()
    assert came == [FOUND]
    world.after(1.5)
    assert all(unavailable(each, "no answer in time") for each in stuck)
    assert (False not in [well for _, well in world.health.notes]) and world.ask() == [FOUND]


# --- bounds and ends --------------------------------------------------------------------------------------------------


def test_questions_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_LIMIT", 3)
    world = World(NameServer(ZONE, delay=1.0))
    waiting = [world.ask(f"n{number}.test") for number in range(3)]
    assert unavailable(world.ask("one.more.test"), "too many")
    assert world.ask("n1.test") == []
    world.after(1.1)
    assert all(waiting)
    assert world.ask("one.more.test") == []


def test_closing_ends_all() -> None:
    world = World(NameServer(ZONE, "silent"), NameServer(ZONE, "truncated", delay=9.0))
    came = [world.ask(f"n{number}.test") for number in range(3)]
    world.after(0.6)
    world.resolver.close()

    assert all(unavailable(each, "stopping") for each in came)
    assert unavailable(world.ask("new.test"), "stopping")
    assert world.network.open == 0
    assert {call.func.__name__ for call in world.network.getDelayedCalls()} <= {"receive", "lose"}


def test_nothing_is_left_behind_by_answered_questions() -> None:
    world = World(NameServer(ZONE), NameServer(ZONE))
    for number in range(10):
        world.ask(f"n{number}.test")
    world.settle()
    assert not world.network.getDelayedCalls()


def test_new_servers_are_asked_and_what_the_old_ones_said_is_forgotten() -> None:
    world = World(NameServer(ZONE), NameServer({"a.test": {"A": ["192.0.2.99"]}}))
    world.resolver.configure([ONE], 5.0)
    world.ask()
    world.settle()
    world.resolver.configure([ONE], 2.0)
    assert world.ask() == [FOUND]
    world.resolver.configure([TWO], 5.0)
    came = world.ask()
    world.settle()
    assert came == [Answer(("192.0.2.99",))]
    world.resolver.close()
    assert world.network.open == 0
