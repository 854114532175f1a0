"""The greylist check: who is exempt, what is remembered, what the stranger is told, and that a store that is away is an
error that the INI weighs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.disk import TestClock
from fakes.state import FakeStateStore

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.greylist import SPACE, Greylist
from inboundmx.checks.runner import Runner
from inboundmx.model.address import Address
from inboundmx.model.custody import Host
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, DomainSettings, GreylistingSettings, Settings
from inboundmx.model.verdict import Weight
from inboundmx.policy.judging import judge_early
from inboundmx.policy.scoring import score
from inboundmx.ports import Unavailable

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
    def __init__(self) -> None:
        self.clock = TestClock()
        self.state = FakeStateStore(self.clock)
        nothing: Any = None
        self.check = Greylist(
            {}, Tools(SETTINGS, self.clock, nothing, self.state, nothing, nothing, nothing, nothing)
        )

    def ask(
        self, peer: str = "192.0.2.1", sender: Address | None = ANN, recipient: Address = BOB, user: str = ""
    ) -> Finding:
        session = replace(SESSION, peer_ip=peer, authenticated_as=user)
        with pytest.raises(StopIteration) as stop:
            self.check.examine(Case(session, Envelope(sender), recipient)).send(None)
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
        "new", "may be tried again in 15 minutes", "", "greylisted, please try again in 15 minutes"
    )
    desk.wait(4.5)
    assert desk.ask().advice == "greylisted, please try again in 11 minutes"
    desk.wait(10)
    assert desk.ask() == Finding(
        "early", "may be tried again in 1 minute", "", "greylisted, please try again in 1 minute"
    )
    desk.wait(0.5)
    assert desk.ask() == Finding("passed")
    desk.wait(30 * 24 * 60)
    assert desk.ask() == Finding("known")
    desk.wait(30 * 24 * 60)
    assert desk.ask() == Finding("known")
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
