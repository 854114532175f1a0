"""Who has waited long enough: a table, histories at random, clocks that jump, and what makes two triplets one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.settings import GreylistingSettings
from inboundmx.policy.greylisting import Decision, decide, exempt, searched, triplet
from inboundmx.ports import Fact

SETTINGS = GreylistingSettings()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
T = 1_800_000_000.0
WAITING = Fact((T,), T, T + 6 * HOUR)
PASSED = Fact((T, T + HOUR), T + HOUR, T + HOUR + 36 * DAY)


@pytest.mark.parametrize(
    ("fact", "after", "outcome", "wait", "remembered"),
    [
        (None, 0, "new", 15 * MINUTE, WAITING),
        (Fact((), T, T + 1), 0, "new", 15 * MINUTE, WAITING),
        (WAITING, 0, "early", 15 * MINUTE, None),
        (WAITING, 14 * MINUTE, "early", MINUTE, None),
        (WAITING, 15 * MINUTE - 0.5, "early", 0.5, None),
        (WAITING, 15 * MINUTE, "passed", 0, Fact((T, T + 15 * MINUTE), T + 15 * MINUTE, T + 15 * MINUTE + 36 * DAY)),
        (WAITING, 6 * HOUR, "passed", 0, Fact((T, T + 6 * HOUR), T + 6 * HOUR, T + 6 * HOUR + 36 * DAY)),
        (WAITING, 6 * HOUR + 1, "new", 15 * MINUTE, Fact((T + 6 * HOUR + 1,), T + 6 * HOUR + 1, T + 12 * HOUR + 1)),
        (PASSED, HOUR, "known", 0, None),
        (PASSED, 20 * HOUR, "known", 0, None),
        (PASSED, 25 * HOUR, "known", 0, Fact(PASSED.values, T + 25 * HOUR, T + 25 * HOUR + 36 * DAY)),
        (PASSED, 36 * DAY, "known", 0, Fact(PASSED.values, T + 36 * DAY, T + 72 * DAY)),
        # The clock was put back: what passed stays, what waits begins anew and waits no longer than any other.
        (PASSED, -HOUR, "known", 0, None),
        (PASSED, -400 * DAY, "known", 0, None),
        (WAITING, -DAY, "early", 15 * MINUTE, Fact((T - DAY,), T - DAY, T - DAY + 6 * HOUR)),
    ],
)
def test_decisions(fact: Fact | None, after: float, outcome: str, wait: float, remembered: Fact | None) -> None:
    assert decide(fact, T + after, SETTINGS) == Decision(outcome, remembered, wait)  # type: ignore[arg-type]


def test_periods_are_the_operators() -> None:
    short = GreylistingSettings(block=1.0, pass_=5.0, expire=100.0)
    first = decide(None, T, short).fact
    assert first == Fact((T,), T, T + 5)
    assert decide(first, T + 0.5, short).outcome == "early"
    assert decide(first, T + 1, short).outcome == "passed"
    assert decide(first, T + 5.5, short).outcome == "new"


GAPS = st.lists(st.floats(1, 12 * HOUR), max_size=30)


def visits(gaps: list[float], jumps: dict[int, float]) -> list[tuple[float, str]]:
    """When a triplet came, and what was said, its facts being kept as a store keeps them. ``jumps``: seconds the clock
    is put forward or back before the visit of that number."""
    fact: Fact | None = None
    now, seen = T, []
    for number, gap in enumerate([0.0, *gaps]):
        now += gap + jumps.get(number, 0.0)
        if fact is not None and fact.expires_at <= now:
            fact = None
        decision = decide(fact, now, SETTINGS)
        fact = decision.fact or fact
        seen.append((now, decision.outcome))
    return seen


@given(gaps=GAPS)
def test_a_history_follows_the_rule(gaps: list[float]) -> None:
    first, passed = T, False
    for now, outcome in visits(gaps, {}):
        if passed:
            assert outcome == "known"
        elif now == first and now == T:
            assert outcome == "new"
        elif now - first < 15 * MINUTE:
            assert outcome == "early"
        elif now - first < 6 * HOUR:
            assert outcome == "passed"
            passed = True
        elif outcome == "new":
            first = now
        else:
            assert now - first == 6 * HOUR and outcome == "passed"
            passed = True


@given(gaps=GAPS, jumps=st.dictionaries(st.integers(1, 29), st.floats(-30 * DAY, 0), max_size=4))
def test_what_passed_is_never_put_off_again_by_a_clock_that_is_put_back(
    gaps: list[float], jumps: dict[int, float]
) -> None:
    said = [outcome for _, outcome in visits(gaps, jumps)]
    if "passed" in said:
        assert set(said[said.index("passed") + 1 :]) <= {"known"}


@given(jump=st.floats(-30 * DAY, 30 * DAY), before=st.floats(0, 15 * MINUTE))
def test_whatever_the_clock_does_a_patient_client_passes_soon(jump: float, before: float) -> None:
    said = [outcome for _, outcome in visits([before, 16 * MINUTE, 16 * MINUTE, 16 * MINUTE], {1: jump})]
    assert said[-1] in ("passed", "known")


RECIPIENT = Address("Bob", "here.example")


@pytest.mark.parametrize(
    ("peer", "sender", "key"),
    [
        ("192.0.2.77", Address("Ann", "a.example"), "192.0.2.0/24\tann@a.example\tbob@here.example"),
        ("2001:db8:1:2:3::4", Address("ann", "a.example"), "2001:db8:1:2::/64\tann@a.example\tbob@here.example"),
        ("fe80::1%eth0", Address("ann", "a.example"), "fe80::/64\tann@a.example\tbob@here.example"),
        ("::ffff:192.0.2.7", Address("ann", "a.example"), "192.0.2.0/24\tann@a.example\tbob@here.example"),
        ("192.0.2.7", None, "192.0.2.0/24\t<>\tbob@here.example"),
        ("192.0.2.7", Address("list-8815-x7=y", "a7.example"),
         "192.0.2.0/24\tlist-#-x#=y@a7.example\tbob@here.example"),
        ("192.0.2.7", Address('"x\'; drop table"', "a.example"),
         "192.0.2.0/24\t\"x'; drop table\"@a.example\tbob@here.example"),
        ("a socket", Address("ann", "a.example"), "a socket\tann@a.example\tbob@here.example"),
    ],
)  # fmt: skip
def test_keys(peer: str, sender: Address | None, key: str) -> None:
    assert triplet(peer, sender, RECIPIENT, SETTINGS) == key


def test_networks_are_as_wide_as_the_operator_says() -> None:
    wide = GreylistingSettings(network=(16, 48))
    ann = Address("ann", "a.example")
    assert triplet("192.0.2.7", ann, RECIPIENT, wide).startswith("192.0.0.0/16\t")
    assert triplet("2001:db8:1:2::3", ann, RECIPIENT, wide).startswith("2001:db8:1::/48\t")
    alone = GreylistingSettings(network=(32, 128))
    assert triplet("192.0.2.7", ann, RECIPIENT, alone).startswith("192.0.2.7/32\t")


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("", ("",)),
        ("192.0.2", ("192.0.2",)),
        ("Ann@A7.example", ("ann@a7.example",)),
        ("list-17@a7.example", ("list-17@a7.example", "list-#@a7.example")),
        ("@a7.example", ("@a7.example",)),
        ("192.0.2.254", ("192.0.2.254", "192.0.2.0/24\t")),
        ("::FFFF:192.0.2.254", ("::ffff:192.0.2.254", "192.0.2.0/24\t")),
        ("2001:db8:0:1:2:3:4:5", ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64\t")),
    ],
)
def test_an_operator_need_not_know_how_senders_are_written(text: str, texts: tuple[str, ...]) -> None:
    assert searched(text, SETTINGS) == texts


@pytest.mark.parametrize(
    ("sender", "recipient", "why"),
    [
        (None, RECIPIENT, "null sender"),
        (Address("ann", "a.example"), RECIPIENT, ""),
        (Address("ann", "a.example"), Address("Postmaster", "here.example"), "postmaster is reached by anybody"),
        (Address("ann", "a.example"), Address("abuse", "here.example"), "abuse is reached by anybody"),
        (Address("postmaster", "a.example"), Address("postmasters", "here.example"), ""),
    ],
)
def test_exemptions(sender: Address | None, recipient: Address, why: str) -> None:
    assert exempt(sender, recipient) == why
