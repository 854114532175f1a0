"""What operators may ask of the greylist, and who is on record for it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.disk import NOW, Lines, TestClock
from fakes.state import FakeStateStore
from hypothesis import given
from hypothesis import strategies as st

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


KEY = "192.0.2.0/24\tann@a.example\tzoe@here.example"


def states(desk: Desk, **arguments: Any) -> list[tuple[str, str | None]]:
    return [(row["state"], row["sender"]) for row in desk.ask("greylist.list", **arguments)]


def test_one_that_waits_is_let_through_and_who_asked_is_on_record(desk: Desk) -> None:
    assert [row["state"] for row in desk.ask("greylist.release", matching="Ann", dry_run=True)] == ["waiting"]
    assert desk.state.puts == 3 and "greylist_released" not in desk.journal.names
    (row,) = desk.ask("greylist.release", matching="Ann")
    assert (row["state"], row["sender"], row["passes_at"], row["first_seen_at"]) == ("released", "ann", NOW, NOW)
    assert states(desk, state="released") == [("released", "ann")]
    assert states(desk, state="waiting") == [("waiting", "bob"), ("waiting", None)]
    assert desk.ask("greylist.release", matching="Ann") == [] == desk.ask("greylist.look")
    told = [fields for event, fields, _ in desk.journal.events if event == "greylist_released"]
    assert told == [{"matching": "Ann", "count": 1, "asked_by": "ann (uid 7)"}]
    assert desk.ask("greylist.release", matching="nobody") == []


def test_who_passed_needs_nothing(desk: Desk) -> None:
    known = Fact((NOW - 50, NOW), NOW, NOW + 100)
    desk.state.put("greylist", KEY, known)
    assert desk.ask("greylist.release", matching="@a.example") == []
    (row,) = desk.ask("greylist.release", id="x", visits=[["192.0.2.9", "ann@a.example", "zoe@here.example"]])
    assert row["state"] == "known" and desk.state._facts["greylist", KEY] is known
    assert states(desk, state="known") == [("known", "ann@a.example")]


def test_a_refusal_is_let_through_by_what_was_told_of_it(desk: Desk) -> None:
    visit = ["192.0.2.77", "List-17@a.example", "Zoe@here.example"]
    key = "192.0.2.0/24\tlist-#@a.example\tzoe@here.example"
    desk.state.put("greylist", key, Fact((NOW - 60,), NOW, NOW + 100))
    (row,) = desk.ask("greylist.release", id="1d", visits=[visit])
    assert (row["state"], row["first_seen_at"]) == ("released", NOW - 60)
    (event,) = [each for each in desk.journal.events if each[0] == "greylist_released"]
    assert event[1] == {"count": 1, "asked_by": "ann (uid 7)"}


def test_what_is_kept_by_the_senders_domain_is_found_too_and_what_is_kept_no_more_is_kept_again(desk: Desk) -> None:
    by_domain = "spf:a.example\tann@a.example\tzoe@here.example"
    desk.state.put("greylist", by_domain, Fact((NOW,), NOW, NOW + 100))
    visits = [["198.51.100.1", "ann@a.example", "zoe@here.example"], ["198.51.100.1", "", "eve@here.example"]]
    rows = desk.ask("greylist.release", id="1d", visits=visits)
    assert [(row["domain"], row["network"], row["sender"]) for row in rows] == [
        ("a.example", None, "ann@a.example"),
        (None, "198.51.100.0/24", None),
    ]


def test_clients_that_need_not_wait_and_whom_users_wrote_to_are_listed_and_forgotten(desk: Desk) -> None:
    for name, count in (("192.0.9.0/24", 5), ("spf:a.example", 7), ("192.0.9.0/24 dkim:b.example", 5), ("x", 4)):
        desk.state.put("greylist-good", name, Fact((float(count), NOW), NOW + 1, NOW + 100))
    desk.state.put("greylist-written", "eve@far.example\t*@here.example", Fact((NOW,), NOW + 2, NOW + 100))
    allowed = desk.ask("greylist.list", state="auto-allowed")
    assert {(row["network"], row["domain"], row["deliveries"]) for row in allowed} == {
        ("192.0.9.0/24", None, 5), (None, "a.example", 7), ("192.0.9.0/24", "b.example", 5),
    }  # fmt: skip
    (row,) = desk.ask("greylist.list", state="written-to")
    assert (row["sender"], row["recipient"], row["state"]) == ("eve@far.example", "*@here.example", "written-to")
    assert len(desk.ask("greylist.list")) == 3 + 3 + 1
    assert len(desk.ask("greylist.list", matching="192.0.9.77")) == 2
    assert desk.ask("greylist.forget", matching="192.0.9.77") == [{"forgotten": 2}]
    assert desk.ask("greylist.forget", all=True) == [{"forgotten": 3 + 2 + 1}]


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_whatever_was_said_can_be_let_through(ip: str, sender: str, recipient: str) -> None:
    desk = Desk()
    rows = desk.ask("greylist.release", id="1d", visits=[[ip, sender, recipient]])
    assert [row["state"] for row in rows] == ["released"]


@pytest.mark.parametrize(
    ("operation", "arguments", "sentence"),
    [
        ("greylist.hold", {}, "no operation is called 'greylist.hold'"),
        ("greylist.release", {}, "needs an id, or a text"),
        ("greylist.release", {"id": "x"}, "needs an id, or a text"),
        ("greylist.release", {"matching": "a", "visits": [["192.0.2.1", "", "b@c"]]}, "needs an id, or a text"),
        ("greylist.release", {"id": 7, "visits": [["192.0.2.1", "", "b@c"]]}, "needs an id, or a text"),
        ("greylist.release", {"visits": "ann"}, "visits are a list"),
        ("greylist.release", {"visits": [["192.0.2.1", "b@c"]]}, "a visit is"),
        ("greylist.release", {"visits": [["192.0.2.1", 7, "b@c"]]}, "a visit is"),
        ("greylist.release", {"limit": 7, "matching": "a"}, "takes no 'limit'"),
        ("greylist.list", {"state": "lost"}, "state must be one of waiting known released auto-allowed written-to"),
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
