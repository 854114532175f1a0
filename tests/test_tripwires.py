"""What a message costs us, held against a loop of plain Python: nobody makes it two fifths dearer and is not told.

A ratio of CPU times in one process holds on machines of any speed, and the least of many short rounds on busy ones.
Beside it the calls are counted that a message takes, which are the same on every run.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.checks import FakeClock, tools
from fakes.socketless import REFUSED, SocketlessGateway
from fakes.state import FakeStateStore

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.greylist import Greylist
from inboundmx.checks.recipient import Recipient
from inboundmx.checks.runner import Runner
from inboundmx.directory.directory import RecipientDirectory
from inboundmx.directory.memory import Memory
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, DomainSettings, Settings
from inboundmx.storage.state import SqliteStateStore
from inboundmx.storage.writer import InlineLane, at_once

# A fifth to a quarter above what was measured when they were set, on CPython 3.11.
MESSAGE, MESSAGE_CALLS = 7.6, 1480
REFUSAL, REFUSAL_CALLS = 1.75, 520
EIGHT_CHECKS, EIGHT_CHECKS_CALLS = 0.345, 115
GREYLISTED, GREYLISTED_CALLS = 0.36, 125
RECIPIENT, RECIPIENT_CALLS = 0.24, 55
# How much dearer is to be noticed, and for how long a machine may be too busy to tell.
PLANTED = 0.4
SECONDS = 20.0
PLANTED_SECONDS = 1.5
ROUNDS = 400


class Thing:
    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number

    def told(self) -> bytes:
        return f"{self.name}={self.number}".encode()


def calibrating() -> int:
    """Calls, objects, texts and a dictionary, about as what is measured has them."""
    kept: dict[bytes, Thing] = {}
    for number in range(100):
        thing = Thing("thing", number & 31)
        told = thing.told()
        if told not in kept:
            kept[told] = thing
    return len(kept)


def ratio(work: Callable[[], object], limit: float, seconds: float) -> float:
    """What ``work`` costs of what the loop costs: the least seen of each. Ends as soon as that is within ``limit``, but
    not before the least of the loop can be known."""
    clock = time.thread_time
    dear = cheap = float("inf")
    end = time.monotonic() + seconds
    while True:
        for _ in range(ROUNDS):
            started = clock()
            work()
            between = clock()
            calibrating()
            ended = clock()
            # On some machines the clock stands still for a moment.
            if started < between < ended:
                dear, cheap = min(dear, between - started), min(cheap, ended - between)
        if dear / cheap <= limit or time.monotonic() > end:
            return dear / cheap


def calls(work: Callable[[], object]) -> int:
    """Functions called, Python's and C's."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    # What other tests left, and is told that it goes, is not counted.
    gc.disable()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counted


class Good:
    """A check that answers at once."""

    stage, kind, outcomes, after, options, weights = Stage.MESSAGE, "good", frozenset({"good"}), frozenset(), (), {}
    dear, again, about, client, most_points = False, None, "other", "", 0.0

    def words(self, options: Any) -> frozenset[str]:
        return self.outcomes

    async def examine(self, case: Case) -> Finding:
        return Finding("good", "nothing to say")


class RealTime:
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def eight_checks() -> Callable[[], object]:
    checks = [(CheckSettings(f"good{number}", "good"), Good()) for number in range(8)]
    runner = Runner(checks, RealTime())  # type: ignore[arg-type]
    case = Case(Session("session1234", "192.0.2.1", 25000, "192.0.2.25", 0.0), Envelope(None))

    def run() -> None:
        try:
            runner.run(Stage.MESSAGE, case).send(None)
        except StopIteration as stop:
            assert len(stop.value) == 8

    return run


def greylisted(folder: Path) -> Callable[[], object]:
    """Somebody whom SPF confirms, and who comes again too soon: all is looked for, in a real store, and nothing put."""
    store = SqliteStateStore(str(folder), FakeClock(), at_once, lambda *_: None, lambda _: InlineLane())
    nothing: Any = None
    check = Greylist({}, Tools(Settings(), FakeClock(), nothing, store, nothing, nothing, nothing, nothing))
    sender = Address("ann", "sender.example")
    confirmed = Finding("pass", facts=(("spf_mailfrom", "sender.example"),))
    case = Case(
        Session("session1234", "192.0.2.1", 25000, "192.0.2.25", 0.0), Envelope(sender),
        Address("bob", "here.example"), None, (CheckResult("spf", "spf", Stage.SENDER, confirmed),),
    )  # fmt: skip

    def decide() -> None:
        try:
            check.examine(case).send(None)
        except StopIteration as stop:
            assert stop.value.outcome in ("new", "early")

    decide()
    return decide


