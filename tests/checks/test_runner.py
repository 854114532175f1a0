"""The runner: tiers, deadlines, and that no check can do worse than say ``error``."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock as Reactor
from twisted.python.failure import Failure

from inboundmx.checks.api import Case
from inboundmx.checks.runner import DETAIL_LIMIT, Runner
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings
from inboundmx.policy.sparing import Unasked
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly

SESSION = Session("session1234", "192.0.2.1", 25000, "192.0.2.25", 0.0)
CASE = Case(SESSION, Envelope(None))


class FakeTimer:
    def __init__(self, call: Any) -> None:
        self.call = call

    def cancel(self) -> None:
        if self.call.active():
            self.call.cancel()


class FakeClock:
    def __init__(self) -> None:
        self.reactor = Reactor()

    def now(self) -> float:
        return self.reactor.seconds()

    def monotonic(self) -> float:
        return self.reactor.seconds()

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> FakeTimer:
        return FakeTimer(self.reactor.callLater(seconds, call, *arguments))


class FakeJournal:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, Mapping[str, object], str]] = []

    def record(self, event: str, id: str, fields: Mapping[str, object], *, level: str = "info") -> None:
        self.events.append((event, id, fields, level))


class Fake:
    """A check that does what it is told and remembers what it was given."""

    stage = Stage.CONNECT
    outcomes = frozenset({"good", "bad"})
    options = ()
    weights: Mapping[str, Any] = {}
    dear = False
    again = None
    about = "other"
    client = ""
    most_points = 0.0

    def __init__(self, kind: str, does: Callable[[Case], Coroutine[Any, Any, Any]], after: str = "") -> None:
        self.kind = kind
        self.does = does
        self.after = frozenset(after.split())
        self.cases: list[Case] = []

    def words(self, options: Mapping[str, Any]) -> frozenset[str]:
        return self.outcomes

    async def examine(self, case: Case) -> Finding:
        self.cases.append(case)
        return await self.does(case)


def says(outcome: str, detail: str = "") -> Callable[[Case], Coroutine[Any, Any, Any]]:
    async def does(case: Case) -> Finding:
        return Finding(outcome, detail)

    return does


def waits(deferred: Deferred[Any]) -> Callable[[Case], Coroutine[Any, Any, Any]]:
    async def does(case: Case) -> Any:
        return await deferred

    return does


def fails(error: BaseException) -> Callable[[Case], Coroutine[Any, Any, Any]]:
    async def does(case: Case) -> Finding:
        raise error

    return does


class Running:
    """A runner over fake checks, and what came of one run."""

    def __init__(self, *checks: Fake, timeouts: Mapping[str, float] | None = None, **skip_for: str) -> None:
        self.clock = FakeClock()
        self.journal = FakeJournal()
        configured = []
        for check in checks:
            networks = tuple(ipaddress.ip_network(text) for text in skip_for.get(check.kind, "").split())
            timeout = (timeouts or {}).get(check.kind, 5.0)
            configured.append((CheckSettings(f"my-{check.kind}", check.kind, timeout, skip_for=networks), check))
        self.runner = Runner(configured, self.clock, self.journal)  # type: ignore[arg-type]
        self.results: tuple[CheckResult, ...] | None = None
        self.failure: Failure | None = None

    def start(self, case: Case = CASE, stage: Stage = Stage.CONNECT) -> Running:
        def done(results: tuple[CheckResult, ...]) -> None:
            self.results = results

        def failed(failure: Failure) -> None:
            self.failure = failure

        self.deferred = promptly(self.runner.run(stage, case), done, failed)
        return self

    @property
    def outcomes(self) -> dict[str, str]:
        assert self.results is not None
        return {result.kind: result.finding.outcome for result in self.results}

    @property
    def timers(self) -> list[float]:
        return [call.getTime() for call in self.clock.reactor.getDelayedCalls()]


def test_checks_that_do_not_wait_are_done_at_once() -> None:
    running = Running(Fake("a", says("good", "fine")), Fake("b", waits(succeed(Finding("bad"))))).start()
    assert running.deferred is None
    assert running.results == (
        CheckResult("my-a", "a", Stage.CONNECT, Finding("good", "fine")),
        CheckResult("my-b", "b", Stage.CONNECT, Finding("bad")),
    )
    assert running.timers == []


def test_nothing_is_asked_at_a_stage_without_checks() -> None:
    running = Running(Fake("a", says("good")))
    assert [stage for stage in Stage if running.runner.concerns(stage)] == [Stage.CONNECT]
    assert running.start(stage=Stage.MESSAGE).results == ()


def test_the_recipient_asked_about_is_in_the_result() -> None:
    to = Address("to", "example.test")
    running = Running(Fake("a", says("good"))).start(Case(SESSION, Envelope(None), to))
    assert running.results is not None and running.results[0].recipient == to


def test_checks_of_a_tier_wait_side_by_side_under_one_timer() -> None:
    first: Deferred[Finding] = Deferred()
    second: Deferred[Finding] = Deferred()
    checks = (Fake("a", waits(first)), Fake("b", says("good")), Fake("c", waits(second)))
    running = Running(*checks, timeouts={"a": 9.0, "c": 4.0}).start()
    assert [len(check.cases) for check in checks] == [1, 1, 1]
    assert running.timers == [4.0]
    running.clock.reactor.advance(1.5)
    second.callback(Finding("bad"))
    assert running.results is None
    first.callback(Finding("good"))
    assert running.results is not None
    assert [(result.check, result.elapsed_seconds) for result in running.results] == [
        ("my-a", 1.5),
        ("my-b", 0.0),
        ("my-c", 1.5),
    ]
    assert running.timers == []


def test_each_check_has_its_own_deadline() -> None:
    slow: Deferred[Finding] = Deferred()
    slower: Deferred[Finding] = Deferred()
    running = Running(Fake("a", waits(slow)), Fake("b", waits(slower)), timeouts={"a": 2.0, "b": 3.0}).start()
    running.clock.reactor.advance(2.0)
    assert running.results is None and running.timers == [3.0]
    slower.callback(Finding("good"))
    assert running.outcomes == {"a": "timeout", "b": "good"}
    assert running.results is not None and running.results[0].elapsed_seconds == 2.0
    assert "2 s" in running.results[0].finding.detail
    assert running.timers == [] and running.journal.events == []


def test_a_check_whose_time_is_over_is_cancelled() -> None:
    cancelled: list[object] = []
    running = Running(Fake("a", waits(Deferred(cancelled.append)))).start()
    running.clock.reactor.advance(5.0)
    assert len(cancelled) == 1
    assert running.outcomes == {"a": "timeout"}


def test_a_cancelled_check_that_goes_on_is_not_heard() -> None:
    later: Deferred[Finding] = Deferred()

    async def stubborn(case: Case) -> Finding:
        try:
            await Deferred()
        except CancelledError:
            return await later
        raise AssertionError

    running = Running(Fake("a", stubborn), Fake("b", says("good"), after="a")).start()
    running.clock.reactor.advance(5.0)
    assert running.outcomes == {"a": "timeout", "b": "good"}
    later.callback(Finding("bad"))
    assert running.outcomes == {"a": "timeout", "b": "good"}


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("error", "detail", "recorded"),
    [
        (Unavailable("resolver is down"), "resolver is down", False),
        (KeyError("gone"), "KeyError: 'gone'", True),
        (ValueError(), "ValueError", True),
        (ValueError("two\r\nlines\x1b[31m"), "ValueError: two??lines?[31m", True),
        (CancelledError(), "CancelledError", True),
        (Unspeakable(), "Unspeakable", True),
    ],
)
def test_whatever_a_check_raises_is_an_error(error: Exception, detail: str, recorded: bool, late: bool) -> None:
    waiting: Deferred[Any] = Deferred()
    running = Running(Fake("a", waits(waiting) if late else fails(error)), Fake("b", says("good"))).start()
    if late:
        waiting.errback(error)
    assert running.outcomes == {"a": "error", "b": "good"}
    assert running.results is not None and running.results[0].finding.detail == detail
    assert [event[:2] for event in running.journal.events] == [("check_failed", "session1234")] * recorded
    for _, _, fields, level in running.journal.events:
        assert (fields["check"], fields["kind"], fields["detail"], level) == ("my-a", "a", detail, "error")


def test_a_fault_is_recorded_with_its_place() -> None:
    running = Running(Fake("a", fails(KeyError("x")))).start()
    assert str(running.journal.events[0][2]["where"]).startswith("test_runner.py:")


@pytest.mark.parametrize("said", [Finding("perfect"), None, "good"])
def test_a_word_that_is_not_on_the_list_is_an_error(said: Any) -> None:
    running = Running(Fake("a", waits(succeed(said)))).start()
    assert running.outcomes == {"a": "error"}
    assert running.journal.events[0][0] == "check_failed"


@pytest.mark.parametrize("word", ["error", "timeout"])
def test_a_check_may_say_the_words_that_all_have(word: str) -> None:
    assert Running(Fake("a", says(word))).start().outcomes == {"a": word}


def test_details_are_made_printable_and_short() -> None:
    running = Running(Fake("a", says("good", "x\r\ny" + "z" * 9999))).start()
    assert running.results is not None
    detail = running.results[0].finding.detail
    assert detail.startswith("x??yz") and len(detail) == DETAIL_LIMIT


def test_a_check_reads_what_it_names_and_no_more() -> None:
    early = CheckResult("my-rdns", "rdns", Stage.CONNECT, Finding("none"))
    other = CheckResult("my-rcpt", "rdns", Stage.CONNECT, Finding("none"), Address("other", "example.test"))
    reader = Fake("reader", says("good"), after="a rdns absent")
    alone = Fake("b", says("bad"))
    case = Case(SESSION, Envelope(None), results=(early, other))
    running = Running(reader, Fake("a", says("good")), alone).start(case)
    assert running.outcomes == {"reader": "good", "a": "good", "b": "bad"}
    assert [result.check for result in reader.cases[0].results] == ["my-rdns", "my-a"]


def test_a_tier_waits_for_the_one_before() -> None:
    first: Deferred[Finding] = Deferred()
    second = Fake("b", says("good"), after="a")
    running = Running(Fake("a", waits(first)), second).start()
    assert second.cases == []
    first.callback(Finding("bad"))
    assert running.outcomes == {"a": "bad", "b": "good"}


def test_checks_that_wait_for_one_another_are_refused() -> None:
    with pytest.raises(ValueError, match="my-a my-b"):
        Running(Fake("a", says("good"), after="b"), Fake("b", says("good"), after="a"))


@pytest.mark.parametrize(
    ("peer", "asked"),
    [
        ("192.0.2.1", False),
        ("192.0.3.1", True),
        ("2001:db8::7", False),
        ("::ffff:192.0.2.9", False),
        ("2001:db9::7", True),
        ("", True),
    ],
)
def test_a_check_is_not_asked_for_clients_it_skips(peer: str, asked: bool) -> None:
    session = Session("s", peer, 1, "192.0.2.25", 0.0)
    running = Running(Fake("a", says("good")), Fake("b", says("good")), a="192.0.2.0/24 2001:db8::/32")
    assert ("a" in running.start(Case(session, Envelope(None))).outcomes) is asked
    assert running.outcomes["b"] == "good"


def test_cancelling_the_run_cancels_what_is_pending() -> None:
    cancelled: list[object] = []
    never = Fake("c", says("good"), after="a")
    checks = (Fake("a", waits(Deferred(cancelled.append))), Fake("b", waits(Deferred(cancelled.append))), never)
    running = Running(*checks).start()
    assert running.deferred is not None
    running.deferred.cancel()
    assert len(cancelled) == 2
    assert running.failure is not None and running.failure.check(CancelledError)
    assert running.results is None and running.timers == [] and running.journal.events == []
    assert never.cases == []


def test_one_check_may_end_another() -> None:
    """Cancelling the first late one makes the second finish: each still has one outcome."""
    second: Deferred[Finding] = Deferred()
    first: Deferred[Finding] = Deferred(lambda _: second.called or second.callback(Finding("good")))
    running = Running(Fake("a", waits(first)), Fake("b", waits(second))).start()
    running.clock.reactor.advance(5.0)
    assert running.outcomes == {"a": "timeout", "b": "good"}


class Dear(Fake):
    dear = True
    most_points = 10.0


def test_dear_checks_are_asked_last_and_only_if_need_be() -> None:
    for spared in (False, True):
        asked: list[tuple[tuple[str, ...], list[str]]] = []
        running = Running(Dear("dear", says("good")), Fake("b", says("bad"), after="a"), Fake("a", says("good")))

        def settled(results: tuple[CheckResult, ...], unasked: Any, asked: Any = asked, spared: bool = spared) -> bool:
            asked.append((tuple(result.kind for result in results), list(unasked)))
            return spared

        done: list[Any] = []
        promptly(running.runner.run(Stage.CONNECT, CASE, settled), done.append, done.append)
        assert asked == [
            (("a", "b"), [Unasked("my-dear", frozenset({"good", "bad", "error", "timeout"}), 10.0)]),
        ]
        told = [(result.kind, result.finding.outcome) for result in done[0]]
        assert told == [("a", "good"), ("b", "bad"), ("dear", "skipped" if spared else "good")]
        assert not spared or done[0][-1].excused == "all", "it is recorded, and weighs nothing whatever it is called"
    assert running.start().outcomes == {"a": "good", "b": "bad", "dear": "good"}, "nobody says that it may be spared"


def test_without_dear_checks_nobody_is_asked_whether_they_may_be_spared() -> None:
    running = Running(Fake("a", says("good")))
    done: list[Any] = []
    promptly(running.runner.run(Stage.CONNECT, CASE, lambda *_: 1 // 0 > 0), done.append, done.append)
    assert [result.finding.outcome for result in done[0]] == ["good"]


@pytest.mark.parametrize(("points", "outcome"), [(10.0, "good"), (-10.0, "good"), (10.5, "error"),
                                                 (float("nan"), "error"), (float("inf"), "error")])  # fmt: skip
def test_points_are_within_what_the_check_promised(points: float, outcome: str) -> None:
    async def does(case: Case) -> Finding:
        return Finding("good", points=points)

    assert Running(Dear("dear", does)).start().outcomes == {"dear": outcome}


def test_a_client_that_is_spared_is_not_asked_about_spam() -> None:
    spam, other = Fake("spam", says("bad")), Fake("other", says("bad"))
    spam.about = "spam"
    for spared, asked in [(False, ["my-spam", "my-other"]), (True, ["my-other"])]:
        run = Running(spam, other)
        found: list[Any] = []
        promptly(run.runner.run(Stage.CONNECT, CASE, None, spared), found.extend, found.append)
        assert [result.check for result in found] == asked


def test_a_check_may_be_asked_again_at_a_later_stage_after_what_it_reads() -> None:
    twice, late = Fake("twice", says("good"), after="late"), Fake("late", says("good"))
    twice.again, late.stage = Stage.MESSAGE, Stage.MESSAGE
    run = Running(twice, late)
    assert run.runner.again == {"my-twice"}
    for stage, asked in [(Stage.CONNECT, ["my-twice"]), (Stage.SENDER, []), (Stage.MESSAGE, ["my-late", "my-twice"])]:
        found: list[Any] = []
        promptly(run.runner.run(stage, CASE), found.extend, found.append)
        assert [(result.check, result.stage) for result in found] == [(name, stage) for name in asked]
    assert [result.check for result in twice.cases[-1].results] == ["my-late"]
