"""Which outbound gateway mail leaves by."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.custody import Host, Terms
from inboundmx.model.settings import DomainSettings, OutboundSettings, Settings
from inboundmx.policy.outbound import USUAL_LOAD, first_of, gateways_for, relay_route


def gateway(name: str, **keys: Any) -> OutboundSettings:
    return OutboundSettings(name, server=(Host(f"{name}.example"),), **keys)


OUTBOUND = (
    gateway("a"),
    gateway("low", priority=(1, 4)),
    gateway("own", mode="domains"),
    gateway("high", mode="domains", priority=(8, 10)),
    gateway("b"),
    gateway("off", enabled=False),
    gateway("off-own", mode="domains", enabled=False),
    OutboundSettings("empty"),
)
DOMAINS = {
    name: DomainSettings(name, outbound=outbound)
    for name, outbound in {
        "plain.test": "",
        "own.test": "own",
        "high.test": "high",
        "off.test": "off-own",
        "gone.test": "gone",
        # A gateway that takes turns anyway is nobody's own.
        "turns.test": "a",
    }.items()
}
SETTINGS = Settings(domains=DOMAINS, outbound=OUTBOUND)


@pytest.mark.parametrize(
    ("sender", "priority", "names"),
    [
        ("plain.test", 5, "a b"),
        ("plain.test", 4, "a low b"),
        ("plain.test", 1, "a low b"),
        ("stranger.test", 5, "a b"),
        (None, 5, "a b"),
        ("own.test", 5, "own"),
        ("own.test", 10, "own"),
        ("sub.own.test", 5, "a b"),
        ("high.test", 8, "high"),
        ("high.test", 10, "high"),
        ("high.test", 7, "a b"),
        ("off.test", 5, "a b"),
        ("gone.test", 5, "a b"),
        ("turns.test", 5, "a b"),
    ],
)
def test_who_takes_a_message(sender: str | None, priority: int, names: str) -> None:
    address = None if sender is None else Address("user", sender)
    assert " ".join(each.name for each in gateways_for(SETTINGS, address, priority)) == names


def test_nobody_takes_it() -> None:
    assert gateways_for(Settings(), Address("user", "a.test"), 5) == ()
    only = Settings(outbound=(gateway("high", priority=(6, 10)), gateway("off", enabled=False)))
    assert gateways_for(only, None, 5) == ()


def test_what_is_said_for_all_domains_holds_for_every_sender() -> None:
    every = Settings(everything=DomainSettings("*", outbound="own"), outbound=OUTBOUND)
    assert [each.name for each in gateways_for(every, Address("user", "any.test"), 5)] == ["own"]
    # A notice has no sender, and so no domain.
    assert [each.name for each in gateways_for(every, None, 5)] == ["a", "b"]


# --- whose turn -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loads", [[None] * 3, [0, None, None], [7, 7, 7], [100, 100, None]])
def test_nothing_tells_them_apart(loads: list[int | None]) -> None:
    assert [first_of(loads, turn) for turn in range(7)] == [0, 1, 2, 0, 1, 2, 0]


@given(
    st.lists(st.none() | st.integers(0, 100_000), min_size=1, max_size=8),
    st.integers(0, 2**40),
)
def test_turns_go_by_weight_from_wherever_they_are_counted(loads: list[int | None], start: int) -> None:
    turns = 1000
    given_to = Counter(first_of(loads, start + turn) for turn in range(turns))
    known = [load for load in loads if load is not None]
    average = sum(known) / len(known) if known else 0
    weights = [1 / ((average if load is None else load) + USUAL_LOAD) for load in loads]
    for number, weight in enumerate(weights):
        assert abs(given_to[number] - turns * weight / sum(weights)) < 15
    assert all(0 <= number < len(loads) for number in given_to)


def test_an_idle_one_is_given_twice_as_much_as_one_with_the_usual_load() -> None:
    given_to = Counter(first_of([USUAL_LOAD, 0], turn) for turn in range(300))
    assert abs(given_to[1] - 200) <= 2 and abs(given_to[0] - 100) <= 2


def test_turns_by_weight_are_mixed() -> None:
    """Not ninety for one and then ten for the other."""
    order = [first_of([0, 80], turn) for turn in range(100)]
    gaps = [at for at, number in enumerate(order) if number == 1]
    assert len(gaps) == 10
    assert all(later - earlier <= 15 for earlier, later in pairwise(gaps))


# --- the route --------------------------------------------------------------------------------------------------------


def test_the_others_step_in() -> None:
    first = gateway("a", username="us", password="secret", tls="verified", source_address=("192.0.2.5",))
    second = OutboundSettings("b", server=(Host("b1.example", 587), Host("b2.example")), auth_without_tls=True)
    third = gateway("c", tls="none")
    route = relay_route("x.test", (first, second, third), 1, ("192.0.2.9",))
    assert (route.domain, route.via) == ("x.test", "outbound")
    assert route.hosts == second.server
    assert route.terms == Terms("opportunistic", auth_without_tls=True, sources=("192.0.2.9",))
    after = route.fallback
    assert after is not None and after.hosts == third.server and after.terms == Terms("none", sources=("192.0.2.9",))
    last = after.fallback
    assert last is not None and last.hosts == first.server and last.fallback is None
    assert last.terms == Terms("verified", "us", "secret", sources=("192.0.2.5",))
