"""Lists that operators change while the gateway runs: what holds when, and what is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from twisted.internet.defer import Deferred, maybeDeferred

from inboundmx.intake.live_lists import LOOK_SECONDS, LiveLists
from inboundmx.model.address import Address
from inboundmx.model.listing import Difference, Key, Listed, News
from inboundmx.ports import Unavailable


class FakeKept:
    """What processes share. ``trouble``: raised while it is set."""

    def __init__(self) -> None:
        self.unheard: list[Difference] = []
        self.entries: dict[Key, Listed] = {}
        self.trouble: Exception | None = None
        self.damage = ""

    def look(self, now: float) -> News:
        if self.trouble is not None:
            raise self.trouble
        unheard, self.unheard = self.unheard, []
        damage, self.damage = self.damage, ""
        return News(unheard, damage, "set aside" if damage else "")

    def change(self, come: Sequence[Listed], gone: Collection[Key], now: float) -> News:
        news = self.look(now)
        for key in gone:
            if key in self.entries:
                news.differences.append(Difference(self.entries.pop(key), None))
        for entry in come:
            news.differences.append(Difference(self.entries.get(entry.key), entry))
            self.entries[entry.key] = entry
        return news


class Desk:
    def __init__(self) -> None:
        self.clock: Any = FakeClock()
        self.journal: Any = FakeJournal()
        self.kept = FakeKept()
        self.lists = LiveLists(self.clock, self.journal, self.kept, maybeDeferred)
        self.lists.begin()
        self.now: float = self.clock.now()

    def change(self, come: Sequence[Listed] = (), gone: Collection[Key] = ()) -> Any:
        got: list[Any] = []
        Deferred.fromCoroutine(self.lists.change(come, gone)).addBoth(got.append)
        return got[0] and got[0].value


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_entry_holds_from_when_it_is_kept_until_it_is_removed(desk: Desk) -> None:
    bad = Listed("blacklist", "192.0.2.66")
    assert desk.change([bad, Listed("whitelist", "192.0.2.0/28", ("spam",))]) is None
    assert desk.lists.blacklisted("192.0.2.66") == "192.0.2.66"
    assert desk.lists.whitelisted("192.0.2.1", "spam")
    assert not desk.lists.whitelisted("192.0.2.1", "smtp")
    assert not desk.lists.bypasses("192.0.2.1")
    assert desk.change(gone=[bad.key]) is None
    assert not desk.lists.blacklisted("192.0.2.66")
    assert desk.change([Listed("bypass-gateway", "192.0.2.9")]) is None
    assert desk.lists.bypasses("192.0.2.9")


def test_an_entry_with_the_same_value_takes_its_place(desk: Desk) -> None:
    desk.change([Listed("whitelist", "192.0.2.1", ("smtp", "spam"))])
    desk.change([Listed("whitelist", "192.0.2.1", ("greylisting",))])
    spared = [tick for tick in ("smtp", "spam", "greylisting") if desk.lists.whitelisted("192.0.2.1", tick)]
    assert spared == ["greylisting"]
    assert len(desk.lists) == 1


@pytest.mark.parametrize("alone", [False, True])
def test_an_entry_ends_by_itself_and_that_is_told(desk: Desk, alone: bool) -> None:
    desk.lists.start(alone)
    desk.change([
        Listed("blacklist", "192.0.2.66", (), "spam run", "ann", desk.now, desk.now + 60),
        Listed("trusted-sender", "*@a.example", (), "", "ann", desk.now, desk.now + 600),
    ])  # fmt: skip
    desk.clock.advance(59.9)
    assert desk.lists.blacklisted("192.0.2.66")
    desk.clock.advance(0.1)
    assert not desk.lists.blacklisted("192.0.2.66"), "at the very moment"
    assert [entry.kind for entry in desk.lists.entries()] == ["trusted-sender"]
    desk.clock.advance(LOOK_SECONDS)
    [(_, _, fields, level)] = [event for event in desk.journal.events if event[0] == "list_entry_over"]
    assert (fields["value"], fields["reason"], fields["author"], level) == ("192.0.2.66", "spam run", "ann", "info")
    assert desk.lists.sender(Address("x", "a.example"), ["a.example"]) == "trusted"
    desk.clock.advance(600)
    assert desk.lists.sender(Address("x", "a.example"), ["a.example"]) == ""
    assert len(desk.lists) == 0


def test_an_entry_that_was_given_more_time_does_not_end_with_the_old_one(desk: Desk) -> None:
    desk.lists.start()
    for seconds in (60, 600):
        desk.change([Listed("blacklist", "192.0.2.66", until_at=desk.now + seconds)])
    desk.clock.advance(100)
    assert desk.lists.blacklisted("192.0.2.66")
    assert not desk.journal.named("list_entry_over")


def test_what_was_over_before_the_start_never_begins(desk: Desk) -> None:
    desk.kept.unheard = [Difference(None, Listed("blacklist", "192.0.2.66", until_at=desk.now))]
    desk.lists.begin()
    assert len(desk.lists) == 0


def test_what_another_process_changed_is_found_within_seconds(desk: Desk) -> None:
    desk.lists.start()
    bad, good = Listed("blacklist", "192.0.2.66"), Listed("blacklist", "192.0.2.67")
    desk.kept.unheard = [Difference(None, bad)]
    desk.clock.advance(LOOK_SECONDS)
    assert desk.lists.blacklisted("192.0.2.66")
    desk.kept.unheard = [Difference(bad, None), Difference(None, good)]
    desk.clock.advance(LOOK_SECONDS)
    assert not desk.lists.blacklisted("192.0.2.66")
    assert desk.lists.blacklisted("192.0.2.67")
    desk.lists.stop()
    desk.kept.unheard = [Difference(good, None)]
    desk.clock.advance(10 * LOOK_SECONDS)
    assert desk.lists.blacklisted("192.0.2.67"), "it looks no more"


def test_a_disk_that_does_not_answer_is_told_once_and_what_was_read_holds(desk: Desk) -> None:
    desk.lists.start()
    desk.change([Listed("blacklist", "192.0.2.66")])
    desk.kept.trouble = Unavailable("Input/output error")
    assert isinstance(desk.change([Listed("blacklist", "192.0.2.67")]), Unavailable)
    assert not desk.lists.blacklisted("192.0.2.67")
    desk.clock.advance(10 * LOOK_SECONDS)
    assert desk.lists.blacklisted("192.0.2.66")
    [(_, _, fields, level)] = [event for event in desk.journal.events if event[0] == "lists_unreadable"]
    assert ("Input/output error" in fields["what"], level) == (True, "error")
    desk.kept.trouble = None
    desk.clock.advance(LOOK_SECONDS)
    desk.kept.trouble = Unavailable("Input/output error")
    desk.clock.advance(LOOK_SECONDS)
    assert len(desk.journal.named("lists_unreadable")) == 2, "and again when it comes again"


def test_a_gateway_starts_without_lists_that_cannot_be_read() -> None:
    desk = Desk()
    desk.kept.trouble = Unavailable("Permission denied")
    desk.lists.begin()
    assert desk.journal.named("lists_unreadable")
    desk.lists.start()
    desk.kept.trouble = None
    desk.kept.unheard = [Difference(None, Listed("blacklist", "192.0.2.66"))]
    desk.clock.advance(LOOK_SECONDS)
    assert desk.lists.blacklisted("192.0.2.66")


def test_damage_is_told(desk: Desk) -> None:
    desk.kept.damage = "2 of 9 lines"
    desk.lists.begin()
    assert ("lists_damaged", "", {"what": "2 of 9 lines", "done": "set aside"}, "error") in desk.journal.events


def test_where_nobody_else_writes_nobody_looks(desk: Desk) -> None:
    desk.lists.start(alone=True)
    desk.kept.unheard.append(Difference(None, Listed("blacklist", "192.0.2.66")))
    desk.clock.advance(100 * LOOK_SECONDS)
    assert not desk.lists.blacklisted("192.0.2.66")


def test_what_could_not_be_read_is_looked_for_until_it_can(desk: Desk) -> None:
    desk.kept.trouble = Unavailable("no such disk")
    desk.lists.begin()
    desk.lists.start(alone=True)
    desk.kept.unheard.append(Difference(None, Listed("blacklist", "192.0.2.66")))
    desk.clock.advance(LOOK_SECONDS)
    desk.kept.trouble = None
    desk.clock.advance(LOOK_SECONDS)
    assert desk.lists.blacklisted("192.0.2.66")
