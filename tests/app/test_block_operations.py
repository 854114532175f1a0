"""What operators may ask of blocks and of connections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conversation_fake import Server
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from twisted.internet.defer import maybeDeferred

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.block_operations import BlockOperations
from inboundmx.app.connection_operations import ConnectionOperations
from inboundmx.intake.blocking import Blocks
from inboundmx.intake.live_lists import LiveLists
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
        self.noun = BlockOperations(self.kept, self.journal, self.clock, self.blocks)

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
        ("list", {"limit": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(desk: Desk, verb: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        desk.ask(verb, **arguments)
    assert desk.ask("list") == []


def test_there_is_no_other_verb(desk: Desk) -> None:
    assert desk.ask("keep") is None and desk.ask("look") == []


class Room:
    """Connections of strangers, and what may be asked of them."""

    def __init__(self) -> None:
        self.server = Server()
        self.journal: Any = FakeJournal()
        clock: Any = FakeClock()
        self.noun = ConnectionOperations(self.server.factory, 3, self.journal, clock)

    def ask(self, verb: str, **arguments: Any) -> Any:
        return answer(self.noun, verb, **arguments)


def test_connections_are_told_with_how_far_they_are() -> None:
    room = Room()
    client = room.server.connect()
    [row] = room.ask("list")
    assert row == {
        "id": "id0123456789", "address": "192.0.2.7", "name": None, "helo": None, "tls": None, "user": None,
        "since_at": 0.0, "stage": "greeting", "messages": 0, "worker": "3",
    }  # fmt: skip
    stages = []
    for said in (b"EHLO x.example\r\n", b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n", b"DATA\r\n", b"x\r\n.\r\n"):
        client.say(said)
        [row] = room.ask("list")
        stages.append((row["stage"], row["messages"]))
    assert stages == [("hello", 0), ("mail", 0), ("content", 0), ("hello", 1)]
    client.say(b"QUIT\r\n")
    assert room.ask("list") == []


@pytest.mark.parametrize("which", [{"ids": ["id0123456789"]}, {"address": "192.0.2.0/24"}, {"address": "192.0.2.7"}])
def test_a_connection_is_ended(which: dict[str, Any]) -> None:
    room = Room()
    client = room.server.connect()
    client.heard()
    assert [row["id"] for row in room.ask("end", **which)] == ["id0123456789"]
    assert client.heard().startswith(b"421 4.3.2 An operator has ended this connection")
    assert room.journal.named("connection_ended") == [("connection_ended", "id0123456789")]
    assert room.ask("end", **which) == []


@pytest.mark.parametrize("which", [{}, {"ids": ["a"], "address": "192.0.2.1"}, {"address": "x"}, {"ids": [1]}])
def test_which_connections_must_be_said(which: dict[str, Any]) -> None:
    room = Room()
    room.server.connect()
    with pytest.raises(NotUnderstood):
        room.ask("end", **which)
    assert room.ask("end", address="192.0.2.8") == [] and len(room.ask("list")) == 1
