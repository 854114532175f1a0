"""What operators may ask of the lists, and who is on record for it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from twisted.internet.defer import maybeDeferred

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.list_operations import ListOperations
from inboundmx.app.list_warnings import of_lists
from inboundmx.app.operations import Operations
from inboundmx.intake import live_lists
from inboundmx.intake.live_lists import LiveLists
from inboundmx.model.address import Address
from inboundmx.model.settings import CheckSettings, ListsSettings, RelaySettings, Settings
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly
from inboundmx.storage.lists_file import ListsFile

INI = ListsSettings(
    whitelist_smtp=(ip_network("192.0.2.0/28"),),
    whitelist_spam=(ip_network("192.0.2.0/28"),),
    blacklist=(ip_network("198.51.100.66/32"),),
    blocked_senders=("*@bad.example",),
)


class Desk:
    def __init__(self, folder: Path) -> None:
        self.clock: Any = FakeClock()
        self.journal: Any = FakeJournal()
        self.settings = Settings(lists=INI)
        self.lists = LiveLists(self.clock, self.journal, ListsFile(str(folder)), maybeDeferred)
        self.lists.begin()
        noun = ListOperations(self.lists, self.journal, self.clock, lambda: self.settings)
        nothing: Any = None
        self.operations = Operations(nothing, None, self.journal, self.clock, self.settings, nouns={"lists": noun})

    def ask(self, verb: str, **arguments: Any) -> list[dict[str, Any]]:
        got: list[Any] = []
        promptly(
            self.operations.perform(f"lists.{verb}", arguments, "ann (uid 7)"),
            lambda rows: got.extend(list(rows)),
            lambda failure: failure.raiseException(),
        )
        return got

    def values(self, **arguments: Any) -> list[str]:
        return [row["value"] for row in self.ask("list", **arguments)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_is_added_is_listed_first_with_who_why_and_until_when(desk: Desk) -> None:
    now = desk.clock.now()
    [added] = desk.ask("add", kind="blacklist", values=["192.0.2.66"], reason="spam run", **{"for": 60.0})
    row = {
        "kind": "blacklist", "value": "192.0.2.66", "ticks": [], "reason": "spam run", "author": "ann (uid 7)",
        "since_at": now, "until_at": now + 60, "key": None,
    }  # fmt: skip
    assert added == row | {"outcome": "added", "note": None}
    rows = desk.ask("list")
    assert rows[0] == row
    assert [(each["key"], each["value"], each["author"], each["since_at"]) for each in rows[1:]] == [
        ("whitelist_smtp", "192.0.2.0/28", None, None),
        ("whitelist_spam", "192.0.2.0/28", None, None),
        ("blacklist", "198.51.100.66", None, None),
        ("blocked_senders", "*@bad.example", None, None),
    ]
    [(_, _, fields, _)] = [event for event in desk.journal.events if event[0] == "list_entry_added"]
    assert fields == {
        "kind": "blacklist", "value": "192.0.2.66", "ticks": [], "reason": "spam run", "until_at": now + 60,
        "asked_by": "ann (uid 7)",
    }  # fmt: skip
    desk.clock.advance(60)
    assert "192.0.2.66" not in desk.values()


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("blacklist", "192.0.2.1", "192.0.2.1"),
        ("blacklist", "192.0.2.1/32", "192.0.2.1"),
        ("blacklist", "192.0.2.1-192.0.2.9", "192.0.2.1-192.0.2.9"),
        ("bypass-gateway", "2001:DB8:0:0::/64", "2001:db8::/64"),
        ("blacklist", "2001:db8::1-2001:db8::F", "2001:db8::1-2001:db8::f"),
        ("blocked-sender", "Shop.Example", "*@shop.example"),
        ("trusted-sender", "Boss@Bücher.example", "boss@xn--bcher-kva.example"),
        ("blocked-sender", "o'neill--;drop*@a.example", None),
        ("blocked-sender", "'||*@a.example", "'||*@a.example"),
    ],
)
def test_one_thing_has_one_form(desk: Desk, kind: str, given: str, kept: str | None) -> None:
    if kept is None:
        with pytest.raises(NotUnderstood, match="nothing was added"):
            desk.ask("add", kind=kind, values=[given])
        return
    assert [row["outcome"] for row in desk.ask("add", kind=kind, values=[given, kept])] == ["added"]
    [again] = desk.ask("add", kind=kind, values=[kept], reason="still")
    assert (again["value"], again["outcome"]) == (kept, "replaced")
    [gone] = desk.ask("remove", kind=kind, values=[given])
    assert (gone["outcome"], gone["reason"]) == ("removed", "still")
    assert kept not in desk.values()


def test_a_whitelist_says_what_it_spares(desk: Desk) -> None:
    [row] = desk.ask("add", kind="whitelist", values=["192.0.2.99"], ticks=["greylisting", "smtp"])
    assert row["ticks"] == ["smtp", "greylisting"]
    assert desk.lists.whitelisted("192.0.2.99", "smtp")
    assert not desk.lists.whitelisted("192.0.2.99", "spam")


def test_what_stands_in_the_ini_is_not_removed_and_where_is_told(desk: Desk) -> None:
    [row] = desk.ask("remove", kind="blacklist", values=["198.51.100.66"])
    assert (row["outcome"], row["key"]) == ("written", "blacklist")
    desk.ask("add", kind="blacklist", values=["198.51.100.66"], reason="and by hand")
    [row] = desk.ask("remove", kind="blacklist", values=["198.51.100.66"])
    assert (row["outcome"], row["reason"]) == ("removed", "and by hand")
    assert desk.values(kind="blacklist") == ["198.51.100.66"]
    desk.settings = replace(desk.settings, lists=ListsSettings())
    assert desk.values() == [], "after a reload"
    [row] = desk.ask("remove", kind="blacklist", values=["198.51.100.66"])
    assert (row["outcome"], row["key"]) == ("absent", None)


def test_a_dry_run_removes_nothing(desk: Desk) -> None:
    desk.ask("add", kind="blacklist", values=["192.0.2.66"])
    [row] = desk.ask("remove", kind="blacklist", values=["192.0.2.66"], dry_run=True)
    assert row["outcome"] == "removed"
    assert "192.0.2.66" in desk.values()
    assert not desk.journal.named("list_entry_removed")
    desk.ask("remove", kind="blacklist", values=["192.0.2.66"])
    assert desk.journal.named("list_entry_removed")


def test_entries_are_found_by_what_falls_under_them_and_by_what_is_written_there(desk: Desk) -> None:
    desk.ask("add", kind="bypass-gateway", values=["192.0.2.0-192.0.2.5"], reason="Provider 100%")
    desk.ask("add", kind="blocked-sender", values=["ann@b*.example"])
    assert desk.values(matching="192.0.2.3") == ["192.0.2.0-192.0.2.5", "192.0.2.0/28", "192.0.2.0/28"]
    assert desk.values(matching="192.0.2.9", kind="whitelist") == ["192.0.2.0/28"] * 2
    assert desk.values(matching="ann@bad.example") == ["ann@b*.example", "*@bad.example"]
    assert desk.values(matching="bad.example") == ["*@bad.example"]
    assert desk.values(matching="100%") == ["192.0.2.0-192.0.2.5"]
    assert desk.values(matching="%") == ["192.0.2.0-192.0.2.5"], "a % is a %"
    assert desk.values(matching="ANN (uid") == ["ann@b*.example", "192.0.2.0-192.0.2.5"]
    assert len(desk.values(limit=3)) == 3


def test_lists_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for start in (0, 100):
        desk.ask("add", kind="blocked-sender", values=[f"a{number}*@a.example" for number in range(start, start + 100)])
    with pytest.raises(NotUnderstood, match="at most 200"):
        desk.ask("add", kind="trusted-sender", values=["b*@a.example"])
    desk.ask("add", kind="blocked-sender", values=["a1*@a.example", "b@a.example"])
    desk.ask("remove", kind="blocked-sender", values=["a1*@a.example"])
    desk.ask("add", kind="trusted-sender", values=["b*@a.example"])
    monkeypatch.setattr("inboundmx.app.list_operations.MOST_ENTRIES", len(desk.lists) + 1)
    with pytest.raises(NotUnderstood, match="hold at most"):
        desk.ask("add", kind="blacklist", values=["192.0.2.1", "192.0.2.2"])
    desk.ask("add", kind="blacklist", values=["192.0.2.1"])
    desk.ask("add", kind="blacklist", values=["192.0.2.1"])
    assert live_lists.MOST_ENTRIES == 100_000


def test_what_another_process_added_is_learned_by_looking(desk: Desk, tmp_path: Path) -> None:
    other = Desk(tmp_path)
    other.ask("add", kind="blocked-sender", values=["x@a.example"])
    assert desk.lists.sender(Address("x", "a.example"), ()) == ""
    assert desk.ask("look") == []
    assert desk.lists.sender(Address("x", "a.example"), ()) == "blocked"


@pytest.mark.parametrize(
    ("verb", "arguments", "sentence"),
    [
        ("release", {}, "no operation is called"),
        ("add", {"kind": "blaklist", "values": ["192.0.2.1"]}, "did you mean blacklist"),
        ("add", {"values": ["192.0.2.1"]}, "there is no list without a name"),
        ("add", {"kind": "blacklist"}, "values must be"),
        ("add", {"kind": "blacklist", "values": "192.0.2.1"}, "values must be"),
        ("add", {"kind": "blacklist", "values": [7]}, "values must be"),
        ("add", {"kind": "blacklist", "values": ["192.0.2.1"] * 1001}, "at most 1000"),
        ("add", {"kind": "blacklist", "values": [""]}, "nothing is no IP address"),
        ("add", {"kind": "blacklist", "values": ["192.0.2.1 192.0.2.2"]}, "is no IP address"),
        ("add", {"kind": "blacklist", "values": ["a.example"]}, "a.example is no IP address; nothing was added"),
        ("add", {"kind": "blacklist", "values": ["0.0.0.0/0"]}, "would be everybody"),
        ("add", {"kind": "blacklist", "values": ["::/0"]}, "would be everybody"),
        ("add", {"kind": "blocked-sender", "values": ["*@*"]}, "would be everybody"),
        ("add", {"kind": "blacklist", "values": ["192.0.2.1"], "ticks": ["smtp"]}, "only a whitelist spares"),
        ("add", {"kind": "whitelist", "values": ["192.0.2.1"]}, "say --smtp, --spam, --greylisting"),
        ("add", {"kind": "whitelist", "values": ["192.0.2.1"], "ticks": ["relay"]}, "ticks are of"),
        ("add", {"kind": "blacklist", "values": ["192.0.2.1"], "reason": "a\nb"}, "a reason is one line"),
        ("add", {"kind": "blacklist", "values": ["192.0.2.1"], "for": 0}, "for must be"),
        ("add", {"kind": "blacklist", "values": ["192.0.2.1"], "author": "bob"}, "takes no 'author'"),
        ("remove", {"kind": "blacklist", "values": ["x"]}, "x is no IP address; nothing was removed"),
        ("list", {"kind": "x"}, "there is no list x"),
        ("list", {"limit": 10**9}, "limit must be"),
        ("list", {"matching": 7}, "matching must be text"),
    ],
)
def test_what_cannot_be_asked(desk: Desk, verb: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NotUnderstood, match=sentence):
        desk.ask(verb, **arguments)
    assert len(desk.ask("list")) == 4


def test_a_disk_that_fails_is_said_and_nothing_is_on_record(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise Unavailable("no")

    monkeypatch.setattr(ListsFile, "change", fails)
    with pytest.raises(Unavailable):
        desk.ask("add", kind="blacklist", values=["192.0.2.1"])
    assert not desk.journal.named("list_entry_added")
    assert not desk.lists.blacklisted("192.0.2.1")


def test_an_entry_that_nobody_looks_at_is_said(desk: Desk) -> None:
    [row] = desk.ask("add", kind="blocked-sender", values=["x@a.example"])
    assert "no [check ...] uses blocked" in row["note"]
    blocked = CheckSettings("senders", "blocked")
    desk.settings = replace(desk.settings, checks=(blocked,))
    assert desk.ask("add", kind="blocked-sender", values=["x@a.example"])[0]["note"] is None
    [row] = desk.ask("add", kind="trusted-sender", values=["x@a.example"])
    assert "uses spf or dkim" in row["note"]
    desk.settings = replace(desk.settings, checks=(blocked, CheckSettings("dkim", "dkim")))
    assert desk.ask("add", kind="trusted-sender", values=["x@a.example"])[0]["note"] is None


@pytest.mark.parametrize(
    ("lists", "checks", "sentences"),
    [
        ({}, "", []),
        ({"blacklist": ("192.0.2.0/24",), "whitelist_smtp": ("192.0.2.0/24",)}, "", []),
        ({"blocked_senders": ("*@a.example",)}, "spf", ["uses blocked"]),
        ({"blocked_senders": ("*@a.example",)}, "blocked", []),
        ({"trusted_senders": ("*@a.example",)}, "blocked", ["uses spf or dkim"]),
        ({"trusted_senders": ("*@a.example",)}, "blocked spf", []),
        ({"whitelist_spam": ("0.0.0.0/0",)}, "", ["whitelist_spam 0.0.0.0/0: that is everybody"]),
        ({"blacklist": ("::/0",)}, "", ["blacklist ::/0: that is everybody"]),
        ({"blacklist": ("198.51.100.0/24", "2001:db8::/32")}, "", ["198.51.100.0/24 has addresses of 198.51.100.7/32"]),
    ],
)  # fmt: skip
def test_what_an_operator_may_not_have_meant(
    lists: dict[str, tuple[str, ...]], checks: str, sentences: list[str]
) -> None:
    values: Any = {
        key: texts if key.endswith("senders") else tuple(map(ip_network, texts)) for key, texts in lists.items()
    }
    settings = Settings(
        lists=ListsSettings(**values),
        checks=tuple(CheckSettings(kind, kind) for kind in checks.split()),
        relay=RelaySettings((ip_network("198.51.100.7/32"), "whitelisted")),
    )
    found = of_lists(settings)
    assert len(found) == len(sentences)
    for sentence, said in zip(sentences, found, strict=True):
        assert sentence in said
