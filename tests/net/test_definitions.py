"""The age of virus definitions: what clamd says, when it is asked, and when somebody is told."""

from __future__ import annotations

import calendar
from typing import Any

import pytest
from fakes.services import Services
from fakes.state import FakeStateStore
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.net.definitions import DAY, EVERY_SECONDS, ROUND_SECONDS, SETTLED_SECONDS, Definitions, told
from inboundmx.ports import Unavailable

ONE, TWO = "tcp:one.test:3310", "tcp:two.test:3310"
# When the definitions below were made.
MADE = float(calendar.timegm((2026, 11, 21, 8, 30, 0)))


class Clamds(Services):
    def __init__(self, *endpoints: str, days: float = 1.0) -> None:
        super().__init__()
        self.clock.now = lambda: MADE + days * DAY + self.reactor.seconds()  # type: ignore[method-assign]
        self.endpoints = list(endpoints or [ONE])
        self.events: list[tuple[str, Any]] = []
        self.state = FakeStateStore(self.clock)
        self.drawn = 0.0
        self.definitions = self.made()
        self.definitions.look()

    def made(self) -> Definitions:
        return Definitions(lambda: self.scanners.clamds(self.endpoints), self.clock, self, self, self.state)

    def uniform(self, low: float, high: float) -> float:
        self.drawn += 1 / 1024
        return self.drawn

    def token(self, length: int) -> str:
        raise NotImplementedError

    def shuffled(self, items: Any) -> list[Any]:
        raise NotImplementedError

    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        assert level == "warning"
        self.events.append((event, fields))

    def answers(
        self,
        said: bytes = b"ClamAV 1.4.6/27825/Sat Nov 21 08:30:00 2026\0",
        piece: int = 65536,
        asked: bytes = b"zVERSION\0",
        closes: bool = False,
    ) -> None:
        line = self.accept()
        assert line.heard() == asked
        line.says(said, piece)
        if closes:
            line.closes()
        assert line.wire.aborted


@pytest.mark.parametrize("piece", [1, 65536])
def test_the_age_stands_beside_the_server(piece: int) -> None:
    clamds = Clamds(days=3.5)
    clamds.answers(piece=piece)
    about = "ClamAV 1.4.6, definitions 27825 of 2026-11-21, 3 days old"
    assert clamds.notes == [("clamd one.test:3310", True, about)]
    [server] = clamds.scanners.clamds([ONE])
    server.failed("trouble")
    server.describe(about)
    server.well()
    assert clamds.notes[1:] == [("clamd one.test:3310", False, "trouble"), ("clamd one.test:3310", True, about)]
    assert clamds.events == []


def test_each_is_asked_at_the_start_and_every_six_hours() -> None:
    clamds = Clamds(ONE, TWO)
    for _ in range(3):
        clamds.answers()
        clamds.answers()
        before = len(clamds.asked())
        for _ in range(int(EVERY_SECONDS / ROUND_SECONDS) - 1):
            clamds.reactor.advance(ROUND_SECONDS)
        assert len(clamds.asked()) == before
        clamds.reactor.advance(ROUND_SECONDS)
    assert clamds.asked() == ["one.test", "two.test"] * 4


def test_new_settings_ask_only_who_is_new() -> None:
    clamds = Clamds(ONE)
    clamds.answers()
    clamds.endpoints = [ONE, TWO]
    clamds.definitions.look()
    clamds.definitions.look()
    assert clamds.asked() == ["one.test", "two.test"]


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "garbage", "closes", "endless", "no pong", "no ping"])
def test_who_does_not_answer_is_asked_again_in_the_next_round(trouble: str) -> None:
    clamds = Clamds()
    if trouble == "refuses":
        clamds.refuse()
    elif trouble == "hangs":
        line = clamds.accept()
        clamds.reactor.advance(10.0)
        assert line.wire.aborted
    elif trouble == "closes":
        clamds.accept().closes()
    elif trouble == "endless":
        clamds.answers(b"x" * 10_000)
    else:
        clamds.answers(b"\xffgarbage\0")
        if trouble == "no ping":
            clamds.refuse()
        else:
            clamds.answers(b"\xffgarbage\0" if trouble == "garbage" else b"PONG", asked=b"zPING\0", closes=True)
    assert clamds.notes == []
    clamds.reactor.advance(ROUND_SECONDS)
    clamds.answers()
    assert [well for _, well, _ in clamds.notes] == [True]


