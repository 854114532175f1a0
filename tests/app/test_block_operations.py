"""What operators may ask of blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from twisted.internet.defer import maybeDeferred

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.block_operations import BlockOperations
from inboundmx.intake.blocking import Blocks
from inboundmx.intake.live_lists import LiveLists
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly
from inboundmx.storage.lists_file import ListsFile


def answer(noun: Any, verb: str, **arguments: Any) -> Any:
    got: list[Any] = []
    promptly(noun.perform(verb, arguments, "ann (uid 7)"), got.append, lambda failure: failure.raiseException())
    return got[0]


class Desk:
    def __init__(self, folder: Path) -> None:
        self.clock: Any = FakeClock()
        self.journal: Any = FakeJournal()
        self.kept = LiveLists(self.clock, self.journal, ListsFile(str(folder), "blocks"), maybeDeferred, "blocks")
        self.kept.begin()
        self.blocks = Blocks(self.clock, self.journal, self.kept)
        # What was to be forgotten, and whether the block still held then.
        self.forgotten: list[tuple[set[str], bool]] = []
        self.failure: Exception | None = None
        self.noun = BlockOperations(self.kept, self.journal, self.clock, self.forget, self.blocks)

    async def forget(self, clients: Any) -> None:
        self.forgotten.append((clients, self.blocks.find(min(clients).partition("/")[0]) is not None))
        if self.failure is not None:
            raise self.failure

    def ask(self, verb: str, **arguments: Any) -> Any:
        return answer(self.noun, verb, **arguments)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_an_operator_blocks_is_refused_listed_and_recorded(desk: Desk) -> None:
    now = desk.clock.now()
    [row] = desk.ask("add", values=["192.0.2.0/24"], reason="spam run", **{"for": 60.0})
    assert row == {
        "value": "192.0.2.0/24", "reason": "spam run", "author": "ann (uid 7)", "since_at": now, "until_at": now + 60,
        "outcome": "added",
    }  # fmt: skip
    assert desk.blocks.find("192.0.2.7") is not None
    del row["outcome"]
    assert desk.ask("list") == [row] == desk.ask("list", matching="192.0.2.7")
    [(event, _, fields, _)] = desk.journal.events
    assert (event, fields["kind"], fields["asked_by"]) == ("list_entry_added", "block", "ann (uid 7)")
    desk.clock.advance(60)
    assert desk.blocks.find("192.0.2.7") is None and desk.ask("list") == []


def test_a_block_of_a_rule_is_removed_by_any_address_in_it(desk: Desk) -> None:
    desk.blocks.begin("2001:db8:1:1::/64", 600, "too much", "rule connections")
    assert desk.ask("remove", values=["2001:db8:1:1::5"], dry_run=True)[0]["outcome"] == "removed"
    assert desk.blocks.find("2001:db8:1:1::9") is not None
    [row] = desk.ask("remove", values=["2001:db8:1:1::5"])
    assert (row["value"], row["outcome"], row["author"]) == ("2001:db8:1:1::/64", "removed", "rule connections")
    assert desk.blocks.find("2001:db8:1:1::9") is None
    assert desk.ask("remove", values=["2001:db8:1:1::5"])[0]["outcome"] == "absent"


@pytest.mark.parametrize(("verb", "gone"), [("remove", True), ("forget", False)])
def test_before_a_block_ends_what_was_counted_is_forgotten(desk: Desk, verb: str, gone: bool) -> None:
    desk.blocks.begin("2001:db8:1:1::/64", 600, "too much", "rule connections")
    desk.blocks.begin("192.0.2.7", 600, "too much", "rule connections")
    desk.ask(verb, values=["2001:db8:1:1::5", "192.0.2.7/32"], dry_run=True)
    assert desk.forgotten == []
    desk.ask(verb, values=["2001:db8:1:1::5", "192.0.2.7/32"])
    assert desk.forgotten == [({"2001:db8:1:1::/64", "192.0.2.7"}, True)]
    assert (desk.blocks.find("192.0.2.7") is None) is gone


def test_without_the_store_a_block_ends_all_the_same(desk: Desk) -> None:
    desk.failure = Unavailable("locked")
    desk.blocks.begin("192.0.2.7", 600, "too much", "rule connections")
    assert desk.ask("remove", values=["192.0.2.7"])[0]["outcome"] == "removed"
    assert desk.blocks.find("192.0.2.7") is None


def test_a_block_that_another_process_has_just_begun_can_be_removed(desk: Desk, tmp_path: Path) -> None:
    Desk(tmp_path).blocks.begin("192.0.2.7", 600, "too much", "rule connections")
    assert desk.ask("remove", values=["192.0.2.7"])[0]["outcome"] == "removed"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("add", {"values": ["nobody"]}),
        ("add", {"values": ["0.0.0.0/0"]}),
        ("add", {"values": []}),
        ("add", {"values": ["192.0.2.1"], "ticks": ["smtp"]}),
        ("add", {"values": ["192.0.2.1"], "kind": "whitelist"}),
        ("add", {"values": ["192.0.2.1"], "for": -1}),
        ("remove", {"values": [7]}),
        ("forget", {"values": "192.0.2.1"}),
        ("list", {"limit": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(desk: Desk, verb: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        desk.ask(verb, **arguments)
    assert desk.ask("list") == []


def test_there_is_no_other_verb(desk: Desk) -> None:
    assert desk.ask("keep") is None and desk.ask("look") == []
