"""Verdicts: what goes before what, inclusive thresholds, and the words of refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.settings import DEFAULT_LEVELS, LevelSettings
from inboundmx.model.verdict import Action, Forced, Level, Score, ScoreLine, Verb
from inboundmx.policy.judging import disposition, judge, judge_early, redirected

BLOCKS = (ScoreLine("rbl", "listed", 15.0, True, True),)


def levels(low: float = 10, medium: float = 20, high: float = 30) -> tuple[LevelSettings, ...]:
    return (
        LevelSettings(Level.NONE, 0.0, (Action("deliver"),)),
        LevelSettings(Level.LOW, low, (Action("tag", "LOW"),)),
        LevelSettings(Level.MEDIUM, medium, (Action("tag", "MED"), Action("quarantine"))),
        LevelSettings(Level.HIGH, high, (Action("reject"),)),
    )


@pytest.mark.parametrize(
    ("filtering", "level", "actions"),
    [
        (-5, "none", "deliver"),
        (0, "none", "deliver"),
        (9.999, "none", "deliver"),
        (10, "low", 'tag "LOW"'),
        (19.9, "low", 'tag "LOW"'),
        (20, "medium", 'tag "MED", quarantine'),
        (30, "high", "reject"),
        (1e9, "high", "reject"),
    ],
)
def test_the_highest_level_reached_alone_holds(filtering: float, level: str, actions: str) -> None:
    verdict = judge(Score(filtering, 0.0), levels(), 30)
    assert verdict.level.word == level
    assert ", ".join(map(str, verdict.actions)) == actions
    assert verdict.reason == f"level {level}"
    assert (verdict.reply is not None) is (level == "high")


def test_levels_may_stand_in_any_order_and_any_may_be_absent() -> None:
    assert judge(Score(20, 0), levels()[::-1], 30).level is Level.MEDIUM
    assert judge(Score(9, 0), (), 30).actions == (Action("deliver"),)
    assert judge(Score(9, 0), levels()[1:], 30).actions == (Action("deliver"),)
    assert judge(Score(35, 0), levels(medium=40), 30).level is Level.HIGH
    assert judge(Score(0, 0), (LevelSettings(Level.NONE, 0.0, (Action("hold"),)),), 30).actions == (Action("hold"),)


@pytest.mark.parametrize(
    ("forced", "blocking", "filtering", "expected"),
    [
        ("reject", 0, 0, "554 5.7.1 message refused by check virus"),
        ("reject", 99, 99, "554 5.7.1 message refused by check virus"),
        ("defer", 0, 0, "451 4.7.1 message not accepted yet by check virus, please try again later"),
        ("defer", 99, 99, "451 4.7.1 message not accepted yet by check virus, please try again later"),
        ("", 30, 0, "554 5.7.1 message refused: too many checks speak against it"),
        ("", 30, 99, "554 5.7.1 message refused: too many checks speak against it"),
        ("", 29.9, 99, "550 5.7.1 message refused as spam"),
        ("", 29.9, 0, "None"),
    ],
)
def test_what_goes_before_what(forced: Forced, blocking: float, filtering: float, expected: str) -> None:
    score = Score(filtering, blocking, BLOCKS, forced, "virus" if forced else "")
    verdict = judge(score, levels(), 30)
    assert str(verdict.reply) == expected
    assert verdict.score is score
    assert verdict.level is (Level.HIGH if filtering == 99 else Level.NONE)


@pytest.mark.parametrize(
    ("forced", "blocking", "expected", "reason"),
    [
        ("", 0, None, ""),
        ("", 29.9, None, ""),
        ("", 30, "554 5.7.1 mail refused: too many checks speak against it", "blocking 30 of 30"),
        ("reject", 0, "550 5.7.1 mail refused by check virus", "reject by virus"),
        ("defer", 99, "451 4.7.1 mail not accepted yet by check virus, please try again later", "defer by virus"),
    ],
)
def test_before_the_message(forced: Forced, blocking: float, expected: str | None, reason: str) -> None:
    verdict = judge_early(Score(99, blocking, BLOCKS, forced, "virus" if forced else ""), 30)
    if expected is None:
        assert verdict is None
    else:
        assert verdict is not None
        assert (str(verdict.reply), verdict.reason) == (expected, reason)


def test_without_a_check_that_blocks_nothing_is_blocked() -> None:
    """A threshold of 0 would else refuse all mail."""
    assert judge_early(Score(0, 0, (ScoreLine("a", "b", 0.0),)), 0) is None
    assert judge(Score(0, 0), levels(), 0).reply is None


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("", "message refused as spam"),
        ("Go away", "Go away"),
        ("a\r\n250 ok", "a??250 ok"),
        ("grüße", "gr??e"),
        ("x" * 9999, "x" * 300),
    ],
)
def test_the_operators_own_words(argument: str, said: str) -> None:
    own = (LevelSettings(Level.LOW, 1.0, (Action("tag", "x"), Action("reject", argument))),)
    reply = judge(Score(1.0, 0.0), own, 30).reply
    assert reply is not None
    assert (reply.code, reply.enhanced, reply.text, reply.then_close) == (550, "5.7.1", said, False)


def test_a_name_of_a_check_cannot_break_a_reply() -> None:
    verdict = judge_early(Score(0, 0, (), "reject", "a\r\nb\u202e"), 30)
    assert verdict is not None and verdict.reply is not None
    assert verdict.reply.text == "mail refused by check a??b?"


@pytest.mark.parametrize(
    ("verbs", "where"),
    [
        ("", "deliver"),
        ("deliver", "deliver"),
        ("tag header redirect", "deliver"),
        ("tag quarantine", "quarantine"),
        ("redirect hold", "hold"),
        ("deliver discard", "discard"),
        ("discard hold quarantine", "quarantine"),
        ("discard hold", "hold"),
        ("quarantine reject", "reject"),
    ],
)
def test_disposition(verbs: str, where: str) -> None:
    words: list[Verb] = verbs.split()  # type: ignore[assignment]
    actions = [Action(verb) for verb in words]
    assert disposition(actions) == disposition(actions[::-1]) == where


def test_redirected() -> None:
    actions = (Action("redirect", "Spam@Example.TEST"), Action("tag", "x"), Action("redirect", '"a@b"@example.test'))
    assert redirected(actions) == (Address("Spam", "example.test"), Address('"a@b"', "example.test"))
    assert redirected((*actions, *actions)) == redirected(actions)
    assert redirected((Action("deliver"),)) == ()


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(0.1, 100))
def test_more_is_never_better(filtering: float, more: float, threshold: float) -> None:
    own = levels(threshold, threshold * 2, threshold * 3)
    assert judge(Score(filtering, 0), own, 30).level <= judge(Score(filtering + more, 0), own, 30).level


def test_the_default_levels() -> None:
    assert [str(judge(Score(x, 0), DEFAULT_LEVELS, 30).level.word) for x in (0, 10, 20, 30)] == [
        "none", "low", "medium", "high",
    ]


@pytest.mark.parametrize(
    ("score", "fate", "reason"),
    [
        (Score(0, 0), "quarantine", "quarantine by virus"),
        # Whatever else the level does: it is not delivered, neither to its recipients nor elsewhere, nor lost.
        (Score(10, 0), "quarantine", "quarantine by virus"),
        (Score(20, 0), "quarantine", "quarantine by virus"),
        # What refuses it goes before.
        (Score(30, 0), "reject", "level high"),
        (Score(0, 0, forced="reject", forced_by="other"), "reject", "reject by other"),
        (Score(0, 0, forced="defer", forced_by="other"), "reject", "defer by other"),
        (Score(0, 30, BLOCKS), "reject", "blocking 30 of 30"),
    ],
)
def test_a_weight_may_quarantine(score: Score, fate: str, reason: str) -> None:
    actions = {Level.LOW: (Action("redirect", "spam@a.example"),), Level.MEDIUM: (Action("discard"),)}
    some = [replace(each, action=actions.get(each.level, each.action)) for each in levels()]
    verdict = judge(replace(score, quarantined_by="virus"), some, 30)
    assert verdict.reason == reason
    assert (disposition(verdict.actions) if verdict.reply is None else "reject") == fate
    assert judge_early(replace(Score(0, 0), quarantined_by="virus"), 30) is None
