"""Coroutines as ``prompt`` runs them end as Twisted's own driver ends them, whatever comes in between."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from inboundmx.prompt import promptly, resumed


class Boom(Exception):
    pass


class Play:
    """A coroutine that waits for one Deferred after the other. ``script``: what it does as it hears of each: ``go`` on,
    ``heed`` a fault by ending with it, ``shrug`` and go on whatever comes, or ``end``."""

    def __init__(self, script: list[str]) -> None:
        self.script = script
        self.awaited: list[Deferred[int]] = []
        self.heard: list[Any] = []

    async def run(self) -> str:
        for step in self.script:
            one: Deferred[int] = Deferred()
            self.awaited.append(one)
            try:
                self.heard.append(await one)
            except (Boom, CancelledError) as error:
                self.heard.append(type(error))
                if step == "heed":
                    raise
                if step == "end":
                    return "ended early"
            self.heard.append(await succeed(len(self.awaited)))
        return "through"


def twisted(play: Play) -> Deferred[str]:
    return Deferred.fromCoroutine(play.run())


def ours(play: Play) -> Deferred[str]:
    coroutine = play.run()
    return resumed(coroutine, coroutine.send(None))


STEPS = st.lists(st.sampled_from(["go", "heed", "shrug", "end"]), min_size=1, max_size=5)
EVENTS = st.lists(st.sampled_from(["fire", "fail", "cancel"]), max_size=8)


def story(drive: Any, script: list[str], events: list[str]) -> list[Any]:
    play = Play(script)
    outcome: list[Any] = []
    deferred = drive(play)
    deferred.addCallbacks(outcome.append, lambda failure: outcome.append(failure.type))
    for event in events:
        pending = [one for one in play.awaited if not one.called]
        if event == "cancel":
            deferred.cancel()
        elif pending and event == "fire":
            pending[0].callback(7)
        elif pending:
            pending[0].errback(Boom())
        outcome.append(len(play.heard))
    return [outcome, play.heard, len(play.awaited)]


@given(STEPS, EVENTS)
@settings(max_examples=300, deadline=None)
def test_it_ends_as_with_twisteds_own(script: list[str], events: list[str]) -> None:
    assert story(ours, script, events) == story(twisted, script, events)


def test_the_callers_callbacks_hear_what_came_and_may_go_on_waiting() -> None:
    play = Play(["go"])
    heard: list[Any] = []
    another: Deferred[str] = Deferred()
    deferred = ours(play)
    deferred.addCallback(lambda value: (heard.append(value), another)[1])
    deferred.addCallback(heard.append)

    play.awaited[0].callback(1)
    another.callback("more")

    assert heard == ["through", "more"]


def test_a_fault_keeps_its_traceback() -> None:
    play = Play(["heed"])
    failures: list[Failure] = []
    ours(play).addErrback(failures.append)

    play.awaited[0].errback(Boom())

    assert "in run" in failures[0].getTraceback()


def test_a_coroutine_may_wait_for_a_coroutine_that_waits() -> None:
    inner = Play(["go"])

    async def outer() -> str:
        return f"{await ours(inner)} and out"

    coroutine = outer()
    heard: list[str] = []
    resumed(coroutine, coroutine.send(None)).addCallback(heard.append)
    inner.awaited[0].callback(1)

    assert heard == ["through and out"]


def test_cancelling_reaches_the_innermost_wait() -> None:
    inner = Play(["heed"])

    async def outer() -> str:
        return await ours(inner)

    coroutine = outer()
    failures: list[Any] = []
    deferred = resumed(coroutine, coroutine.send(None))
    deferred.addErrback(lambda failure: failures.append(failure.type))
    deferred.cancel()

    assert inner.heard == [CancelledError]
    assert failures == [CancelledError]


@pytest.mark.parametrize("fault", [None, Boom()])
def test_what_does_not_wait_is_over_at_once(fault: Exception | None) -> None:
    async def at_once() -> str:
        if fault is not None:
            raise fault
        return "over"

    heard: list[Any] = []

    assert promptly(at_once(), heard.append, lambda failure: heard.append(failure.value)) is None
    assert heard == [fault or "over"]
