"""The ratelimit check: by what it counts, whom it spares, and that a store that is away is an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.disk import TestClock
from fakes.lists import lists
from fakes.state import FakeStateStore

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.ratelimit import RateLimit
from inboundmx.checks.runner import Runner
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, Settings
from inboundmx.policy.judging import judge_early
from inboundmx.policy.listing import NOBODY
from inboundmx.policy.scoring import score
from inboundmx.ports import Lists, Unavailable

ANN, BOB = Address("ann", "sender.example"), Address("Bob", "here.example")
SESSION = Session("s", "192.0.2.1", 25000, "192.0.2.25", 0.0)
CASE = Case(SESSION, Envelope(ANN), BOB)
NULL = Case(SESSION, Envelope(None), BOB)


class Desk:
    def __init__(self, by: str = "address", limit: int = 2, given: Lists = NOBODY) -> None:
        self.clock = TestClock()
        self.state = FakeStateStore(self.clock)
        nothing: Any = None
        tools = Tools(
            Settings(), self.clock, nothing, self.state, nothing, nothing, nothing, nothing, lists=given
        )
        self.check = RateLimit({"by": by, "limit": limit, "window": 3600.0}, tools)

    def ask(self, case: Case = CASE) -> Finding:
        with pytest.raises(StopIteration) as stop:
            self.check.examine(case).send(None)
        found: Finding = stop.value.value
        return found


def test_more_than_the_limit_is_over_until_the_window_ends() -> None:
    desk = Desk()
    assert [desk.ask().outcome for _ in range(4)] == ["within", "within", "over", "over"]
    over = desk.ask()
    assert over.detail == "5 of 2 by address"
    assert over.advice == "too much within 60 minutes, please try again later"
    desk.clock.task.advance(3600)
    assert desk.ask() == Finding("within", "1 of 2 by address")


def changed(**more: Any) -> Case:
    return replace(CASE, session=replace(SESSION, **more))


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        ("address", changed(), changed(peer_ip="192.0.2.2")),
        ("address", changed(peer_ip="::ffff:192.0.2.1"), changed(peer_ip="2001:db8::1")),
        ("network", changed(peer_ip="192.0.2.77"), changed(peer_ip="192.0.3.1")),
        ("user", changed(authenticated_as="eve", peer_ip="192.0.2.2"), changed(authenticated_as="ann")),
        ("sender", replace(CASE, envelope=Envelope(Address("ANN", "sender.example"))), NULL),
        ("sender-domain", replace(CASE, envelope=Envelope(Address("x", "sender.example"))), NULL),
        ("recipient", replace(CASE, recipient=Address("bob", "here.example")), replace(CASE, recipient=ANN)),
        ("recipient-domain", replace(CASE, recipient=Address("x", "here.example")), replace(CASE, recipient=ANN)),
    ],
)  # fmt: skip
def test_by_what_it_is_counted(by: str, same: Case, other: Case) -> None:
    desk = Desk(by)
    first = changed(authenticated_as="eve") if by == "user" else CASE
    for case in (first, same, first):
        last = desk.ask(case)
    assert last.outcome == "over"
    assert desk.ask(other).outcome == "within"


def test_who_has_no_user_is_not_counted_by_it() -> None:
    desk = Desk("user")
    assert {desk.ask() for _ in range(9)} == {Finding("within", "no user")}


def test_who_is_whitelisted_is_spared() -> None:
    desk = Desk(given=lists(whitelist_smtp="192.0.2.1"))
    assert {desk.ask().outcome for _ in range(9)} == {"within"}


def test_checks_with_other_limits_count_apart_and_those_of_all_workers_together() -> None:
    hourly, other = Desk(), Desk(limit=9)
    other.state = hourly.state
    other.check._tools = hourly.check._tools
    assert hourly.ask().detail == "1 of 2 by address" and other.ask().detail == "1 of 9 by address"


def run(desk: Desk, settings: CheckSettings, outgoing: bool = False) -> Any:
    runner = Runner([(settings, desk.check)], desk.clock)
    with pytest.raises(StopIteration) as stop:
        runner.run(Stage.RECIPIENT, CASE, outgoing=outgoing).send(None)
    return stop.value.value


def test_over_puts_off_and_a_store_that_is_away_is_an_error_that_weighs_nothing() -> None:
    desk = Desk(limit=1)
    weights = {"within": 0.0, "error": 0.0, "timeout": 0.0, **RateLimit.weights}
    settings = CheckSettings("rate", "ratelimit", weights=weights)
    assert judge_early(score(run(desk, settings), {"rate": settings}), 30.0) is None
    verdict = judge_early(score(run(desk, settings), {"rate": settings}), 30.0)
    assert verdict is not None and verdict.reply is not None and verdict.reply.code == 451
    desk.state.failure = Unavailable("the store is full")
    [result] = run(desk, settings)
    assert (result.finding.outcome, result.finding.detail) == ("error", "the store is full")
    assert judge_early(score([result], {"rate": settings}), 30.0) is None


def test_who_sends_out_through_us_is_counted_too() -> None:
    desk = Desk()
    settings = CheckSettings("rate", "ratelimit")
    assert Runner([(settings, desk.check)], desk.clock).concerns(Stage.RECIPIENT, outgoing=True)
    assert [result.finding.outcome for result in run(desk, settings, outgoing=True)] == ["within"]
