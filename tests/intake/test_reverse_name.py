"""The client's name, once it is confirmed, is part of the session and stands in Received."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.checks import tools
from fakes.resolver import Zone
from gate import ANN, MAIL, SESSION, Gate, settings

from inboundmx.checks.rdns import ReverseDns
from inboundmx.checks.runner import Runner
from inboundmx.intake.conversation import Plan
from inboundmx.model.settings import CheckSettings

ZONE: Zone = {
    "99.2.0.192.in-addr.arpa": {"PTR": ["mail.b.example"]},
    "mail.b.example": {"A": ["192.0.2.99"]},
}
CONFIGURED = CheckSettings(
    "rdns", "rdns", weights=dict.fromkeys(("confirmed", "unconfirmed", "none", "error", "timeout"), 0.0)
)


def received(zone: Zone, *, greeted_twice: bool = False) -> str:
    gate = Gate(settings())
    given: Any = settings(CONFIGURED)
    runner = Runner([(CONFIGURED, ReverseDns({}, tools(zone)))], gate.clock)
    gate.reception.plan = Plan(given, runner, {"rdns": CONFIGURED})
    gate.conversation = gate.reception.conversation(SESSION)
    gate.ask(gate.conversation.connected())
    gate.ask(gate.conversation.hello(replace(SESSION, hello="first.b.example")))
    if greeted_twice:
        gate.ask(gate.conversation.hello(replace(SESSION, hello="second.b.example", tls="TLSv1.3")))
    gate.send(MAIL, ANN)
    return gate.courier.parcels[0].content.prefix.decode().partition("\r\n")[0]


@pytest.mark.parametrize("twice", [False, True])
def test_a_confirmed_name_stands_in_received(twice: bool) -> None:
    said = "second" if twice else "first"
    assert received(ZONE, greeted_twice=twice) == f"Received: from {said}.b.example (mail.b.example [192.0.2.99])"


def test_a_name_that_does_not_lead_back_does_not() -> None:
    zone: Zone = {**ZONE, "mail.b.example": {"A": ["192.0.2.98"]}}
    assert received(zone) == "Received: from first.b.example ([192.0.2.99])"
