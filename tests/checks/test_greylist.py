"""The greylist check: who is exempt and why, by what name a client is known, what is remembered, what the stranger is
told, and that a store that is away is an error that the INI weighs."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from fakes.disk import TestClock
from fakes.lists import lists
from fakes.state import FakeStateStore

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.greylist import GOOD, SPACE, WRITTEN, Greylist
from inboundmx.checks.runner import Runner
from inboundmx.model.address import Address
from inboundmx.model.custody import Host
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.session import Session
from inboundmx.model.settings import BACKED_UP, CheckSettings, DomainSettings, GreylistingSettings, Settings
from inboundmx.model.verdict import Weight
from inboundmx.policy.greylisting import released
from inboundmx.policy.judging import judge_early
from inboundmx.policy.listing import NOBODY
from inboundmx.policy.scoring import score
from inboundmx.ports import Fact, Lists, Unavailable

ANN = Address("ann", "sender.example")
BOB = Address("bob", "here.example")
HOSTS = (Host("192.0.2.10"),)
SETTINGS = Settings(
    domains={
        "here.example": DomainSettings("here.example", primary=HOSTS),
        "open.example": DomainSettings("open.example", primary=HOSTS, greylisting=False),
    },
    greylisting=GreylistingSettings(block=900.0, pass_=21600.0),
)
SESSION = Session("s", "192.0.2.1", 25000, "192.0.2.25", 0.0)
MINUTE = 60


class Desk:
    def __init__(self, settings: Settings = SETTINGS, lists: Lists = NOBODY) -> None:
        self.clock = TestClock()
        self.state = FakeStateStore(self.clock)
        self.use(settings, lists)

    def use(self, settings: Settings, lists: Lists = NOBODY) -> None:
        """The same store, and other settings from now on."""
        nothing: Any = None
        self.check = Greylist(
            {},
            Tools(settings, self.clock, nothing, self.state, nothing, nothing, nothing, nothing, lists=lists),
        )

    def ask(
        self,
        peer: str = "192.0.2.1",
        sender: Address | None = ANN,
        recipient: Address = BOB,
        user: str = "",
        spf: str = "",
    ) -> Finding:
        """``spf``: the domain of MAIL FROM that passed."""
        session = replace(SESSION, peer_ip=peer, authenticated_as=user)
        facts = (("spf_mailfrom", spf),) if spf else ()
        seen = CheckResult("spf", "spf", Stage.SENDER, Finding("pass" if spf else "none", facts=facts))
        with pytest.raises(StopIteration) as stop:
            self.check.examine(Case(session, Envelope(sender), recipient, None, (seen,))).send(None)
        found: Finding = stop.value.value
        return found

    def wait(self, minutes: float) -> None:
        self.clock.task.advance(minutes * MINUTE)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_life_of_a_triplet(desk: Desk) -> None:
    first = desk.ask()
    assert first == Finding(
        "new", "192.0.2.0/24 may try again in 15 minutes", "", "greylisted, please try again in 15 minutes"
    )
    desk.wait(4.5)
    assert desk.ask().advice == "greylisted, please try again in 11 minutes"
    desk.wait(10)
    assert desk.ask() == Finding(
        "early", "192.0.2.0/24 may try again in 1 minute", "", "greylisted, please try again in 1 minute"
    )
    desk.wait(0.5)
    assert desk.ask() == Finding("passed", "192.0.2.0/24 has come again")
    desk.wait(30 * 24 * 60)
    assert desk.ask() == Finding("known", "192.0.2.0/24 is known")
    desk.wait(30 * 24 * 60)
    assert desk.ask() == Finding("known", "192.0.2.0/24 is known")
    desk.wait(37 * 24 * 60)
    assert desk.ask().outcome == "new"


def test_who_comes_too_late_is_new(desk: Desk) -> None:
    assert desk.ask().outcome == "new"
    desk.wait(361)
    assert desk.ask().outcome == "new"


def test_any_member_of_a_pool_may_retry(desk: Desk) -> None:
    assert desk.ask("192.0.2.1").outcome == "new"
    assert desk.ask("2001:db8::1").outcome == "new"
    desk.wait(20)
    assert desk.ask("192.0.2.250").outcome == "passed"
    assert desk.ask("2001:db8::ffff").outcome == "passed"
    assert desk.ask("192.0.2.1").outcome == "known"
    assert desk.ask("198.51.100.1").outcome == "new"
    assert desk.ask("2001:db8:0:1::1").outcome == "new"


def test_each_sender_and_each_recipient_waits_alone(desk: Desk) -> None:
    desk.ask()
    desk.wait(20)
    assert desk.ask(sender=Address("eve", "sender.example")).outcome == "new"
    assert desk.ask(recipient=Address("eve", "here.example")).outcome == "new"
    loud = desk.ask(sender=Address("ANN", "sender.example"), recipient=Address("BOB", "here.example"))
    assert loud.outcome == "passed"


def test_numbered_senders_are_one(desk: Desk) -> None:
    desk.ask(sender=Address("list-17", "sender.example"))
    desk.wait(20)
    assert desk.ask(sender=Address("list-18", "sender.example")).outcome == "passed"


@pytest.mark.parametrize(
    "said",
    [
        {"user": "ann"},
        {"recipient": Address("bob", "open.example")},
        {"sender": None},
        {"recipient": Address("postmaster", "here.example")},
        {"recipient": Address("Abuse", "here.example")},
    ],
)
def test_the_exempt_leave_no_trace(desk: Desk, said: dict[str, Any]) -> None:
    found = desk.ask(**said)
    assert found.outcome == "exempt" and found.detail and not found.advice
    assert desk.state.puts == 0


def test_what_is_known_is_not_written_with_every_message(desk: Desk) -> None:
    desk.ask()
    desk.wait(20)
    desk.ask()
    assert desk.state.puts == 2
    for _ in range(20):
        desk.wait(60)
        assert desk.ask().outcome == "known"
    assert desk.state.puts == 2
    desk.wait(24 * 60)
    desk.ask()
    assert desk.state.puts == 3


def test_what_is_remembered_is_found_by_operators(desk: Desk) -> None:
    desk.ask()
    found: Any = desk.state.facts(SPACE, "ann@sender.example", 5).result
    assert [key for key, _ in found] == ["192.0.2.0/24\tann@sender.example\tbob@here.example"]


# --- by the sender's domain ------------------------------------------------------------------------------------------

BY_DOMAIN = replace(SETTINGS, greylisting=replace(SETTINGS.greylisting, key="domain"))
# Servers of one service, in many networks.
FAR, FARTHER = "198.51.100.1", "2001:db8::1"


def test_a_domain_that_spf_confirms_is_asked_once_wherever_it_comes_from() -> None:
    desk = Desk(BY_DOMAIN)
    assert desk.ask(spf="sender.example").detail == "sender.example (SPF) may try again in 15 minutes"
    desk.wait(20)
    assert desk.ask(FAR, spf="sender.example") == Finding("passed", "sender.example (SPF) has come again")
    assert desk.ask(FARTHER, spf="sender.example") == Finding("known", "sender.example (SPF) is known")
    # Whoever is not confirmed, or confirmed for another domain, is a stranger there.
    assert desk.ask(FARTHER).outcome == "new"
    assert desk.ask("203.0.113.9", spf="else.example").outcome == "new"


def test_by_network_a_service_is_asked_in_each_of_its_networks() -> None:
    desk = Desk()
    desk.ask(spf="sender.example")
    desk.wait(20)
    assert desk.ask(FAR, spf="sender.example").outcome == "new"
    assert desk.ask(spf="sender.example").outcome == "passed"


@pytest.mark.parametrize(("before", "after"), [(SETTINGS, BY_DOMAIN), (BY_DOMAIN, SETTINGS)])
def test_another_key_keeps_who_was_known_and_who_waits(before: Settings, after: Settings) -> None:
    desk = Desk(before)
    eve = Address("eve", "sender.example")
    desk.ask(spf="sender.example")
    desk.wait(20)
    assert desk.ask(spf="sender.example").outcome == "passed"
    assert desk.ask(sender=eve, spf="sender.example").outcome == "new"
    desk.use(after)
    assert desk.ask(spf="sender.example").outcome == "known"
    assert desk.ask(sender=eve, spf="sender.example").outcome == "early"
    desk.wait(20)
    assert desk.ask(sender=eve, spf="sender.example").outcome == "passed"
    # From now on it stands there by its new name.
    puts = desk.state.puts
    assert desk.ask(spf="sender.example").outcome == "known" and desk.state.puts == puts


def test_what_cannot_be_asked_at_the_first_try_costs_no_second_wait() -> None:
    desk = Desk(BY_DOMAIN)
    desk.ask()
    desk.wait(20)
    assert desk.ask(spf="sender.example").outcome == "passed"
    assert desk.ask(FAR, spf="sender.example").outcome == "known"


# --- who need not wait -----------------------------------------------------------------------------------------------

FULL = replace(
    SETTINGS,
    greylisting=replace(
        SETTINGS.greylisting,
        bypass=(ip_network("198.51.100.0/24"),),
        except_recipients=("user@here.example", "*@list.here.example"),
    ),
    domains={**SETTINGS.domains, "list.here.example": DomainSettings("list.here.example", primary=HOSTS)},
)
LISTS = lists(
    whitelist_smtp="203.0.113.1",
    whitelist_greylisting="203.0.113.2",
    whitelist_spam="203.0.113.3",
    bypass_gateways="203.0.113.4",
    trusted_senders="*@partner.example",
)
PARTNER = Address("p", "partner.example")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"peer": "203.0.113.1"}, "203.0.113.1 is whitelisted for smtp"),
        ({"peer": "203.0.113.2"}, "203.0.113.2 is whitelisted for greylisting"),
        ({"peer": "203.0.113.3"}, ""),
        ({"peer": "203.0.113.4"}, "203.0.113.4 is a bypass gateway"),
        ({"peer": "198.51.100.7"}, "198.51.100.7 is in [greylisting] bypass"),
        ({"sender": PARTNER, "spf": "partner.example"}, "p@partner.example is a trusted sender"),
        ({"sender": PARTNER}, ""),
        ({"sender": PARTNER, "spf": "else.example"}, ""),
        ({"recipient": Address("User", "here.example")}, "User@here.example is in [greylisting] except_recipients"),
        ({"recipient": Address("a", "list.here.example")}, "a@list.here.example is in [greylisting] except_recipients"),
        ({"recipient": Address("a", "list.open.example")}, ""),
    ],
)
def test_whom_an_operator_exempts(said: dict[str, Any], why: str) -> None:
    found = Desk(FULL, LISTS).ask(**said)
    assert (found.outcome, found.detail) == ("exempt", why) if why else found.outcome == "new"


def test_a_domain_we_are_backup_of_by_its_mx_set() -> None:
    far = Address("bob", "backed-up.example")
    assert Desk().ask(recipient=far).outcome == "new"
    without = replace(SETTINGS, backed_up=replace(BACKED_UP, greylisting=False))
    assert Desk(without).ask(recipient=far) == Finding("exempt", "[backup] has greylisting = no")
    assert Desk(without).ask().outcome == "new"


def counted(desk: Desk, name: str, count: int) -> None:
    now = desk.clock.now()
    desk.state.put(GOOD, name, Fact((float(count), now), now, now + 1e6))


@pytest.mark.parametrize(
    ("name", "said", "why"),
    [
        ("192.0.2.0/24", {}, "192.0.2.0/24 is auto-allowed after 5 good deliveries"),
        ("192.0.2.0/24", {"peer": "192.0.3.1"}, ""),
        ("spf:sender.example", {"spf": "sender.example", "peer": FAR},
         "sender.example (SPF) is auto-allowed after 5 good deliveries"),
        ("spf:sender.example", {}, ""),
        ("192.0.2.0/24 dkim:sender.example", {},
         "sender.example (DKIM) in 192.0.2.0/24 is auto-allowed after 5 good deliveries"),
        ("192.0.2.0/24 dkim:sender.example", {"peer": FAR}, ""),
        ("192.0.2.0/24 dkim:sender.example", {"sender": Address("a", "else.example")}, ""),
    ],
)  # fmt: skip
def test_who_sent_good_mail_need_not_wait(name: str, said: dict[str, Any], why: str) -> None:
    desk = Desk(BY_DOMAIN)
    counted(desk, name, 4)
    assert desk.ask(recipient=Address("eve", "here.example"), **said).outcome == "new"
    counted(desk, name, 5)
    found = desk.ask(**said)
    assert (found.outcome, found.detail) == ("exempt", why) if why else found.outcome == "new"
    desk.use(replace(BY_DOMAIN, greylisting=replace(BY_DOMAIN.greylisting, auto_allow=0)))
    assert desk.ask(recipient=Address("zoe", "here.example"), **said).outcome == "new"


def test_whom_a_user_has_written_to_need_not_wait_for_the_answer(desk: Desk) -> None:
    now = desk.clock.now()
    desk.state.put(WRITTEN, "ann@sender.example\t*@here.example", Fact((now,), now, now + 100))
    loud = Address("Ann", "sender.example")
    found = desk.ask(FAR, sender=loud, spf="sender.example")
    assert found.detail == "a user of here.example has written to Ann@sender.example"
    assert desk.ask(FAR, sender=loud).outcome == "new", "anybody can say that he is Ann"
    assert desk.ask(FAR, sender=loud, spf="else.example").outcome == "early"
    assert desk.ask(FAR, sender=Address("eve", "sender.example"), spf="sender.example").outcome == "new"
    desk.wait(2)
    assert desk.ask("203.0.113.99", spf="sender.example").outcome == "new"


@pytest.mark.parametrize("settings", [SETTINGS, BY_DOMAIN])
def test_one_that_an_operator_let_through_passes_at_once(settings: Settings) -> None:
    desk = Desk(settings)
    desk.ask(spf="sender.example")
    key = next(name for space, name in desk.state._facts if space == SPACE)
    desk.state.put(SPACE, key, released(desk.state._facts[SPACE, key], desk.clock.now(), settings.greylisting))
    found = desk.ask(spf="sender.example")
    assert found.outcome == "passed" and found.detail.endswith("was let through by an operator")
    assert desk.ask(spf="sender.example").outcome == "known"


# --- as the runner and the verdict see it -----------------------------------------------------------------------------

NAMED = CheckSettings("grey", "greylist", weights={"new": "defer", "early": "defer", "error": 0.0})


def judged(desk: Desk, **weights: Weight) -> str:
    named = replace(NAMED, weights={**NAMED.weights, **weights})
    runner = Runner([(named, desk.check)], desk.clock)
    with pytest.raises(StopIteration) as stop:
        runner.run(Stage.RECIPIENT, Case(SESSION, Envelope(ANN), BOB)).send(None)
    results: tuple[CheckResult, ...] = stop.value.value
    verdict = judge_early(score(results, {"grey": named}), 30.0)
    return f"{results[0].finding.outcome} {'' if verdict is None else verdict.reply}".strip()


def test_the_stranger_hears_when_to_come_back(desk: Desk) -> None:
    assert judged(desk) == (
        "new 451 4.7.1 mail not accepted yet by check grey, greylisted, please try again in 15 minutes"
    )
    desk.wait(15)
    assert judged(desk) == "passed"


def test_a_store_that_is_away_refuses_nobody(desk: Desk) -> None:
    desk.state.failure = Unavailable("the state store cannot be read")
    assert judged(desk) == "error"
    assert judged(desk, error="defer").startswith("error 451 4.7.1 mail not accepted yet by check grey, please try")


def test_default_weights_put_off_and_nothing_else() -> None:
    assert Greylist.weights == {"new": "defer", "early": "defer"}
