"""Who takes much and gives nothing: messages at a crawl, and connections that wait while others need them."""

from __future__ import annotations

from typing import Any

import pytest
from conversation_fake import Client, FakeConversation, Server
from twisted.internet.address import IPv4Address, IPv6Address

from inboundmx.smtp.server import LOOK_SECONDS, OVERHANG, PATIENCE_SECONDS
from inboundmx.smtp.server_connection import LAST_WORD_SECONDS, PACE_SECONDS

ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\n"


def peer(number: int) -> IPv4Address:
    return IPv4Address("TCP", f"192.0.2.{number}", 1)


def sending(server: Server, number: int = 1) -> Client:
    client = server.connect(peer(number))
    client.say(ENVELOPE)
    return client


def drip(server: Server, client: Client, octets: int, seconds: float) -> bytes:
    """So many octets of lines every ten seconds; what is heard."""
    heard = b""
    for _ in range(round(seconds / 10)):
        server.clock.advance(10)
        heard += client.say((b"y" * 98 + b"\r\n") * (octets // 100) + b"z" * (octets % 100))
    return heard


@pytest.mark.parametrize(("octets", "cut"), [(1100, False), (900, True), (1, True)])
def test_a_message_must_come_at_the_least_rate(octets: int, cut: bool) -> None:
    server = Server(min_data_rate=100)
    client = sending(server)
    heard = drip(server, client, octets, PACE_SECONDS * 3)
    assert client.closed is cut
    assert heard.startswith(b"421 4.4.2 Your message comes too slowly") is cut


def test_each_stretch_of_it_must() -> None:
    server = Server(min_data_rate=100)
    client = sending(server)
    client.say((b"y" * 98 + b"\r\n") * 10_000)
    drip(server, client, 10, PACE_SECONDS + 20)
    assert not client.closed
    assert drip(server, client, 10, PACE_SECONDS).startswith(b"421 ")


def test_without_a_least_rate_only_silence_ends_it() -> None:
    server = Server(min_data_rate=0, session_timeout=900.0)
    client = sending(server)
    drip(server, client, 1, 2000)
    assert not client.closed
    server.clock.advance(899)
    assert not client.closed
    server.clock.advance(1)
    assert client.closed


def test_a_message_has_an_end_however_fast_it_comes() -> None:
    server = Server(message_timeout=100.0, max_message_size=10**9)
    client = sending(server)
    drip(server, client, 50_000, 90)
    assert not client.closed
    server.clock.advance(10)
    assert client.codes() == ["421"]


# --- when connections run out -----------------------------------------------------------------------------------------


def crowded(most: int, **more: Any) -> Server:
    return Server(max_connections=most, **more)


def test_who_has_kept_us_waiting_longest_gives_way() -> None:
    server = crowded(2)
    first = server.connect(peer(1))
    server.clock.advance(1)
    second = server.connect(peer(2))
    server.clock.advance(PATIENCE_SECONDS)
    third = server.connect(peer(3))
    assert third.codes() == ["220"]
    assert first.codes() == ["220", "421"]
    assert first.closed and not second.closed
    first.hang_up()
    assert server.reception.conversations[0].told == [("refused", "", 421), ("closed", "limit")]
    assert server.connect(peer(4)).codes() == ["220"]
    assert second.closed


def test_nobody_gives_way_before_it_had_its_time() -> None:
    server = crowded(1)
    first = server.connect(peer(1))
    server.clock.advance(PATIENCE_SECONDS - 0.1)
    assert server.connect(peer(2)).codes() == ["421"]
    assert not first.closed


SLOW = {
    "a line that drips": (b"HELO x\r\n", b"N"),
    "a line within a transaction": (b"HELO x\r\nMAIL FROM:<>\r\n", b"R"),
    "chatter": (b"HELO x\r\n", b"NOOP\r\n"),
    "a message at a crawl": (ENVELOPE, b"y"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_who_only_looks_busy_gives_way(kind: str) -> None:
    first, more = SLOW[kind]
    server = crowded(1)
    client = server.connect(peer(1))
    client.say(first)
    for _ in range(6):
        server.clock.advance(2)
        client.say(more)
    assert server.connect(peer(2)).codes() == ["220"]
    assert client.closed


def test_to_begin_a_line_is_not_to_get_on() -> None:
    server = crowded(1)
    client = server.connect(peer(1))
    client.say(b"HELO x\r\n")
    server.clock.advance(PATIENCE_SECONDS)
    client.say(b"N")
    assert server.connect(peer(2)).codes() == ["220"]
    assert client.closed


def test_who_waits_for_us_does_not_give_way() -> None:
    conversation = FakeConversation(slow=frozenset({"mail"}))
    server = crowded(1)
    server.reception.waiting.append(conversation)
    client = server.connect(peer(1))
    client.say(b"HELO x\r\nMAIL FROM:<>\r\n")
    server.clock.advance(60)
    assert server.connect(peer(2)).codes() == ["421"]
    assert not client.closed


def test_a_message_that_comes_does_not_give_way() -> None:
    server = crowded(1)
    client = sending(server)
    drip(server, client, 2000, 60)
    assert server.connect(peer(2)).codes() == ["421"]
    assert client.say(b"\r\n.\r\n").startswith(b"250 ")


def test_one_address_drives_nobody_out() -> None:
    server = crowded(2, max_connections_per_ip=1)
    honest = server.connect(peer(1))
    greedy = server.connect(peer(2))
    server.clock.advance(60)
    assert server.connect(peer(2)).codes() == ["421"]
    assert not honest.closed and not greedy.closed


def test_who_does_not_close_is_cut_and_never_too_many_are_there() -> None:
    server = crowded(20)
    slow = []
    for number in range(20):
        slow.append(server.connect(peer(number)))
        server.clock.advance(0.01)
    server.clock.advance(PATIENCE_SECONDS)
    answers = [server.connect(peer(100 + number)).codes() for number in range(20)]
    # In memory the other end never closes: they are still there.
    assert answers == [["220"]] * OVERHANG + [["421"]] * (20 - OVERHANG)
    server.clock.advance(LAST_WORD_SECONDS)
    assert [client.wire.aborted for client in slow] == [True] * OVERHANG + [False] * (20 - OVERHANG)


def test_who_came_a_moment_later_gives_way_a_moment_later() -> None:
    server = crowded(3)
    for number in range(3):
        server.connect(peer(number))
        server.clock.advance(0.1)
    server.clock.advance(PATIENCE_SECONDS - 0.29)
    codes = []
    for number in range(3):
        codes.append(server.connect(peer(100 + number)).codes())
        server.clock.advance(0.1)
    assert codes == [["220"]] * 3


def test_a_flood_does_not_look_at_everybody_each_time() -> None:
    server = crowded(3)
    for number in range(3):
        server.connect(peer(number))
    looked = 0

    def kept_waiting(now: float) -> float:
        nonlocal looked
        looked += 1
        return 0.0

    for connection in server.factory.connections:
        connection.kept_waiting = kept_waiting
    for number in range(10):
        client = server.connect(peer(100 + number))
        assert client.codes() == ["421"]
        client.hang_up()
    assert looked == 3
    server.clock.advance(LOOK_SECONDS)
    server.connect(peer(200)).hang_up()
    assert looked == 6


def test_addresses_of_one_ipv6_network_are_counted_as_one() -> None:
    server = Server(max_connections_per_ip=2)
    near = [server.connect(IPv6Address("TCP", f"2001:db8:1:2::{number}", 1)) for number in range(1, 4)]
    far = server.connect(IPv6Address("TCP", "2001:db8:1:3::1", 1))
    assert [client.codes() for client in (*near, far)] == [["220"], ["220"], ["421"], ["220"]]
    for client in (*near, far):
        client.hang_up()
    assert not server.factory._by_ip
