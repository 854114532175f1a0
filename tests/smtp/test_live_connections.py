"""What operators may ask of connections that are open."""

from __future__ import annotations

from typing import Any

import pytest
from conversation_fake import Server
from fakes.clock import FakeClock
from fakes.journal import FakeJournal

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.connection_operations import ConnectionOperations
from inboundmx.prompt import promptly


def answer(noun: Any, verb: str, **arguments: Any) -> Any:
    got: list[Any] = []
    promptly(noun.perform(verb, arguments, "ann (uid 7)"), got.append, lambda failure: failure.raiseException())
    return got[0]


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
