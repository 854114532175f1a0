"""What tests of the real spool share: entries, a fake clock and journal, and a spool whose work is done at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as TaskClock

from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, SpoolRecipient
from inboundmx.model.message import Body
from inboundmx.spool.bodies import SpoolBodies
from inboundmx.spool.sqlite import SqliteSpool
from inboundmx.storage.writer import InlineLane, at_once

NOW = 1_700_000_000.0


def a_body(octets: bytes) -> Body:
    return Body(len(octets), octets, None, hashlib.sha256(octets).digest())


def a_deposit(id: str, body: bytes | Body = b"Subject: x\r\n\r\nbody\r\n", body_id: str = "", **facts: Any) -> Deposit:
    stored = body if isinstance(body, Body) else a_body(body)
    entry = SpoolEntry(
        id=id,
        message_id=id,
        body_id=body_id or id,
        received_at=NOW + 0.25,
        sender=Address("alice", "sender.example"),
        recipients=(SpoolRecipient(Address("bob", "here.example")),),
        size=stored.size,
        domain="here.example",
        next_attempt_at=NOW + 0.5,
    )
    return Deposit(replace(entry, **facts), Content(b"Received: by us\r\n", 0, stored))


def add(*deposits: Deposit) -> Change:
    return Change(add=deposits)


def result(deferred: Deferred[Any]) -> Any:
    """What it fired with; its failure is returned as an exception."""
    got: list[Any] = []
    deferred.addCallbacks(got.append, lambda failure: got.append(failure.value))
    assert got, "it has not fired"
    return got[0]


class _Timer:
    def __init__(self, call: Any) -> None:
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


class TestClock:
    """ports.Clock over Twisted's test clock. ``jump`` moves the wall clock alone."""

    __test__ = False

    def __init__(self) -> None:
        self.task = TaskClock()
        self._jumped = 0.0

    def now(self) -> float:
        return NOW + self._jumped + self.monotonic()

    def jump(self, seconds: float) -> None:
        self._jumped += seconds

    def monotonic(self) -> float:
        return float(self.task.seconds())

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> _Timer:
        return _Timer(self.task.callLater(seconds, call, *arguments))


class Lines:
    """ports.Journal that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any], str]] = []

    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        self.events.append((event, dict(fields), level))

    @property
    def names(self) -> list[str]:
        return [event for event, _, _ in self.events]


class Custody:
    """A data folder with one worker's spool, opened as often as a test likes."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = data / "spool" / "0"
        self.clock = TestClock()
        self.journal = Lines()
        self.spool: SqliteSpool

    def open(self, **how: Any) -> SqliteSpool:
        """``how``: further arguments of SqliteSpool.open."""
        self.spool = SqliteSpool.open(
            str(self.folder),
            str(self.data),
            clock=self.clock,
            journal=self.journal,
            from_thread=at_once,
            lane=lambda name: InlineLane(),
            **how,
        )
        return self.spool

    def reopen(self) -> SqliteSpool:
        self.close()
        return self.open()

    def close(self) -> None:
        assert result(self.spool.close()) is None

    def commit(self, *changes: Change) -> list[Any]:
        return [result(deferred) for deferred in [self.spool.commit(change) for change in changes]]

    def content(self, id: str) -> Any:
        """As it is on the disk, not from what is kept in memory for a while."""
        self.spool._fresh.clear()
        return result(self.spool.content(id))

    def large(self, id: str, octets: bytes) -> Body:
        draft = SpoolBodies(str(self.folder), str(self.data)).draft(id)
        for at in range(0, len(octets), 65536):
            draft.write(octets[at : at + 65536])
        return draft.finish()

    @property
    def ids(self) -> list[str]:
        return sorted(entry.id for entry in self.spool.entries())

    def files(self, of: str = "bodies") -> list[str]:
        return sorted(path.name for path in (self.folder / of).iterdir())
