"""Who has waited long enough: a table, histories at random, clocks that jump, what makes two triplets one, by what
names a client is known, and when it need not wait any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.settings import GreylistingSettings
from inboundmx.policy.greylisting import (
    Decision,
    after_writing,
    allowed,
    correspondence,
    credited,
    decide,
    enough,
    exempt,
    good_names,
    names,
    over,
    released,
    searched,
    state_of,
    still_good,
    told,
    triplet,
)
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


def key(peer: str, sender: Address | None, settings: GreylistingSettings = SETTINGS) -> str:
    return triplet(names(peer, sender, False, settings)[0], sender, RECIPIENT)


@pytest.mark.parametrize(
    ("peer", "sender", "whole"),
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
def test_keys(peer: str, sender: Address | None, whole: str) -> None:
    assert key(peer, sender) == whole


def test_networks_are_as_wide_as_the_operator_says() -> None:
    wide = GreylistingSettings(network=(16, 48))
    ann = Address("ann", "a.example")
    assert key("192.0.2.7", ann, wide).startswith("192.0.0.0/16\t")
    assert key("2001:db8:1:2::3", ann, wide).startswith("2001:db8:1::/48\t")
    alone = GreylistingSettings(network=(32, 128))
    assert key("192.0.2.7", ann, alone).startswith("192.0.2.7/32\t")


ANN = Address("ann", "a.example")
NETWORK, SPF, DKIM = "192.0.2.0/24", "spf:a.example", "192.0.2.0/24 dkim:a.example"
BY_NETWORK, BY_DOMAIN = SETTINGS, GreylistingSettings(key="domain")


@pytest.mark.parametrize(
    ("settings", "authenticated", "signed", "kept", "good", "counted"),
    [
        # key, SPF, DKIM: triplets are kept by the first and found by both; good mail helps by; it counts for.
        (BY_NETWORK, False, False, (NETWORK,), (NETWORK,), (NETWORK,)),
        (BY_NETWORK, False, True, (NETWORK,), (NETWORK,), (NETWORK,)),
        (BY_NETWORK, True, True, (NETWORK, SPF), (NETWORK, SPF), (NETWORK, SPF)),
        (BY_DOMAIN, False, False, (NETWORK,), (NETWORK, DKIM), (NETWORK,)),
        (BY_DOMAIN, False, True, (NETWORK,), (NETWORK, DKIM), (DKIM,)),
        (BY_DOMAIN, True, False, (SPF, NETWORK), (SPF, NETWORK), (SPF,)),
        (BY_DOMAIN, True, True, (SPF, NETWORK), (SPF, NETWORK), (SPF,)),
    ],
)
def test_by_what_a_client_is_known(
    settings: GreylistingSettings, authenticated: bool, signed: bool, kept: object, good: object, counted: object
) -> None:
    assert names("192.0.2.7", ANN, authenticated, settings) == kept
    assert good_names("192.0.2.7", ANN, authenticated, settings) == good
    assert credited("192.0.2.7", ANN, authenticated, signed, settings) == counted


def test_the_null_sender_has_no_domain() -> None:
    assert names("192.0.2.7", None, True, BY_DOMAIN) == good_names("192.0.2.7", None, True, BY_DOMAIN) == (NETWORK,)


@given(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["network", "domain"]))
def test_nobody_speaks_for_a_domain_without_its_word(
    was: bool, signed: bool, now: bool, other_network: bool, key: str
) -> None:
    """Whatever a client was counted for without SPF helps nobody in another network."""
    settings = GreylistingSettings(key=key)  # type: ignore[arg-type]
    counted = credited("192.0.2.7", ANN, was, signed, settings)
    asked = good_names("198.51.100.7" if other_network else "192.0.2.9", ANN, now, settings)
    helps = bool(set(counted) & set(asked))
    if other_network:
        assert helps == (was and now)
    elif was == now and not (key == "domain" and was and not now):
        assert helps


@pytest.mark.parametrize(
    ("name", "shown"),
    [(NETWORK, NETWORK), (SPF, "a.example (SPF)"), (DKIM, f"a.example (DKIM) in {NETWORK}"), ("a socket", "a socket")],
)
def test_names_as_people_read_them(name: str, shown: str) -> None:
    assert told(name) == shown


def test_who_is_released_passes_with_the_next_try_whenever_that_is() -> None:
    for fact in (WAITING, None, released(WAITING, T, SETTINGS)):
        let = released(fact, T + MINUTE, SETTINGS)
        assert state_of(let) == "released" and let.expires_at == T + MINUTE + 6 * HOUR
        for now in (T + MINUTE, T + 5 * HOUR, T - DAY):
            outcome, kept, wait = decide(let, now, SETTINGS)
            assert (outcome, wait) == ("passed", 0)
            assert kept is not None and kept.expires_at == now + 36 * DAY
            assert decide(kept, now + MINUTE, SETTINGS).outcome == "known"
    assert (state_of(WAITING), state_of(PASSED)) == ("waiting", "known")


def test_enough_good_mail_is_enough_and_is_not_written_with_every_message() -> None:
    assert [allowed(enough(count, T, SETTINGS), SETTINGS) for count in (0, 1, 4, 5, 6)] == [0, 0, 0, 5, 6]
    good = enough(5, T, SETTINGS)
    assert good is not None and good.expires_at == T + 36 * DAY
    assert still_good(good, T + HOUR, SETTINGS) is None
    later = still_good(good, T + 2 * DAY, SETTINGS)
    assert later is not None and later.expires_at == T + 38 * DAY and allowed(later, SETTINGS) == 5
    # A clock that was put back does not shorten it.
    assert still_good(later, T - 99 * DAY, SETTINGS) is None


def test_what_is_over_counts_for_nothing() -> None:
    gone = over(T)
    assert gone.expires_at <= T and not allowed(gone, SETTINGS) and not allowed(None, SETTINGS)


def test_how_much_is_enough_is_the_operators_to_say() -> None:
    good = enough(5, T, SETTINGS)
    assert allowed(good, GreylistingSettings(auto_allow=0)) == 0
    assert allowed(good, GreylistingSettings(auto_allow=7)) == 0
    assert enough(5, T, GreylistingSettings(auto_allow=7)) is None


def test_whom_a_user_has_written_to_is_remembered_for_the_expiration() -> None:
    assert correspondence(Address("Zoe", "far.example"), "here.example") == "zoe@far.example\t*@here.example"
    first = after_writing(None, T, SETTINGS)
    assert first == Fact((T,), T, T + 36 * DAY)
    assert after_writing(first, T + HOUR, SETTINGS) is None
    again = after_writing(first, T + 2 * DAY, SETTINGS)
    assert again is not None and again.expires_at == T + 38 * DAY


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("", ("",)),
        ("192.0.2", ("192.0.2",)),
        ("Ann@A7.example", ("ann@a7.example",)),
        ("list-17@a7.example", ("list-17@a7.example", "list-#@a7.example")),
        ("@a7.example", ("@a7.example",)),
        ("192.0.2.254", ("192.0.2.254", "192.0.2.0/24")),
        ("::FFFF:192.0.2.254", ("::ffff:192.0.2.254", "192.0.2.0/24")),
        ("2001:db8:0:1:2:3:4:5", ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64")),
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
