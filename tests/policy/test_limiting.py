"""Counting what clients do, and when it is too much."""

from __future__ import annotations

import pytest

from inboundmx.model.settings import AbuseSettings
from inboundmx.policy import limiting
from inboundmx.policy.alarms import alarm
from inboundmx.policy.limiting import Tally, exceeded, network, reason, rules_of
from inboundmx.ports import Unavailable


class Shared:
    """What all processes count."""

    def __init__(self) -> None:
        self.total = 0.0
        self.asked = 0
        self.away = False

    def __call__(self, amount: float) -> float:
        if self.away:
            raise Unavailable("away")
        self.asked += 1
        self.total += amount
        return self.total


def rule(limit: int, use: str = "connections") -> AbuseSettings:
    return AbuseSettings("some", use, 600.0, limit, 60.0)


def test_one_process_counts_exactly_and_asks_seldom() -> None:
    tally, shared = Tally(), Shared()
    assert [tally.add("a", 1, rule(200), 0.0, shared) for _ in range(300)] == list(range(1, 301))
    assert shared.asked == 30


def test_small_limits_are_shared_one_by_one() -> None:
    tally, other, shared = Tally(), Tally(), Shared()
    counted = [each.add("a", 1, rule(20), 0.0, shared) for each in (tally, other) * 5]
    assert counted == list(range(1, 11))


def test_processes_know_each_other_to_a_twentieth() -> None:
    tallies, shared = [Tally() for _ in range(4)], Shared()
    last = [tally.add("a", 1, rule(200), 0.0, shared) for _ in range(60) for tally in tallies]
    assert sum(total <= 200 for total in last) <= 200 + 4 * 10
    assert max(last) <= 240


def test_a_window_ends() -> None:
    tally = Tally()
    alone = Shared()
    alone.away = True
    assert [tally.add("a", 1, rule(3), at, alone) for at in (0.0, 599.0, 600.0, 601.0)] == [1, 2, 1, 2]
    assert tally.add("a", 1, rule(3), -5000.0, alone) == 1, "a clock that is put back makes no window longer"


def test_without_the_store_a_process_counts_alone() -> None:
    tally, shared = Tally(), Shared()
    shared.away = True
    assert [tally.add("a", 1, rule(20), 0.0, shared) for _ in range(30)] == list(range(1, 31))
    shared.away = False
    assert tally.add("a", 1, rule(20), 0.0, shared) == 31 == shared.total


def test_a_million_addresses_take_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MOST_COUNTED", 100)
    tally, shared = Tally(), Shared()
    for number in range(10_000):
        tally.add(str(number), 1, rule(200), 0.0, shared)
    assert len(tally._counts) == 100 and shared.asked == 0


def test_what_is_taken_back_does_not_count() -> None:
    tally, shared = Tally(), Shared()
    for _ in range(50):
        tally.add("a", 1, rule(20), 0.0, shared)
        assert tally.add("a", -1, rule(20), 0.0, shared) == 0


@pytest.mark.parametrize(
    ("use", "total", "over"), [("connections", 20, False), ("connections", 21, True), ("bad-sessions", 20, True)]
)
def test_so_many_are_suffered(use: str, total: float, over: bool) -> None:
    assert exceeded(rule(20, use), total) is over


def test_rules_by_kind() -> None:
    given = [AbuseSettings("slow", "connections"), AbuseSettings("bad-sessions", "bad-sessions")]
    given.append(AbuseSettings("fast", "connections"))
    rules = rules_of(given)
    assert [each.name for each in rules.connections] == ["slow", "fast"]
    assert [each.name for each in rules.bad_sessions] == ["bad-sessions"] and rules.same_size == ()
    assert rules_of([]) == limiting.NO_RULES


def test_networks() -> None:
    assert network("192.0.2.77", 24, 64) == "192.0.2.0/24"
    assert network("2001:db8::77", 24, 64) == "2001:db8::/64"
    assert network("a socket", 24, 64) == ""


def test_an_alarm_is_a_letter_that_no_client_can_bend() -> None:
    from inboundmx.model.settings import GatewaySettings

    one = AbuseSettings("same-size", "same-size", 600.0, 50, 0.0, "ops@example.net")
    who = "ann\r\nBcc: eve@evil.example\u2028" + "x" * 500
    octets = alarm(one, who, reason(one, 50), GatewaySettings("mx.example.net"), 1_700_000_000.0, "id")
    assert octets.isascii() and b"\r\nBcc" not in octets
    assert all(len(line) <= 300 for line in octets.split(b"\r\n")) and octets.count(b"\n") == octets.count(b"\r\n")
    head, _, text = octets.partition(b"\r\n\r\n")
    assert b"\r\nTo: ops@example.net\r\n" in head and b"\r\nAuto-Submitted: auto-generated" in head
    assert b"50 messages of the same size within 10 minutes" in text.replace(b"\r\n", b" ")
