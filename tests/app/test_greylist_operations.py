"""What operators may ask of the greylist, and who is on record for it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.disk import NOW, Lines, TestClock
from fakes.state import FakeStateStore

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.greylist_operations import GreylistOperations
from inboundmx.app.operations import Operations
from inboundmx.model.settings import Settings
from inboundmx.ports import Fact, Unavailable


class Desk:
    def __init__(self) -> None:
        self.clock = TestClock()
        self.state = FakeStateStore(self.clock)
        self.journal = Lines()
        settings = Settings()
        greylist = GreylistOperations(self.state, self.journal, self.clock, lambda: settings)
        nothing: Any = None
        self.operations = Operations(
            nothing, None, self.journal, self.clock, settings, nouns={"greylist": greylist}
        )
        for sender in ("ann", "bob", "<>"):
            self.state.put("greylist", f"192.0.2.0/24\t{sender}\tzoe@here.example", Fact((NOW,), NOW, NOW + 100))

    def ask(self, operation: str, **arguments: Any) -> list[dict[str, Any]]:
        with pytest.raises(StopIteration) as stop:
            self.operations.perform(operation, arguments, "ann (uid 7)").send(None)
        return list(stop.value.value)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_null_senders_are_none(desk: Desk) -> None:
    (row,) = desk.ask("greylist.list", matching="<>")
    assert row["sender"] is None and row["recipient"] == "zoe@here.example"


def test_a_key_of_another_shape_is_told_all_the_same(desk: Desk) -> None:
    desk.state.put("greylist", "odd", Fact((), NOW, NOW + 1))
    (row,) = desk.ask("greylist.list", matching="odd")
    assert (row["network"], row["recipient"], row["first_seen_at"], row["passes_at"]) == ("odd", "", None, None)


def test_forgetting_is_recorded_and_a_dry_run_is_not(desk: Desk) -> None:
    assert len(desk.ask("greylist.forget", matching="192.0.2.0", dry_run=True)) == 3
    assert "greylist_forgotten" not in desk.journal.names
    assert desk.ask("greylist.forget", matching="ANN") == [{"forgotten": 1}]
    assert [fields for event, fields, _ in desk.journal.events if event == "greylist_forgotten"] == [
        {"matching": "ANN", "count": 1, "asked_by": "ann (uid 7)"}
    ]
    assert desk.ask("greylist.forget", all=True) == [{"forgotten": 2}]


def test_numbered_senders_and_recipients_are_found(desk: Desk) -> None:
    for number, key in enumerate(("list-#@a.example\tx", "ann@a.example\tlist-17@a.example")):
        desk.state.put("greylist", f"192.0.2.0/24\t{key}", Fact((NOW,), NOW + number, NOW + 100))
    asked = [row["sender"] for row in desk.ask("greylist.list", matching="list-17@a.example")]
    assert asked == ["ann@a.example", "list-#@a.example"]
    assert len(desk.ask("greylist.list", matching="list-17@a.example", limit=1)) == 1
    assert desk.ask("greylist.forget", matching="list-17@a.example") == [{"forgotten": 2}]


def test_a_client_is_found_by_its_address(desk: Desk) -> None:
    assert len(desk.ask("greylist.list", matching="192.0.2.77")) == 3
    assert desk.ask("greylist.list", matching="192.0.3.77") == []
    assert desk.ask("greylist.forget", matching="192.0.2.77") == [{"forgotten": 3}]


@pytest.mark.parametrize(
    ("operation", "arguments", "sentence"),
    [
        ("greylist.release", {}, "no operation is called 'greylist.release'"),
        ("greylist.forget", {}, "needs a text"),
        ("greylist.forget", {"matching": "", "all": "yes"}, "needs a text"),
        ("greylist.list", {"matching": 7}, "matching must be text"),
        ("greylist.list", {"limit": 0}, "limit must be a whole number"),
        ("greylist.list", {"limit": True}, "limit must be a whole number"),
        ("greylist.list", {"limit": 10**9}, "limit must be a whole number"),
        ("greylist.list", {"sender": "x"}, "takes no 'sender'"),
    ],
)
def test_what_cannot_be_asked(desk: Desk, operation: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NotUnderstood, match=sentence):
        desk.ask(operation, **arguments)
    assert len(desk.ask("greylist.list")) == 3


def test_a_store_that_is_away_is_said(desk: Desk) -> None:
    desk.state.failure = Unavailable("locked")
    with pytest.raises(Unavailable):
        desk.operations.perform("greylist.list", {}, "ann").send(None)
