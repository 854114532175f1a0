"""Has a program of the operator's look at a copy of the message: SmarterMail's command lines, Command-Line AV included.

Knows the command line, what an exit status means, and a score in a header that the program adds to its copy. Does not
know how a program is run. Its copy is all that it can alter.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.verdict import Weight
from inboundmx.policy.copied_header import numbers
from inboundmx.policy.stamping import received
from inboundmx.ports import SPAM_SCORE_LIMIT, Ran

ARGUMENTS = 50


class Command(Check):
    """The words that ``exit.N`` has for the exit status N; any other status is an ``error``. With ``score_header`` the
    number in that field of the program's copy, times ``factor``, is added to what the word weighs."""

    kind: ClassVar[str] = "command"
    stage: ClassVar[Stage] = Stage.MESSAGE
    # It may be there for viruses, which are nobody's privilege.
    about: ClassVar[Literal["spam", "origin", "rate", "other"]] = "other"
    outcomes: ClassVar[frozenset[str]] = frozenset({"infected"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {"infected": "reject"}
    dear: ClassVar[bool] = True
    options: ClassVar[tuple[Option, ...]] = (
        Option(
            "command", "text", "",
            "the program by its whole path and its arguments, without a shell; %filepath is its copy of the message,"
            " %sender the sender in <>, %ip the client's address, %id the message's",
            required=True,
        ),
        Option("exit.N", "outcome", (), "what the exit status N means, in a word; any other is error", required=True),
        Option("score_header", "field_name", "", "a header field that the program adds to its copy, with a number"),
        Option("factor", "number", 1.0, "the number times this is added to the sum"),
        Option("at_once", "count", 4, "how many of it run at the same time; others wait within their timeout"),
    )  # fmt: skip

    @classmethod
    def words(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset(word for _, word in options["exit.N"])

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError when there is no such command line."""
        argv = arguments(options["command"])
        self._words: Mapping[int, str] = dict(options["exit.N"])
        self._field: str = options["score_header"]
        self._factor: float = options["factor"]
        self.most_points = SPAM_SCORE_LIMIT * abs(self._factor) if self._field else 0.0
        if tools is not None:
            self._tools = tools
            self._program = tools.scanners.program(argv, options["at_once"], tools.timeout)

    async def examine(self, case: Case) -> Finding:
        assert case.message is not None
        message, tools = case.message, self._tools
        trace = received(message, case.session, case.envelope, tools.settings.gateway, tools.clock.now())
        words = {"sender": f"<{case.envelope.sender or ''}>", "ip": case.session.peer_ip, "id": message.id}
        return self._found(await self._program.run(message.body, trace, words, self._field))

    def _found(self, ran: Ran) -> Finding:
        how = f"exit {ran.status}" if ran.status >= 0 else f"ended by signal {-ran.status}"
        detail = f"{how} {_first_line(ran.said)}".rstrip()
        word = self._words.get(ran.status)
        if word is None:
            return Finding("error", detail)
        if not self._field:
            return Finding(word, detail)
        scores = numbers(ran.copy, self._field)
        if not scores:
            return Finding(word, f"no {self._field}, {detail}")
        # All are the program's: those that the message came with were not in its copy.
        score = scores[-1]
        if score is None or abs(score) > SPAM_SCORE_LIMIT:
            return Finding("error", f"{self._field} is no proper number, {detail}")
        return Finding(word, f"score {score:g}, {detail}", points=self._factor * score)


def _first_line(said: str) -> str:
    return next((line.strip() for line in said.splitlines() if line.strip()), "")


def arguments(command: str) -> list[str]:
    """The program and what it is given. Raises ValueError."""
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"command cannot be split into arguments: {error}") from None
    if not argv or not argv[0].startswith("/"):
        raise ValueError("command must begin with the whole path of a program")
    if "%filepath" not in command.lower():
        raise ValueError("command names no %filepath: the program would not know what to look at")
    if len(argv) > ARGUMENTS:
        raise ValueError(f"command has more than {ARGUMENTS} arguments")
    return argv
