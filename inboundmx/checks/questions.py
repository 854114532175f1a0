"""What one check asks of DNS for one case: each question once, several at a time.

Knows how look-ups are begun, awaited and given up. Does not know what the answers are for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from inboundmx.ports import Answer, Clock, Resolver, Unavailable
from inboundmx.prompt import promptly

# A name and a type.
Question = tuple[str, str]


class Questions:
    """``known``: what came of each question so far: an Answer, or Unavailable. ``asked`` counts them.

    ``close`` must be called in the end; it gives up what is still on its way.
    """

    __slots__ = ("_resolver", "_waiting", "asked", "known")

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._waiting: dict[Question, Deferred[Any]] = {}
        self.known: dict[Question, Answer | BaseException] = {}
        self.asked = 0

    def begin(self, question: Question) -> None:
        if self.begun(question):
            return
        self.asked += 1
        deferred = promptly(
            self._resolver.look_up(*question),
            partial(self._answered, question),
            partial(self._failed, question),
        )
        if deferred is not None and question not in self.known:
            self._waiting[question] = deferred

    def begun(self, question: Question) -> bool:
        return question in self.known or question in self._waiting

    async def answer(self, question: Question) -> None:
        """Waits until the question is in ``known``. Raises what is neither an Answer nor Unavailable."""
        self.begin(question)
        waiting = self._waiting.get(question)
        if waiting is not None:
            await waiting
        came = self.known[question]
        if isinstance(came, BaseException) and not isinstance(came, Unavailable):
            raise came

    async def answers(self, questions: Iterable[Question], clock: Clock, seconds: float) -> None:
        """Waits until each is in ``known``; one that is not after so many seconds is there as Unavailable."""
        questions = list(questions)
        for question in questions:
            self.begin(question)
        waiting = [self._waiting[question] for question in questions if question in self._waiting]
        if waiting:
            over: Deferred[None] = Deferred()

            def end(_: Any = None) -> None:
                if not over.called:
                    over.callback(None)

            timer = clock.call_later(seconds, end)
            DeferredList(waiting).addCallback(end)
            try:
                await over
            finally:
                timer.cancel()
        for question in questions:
            came = self.known.get(question)
            if came is None:
                came = self.known[question] = Unavailable(f"no answer for {question[0]} within {seconds:g} s")
            if isinstance(came, BaseException) and not isinstance(came, Unavailable):
                raise came

    def close(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for deferred in waiting.values():
            deferred.cancel()

    def _answered(self, question: Question, answer: Answer) -> None:
        self._waiting.pop(question, None)
        self.known.setdefault(question, answer)

    def _failed(self, question: Question, failure: Failure) -> None:
        self._waiting.pop(question, None)
        self.known.setdefault(question, failure.value)  # type: ignore[arg-type]