def known_recipient() -> Callable[[], object]:
    """A recipient at RCPT of whom a delivery has taught that he exists."""
    address = Address("ann", "here.example")
    nothing: Any = None
    clock: Any = RealTime()
    state = FakeStateStore(clock)
    memory = Memory(state, clock)
    memory.note(address, True, "handover")
    domain = DomainSettings("here.example", recipients=("learned", "callout"))
    directory = RecipientDirectory(memory, nothing, None, clock)
    given = replace(tools(), settings=Settings(domains={"here.example": domain}), directory=directory)
    runner = Runner([(CheckSettings("recipient", "recipient"), Recipient({}, given))], clock)
    case = Case(Session("session1234", "192.0.2.1", 25000, "192.0.2.25", 0.0), Envelope(None), address)

    def run() -> None:
        try:
            runner.run(Stage.RECIPIENT, case).send(None)
        except StopIteration as stop:
            assert stop.value[0].finding.outcome == "exists"

    return run


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketlessGateway]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    gateway = SocketlessGateway(folder)
    # What other tests have left behind is not looked through while we measure.
    gc.collect()
    gc.freeze()
    yield gateway
    gc.unfreeze()


@pytest.fixture(params=["message", "refusal", "eight checks", "greylisted", "recipient"])
def measured(
    request: pytest.FixtureRequest, gateway: SocketlessGateway, tmp_path: Path
) -> tuple[Callable[[], object], float, int]:
    def message() -> None:
        gateway.visit()
        gateway.catch_up()

    def refusal() -> None:
        gateway.visit(REFUSED)
        gateway.catch_up()

    return {
        "message": (message, MESSAGE, MESSAGE_CALLS),
        "refusal": (refusal, REFUSAL, REFUSAL_CALLS),
        "eight checks": (eight_checks(), EIGHT_CHECKS, EIGHT_CHECKS_CALLS),
        "greylisted": (greylisted(tmp_path), GREYLISTED, GREYLISTED_CALLS),
        "recipient": (known_recipient(), RECIPIENT, RECIPIENT_CALLS),
    }[request.param]


def test_what_is_measured_is_all_of_it(gateway: SocketlessGateway) -> None:
    gateway.catch_up()
    taken = gateway.primary.messages
    answers = gateway.visit()
    rows = len(gateway.ledger._rows)
    gateway.catch_up()

    assert answers[-2].startswith(b"250 2.0.0 handed over as ")
    assert gateway.primary.messages == taken + 1
    assert gateway.primary.last.startswith(b"Received: from load.stranger.example ([203.0.113.7])\r\n")
    assert b"\r\nX-Spam-Checks: greylist=known(0) " in gateway.primary.last
    assert rows == 1
    for told in (b'"event":"handed_over"', b'"greylist","known"', b'"bulk","absent"'):
        assert told in gateway.lines.written

    assert gateway.visit(REFUSED)[3].startswith(b"550 5.7.1 ")
    gateway.catch_up()
    assert b'"event":"refused"' in gateway.lines.written


def test_it_costs_no_more_than_it_did(measured: tuple[Callable[[], object], float, int]) -> None:
    work, limit, _ = measured

    assert ratio(work, limit, SECONDS) <= limit


def test_it_takes_no_more_calls_than_it_did(measured: tuple[Callable[[], object], float, int]) -> None:
    work, _, limit = measured
    work()

    assert calls(work) <= limit


def test_two_fifths_more_is_noticed(measured: tuple[Callable[[], object], float, int]) -> None:
    work, limit, most = measured
    more = PLANTED * least_seconds(work)

    def planted() -> None:
        work()
        end = time.thread_time() + more
        while time.thread_time() < end:
            pass

    assert ratio(planted, 0.0, PLANTED_SECONDS) > limit
    assert calls(work) * (1 + PLANTED) > most


def least_seconds(work: Callable[[], object]) -> float:
    clock, least = time.thread_time, float("inf")
    for _ in range(300):
        started = clock()
        work()
        least = min(least, clock() - started)
    return least
