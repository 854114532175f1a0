"""Which mail speaks for a client and which against it, whom our users write to, and that none of it costs a message
anything."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from gate import ANN, EVE, HOST, MAIL, SENDER, SESSION, SPAM, Gate, body, check, domain, settings
from twisted.internet.defer import Deferred

from inboundmx.checks.greylist import COUNTED, GOOD, WRITTEN
from inboundmx.intake import goodwill as module
from inboundmx.model.address import Address
from inboundmx.model.custody import Handover, State
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.reply import Reply
from inboundmx.model.settings import (
    CausesSettings,
    CheckSettings,
    GreylistingSettings,
    LevelSettings,
    RelaySettings,
    Settings,
)
from inboundmx.model.verdict import Action, Level, Score
from inboundmx.ports import StorageFull, Unavailable

# It is there, and asks nobody here.
GREYLIST = CheckSettings("grey", "greylist", skip_for=(ip_network("0.0.0.0/0"),))
NETWORK = "192.0.2.0/24"
SMART, NO_RELAY = RelaySettings((ip_network("192.0.2.0/24"),)), RelaySettings()
TAKEN = Handover("delivered", HOST, Reply(250, "2.0.0", "taken"))
DOWN = Handover("postponed", detail="down")
NO_USER = Handover("refused", HOST, Reply(550, "5.1.1", "no such user"))
LATER = Handover("deferred", HOST, Reply(450, "4.2.0", "later"))


def levels(weight: Level, *actions: Action) -> tuple[LevelSettings, ...]:
    """A match is of this level."""
    return tuple(
        LevelSettings(level, 10.0 if level is weight else 10.0 * (1 + level), actions if level is weight else ())
        for level in Level
    )


def gate(*checks: CheckSettings, relay: RelaySettings = NO_RELAY, **more: Any) -> Gate:
    domains = (domain("a.example", **more), domain("c.example", **more))
    return Gate(settings(GREYLIST, *checks, domains=domains, relay=relay))


def count(gate: Gate, name: str = NETWORK) -> int:
    fact = gate.state._facts.get((COUNTED, name))
    return int(fact.values[0]) if fact is not None and fact.values else 0


def seed(gate: Gate, number: int = 3) -> None:
    for _ in range(number):
        gate.send(MAIL, ANN)
        gate.conversation.reset()
    assert count(gate) == number


@pytest.mark.parametrize(
    ("handover", "after"), [(TAKEN, 4), (DOWN, 4), (LATER, 4), (NO_USER, 3)], ids=lambda value: str(value)[:30]
)
def test_mail_that_was_taken_speaks_for_its_client(handover: Handover, after: int) -> None:
    made = gate()
    seed(made)
    made.courier.handover = handover
    made.send(MAIL, ANN)
    assert count(made) == after


def good(gate: Gate, name: str = NETWORK) -> bool:
    fact = gate.state._facts.get((GOOD, name))
    return fact is not None and fact.expires_at > gate.clock.at


def test_enough_of_it_makes_it_known_until_a_bad_one() -> None:
    made = gate(check("virus", "pills", "reject"))
    seed(made, 4)
    assert not good(made)
    made.send(MAIL, ANN)
    assert good(made)
    puts = made.state.puts
    made.conversation.reset()
    made.send(MAIL, ANN)
    assert made.state.puts == puts
    made.conversation.reset()
    made.clock.at += 2 * 86_400
    made.send(MAIL, ANN)
    assert made.state.puts == puts + 1
    made.conversation.reset()
    made.send(SPAM, ANN)
    assert not good(made) and count(made) == 0
    made.conversation.reset()
    made.send(MAIL, ANN)
    assert not good(made) and count(made) == 1


@pytest.mark.parametrize(
    ("level", "action", "after"),
    [
        (Level.LOW, Action("deliver"), 4),
        (Level.LOW, Action("quarantine"), 3),
        (Level.LOW, Action("discard"), 3),
        (Level.MEDIUM, Action("deliver"), 3),
        (Level.HIGH, Action("deliver"), 0),
        (Level.HIGH, Action("quarantine"), 0),
        (Level.HIGH, Action("discard"), 0),
        (Level.HIGH, Action("reject"), 0),
    ],
)
def test_what_becomes_of_it_decides(level: Level, action: Action, after: int) -> None:
    made = gate(check("pills", "pills", 10.0), levels=levels(level, action))
    seed(made)
    made.send(SPAM, ANN)
    assert count(made) == after


@pytest.mark.parametrize(("weight", "after"), [("reject", 0), ("defer", 3)])
def test_what_a_check_refuses_for_good_speaks_against_it(weight: Any, after: int) -> None:
    made = gate(check("virus", "pills", weight))
    seed(made)
    made.send(SPAM, ANN)
    assert count(made) == after
    made.conversation.reset()
    made.send(MAIL, ANN)
    assert count(made) == after + 1


@pytest.mark.parametrize(
    ("weight", "action"),
    [("reject", Action("deliver")), (10.0, Action("reject")), (10.0, Action("discard"))],
)
def test_what_is_held_because_its_cause_is_doubted_speaks_neither_for_nor_against_it(
    weight: Any, action: Action
) -> None:
    checks = (GREYLIST, check("pills", "pills", weight), check("now", "now", "reject"))
    served = (domain("a.example", levels=levels(Level.HIGH, action)),)
    made = Gate(settings(*checks, domains=served, causes=CausesSettings(at_least=5, learning=0.0)))
    for _ in range(6):
        made.send(SPAM, ANN)
        made.conversation.reset()
        made.clock.at += 1.0
    seed(made)
    assert made.send(SPAM, ANN).code == 250
    assert made.spool.entries()[-1].state is State.HELD
    assert count(made) == 3
    made.conversation.reset()
    assert made.send(SPAM.replace(b"pills", b"pills now"), ANN).code == 554
    assert count(made) == 0, "of another cause it was certain"


def test_of_several_domains_one_that_minds_is_enough() -> None:
    made = Gate(
        settings(
            GREYLIST,
            check("pills", "pills", 10.0),
            domains=(domain("a.example"), domain("c.example", weights={("pills", "match"): "reject"})),
        )
    )
    seed(made)
    assert made.send(SPAM, ANN, EVE).code == 250
    assert count(made) == 0


def test_a_disk_that_took_nothing_speaks_for_nobody() -> None:
    made = gate()
    made.courier.handover = DOWN
    made.spool.failure = StorageFull("full")
    assert made.send(MAIL, ANN).code == 452
    assert count(made) == 0


@pytest.mark.parametrize(("recipient", "after"), [(None, 0), (ANN, 3)])
@pytest.mark.parametrize("forced", ["reject", ""])
def test_a_refusal_before_the_message_is_the_clients_fault_unless_it_is_the_recipients(
    recipient: Address | None, after: int, forced: Any
) -> None:
    made = gate()
    seed(made)
    result = CheckResult("who", "headers", Stage.RECIPIENT, Finding("match"), recipient)
    made.reception.acceptance.goodwill.refused(
        made.settings, SESSION, SENDER, (result,), Score(0.0, 30.0, (), forced, "who")
    )
    assert count(made) == (after if forced else 0)


def test_a_refused_sender_is_counted_where_he_is_refused() -> None:
    made = gate()
    seed(made)

    class Runner:
        def concerns(self, stage: Stage, rates: bool = False) -> bool:
            return stage is Stage.SENDER

        async def run(self, stage: Stage, case: Any, *more: Any) -> Any:
            return (CheckResult("blocked", "headers", stage, Finding("match")),)

    blocked = CheckSettings("blocked", "headers", weights={"match": "reject"})
    plan = made.reception.plan
    made.reception.plan = replace(plan, runner=Runner(), checks={"blocked": blocked})  # type: ignore[arg-type]
    conversation = made.reception.conversation(SESSION)
    assert made.ask(conversation.mail(Envelope(SENDER))).code == 550
    assert count(made) == 0


@pytest.mark.parametrize(
    ("key", "facts", "names"),
    [
        ("network", (), {NETWORK}),
        ("network", (("spf_mailfrom", "b.example"), ("dkim_sender", "b.example")), {NETWORK, "spf:b.example"}),
        ("domain", (), {NETWORK}),
        ("domain", (("spf_mailfrom", "b.example"), ("dkim_sender", "b.example")), {"spf:b.example"}),
        ("domain", (("dkim_sender", "b.example"), ("spf_helo", "b.example")), {f"{NETWORK} dkim:b.example"}),
        ("domain", (("spf_mailfrom", "else.example"), ("dkim", "b.example")), {NETWORK}),
    ],
)
def test_it_counts_for_what_the_client_was_confirmed_to_be(key: Any, facts: Any, names: set[str]) -> None:
    made = gate()
    made.settings = replace(made.settings, greylisting=GreylistingSettings(key=key))
    made.reception.plan = replace(made.reception.plan, settings=made.settings)
    made.conversation = made.reception.conversation(SESSION)
    made.envelope(ANN)
    made.conversation._results = (CheckResult("who", "", Stage.SENDER, Finding("pass", facts=facts)),)
    made.conversation.draft()
    assert made.ask(made.conversation.content(body(MAIL))).code == 250
    assert {key for space, key in made.state._facts if space == COUNTED} == names


@pytest.mark.parametrize(
    "change",
    [
        {"greylisting": GreylistingSettings(auto_allow=0)},
        {"checks": ()},
    ],
)
def test_nothing_is_kept_that_nobody_asks_for(change: dict[str, Any]) -> None:
    given: Settings = replace(settings(GREYLIST, domains=(domain("a.example"),)), **change)
    made = Gate(given)
    assert made.send(MAIL, ANN).code == 250
    made.conversation.reset()
    assert made.send(MAIL, ANN, sender=None).code == 250
    assert made.state.puts == 0


# --- whom our users write to -----------------------------------------------------------------------------------------

OUR_USER = Address("ann", "a.example")


def written(gate: Gate) -> set[str]:
    return {key for space, key in gate.state._facts if space == WRITTEN}


def test_whom_a_user_writes_to_through_us_is_remembered() -> None:
    made = gate(relay=SMART)
    far = Address("Zoe", "far.example")
    assert made.send(MAIL, far, EVE, sender=OUR_USER).code == 250
    # EVE is ours: she writes to nobody from outside.
    assert written(made) == {"zoe@far.example\t*@a.example"}
    assert count(made) == 0
    puts = made.state.puts
    made.conversation.reset()
    made.send(MAIL, far, sender=OUR_USER)
    assert made.state.puts == puts


def test_a_stranger_writes_for_nobody() -> None:
    made = gate(relay=RelaySettings((ip_network("203.0.113.0/24"),)))
    assert made.send(MAIL, ANN, sender=OUR_USER).code == 250
    assert written(made) == set()


def test_a_sender_who_is_not_ours_gets_no_answers() -> None:
    made = gate(relay=SMART)
    made.send(MAIL, Address("zoe", "far.example"), sender=Address("x", "else.example"))
    assert written(made) == set()


def test_whoever_writes_to_the_whole_world_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_A_DAY", 60)
    made = gate(relay=SMART)
    for number in range(2):
        world = [Address(f"u{number}.{each}", "far.example") for each in range(70)]
        made.send(MAIL, *world, sender=OUR_USER)
        made.conversation.reset()
        assert len(written(made)) == (50, 60)[number]
    made.clock.at += 90_000
    made.send(MAIL, Address("tomorrow", "far.example"), sender=OUR_USER)
    assert len(written(made)) == 61


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failure", "events"), [(Unavailable("locked"), 0), (ZeroDivisionError("a fault of ours"), 1)])
@pytest.mark.parametrize("content", [MAIL, SPAM])
@pytest.mark.parametrize("handover", [TAKEN, DOWN])
def test_a_store_that_is_away_costs_no_message(failure: Any, events: int, content: bytes, handover: Any) -> None:
    made = gate(check("virus", "pills", "reject"))
    made.courier.handover = handover
    made.state.failure = failure
    assert made.send(content, ANN).code == (250 if content is MAIL else 554)
    told = "refused" if content is SPAM else "handed_over" if handover is TAKEN else "spooled"
    assert sorted(made.journal.names()) == sorted([told, *["fault"] * events])


def test_a_store_that_hangs_costs_no_message() -> None:
    made = gate()

    async def never(space: str, key: str) -> Any:
        return await Deferred()

    made.state.get = never  # type: ignore[method-assign]
    assert made.send(MAIL, ANN).code == 250


def test_what_a_check_has_quarantined_speaks_against_its_client() -> None:
    made = gate(check("words", "pills", "quarantine"))
    seed(made)
    assert made.send(SPAM, ANN).code == 250
    assert count(made) == 0
