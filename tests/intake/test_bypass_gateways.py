"""Mail that comes through a gateway of ours: what is judged of the gateway, and what of whom it brings."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import ClassVar

import gate as gate_parts
import pytest
from fakes.lists import lists
from gate import ANN, MAIL, SENDER, SESSION, Gate, settings

from inboundmx.checks.api import Case
from inboundmx.checks.registry import KINDS
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.settings import CheckSettings, RelaySettings

GATEWAY = SESSION.peer_ip
REAL = "198.51.100.7"
STAMP = f"Received: from mx.b.example (mx.b.example [{REAL}]) by gw.example; 1 Jan 2028 00:00:00 +0000\r\n".encode()
FORGED = STAMP.replace(REAL.encode(), b"192.0.2.200")
BYPASS = {"bypass_gateways": GATEWAY}
ABROAD = Address("someone", "abroad.example")


class Watching:
    """A check that only writes down of whom it was asked."""

    again = None
    about = "other"
    after: ClassVar[frozenset[str]] = frozenset()
    dear = False
    most_points = 0.0

    def __init__(self, kind: str, stage: Stage, client: str, asked: list[tuple[str, str, str, str]]) -> None:
        self.kind, self.stage, self.client, self._asked = kind, stage, client, asked

    @staticmethod
    def words(options: object) -> frozenset[str]:
        return frozenset({"seen"})

    async def examine(self, case: Case) -> Finding:
        session = case.session
        self._asked.append((self.kind, session.peer_ip, session.hello, session.via))
        return Finding("seen")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str, str]]:
    asked: list[tuple[str, str, str, str]] = []
    made = (
        Watching("rdns", Stage.CONNECT, "address", asked),
        Watching("helo", Stage.HELLO, "address", asked),
        Watching("spf", Stage.SENDER, "address", asked),
        Watching("blocked", Stage.SENDER, "", asked),
        Watching("greylist", Stage.RECIPIENT, "connection", asked),
        Watching("headers", Stage.MESSAGE, "", asked),
    )
    for each in made:
        monkeypatch.setitem(gate_parts.KINDS, each.kind, lambda options, tools=None, each=each: each)
    return asked


CHECKS = tuple(CheckSettings(kind, kind, weights={"seen": 0.0}) for kind in (
    "rdns", "helo", "spf", "blocked", "greylist", "headers"
))  # fmt: skip


def come(gate: Gate, content: bytes) -> int:
    welcome = gate.conversation.arriving()
    assert welcome.refusal is None
    assert gate.ask(gate.conversation.connected()).code == 220
    assert gate.ask(gate.conversation.hello(SESSION)).code == 250
    code: int = gate.send(content, ANN).code
    return code


def test_the_gateway_is_not_judged_and_the_client_behind_it_is(asked: list[tuple[str, str, str, str]]) -> None:
    gate = Gate(settings(*CHECKS), lists=lists(**BYPASS))
    assert come(gate, STAMP + FORGED + MAIL) == 250
    mine, theirs = (GATEWAY, SESSION.hello, ""), (REAL, "mx.b.example", GATEWAY)
    assert asked == [
        ("blocked", *mine), ("rdns", *theirs), ("helo", *theirs), ("spf", *theirs), ("headers", *theirs)
    ]  # fmt: skip
    _, _, fields = gate.journal.events[-1]
    assert (fields["ip"], fields["origin"]) == (GATEWAY, REAL)
    assert [step[1] for step in fields["walk"]] == [REAL]
    # What we write into the message is what we know ourselves.
    head = gate.courier.parcels[0].content.prefix.partition(b"Authentication-Results")[0]
    assert f"[{GATEWAY}]".encode() in head and REAL.encode() not in head


def test_no_stranger_gains_anything_by_received_fields(asked: list[tuple[str, str, str, str]]) -> None:
    gate = Gate(settings(*CHECKS), lists=lists(bypass_gateways="203.0.113.1", whitelist_smtp=REAL, whitelist_spam=REAL))
    assert come(gate, STAMP + MAIL) == 250
    assert {(ip, via) for _, ip, _, via in asked} == {(GATEWAY, "")}
    assert [kind for kind, *_ in asked] == ["rdns", "helo", "spf", "blocked", "greylist", "headers"]
    assert "walk" not in gate.journal.events[-1][2]


def test_where_the_fields_lead_nowhere_no_address_is_judged(asked: list[tuple[str, str, str, str]]) -> None:
    gate = Gate(settings(*CHECKS), lists=lists(**BYPASS, blacklist=GATEWAY))
    assert come(gate, MAIL) == 250
    assert [kind for kind, *_ in asked] == ["blocked", "headers"]
    assert gate.journal.events[-1][2]["origin"] == ""


@pytest.mark.parametrize(
    ("white", "code"),
    [
        ({}, 554),
        ({"whitelist_smtp": GATEWAY}, 250),
        ({"whitelist_smtp": REAL, "whitelist_spam": REAL}, 554),  # an address from Received is never trusted
    ],
)
def test_a_blacklisted_client_is_refused_behind_a_gateway_too(white: dict[str, str], code: int) -> None:
    gate = Gate(settings(), lists=lists(**BYPASS, **white, blacklist=f"{REAL} {GATEWAY}"))
    assert come(gate, STAMP + MAIL) == code
    event, _, fields = gate.journal.events[-1]
    assert (event == "refused") is (code == 554)
    if code == 554:
        assert (fields["origin"], fields["blacklist"]) == (REAL, REAL)
        assert fields["walk"][0][1] == REAL


def test_no_received_field_grants_relay() -> None:
    """Whatever address it names, ours or of who may relay."""
    allow = (ip_network(REAL), "whitelisted")
    listed = lists(**BYPASS, whitelist_smtp=REAL)
    gate = Gate(settings(relay=RelaySettings(allow)), lists=listed)
    assert come(gate, STAMP + MAIL) == 250
    gate.conversation.reset()
    assert gate.ask(gate.conversation.mail(Envelope(SENDER))).code == 250
    assert gate.ask(gate.conversation.recipient(ABROAD)).code == 550


def test_who_sends_out_through_us_is_not_walked_through(asked: list[tuple[str, str, str, str]]) -> None:
    relay = RelaySettings((ip_network(GATEWAY),))
    gate = Gate(settings(*CHECKS, relay=relay), lists=lists(**BYPASS))
    assert come(gate, STAMP + MAIL) == 250
    assert asked == [("headers", GATEWAY, SESSION.hello, "")]


def test_what_checks_look_at_of_a_client() -> None:
    assert {kind for kind, made in KINDS.items() if made.client == "address"} == {"dnsbl", "rdns", "helo", "spf"}
    assert {kind for kind, made in KINDS.items() if made.client == "connection"} == {"early_talker", "greylist"}


def test_a_gateway_is_no_stranger() -> None:
    gate = Gate(replace(settings(), smtp=replace(settings().smtp, banner_delay=5.0)), lists=lists(**BYPASS))
    welcome = gate.conversation.arriving()
    assert (welcome.strange, welcome.spared) == (False, True)
