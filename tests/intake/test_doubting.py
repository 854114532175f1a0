"""A check that suddenly speaks against everything: what rests on it alone is kept, and all else is as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gate import ANN, BOB, MAIL, SPAM, Gate, check, domain, settings

from inboundmx.checks.headers import Headers
from inboundmx.model.custody import State
from inboundmx.model.finding import Finding
from inboundmx.model.settings import DAY, HOUR, CausesSettings, CheckSettings, LevelSettings
from inboundmx.model.verdict import Action, Level
from inboundmx.ports import Unavailable

CAUSES = CausesSettings(at_least=5, learning=0.0)
WORDS = check("words", "pills", "reject")


def levels(*actions: Action) -> tuple[LevelSettings, ...]:
    return (LevelSettings(Level.NONE), LevelSettings(Level.HIGH, 30.0, actions))


def made(*checks, causes=CAUSES, **more):
    return Gate(settings(*checks, causes=causes, domains=(domain("a.example", **more),)))


def send(gate, content=SPAM, times=1, *recipients):
    """The codes of the answers, a second between one and the next."""
    codes = []
    for _ in range(times):
        codes.append(gate.send(content, *(recipients or (ANN,))).code)
        pass_time(gate, 1.0)
    return codes


def pass_time(gate, seconds):
    gate.clock.at += seconds


def mature(gate, days=2):
    """Mail without anything wrong with it, some each hour."""
    for _ in range(days * 24):
        send(gate, MAIL, 10)
        pass_time(gate, HOUR - 10.0)


@pytest.mark.parametrize(
    ("checks", "more", "verb"),
    [
        ((WORDS,), {}, "reject by words"),
        ((check("words", "pills", 40.0),), {"levels": levels(Action("reject"))}, "level high"),
        ((check("words", "pills", 40.0),), {"levels": levels(Action("discard"))}, "level high"),
        ((check("words", "pills", 40.0, counts_for=frozenset({"blocking"})),), {"levels": levels()}, "blocking"),
    ],
)
def test_what_is_refused_or_discarded_because_of_one_cause_is_held(checks, more, verb):
    gate = made(*checks, **more)
    assert send(gate, times=4) == [250 if "discard" in str(more) else 554 if "level" not in verb else 550] * 4
    assert not gate.spool.entries()
    assert send(gate, times=3) == [250] * 3
    kept = gate.spool.entries()
    assert [entry.state for entry in kept if not entry.notice] == [State.HELD] * 3
    assert {entry.cause for entry in kept if not entry.notice} <= {"suspect words", "suspect level high"}
    held = [fields for name, _, fields in gate.journal.events if name == "held"]
    assert held[0]["checks"][0][:2] == ["words", "match"], "explain tells the truth about what was seen"


def test_what_rests_on_something_else_too_is_refused_as_ever():
    gate = made(WORDS, check("more", "buy", "reject"))
    mature(gate, 1)
    assert send(gate, times=4) == [554] * 4
    # Both fire far more than usual: neither can vouch for the other.
    assert send(gate, times=2) == [250] * 2
    gate = made(WORDS, replace(check("more", "buy", "reject")), causes=replace(CAUSES, except_=("more",)))
    assert send(gate, times=8) == [554] * 8


def test_a_cause_beside_which_another_puts_mail_off_puts_it_off():
    gate = made(WORDS, check("later", "buy", "defer"))
    assert send(gate, times=4) == [554] * 4
    assert set(send(gate, times=3)) == {451}


def test_infected_mail_is_never_among_what_is_merely_held(monkeypatch):
    async def infected(self, case):
        return Finding("infected", "Eicar")

    monkeypatch.setattr(Headers, "examine", infected)
    monkeypatch.setattr(Headers, "outcomes", frozenset({"infected"}))
    gate = made(CheckSettings("scanner", "headers", weights={"infected": "reject"}, options=WORDS.options))
    assert send(gate, times=8) == [554] * 4 + [250] * 4
    assert {(entry.state, entry.cause) for entry in gate.spool.entries()} == {(State.QUARANTINED, "suspect scanner")}


@pytest.mark.parametrize(
    "causes",
    [
        replace(CAUSES, enabled=False),
        replace(CAUSES, except_=("words",)),
        replace(CAUSES, at_least=50),
        replace(CAUSES, learning=DAY),
    ],
)
def test_where_nothing_is_doubted_mail_is_refused(causes):
    gate = made(WORDS, causes=causes)
    assert send(gate, times=12) == [554] * 12


def test_after_learning_a_sudden_cause_is_doubted_and_what_was_always_common_is_not():
    causes = replace(CAUSES, learning=DAY)
    gate = made(WORDS, causes=causes)
    mature(gate)
    assert send(gate, times=4) == [554] * 4
    assert 250 in send(gate, times=4)
    common = made(WORDS, causes=causes)
    for _ in range(48):
        send(common, MAIL, 4)
        send(common, SPAM, 6)
        pass_time(common, HOUR - 10.0)
    assert send(common, SPAM, 12) == [554] * 12


def test_it_ends_by_itself_when_the_frequency_is_back():
    gate = made(WORDS)
    send(gate, times=8)
    assert send(gate) == [250]
    send(gate, MAIL, 200)
    assert send(gate) == [554]
    names = [(fields.get("service"), name) for name, _, fields in gate.journal.events if name.startswith("service")]
    assert names == [("cause words=match", "service_down"), ("cause words=match", "service_up")]


def test_it_ends_when_too_little_comes_to_say_anything():
    gate = made(WORDS)
    send(gate, times=8)
    pass_time(gate, 2 * HOUR)
    send(gate, MAIL)
    assert send(gate) == [554]


def test_it_goes_on_over_the_turn_of_a_window():
    gate = made(WORDS)
    send(gate, times=8)
    pass_time(gate, HOUR - 60.0)
    assert send(gate, times=3) == [250] * 3


@pytest.mark.parametrize("off", [replace(CAUSES, enabled=False), replace(CAUSES, except_=("words",))])
def test_the_operator_ends_it(off):
    gate = made(WORDS)
    send(gate, times=8)
    plan = gate.reception.plan
    gate.reception.plan = replace(plan, settings=replace(plan.settings, causes=off))
    gate.conversation = gate.reception.conversation(gate.conversation._session)
    assert send(gate) == [554]
    assert gate.health.rows()[0]["state"] == "up"


def test_a_level_that_mail_reaches_by_a_check_that_is_believed_is_not_doubted_for_that():
    words, more = check("words", "pills", 40.0), check("more", "buy", 40.0)
    reaching = {"levels": levels(Action("reject")), "causes": replace(CAUSES, except_=("words",))}
    assert send(made(words, **reaching), times=12) == [550] * 12
    assert 250 in send(made(more, **reaching), SPAM.replace(b"pills", b"buy"), times=12), "of others it is"
    both = made(words, more, **reaching)
    assert 250 in send(both, SPAM.replace(b"pills", b"buy"), times=12)
    assert send(both, times=3) == [550] * 3, "which does not make it doubtful where they are not needed"


def test_the_operator_is_written_to_once_an_hour():
    gate = made(WORDS, causes=replace(CAUSES, notify="op@a.example"))
    send(gate, times=12)
    letters = [entry for entry in gate.spool.entries() if entry.notice]
    assert [str(each.recipients[0].address) for each in letters] == ["op@a.example"]
    text = gate.spool.commits[0].add[0].content.body.head.decode()
    assert "Subject: words=match speaks against more mail than usual\r\n" in text
    assert "spool release --cause words" in " ".join(text.split())
    (row,) = [row for row in gate.health.rows() if row["service"] == "cause words=match"]
    assert row["state"] == "down"
    assert "what rests on it alone is held" in row["detail"]


def test_a_restart_forgets_neither_what_is_usual_nor_what_was_counted():
    gate = made(WORDS, causes=replace(CAUSES, learning=DAY))
    mature(gate)
    send(gate, times=4)
    other = made(WORDS, causes=replace(CAUSES, learning=DAY))
    pass_time(other, gate.clock.at - other.clock.at)
    other.counts._facts = gate.counts._facts
    assert send(other, times=2) == [250] * 2


def test_while_nothing_can_be_counted_every_cause_is_believed():
    gate = made(WORDS)
    gate.counts.failure = Unavailable("the disk")
    assert send(gate, times=12) == [554] * 12
    assert "fault" not in gate.journal.names()


def test_what_is_doubted_is_believed_a_window_after_the_last_time_that_anything_could_be_counted():
    gate = made(WORDS)
    assert send(gate, times=6)[-1] == 250
    gate.counts.failure = Unavailable("the disk")
    pass_time(gate, HOUR - 60.0)
    assert send(gate) == [250]
    pass_time(gate, 60.0)
    assert send(gate, times=2) == [554] * 2
    assert gate.health.rows()[0]["state"] == "up"


def test_recipients_are_no_messages():
    gate = made(WORDS)
    assert send(gate, SPAM, 4, ANN, BOB) == [554] * 4


def test_what_is_kept_between_looks_is_bounded(monkeypatch):
    monkeypatch.setattr("inboundmx.intake.doubting.MOST", 1)
    gate = made(WORDS, check("more", "buy", 1.0))
    send(gate, times=20)
    assert len(gate.health.rows()) <= 1
