"""What a client or a sender is spared, or told, because of where it stands on the lists."""

from __future__ import annotations

from dataclasses import replace

import gate as gate_parts
import pytest
from fakes.lists import lists
from gate import ANN, MAIL, SENDER, SESSION, Gate, check, domain, settings

from inboundmx.checks.api import Case
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DEFAULT_LEVELS, CheckSettings, LevelSettings, RelaySettings
from inboundmx.model.verdict import Level, Weight, written_weight


def test_who_is_blacklisted_hears_554_and_an_id_and_why_is_recorded() -> None:
    gate = Gate(settings(), lists=lists(blacklist="192.0.2.99"))
    text = f"your address is on the blacklist here {SESSION.id}"
    assert gate.conversation.arriving().refusal == Reply(554, "5.7.1", text, then_close=True)
    [(event, id, fields)] = gate.journal.events
    assert (event, id) == ("refused", SESSION.id)
    assert (fields["verb"], fields["ip"], fields["blacklist"]) == ("connect", "192.0.2.99", "192.0.2.99")


@pytest.mark.parametrize(
    ("white", "code"), [({}, 554), ({"whitelist_smtp": "192.0.2.99"}, 220), ({"whitelist_spam": "192.0.2.99"}, 554)]
)
def test_only_a_whitelist_for_smtp_outweighs_the_blacklist(white: dict[str, str], code: int) -> None:
    gate = Gate(settings(), lists=lists(blacklist="192.0.2.0/24", **white))
    welcome = gate.conversation.arriving()
    assert (welcome.refusal is not None) is (code == 554)
    assert welcome.spared is ("whitelist_smtp" in white)


def test_who_is_authenticated_is_not_asked_for_its_address_again() -> None:
    """The blacklist speaks before anything is said: what comes later is not for it."""
    gate = Gate(settings(), lists=lists(blacklist="192.0.2.99"))
    session = replace(SESSION, authenticated_as="ann")
    assert gate.ask(gate.conversation.hello(session)).code == 250


@pytest.mark.parametrize(("allow", "relays"), [((), False), (("whitelisted",), True)])
def test_a_whitelisted_client_sends_out_where_relaying_is_for_those(allow: tuple[str, ...], relays: bool) -> None:
    gate = Gate(settings(relay=RelaySettings(allow)), lists=lists(whitelist_smtp="192.0.2.99"))
    assert gate.conversation._relays is relays


# --- whitelisted -----------------------------------------------------------------------------------------------------


def spam(weight: Weight, counts_for: str = "filtering blocking") -> CheckSettings:
    """A check about spam, which every message of these tests meets."""
    return check("words", "hello", weight, counts_for=frozenset(counts_for.split()))


class Virus:
    """Stands for a check that is not about spam."""

    kind = "clamav"
    stage = Stage.MESSAGE
    again = None
    about = "other"
    client = ""
    after = frozenset()
    dear = False
    most_points = 0.0

    @staticmethod
    def words(options: object) -> frozenset[str]:
        return frozenset({"infected", "clean"})

    async def examine(self, case: Case) -> Finding:
        return Finding("infected", "Eicar")


VIRUS = CheckSettings("virus", "clamav", weights={"infected": "reject"})


def outcome(gate: Gate) -> tuple[int, str, str]:
    """The answer to the final dot, the level and what was seen."""
    code = gate.send(MAIL, ANN).code
    _, _, fields = gate.journal.events[-1]
    return (
        code,
        fields["spam_level"],
        " ".join(f"{name}={word}({written_weight(weight)})" for name, word, weight, _ in fields["checks"]),
    )


@pytest.mark.parametrize(
    ("white", "weight", "expected"),
    [
        ({}, 30.0, (554, "high", "words=match(30)")),
        ({}, 20.0, (250, "medium", "words=match(20)")),
        ({"whitelist_smtp": "192.0.2.99"}, 29.0, (250, "medium", "words=match(29)")),
        ({"whitelist_spam": "192.0.2.99"}, 30.0, (250, "none", "")),
        ({"whitelist_greylisting": "192.0.2.99"}, 30.0, (554, "high", "words=match(30)")),
        ({"whitelist_spam": "192.0.2.98"}, 30.0, (554, "high", "words=match(30)")),
    ],
)
def test_a_client_that_is_whitelisted_for_spam_is_not_asked_about(
    white: dict[str, str], weight: float, expected: tuple[int, str, str]
) -> None:
    assert outcome(Gate(settings(spam(weight)), lists=lists(**white))) == expected


def test_a_client_that_is_whitelisted_for_smtp_is_not_blocked_but_judged() -> None:
    high = (*DEFAULT_LEVELS[:3], LevelSettings(Level.HIGH, 90.0))
    levels = {"domains": (domain("a.example", levels=high),)}
    white = lists(whitelist_smtp="192.0.2.99")
    assert outcome(Gate(settings(spam(40.0), **levels)))[0] == 554
    assert outcome(Gate(settings(spam(40.0), **levels), lists=white)) == (250, "medium", "words=match(40)")
    # A reject is no threshold.
    assert outcome(Gate(settings(spam("reject")), lists=white))[0] == 554


