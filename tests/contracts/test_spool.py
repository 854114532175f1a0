"""What every spool promises (ports.Spool): one suite, each store and the fake."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import Lines, TestClock, a_deposit, add, result
from fakes.spool import FakeSpool

from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, SpoolEntry, SpoolRecipient, State, Status
from inboundmx.ports import Damaged, StorageFull, Unavailable
from inboundmx.spool.sqlite import SqliteSpool
from inboundmx.storage.writer import InlineLane, ThreadLane, at_once


class Sqlite:
    """The real store on a real file. ``threads``: with its two threads, which hand back through a queue."""

    def __init__(self, folder: Path, threads: bool) -> None:
        self.data = str(folder)
        self.folder = str(folder / "spool" / "0")
        self.threads = threads
        self.calls: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.clock = TestClock()
        self.journal = Lines()
        self.open()

    def open(self) -> None:
        from_thread = (lambda *call: self.calls.put(call)) if self.threads else at_once
        self.spool: Any = SqliteSpool.open(
            self.folder,
            self.data,
            clock=self.clock,
            journal=self.journal,
            from_thread=from_thread,
            lane=ThreadLane if self.threads else (lambda name: InlineLane()),
        )

    def settle(self) -> None:
        """Until nothing is on its way; time passes so that what was to be soon has been."""
        self.clock.task.advance(0.25)
        while self.threads and not (self.spool._writer.idle and self.spool._reader.idle):
            call, *arguments = self.calls.get(timeout=30)
            call(*arguments)

    def fail(self, error: Exception | None) -> None:
        if error is None:
            self.spool._file.__dict__.pop("_commit", None)
        else:

            def refuse(changes: object) -> list[str]:
                raise error

            self.spool._file._commit = refuse

    def reopen(self) -> None:
        self.close()
        self.open()

    def close(self) -> None:
        closed = self.spool.close()
        while not closed.called:
            call, *arguments = self.calls.get(timeout=30)
            call(*arguments)
        assert result(closed) is None


class Fake:
    def __init__(self) -> None:
        self.spool: Any = FakeSpool(automatic=False)

    def settle(self) -> None:
        self.spool.sync()

    def fail(self, error: Unavailable | None) -> None:
        self.spool.failure = error

    def reopen(self) -> None:
        self.spool.sync()
        self.spool.crash()

    def close(self) -> None:
        pass


@pytest.fixture(params=["sqlite", "sqlite-threads", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = Fake() if request.param == "fake" else Sqlite(tmp_path, request.param == "sqlite-threads")
    yield made
    made.close()


def committed(store: Any, *changes: Change) -> list[Any]:
    waiting = [store.spool.commit(change) for change in changes]
    store.settle()
    return [result(deferred) for deferred in waiting]


def shown(store: Any) -> dict[str, SpoolEntry]:
    return {entry.id: entry for entry in store.spool.entries()}


def content(store: Any, id: str) -> Any:
    asked = store.spool.content(id)
    store.settle()
    return result(asked)


EVERY_FACT = a_deposit(
    "every0000001",
    body_id="shared000001",
    message_id="told00000001",
    sender=Address('"odd one"', "xn--bcher-kva.example"),
    recipients=(
        SpoolRecipient(Address("bücher", "here.example"), Status.DELIVERED, 2, "250 2.0.0 ok"),
        SpoolRecipient(Address("Postmaster", ""), Status.FAILED, 1, "550 5.1.1 \udcff no"),
        SpoolRecipient(Address("told", "here.example"), notify="SUCCESS,DELAY", original="rfc822;a+2Bb@here.example"),
        SpoolRecipient(Address("silent", "here.example"), notify="NEVER"),
        SpoolRecipient(Address("moved", "here.example"), original="utf-8;m\\x{FC}@here.example"),
    ),
    priority=9,
    state=State.QUARANTINED,
    cause="level high",
    attempts=3,
    slots_used=2,
    next_attempt_at=None,
    expires_at=1_700_009_999.125,
    eight_bit=True,
    utf8=True,
    may_notify=True,
    delay_notified=True,
    notice=True,
    level="high",
    peer_ip="2001:db8::1",
    hello="client.example",
    via="outbound",
    peer_name="mail.client.example",
    ret="HDRS",
    envid="QQ+2B314159",
)


def test_what_is_committed_is_shown_and_is_there_after_a_restart(store: Any) -> None:
    deposits = [a_deposit("aaaa00000001"), a_deposit("aaaa00000002", sender=None), EVERY_FACT]
    assert committed(store, *map(add, deposits)) == [None] * 3
    for _ in range(2):
        assert shown(store) == {d.entry.id: d.entry for d in deposits}
        assert [content(store, d.entry.id) for d in deposits] == [d.content for d in deposits]
        store.reopen()


def test_nothing_is_shown_before_it_is_committed(store: Any) -> None:
    waiting = store.spool.commit(add(a_deposit("aaaa00000001")))
    if not waiting.called:
        assert not store.spool.entries()
    store.settle()
    assert list(shown(store)) == ["aaaa00000001"]


def test_an_entry_is_updated(store: Any) -> None:
    deposit = a_deposit("aaaa00000001")
    committed(store, add(deposit))
    later = replace(deposit.entry, attempts=1, next_attempt_at=1_700_000_900.0, state=State.ACTIVE)
    assert committed(store, Change(update=(later,))) == [None]
    for _ in range(2):
        assert shown(store) == {later.id: later}
        assert content(store, later.id) == deposit.content
        store.reopen()


@pytest.mark.parametrize("soon", [False, True])
def test_an_entry_is_removed(store: Any, soon: bool) -> None:
    committed(store, add(a_deposit("aaaa00000001"), a_deposit("aaaa00000002")))
    if soon:
        store.spool.remove_soon("aaaa00000001")
        assert list(shown(store)) == ["aaaa00000002"]
        store.settle()
    else:
        assert committed(store, Change(remove=("aaaa00000001",))) == [None]
    for _ in range(2):
        assert list(shown(store)) == ["aaaa00000002"]
        assert store.spool.entry("aaaa00000001") is None
        assert isinstance(content(store, "aaaa00000001"), KeyError)
        store.reopen()


def test_removed_while_its_commit_is_out_it_does_not_come_back(store: Any) -> None:
    waiting = store.spool.commit(add(a_deposit("aaaa00000001")))
    store.spool.remove_soon("aaaa00000001")
    store.settle()
    assert result(waiting) is None
    assert not store.spool.entries()
    store.settle()
    store.reopen()
    assert not store.spool.entries()


def test_what_is_not_there_is_said_so(store: Any) -> None:
    assert store.spool.entry("zzzz00000009") is None
    assert isinstance(content(store, "zzzz00000009"), KeyError)
    assert committed(store, Change(update=(a_deposit("zzzz00000009").entry,), remove=("zzzz00000008",))) == [None]
    assert not store.spool.entries()


def test_a_body_stays_until_its_last_entry_goes(store: Any) -> None:
    first = a_deposit("aaaa00000001", body_id="body00000001")
    second = a_deposit("aaaa00000002", body_id="body00000001")
    committed(store, add(first, second))
    committed(store, Change(remove=("aaaa00000001",)))
    store.reopen()
    assert content(store, "aaaa00000002") == second.content
    # A third may join as long as one is left, in the very commit that removes it.
    third = a_deposit("aaaa00000003", body_id="body00000001")
    committed(store, Change(add=(third,), remove=("aaaa00000002",)))
    store.reopen()
    assert content(store, "aaaa00000003") == third.content


@pytest.mark.parametrize("error", [StorageFull("no room"), Unavailable("trouble")])
def test_new_mail_that_could_not_be_committed_is_forgotten(store: Any, error: Unavailable) -> None:
    store.fail(error)
    assert committed(store, add(a_deposit("aaaa00000001"))) == [error]
    assert not store.spool.entries()
    store.fail(None)
    assert committed(store, add(a_deposit("aaaa00000002"))) == [None]
    store.reopen()
    assert list(shown(store)) == ["aaaa00000002"]


def test_what_was_settled_is_remembered_until_it_can_be_written(store: Any) -> None:
    one, two, three = (a_deposit(f"aaaa0000000{n}") for n in (1, 2, 3))
    committed(store, add(one, two, three))
    store.fail(StorageFull("no room"))
    later = replace(two.entry, attempts=1, next_attempt_at=1_700_000_900.0)
    answers = committed(store, Change(remove=(one.entry.id,)), Change(update=(later,)))
    assert [type(answer) for answer in answers] == [StorageFull, StorageFull]
    store.spool.remove_soon(three.entry.id)
    store.settle()
    assert shown(store) == {later.id: later}
    store.fail(None)
    assert committed(store, add(a_deposit("aaaa00000004"))) == [None]
    store.reopen()
    assert set(shown(store)) == {later.id, "aaaa00000004"}
    assert store.spool.entry(later.id) == later


def test_a_notice_and_the_end_of_its_entry_are_one(store: Any) -> None:
    entry, notice = a_deposit("aaaa00000001"), a_deposit("bbbb00000001", sender=None, notice=True)
    committed(store, add(entry))
    store.fail(StorageFull("no room"))
    assert [type(a) for a in committed(store, Change(add=(notice,), remove=(entry.entry.id,)))] == [StorageFull]
    assert not store.spool.entries(), "it is settled, and not to be delivered again"
    store.fail(None)
    assert committed(store, Change()) == [None]
    for _ in range(2):
        assert shown(store) == {notice.entry.id: notice.entry}
        store.reopen()


def test_altered_content_is_never_handed_out(store: Any) -> None:
    committed(store, add(a_deposit("aaaa00000001"), a_deposit("aaaa00000002")))
    store.reopen()
    if isinstance(store, Fake):
        store.spool.damaged.add("aaaa00000001")
    else:
        store.spool._file._connection.execute("UPDATE body SET data = 'x' || substr(data, 2) WHERE id LIKE '%1'")
    assert isinstance(content(store, "aaaa00000001"), Damaged)
    assert isinstance(content(store, "aaaa00000002"), Content)


def test_free_octets_is_a_number_of_octets(store: Any) -> None:
    assert store.spool.free_octets() > 0
