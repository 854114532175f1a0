"""From an answer about a recipient to what the stranger hears and what is kept: refused, put off, or promised without
ever a notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.checks import tools
from fakes.state import FakeStateStore
from gate import ANN, BOB, EVE, MAIL, Gate, domain, settings

from inboundmx.checks.recipient import Recipient
from inboundmx.checks.runner import Runner
from inboundmx.intake.conversation import Plan
from inboundmx.model.address import Address
from inboundmx.model.custody import Handover, State
from inboundmx.model.settings import CheckSettings, DomainSettings
from inboundmx.ports import Known

WHO = CheckSettings("recipient", "recipient", weights=dict.fromkeys(Recipient.outcomes, 0.0) | dict(Recipient.weights))


class Book:
    """``ports.Directory`` by name."""

    def __init__(self, **known: str) -> None:
        self.known = known

    async def who(self, address: Address, domain: DomainSettings) -> Known:
        return Known(self.known.get(address.local, "unknown"), "by the book")


def gate(unreachable: str = "accept", **known: str) -> Gate:
    asked = {"recipients": ("learned", "callout"), "recipients_unreachable": unreachable, "bounce": "always"}
    made = Gate(settings(WHO, domains=(domain("a.example", **asked), domain("c.example", **asked))))
    state: Any = FakeStateStore(made.clock)
    given = replace(tools(), settings=made.settings, state=state, clock=made.clock, directory=Book(**known))
    runner = Runner([(WHO, Recipient({}, given))], made.clock)
    made.reception.plan = Plan(made.settings, runner, {"recipient": WHO})
    made.conversation = made.reception.conversation(made.conversation._session)
    return made


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("exists", "250 2.1.5 recipient ok"),
        ("unasked", "250 2.1.5 recipient ok"),
        ("unreachable", "250 2.1.5 recipient ok"),
        ("unknown", "550 5.1.1 there is no such recipient here"),
        ("undetermined", "450 4.1.1 the recipient cannot be verified just now, please try again later"),
    ],
)
def test_what_the_stranger_hears(word: str, said: str) -> None:
    made = gate(ann=word)
    made.envelope()
    assert str(made.ask(made.conversation.recipient(ANN))).startswith(said)


def test_a_refusal_is_on_record_with_who_said_so() -> None:
    made = gate()
    made.envelope()
    reply = made.ask(made.conversation.recipient(EVE))
    (event,) = made.journal.events
    assert (event[0], event[2]["recipient"]) == ("refused", "eve@c.example")
    assert event[2]["checks"] == [["recipient", "unknown", "reject", "by the book"]]
    assert str(reply).split()[-1] == event[1]


@pytest.mark.parametrize(
    ("known", "unverified"),
    [
        ({"ann": "exists", "bob": "exists"}, False),
        ({"ann": "unreachable", "bob": "unreachable"}, True),
        # They share an entry: one who could not be asked about is enough.
        ({"ann": "exists", "bob": "unreachable"}, True),
        ({"ann": "unreachable", "bob": "exists"}, True),
    ],
)
def test_what_could_not_be_asked_is_kept_as_that(known: dict[str, str], unverified: bool) -> None:
    made = gate(**known)
    made.courier.handover = Handover("postponed", detail="down")
    assert made.send(MAIL, ANN, BOB).code == 250
    (entry,) = made.deliveries.entries
    assert (entry.unverified, entry.may_notify, entry.state) == (unverified, not unverified, State.ACTIVE)
    (spooled,) = [fields for event, _, fields in made.journal.events if event == "spooled"]
    assert ("unverified" in spooled) is unverified


def test_what_could_not_be_asked_of_one_domain_is_not_held_against_another() -> None:
    made = gate(ann="unreachable", eve="exists")
    made.courier.handover = Handover("postponed", detail="down")
    assert made.send(MAIL, ANN, EVE).code == 250
    assert {entry.domain: entry.unverified for entry in made.deliveries.entries} == {
        "a.example": True,
        "c.example": False,
    }