def test_viruses_are_looked_for_whoever_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gate_parts.KINDS, "clamav", lambda options, tools=None: Virus())  # type: ignore[arg-type]
    for white in (
        {},
        {"whitelist_spam": "192.0.2.99"},
        {"whitelist_spam": "192.0.2.99", "whitelist_smtp": "192.0.2.99"},
    ):
        code, _, seen = outcome(Gate(settings(spam(1.0), VIRUS), lists=lists(**white)))
        assert (code, "virus=infected" in seen, "words" in seen) == (554, True, not white)


# --- blocked and trusted ---------------------------------------------------------------------------------------------


class Spf:
    """Passes for everybody at b.example."""

    kind = "spf"
    stage = Stage.SENDER
    again = None
    about = "origin"
    client = ""
    after = frozenset()
    dear = False
    most_points = 0.0
    passes = True

    @staticmethod
    def words(options: object) -> frozenset[str]:
        return frozenset({"pass", "fail"})

    async def examine(self, case: Case) -> Finding:
        return Finding("pass", facts=(("spf_mailfrom", "b.example"),)) if self.passes else Finding("fail")


SPF = CheckSettings("spf", "spf", weights={"pass": 7.0, "fail": 0.0})
BLOCKED = CheckSettings("senders", "blocked", weights={"blocked": "reject"})
FROM_BOB = MAIL.replace(b"From: bob@b.example", b"From: Bob <bob@b.example>")


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gate_parts.KINDS, "spf", lambda options, tools=None: Spf())  # type: ignore[arg-type]


def test_a_blocked_sender_is_refused_at_mail(passing: None) -> None:
    gate = Gate(settings(SPF, BLOCKED), lists=lists(blocked_senders=str(SENDER)))
    reply = gate.ask(gate.conversation.mail(Envelope(SENDER)))
    assert (reply.code, reply.text.split()[:5]) == (550, ["mail", "refused", "by", "check", "senders"])
    assert gate.journal.events[-1][2]["checks"][-1] == [
        "senders", "blocked", "reject", f"sender is on the list: {SENDER}"
    ]  # fmt: skip


def test_a_trusted_sender_weighs_nothing_as_spam(passing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(spam(25.0), SPF, BLOCKED)
    content = b"From: " + str(SENDER).encode() + b"\r\nSubject: hello\r\n\r\nx\r\n"

    def sent(trusted: str, content: bytes) -> tuple[int, str]:
        gate = Gate(given, lists=lists(trusted_senders=trusted))
        code = gate.send(content, ANN).code
        fields = gate.journal.events[-1][2]
        assert ("spared" in fields) is (fields["score"] == 0)
        return code, " ".join(f"{name}={word}({written_weight(weight)})" for name, word, weight, _ in fields["checks"])

    assert sent(str(SENDER), content) == (250, "spf=pass(0) words=match(0) senders=trusted(0)")
    assert sent("x@b.example", content) == (550, "spf=pass(7) words=match(25) senders=unlisted(0)")
    # SPF alone does not make a message trusted: the author must be of the same organisation.
    forged = content.replace(str(SENDER).encode(), b"ceo@bank.example")
    assert sent(str(SENDER), forged) == (550, "spf=pass(7) words=match(25) senders=unlisted(0)")
    monkeypatch.setattr(Spf, "passes", False)
    assert sent(str(SENDER), content)[1] == "spf=fail(0) words=match(25) senders=unlisted(0)"


def test_what_is_said_again_takes_the_place_of_what_was_said(passing: None) -> None:
    """It is counted once, also for whether a dear check need be asked."""
    worth = replace(BLOCKED, weights={"unlisted": 6.0, "blocked": 6.0, "trusted": 0.0})
    gate = Gate(settings(SPF, worth))
    gate.send(MAIL, ANN)
    fields = gate.journal.events[-1][2]
    assert [line[0] for line in fields["checks"]] == ["spf", "senders"]
    assert fields["score"] == 13.0


def test_somebody_else_in_the_same_session_is_not_trusted_as_well(passing: None) -> None:
    gate = Gate(settings(spam(20.0), SPF, BLOCKED), lists=lists(trusted_senders=str(SENDER)))
    content = b"From: " + str(SENDER).encode() + b"\r\nSubject: hello\r\n\r\nx\r\n"
    assert gate.send(content, ANN).code == 250
    assert gate.journal.events[-1][2]["score"] == 0
    gate.conversation.reset()
    gate.send(content, ANN, sender=Address("eve", "b.example"))
    assert gate.journal.events[-1][2]["checks"][-1][1] == "trusted", "the author is, and has passed"
    gate.conversation.reset()
    gate.send(content.replace(b"From: ", b"From: x"), ANN, sender=Address("eve", "b.example"))
    assert gate.journal.events[-1][2]["score"] == 27.0


def test_a_blocked_sender_does_not_send_out_through_us_either(passing: None) -> None:
    relay = RelaySettings(("whitelisted",))
    gate = Gate(
        settings(SPF, BLOCKED, relay=relay), lists=lists(whitelist_smtp="192.0.2.99", blocked_senders=str(SENDER))
    )
    assert gate.send(MAIL, ANN).code == 554
    assert gate.journal.events[-1][2]["checks"] == [
        ["senders", "blocked", "reject", f"sender is on the list: {SENDER}"]
    ]
