"""The check of recipients: when nobody is asked, what each answer weighs and says, and what is done while nobody can be
asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.state import FakeStateStore

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.recipient import SPACE, Recipient
from inboundmx.model.address import Address
from inboundmx.model.custody import Host
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, DomainSettings, GreylistingSettings, Settings
from inboundmx.policy.judging import judge_early
from inboundmx.policy.scoring import score
from inboundmx.ports import Known, Unavailable

ANN, BOB = Address("ann", "here.example"), Address("bob", "sender.example")
SESSION = Session("s", "192.0.2.1", 25000, "192.0.2.25", 0.0)
GREY = {"new": "defer", "early": "defer", "passed": 0.0, "known": 0.0, "exempt": 0.0, "error": 0.0, "timeout": 0.0}
OWN = dict.fromkeys(Recipient.outcomes, 0.0) | dict(Recipient.weights)


class Desk:
    """``knows``: the word of the directory for everybody."""

    def __init__(self, knows: str = "exists", **domain: Any) -> None:
        self.knows = knows
        self.asked: list[Address] = []
        self.clock = FakeClock()
        self.state = FakeStateStore(self.clock)
        values = {"recipients": ("learned", "callout")} | domain
        self.domain = DomainSettings("here.example", primary=(Host("192.0.2.10"),), **values)
        self.settings = Settings(
            domains={"here.example": self.domain},
            greylisting=GreylistingSettings(block=900.0, pass_=21600.0),
            checks=(CheckSettings("grey", "greylist", weights=GREY), CheckSettings("who", "recipient", weights=OWN)),
        )
        nothing: Any = None
        tools = Tools(
            self.settings, self.clock, nothing, self.state, nothing, nothing, nothing, nothing, directory=self
        )
        self.check = Recipient({}, tools)

    async def who(self, address: Address, domain: DomainSettings) -> Known:
        self.asked.append(address)
        return Known(self.knows, "so it was said")

    def find(
        self, *greylisted: str, to: Address = ANN, sender: Address | None = BOB, peer: str = "192.0.2.1"
    ) -> Finding:
        results = tuple(CheckResult("grey", "greylist", Stage.RECIPIENT, Finding(word), to) for word in greylisted)
        case = Case(replace(SESSION, peer_ip=peer), Envelope(sender), to, None, results)
        with pytest.raises(StopIteration) as stop:
            self.check.examine(case).send(None)
        found: Finding = stop.value.value
        return found

    def reply(self, finding: Finding) -> str:
        """What the stranger hears; empty when the recipient is taken."""
        result = CheckResult("who", "recipient", Stage.RECIPIENT, finding, ANN)
        checks = {check.name: check for check in self.settings.checks}
        verdict = judge_early(score([result], checks, self.domain.weights), 30.0)
        return "" if verdict is None else str(verdict.reply)


@pytest.mark.parametrize(
    ("word", "outcome", "reply"),
    [
        ("exists", "exists", ""),
        ("unasked", "unasked", ""),
        ("unknown", "unknown", "550 5.1.1 there is no such recipient here"),
        (
            "undetermined",
            "undetermined",
            "450 4.1.1 the recipient cannot be verified just now, please try again later",
        ),
    ],
)
def test_what_each_word_means(word: str, outcome: str, reply: str) -> None:
    desk = Desk(word)
    found = desk.find()
    assert (found.outcome, found.detail, found.facts, desk.reply(found)) == (outcome, "so it was said", (), reply)


def test_a_domain_that_takes_everybody_is_not_asked_about() -> None:
    desk = Desk("unknown", recipients=("any",))
    assert (desk.find().outcome, desk.asked) == ("unasked", [])
    assert desk.find(to=Address("x", "elsewhere.example")).outcome == "unasked"


@pytest.mark.parametrize("local", ["postmaster", "Postmaster", "POSTMASTER"])
def test_postmaster_is_always_taken(local: str) -> None:
    desk = Desk("unknown")
    assert (desk.find(to=Address(local, "here.example")).outcome, desk.asked) == ("unasked", [])


@pytest.mark.parametrize("word", ["new", "early"])
def test_whom_greylisting_puts_off_is_told_nothing_and_nobody_is_asked(word: str) -> None:
    for knows in ("exists", "unknown", "undetermined", "unreachable"):
        desk = Desk(knows)
        assert (desk.find(word).outcome, desk.asked) == ("unasked", [])


@pytest.mark.parametrize("word", ["passed", "known", "exempt"])
def test_whom_greylisting_lets_pass_is_asked_about(word: str) -> None:
    assert Desk("unknown").find(word).outcome == "unknown"


def test_greylisting_that_puts_nobody_off_here_does_not_hide_who_is_unknown() -> None:
    desk = Desk("unknown", weights={("grey", "new"): 2.0})
    assert desk.find("new").outcome == "unknown"


@pytest.mark.parametrize("policy", ["hold", "accept"])
def test_who_cannot_be_asked_about_is_taken_unverified(policy: str) -> None:
    found = Desk("unreachable", recipients_unreachable=policy).find("passed")
    assert (found.outcome, found.facts) == ("unasked", (("unverified", ""),))
    assert found.detail == "so it was said; taken unverified"


def test_who_cannot_be_asked_about_may_be_put_off() -> None:
    desk = Desk("unreachable", recipients_unreachable="defer")
    found = desk.find("passed")
    assert (found.outcome, desk.reply(found)[:9]) == ("undetermined", "450 4.1.1")


def test_without_greylisting_hold_puts_a_stranger_off_once() -> None:
    desk = Desk("unreachable")
    assert desk.find().outcome == "undetermined"
    desk.clock.advance(899)
    assert desk.find().outcome == "undetermined"
    desk.clock.advance(2)
    assert desk.find().facts == (("unverified", ""),)
    assert desk.find(peer="203.0.113.9").outcome == "undetermined"
    assert desk.state.puts == 3


def test_notices_are_not_put_off() -> None:
    desk = Desk("unreachable")
    assert desk.find(sender=None).facts == (("unverified", ""),)


def test_accept_puts_nobody_off() -> None:
    desk = Desk("unreachable", recipients_unreachable="accept")
    assert desk.find().facts == (("unverified", ""),)
    assert desk.state.puts == 0


def test_a_store_that_is_away_is_an_error_that_the_ini_weighs() -> None:
    desk = Desk("unreachable")
    desk.state.failure = Unavailable("locked")
    case = Case(SESSION, Envelope(BOB), ANN)
    with pytest.raises(Unavailable):
        desk.check.examine(case).send(None)
    assert Recipient.weights["error"] == Recipient.weights["timeout"] == "defer"


def test_those_who_are_put_off_stand_apart_from_greylisting() -> None:
    assert SPACE == "unverified"
