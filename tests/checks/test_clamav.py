"""What becomes of what ClamAV says."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.clamav import ClamAV
from inboundmx.checks.runner import Runner
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import MB, CheckSettings, Settings
from inboundmx.policy.scoring import score
from inboundmx.ports import TooLarge, Unavailable
from inboundmx.prompt import promptly

OPTIONS = {"servers": ("unix:/run/clamav/clamd.ctl", "tcp:av.test:3310"), "max_size": 25 * MB}
MESSAGE = Message("m1", Body(7, b"\r\nbody\r", None, b""))
CASE = Case(Session("s", "192.0.2.1", 4000, "192.0.2.25", 0.0), Envelope(None), None, MESSAGE)


class Scanner:
    """Says what it is told."""

    def __init__(self, says: Any) -> None:
        self.says = says
        self.asked: list[Any] = []

    def viruses(self, *arguments: Any) -> Scanner:
        self.asked.append(arguments)
        return self

    async def scan(self, body: Body) -> str:
        self.asked.append(body)
        if isinstance(self.says, Exception):
            raise self.says
        return str(self.says)


def outcome(says: Any) -> tuple[Finding, Scanner]:
    """As the runner makes it."""
    scanner = Scanner(says)
    nothing: Any = None
    tools = Tools(Settings(), nothing, nothing, nothing, scanner, nothing, nothing, nothing, 7.0)  # type: ignore[arg-type]
    settings = CheckSettings("av", "clamav", options=OPTIONS)

    class Clock:
        def monotonic(self) -> float:
            return 0.0

    runner = Runner([(settings, ClamAV(OPTIONS, tools))], Clock())  # type: ignore[arg-type]
    came: list[Any] = []
    assert promptly(runner.run(Stage.MESSAGE, CASE), came.append, came.append) is None
    return came[0][0].finding, scanner


@pytest.mark.parametrize(
    ("says", "word", "detail"),
    [
        ("", "clean", ""),
        ("Win.Test.EICAR_HDB-1", "infected", "Win.Test.EICAR_HDB-1"),
        (TooLarge(), "too_large", "7 octets were not scanned"),
        (Unavailable("clamd av.test:3310 is busy"), "error", "clamd av.test:3310 is busy"),
        (ValueError("a fault of ours"), "error", "ValueError: a fault of ours"),
    ],
)
def test_outcomes(says: Any, word: str, detail: str) -> None:
    finding, scanner = outcome(says)
    assert (finding.outcome, finding.detail) == (word, detail)
    assert scanner.asked == [(OPTIONS["servers"], 25 * MB, 7.0), MESSAGE.body]


@pytest.mark.parametrize(
    ("word", "forced"),
    [("clean", ""), ("infected", "reject"), ("too_large", ""), ("error", "defer"), ("timeout", "defer")],
)
def test_an_infected_message_is_refused_and_one_that_could_not_be_scanned_put_off(word: str, forced: str) -> None:
    settings = CheckSettings("av", "clamav", weights=ClamAV.weights)
    result = CheckResult("av", "clamav", Stage.MESSAGE, Finding(word))
    assert score([result], {"av": settings}).forced == forced


def test_options_alone_connect_nothing() -> None:
    ClamAV({option.name: option.default for option in ClamAV.options})


def test_hanging_up_reaches_the_scanner() -> None:
    waiting: Deferred[str] = Deferred()

    class Slow(Scanner):
        async def scan(self, body: Body) -> str:
            return await waiting

    nothing: Any = None
    tools = Tools(Settings(), nothing, nothing, nothing, Slow(""), nothing, nothing, nothing)  # type: ignore[arg-type]
    came: list[Any] = []
    running = promptly(ClamAV(OPTIONS, tools).examine(CASE), came.append, came.append)
    assert running is not None
    running.cancel()
    assert waiting.called and len(came) == 1
