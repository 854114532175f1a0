"""Questions to a service that answers one at a time: asked once, remembered for ten minutes, by few at a time, and left
alone after failures."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.checks import FakeClock
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.net.recipient_questions import ALONE_SECONDS, FAILURES, HOLDS_SECONDS, KEPT, WAITING, Questions
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly


class Desk:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.asked: list[tuple[str, Deferred[bool]]] = []
        self.health: list[tuple[bool, str]] = []
        self.questions = Questions("people", self._ask, 2, self.clock, self)

    def noted(self, service: str, well: bool, detail: str) -> None:
        self.health.append((well, detail))

    async def _ask(self, address: str) -> bool:
        answer: Deferred[bool] = Deferred()
        self.asked.append((address, answer))
        return await answer

    def begin(self, address: str = "ann") -> tuple[list[Any], Any]:
        came: list[Any] = []
        return came, promptly(self.questions.holds(address), came.append, came.append)

    def fail(self, at: int = -1) -> None:
        self.asked[at][1].errback(Unavailable("silent"))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def reason(came: list[Any]) -> str:
    assert isinstance(came[0], Failure)
    assert isinstance(came[0].value, Unavailable)
    return came[0].value.reason


@pytest.mark.parametrize("held", [True, False])
def test_an_answer_holds_for_ten_minutes(desk: Desk, held: bool) -> None:
    came, _ = desk.begin()
    desk.asked[0][1].callback(held)
    if not held:
        desk.asked[1][1].callback(True)
    asked = len(desk.asked)
    assert came == [held]
    desk.clock.task.advance(HOLDS_SECONDS - 1)
    assert desk.begin()[0] == [held]
    assert len(desk.asked) == asked
    desk.clock.task.advance(2)
    assert desk.begin()[0] == []
    assert len(desk.asked) == asked + 1


def test_who_denies_everybody_is_not_believed(desk: Desk) -> None:
    came, _ = desk.begin("ann@here.example")
    for address in ("ann@here.example", "postmaster@here.example"):
        assert desk.asked[-1][0] == address
        desk.asked[-1][1].callback(False)
    assert reason(came) == "people says no to everybody that it is asked about, postmaster included"
    assert desk.health[-1][0] is False


def test_a_no_is_believed_while_somebody_else_exists(desk: Desk) -> None:
    desk.begin("bob@here.example")
    desk.asked[-1][1].callback(True)
    came, _ = desk.begin("ann@here.example")
    desk.asked[-1][1].callback(False)
    assert (came, len(desk.asked)) == ([False], 2)
    desk.clock.task.advance(HOLDS_SECONDS + 1)
    came, _ = desk.begin("ann@here.example")
    desk.asked[-1][1].callback(False)
    assert desk.asked[-1][0] == "bob@here.example"
    desk.asked[-1][1].callback(True)
    assert came == [False]
    desk.clock.task.advance(HOLDS_SECONDS + 1)
    came, _ = desk.begin("ann@here.example")
    for address in ("ann@here.example", "bob@here.example", "postmaster@here.example"):
        assert desk.asked[-1][0] == address
        desk.asked[-1][1].callback(False)
    assert "everybody" in reason(came)


def test_one_question_for_all_who_want_to_know(desk: Desk) -> None:
    first, gone = desk.begin()
    others = [desk.begin()[0] for _ in range(5)]
    gone.cancel()
    desk.asked[0][1].callback(True)
    assert [came[0] for came in others] == [True] * 5
    assert isinstance(first[0], Failure)
    assert len(desk.asked) == 1


def test_few_at_a_time_and_few_in_line(desk: Desk) -> None:
    waiting = [desk.begin(f"user{number}")[0] for number in range(WAITING + 1)]
    assert len(desk.asked) == 2
    assert reason(waiting[-1]) == "people is busy"
    at = 0
    while at < len(desk.asked):
        desk.asked[at][1].callback(True)
        at += 1
    assert [came[0] for came in waiting[:-1]] == [True] * WAITING


def test_it_is_left_alone_after_failures_and_asked_again(desk: Desk) -> None:
    for number in range(FAILURES):
        came, _ = desk.begin(f"user{number}")
        desk.fail()
        assert reason(came) == "people silent"
    came, _ = desk.begin("another")
    assert reason(came) == "people is left alone for now"
    assert len(desk.asked) == FAILURES
    desk.clock.task.advance(ALONE_SECONDS)
    came, _ = desk.begin("another")
    desk.asked[-1][1].callback(True)
    assert came == [True]
    assert desk.health[-1] == (True, "")


def test_a_failure_is_remembered_by_nobody(desk: Desk) -> None:
    desk.begin()
    desk.fail()
    came, _ = desk.begin()
    desk.asked[-1][1].callback(True)
    assert came == [True]


def test_memory_is_bounded(desk: Desk) -> None:
    for number in range(KEPT + 10):
        desk.begin(f"user{number}")
        desk.asked.pop()[1].callback(True)
    desk.begin("user0")
    desk.begin(f"user{KEPT + 9}")
    assert [address for address, _ in desk.asked] == ["user0"]
