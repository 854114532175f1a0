"""How services are doing: their last outcome, since when, and one line when it turns."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.disk import NOW, Lines, TestClock

from inboundmx.app import health as module
from inboundmx.app.health import TOLD_EVERY_SECONDS, ServicesHealth

ZONE = "zen.spamhaus.org"


class Ward:
    def __init__(self) -> None:
        self.clock = TestClock()
        self.journal = Lines()
        self.health = ServicesHealth(self.clock, self.journal)

    def noted(self, well: bool, detail: str = "", after: float = 0.0, service: str = ZONE) -> list[str]:
        """The names of all events so far."""
        self.clock.task.advance(after)
        self.health.noted(service, well, detail)
        return self.journal.names


@pytest.fixture
def ward() -> Ward:
    return Ward()


def test_a_service_that_is_well_is_not_news(ward: Ward) -> None:
    for _ in range(3):
        assert ward.noted(True, after=10) == []
    assert ward.health.rows() == [
        {"service": ZONE, "state": "up", "since_at": NOW + 10, "last_at": NOW + 30, "answered": 3, "failed": 0,
         "detail": None}
    ]  # fmt: skip


def test_one_line_when_it_turns_and_one_when_it_turns_back(ward: Ward) -> None:
    ward.noted(True)
    assert ward.noted(False, "SERVFAIL", after=100) == ["service_down"]
    assert ward.noted(False, "silence", after=100) == ["service_down"]
    (row,) = ward.health.rows()
    assert (row["state"], row["since_at"], row["last_at"], row["detail"]) == ("down", NOW + 100, NOW + 200, "silence")
    assert ward.noted(True, after=100) == ["service_down", "service_up"]
    (row,) = ward.health.rows()
    assert (row["state"], row["since_at"], row["detail"]) == ("up", NOW + 300, None)
    event, fields, level = ward.journal.events[0]
    assert (event, level) == ("service_down", "warning")
    assert fields == {"service": ZONE, "detail": "SERVFAIL", "answered": 1, "failed": 1}


def test_a_service_that_is_down_from_the_beginning_is_told_of(ward: Ward) -> None:
    assert ward.noted(False, "connection refused") == ["service_down"]


def test_one_that_comes_and_goes_does_not_fill_the_log(ward: Ward) -> None:
    for number in range(200):
        ward.noted(number % 2 == 0, after=1)
    assert len(ward.journal.events) <= 200 / TOLD_EVERY_SECONDS + 1
    ward.noted(True, after=TOLD_EVERY_SECONDS)
    ward.noted(True, after=TOLD_EVERY_SECONDS)
    assert ward.journal.names[-1] == "service_up"
    many = len(ward.journal.events)
    ward.noted(True, after=TOLD_EVERY_SECONDS)
    assert len(ward.journal.events) == many


def test_what_is_down_stands_first(ward: Ward) -> None:
    for service, well in (("b", True), ("c", False), ("a", True)):
        ward.noted(well, service=service)
    assert [row["service"] for row in ward.health.rows()] == ["c", "a", "b"]


def test_services_and_details_are_bounded(ward: Ward, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "SERVICES", 3)
    for number in range(5):
        ward.noted(False, "x" * 10_000, after=1, service=str(number))
    rows = ward.health.rows()
    assert [row["service"] for row in rows] == ["2", "3", "4"]
    assert len(rows[0]["detail"]) == module.DETAIL_LIMIT