OLD, NEW = b"ClamAV 1.4.6/27825/Sat Nov 21 08:30:00 2026\0", b"ClamAV 1.4.6/27826/Sun Nov 29 08:30:00 2026\0"
FIELDS = {"service": "clamd one.test:3310", "definitions": 27825, "of": "2026-11-21", "days": 7}


def later(clamds: Clamds, said: bytes) -> None:
    for _ in range(int(EVERY_SECONDS / ROUND_SECONDS)):
        clamds.reactor.advance(ROUND_SECONDS)
    clamds.answers(said)
    clamds.reactor.advance(SETTLED_SECONDS)


def test_old_definitions_are_told_of_once_a_week_until_there_are_new_ones() -> None:
    clamds = Clamds(days=6.9)
    clamds.answers(OLD)
    clamds.reactor.advance(SETTLED_SECONDS)
    assert clamds.events == []
    for _ in range(4 * 7):
        later(clamds, OLD)
    assert clamds.events == [("definitions_old", FIELDS)]
    later(clamds, OLD)
    assert [fields["days"] for _, fields in clamds.events] == [7, 14]
    later(clamds, NEW)
    assert clamds.notes[-1][2] == "ClamAV 1.4.6, definitions 27826 of 2026-11-29, 6 days old"
    for _ in range(8):
        later(clamds, NEW)
    assert [fields["definitions"] for _, fields in clamds.events] == [27825, 27825, 27826]


def test_of_several_processes_one_tells() -> None:
    """The fake store gives everybody what was put last, as the disk does a moment later."""
    clamds = Clamds(days=8.0)
    for each in (clamds.made(), clamds.made()):
        each.look()
    assert len(clamds.asked()) == 3
    for _ in range(3):
        clamds.answers(OLD)
    assert clamds.events == []
    clamds.reactor.advance(SETTLED_SECONDS)
    assert [fields["days"] for _, fields in clamds.events] == [8]
    # One that begins later finds that it was told.
    clamds.made().look()
    clamds.answers(OLD)
    clamds.reactor.advance(SETTLED_SECONDS)
    assert len(clamds.events) == 1


def test_while_nothing_can_be_remembered_it_is_told_all_the_same() -> None:
    clamds = Clamds(days=8.0)
    clamds.state.failure = Unavailable("the disk")
    clamds.answers(OLD)
    assert len(clamds.events) == 1


def test_stopped_while_it_waits_to_tell() -> None:
    clamds = Clamds(days=8.0)
    clamds.answers(OLD)
    clamds.definitions.stop()
    assert clamds.events == []
    assert clamds.reactor.getDelayedCalls() == []


def test_definitions_without_a_date() -> None:
    clamds = Clamds()
    clamds.answers(b"ClamAV 1.4.6\0")
    assert clamds.notes[0][2] == "ClamAV 1.4.6, definitions without a date"


def test_of_one_that_answers_and_does_not_tell_its_version_nobody_knows_how_old_they_are() -> None:
    clamds = Clamds()
    for _ in range(2):
        clamds.answers(b"COMMAND UNAVAILABLE\0")
        clamds.answers(b"PONG\0", asked=b"zPING\0")
        assert clamds.notes.pop()[1:] == (True, "definitions unknown: it does not tell its version")
        clamds.reactor.advance(ROUND_SECONDS)
        assert clamds.waiting == 0
        for _ in range(int(EVERY_SECONDS / ROUND_SECONDS) - 1):
            clamds.reactor.advance(ROUND_SECONDS)


def test_stopped_while_it_waits() -> None:
    clamds = Clamds()
    line = clamds.accept()
    clamds.definitions.stop()
    assert line.wire.aborted
    assert clamds.reactor.getDelayedCalls() == []


@given(st.binary(max_size=200) | st.from_regex(rb"ClamAV [ -~]{1,20}/[0-9]{1,12}/[ -~]{1,30}", fullmatch=True))
def test_whatever_is_said(line: bytes) -> None:
    heard = told(line)
    assert heard is None or heard.version.isprintable()
