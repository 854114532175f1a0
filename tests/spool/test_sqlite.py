"""The spool on its file: large bodies, batches, full disks, failed syncs, damage, locks."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import NOW, Custody, a_deposit, add, result
from requiring import impossible

from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, SpoolRecipient, State, Status
from inboundmx.model.message import SMALL_BODY
from inboundmx.ports import Damaged, StorageFull, Unavailable
from inboundmx.spool import schema
from inboundmx.spool.file import Elsewhere, SpoolFile
from inboundmx.spool.locking import Locked
from inboundmx.spool.sqlite import (
    FRESH_OCTETS,
    FRESH_SECONDS,
    REMOVE_AT_ONCE,
    REMOVE_TOGETHER,
    TROUBLE_SECONDS,
    WAITING_CHANGES,
)

LARGE = os.urandom(SMALL_BODY + 77)


@pytest.fixture
def custody(tmp_path: Path) -> Iterator[Custody]:
    custody = Custody(tmp_path / "data")
    custody.open()
    yield custody
    if not custody.spool._closing:
        custody.close()


def raw(custody: Custody) -> sqlite3.Connection:
    connection = custody.spool._file._connection
    assert connection is not None
    return connection


def an_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    return error


# --- large bodies -----------------------------------------------------------------------------------------------------


def test_a_large_body_is_moved_before_its_row_is_committed_and_goes_with_it(custody: Custody) -> None:
    body = custody.large("large0000001", LARGE)
    assert custody.commit(add(a_deposit("large0000001", body))) == [None]
    for _ in range(2):
        assert (custody.files(), custody.files("incoming")) == (["large0000001"], [])
        content = custody.content("large0000001")
        assert (content.body.path, content.body.head) == ("spool/0/bodies/large0000001", LARGE[:SMALL_BODY])
        assert (custody.data / content.body.path).read_bytes() == LARGE
        custody.reopen()
    custody.commit(Change(remove=("large0000001",)))
    assert custody.files() == []


def test_a_large_body_is_shared(custody: Custody) -> None:
    body = custody.large("large0000001", LARGE)
    one, two = (a_deposit(f"entry000000{n}", body, body_id="large0000001") for n in (1, 2))
    custody.commit(add(one, two))
    custody.commit(Change(remove=(one.entry.id,)))
    assert custody.files() == ["large0000001"]
    # What was stored may be deposited anew, from where it is.
    three = a_deposit("entry0000003", custody.content(two.entry.id).body, body_id="large0000001")
    assert custody.commit(Change(add=(three,), remove=(two.entry.id,))) == [None]
    assert custody.content("entry0000003").body.path == "spool/0/bodies/large0000001"
    custody.spool.remove_soon("entry0000003")
    custody.clock.task.advance(0.3)
    assert custody.files() == []


def test_a_large_body_that_was_not_committed_is_its_drafts_again(custody: Custody) -> None:
    body = custody.large("large0000001", LARGE)
    raw(custody).execute("PRAGMA max_page_count=1")
    small = a_deposit("small0000001", os.urandom(200_000))
    assert [type(a) for a in custody.commit(add(a_deposit("large0000001", body), small))] == [StorageFull]
    assert (custody.files(), custody.files("incoming")) == ([], ["large0000001"])


def test_a_body_that_was_discarded_meanwhile_harms_nobody_else(custody: Custody) -> None:
    body = custody.large("large0000001", LARGE)
    os.unlink(custody.data / str(body.path))
    custody.spool._writer._out = True  # so that both are in one batch
    lost = custody.spool.commit(add(a_deposit("large0000001", body)))
    good = custody.spool.commit(add(a_deposit("good00000001")))
    custody.spool._writer._out = False
    custody.spool._writer.wake()
    assert isinstance(result(lost), Unavailable)
    assert result(good) is None
    assert custody.reopen().entry("good00000001") is not None


@pytest.mark.parametrize("harm", ["alter", "shorten", "remove", "folder"])
def test_a_damaged_file_is_never_handed_out(custody: Custody, harm: str) -> None:
    custody.commit(add(a_deposit("large0000001", custody.large("large0000001", LARGE))))
    path = custody.folder / "bodies" / "large0000001"
    if harm == "alter":
        path.write_bytes(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
    elif harm == "shorten":
        os.truncate(path, len(LARGE) - 1)
    else:
        path.unlink()
        if harm == "folder":
            path.mkdir()
    assert isinstance(custody.content("large0000001"), Damaged)
    held = replace(custody.spool.entry("large0000001"), state=State.HELD, next_attempt_at=None)  # type: ignore[type-var]
    assert custody.commit(Change(update=(held,))) == [None], "it can be parked"
    assert custody.reopen().entry("large0000001") == held


def test_a_changed_prefix_is_found_out(custody: Custody) -> None:
    custody.commit(add(a_deposit("small0000001")))
    raw(custody).execute("UPDATE entry SET prefix = ?", (b"Received: by them\r\n",))
    assert isinstance(custody.content("small0000001"), Damaged)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_what_collects_while_a_batch_is_out_is_one_transaction(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    raw(custody).set_trace_callback(statements.append)
    jobs: list[Any] = []
    monkeypatch.setattr(custody.spool._writer, "_lane", jobs.append)
    waiting = [custody.spool.commit(add(a_deposit(f"entry{n:07}"))) for n in range(100)]
    assert len(jobs) == 1
    jobs.pop()()
    assert [d.called for d in waiting] == [True] + [False] * 99
    jobs.pop()()
    assert all(d.called for d in waiting)
    assert not jobs
    monkeypatch.undo()
    assert statements.count("COMMIT") == 2


def test_removals_ride_with_a_commit_or_go_within_200_milliseconds(custody: Custody) -> None:
    count = REMOVE_TOGETHER + 5
    custody.commit(add(*(a_deposit(f"entry{n:07}") for n in range(count))))
    statements: list[str] = []
    raw(custody).set_trace_callback(statements.append)
    for n in range(REMOVE_TOGETHER):
        custody.spool.remove_soon(f"entry{n:07}")
        assert statements == []
        if n == REMOVE_TOGETHER - 2:
            # So few are not worth the work yet.
            custody.commit(add(a_deposit("another00001")))
            assert [s for s in statements if s.startswith("DELETE")] == []
            statements.clear()
    custody.commit(add(a_deposit("another00002")))
    assert statements.count("COMMIT") == 1
    assert len([s for s in statements if s.startswith("DELETE FROM entry")]) == 1
    for n in range(REMOVE_TOGETHER, count):
        custody.spool.remove_soon(f"entry{n:07}")
    custody.clock.task.advance(0.2)
    assert statements.count("COMMIT") == 2
    custody.reopen()
    assert custody.ids == ["another00001", "another00002"]


def test_many_removals_wait_for_nobody(custody: Custody) -> None:
    custody.commit(add(*(a_deposit(f"entry{n:07}") for n in range(REMOVE_AT_ONCE + 1))))
    statements: list[str] = []
    raw(custody).set_trace_callback(statements.append)
    for n in range(REMOVE_AT_ONCE):
        assert statements == []
        custody.spool.remove_soon(f"entry{n:07}")
    assert statements.count("COMMIT") == 1
    custody.reopen()
    assert custody.ids == [f"entry{REMOVE_AT_ONCE:07}"]


def test_what_waits_is_bounded(custody: Custody, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Any] = []
    monkeypatch.setattr(custody.spool._writer, "_lane", jobs.append)
    waiting = [custody.spool.commit(Change()) for _ in range(WAITING_CHANGES + 1)]
    assert not any(d.called for d in waiting)
    assert isinstance(result(custody.spool.commit(Change())), Unavailable)
    while jobs:
        jobs.pop(0)()
    monkeypatch.undo()
    assert all(d.called for d in waiting)


def test_what_was_just_committed_need_not_be_read_but_only_so_much_of_it(custody: Custody) -> None:
    octets = bytes(100_000)
    for n in range(60):
        custody.commit(add(a_deposit(f"entry{n:07}", octets)))
    assert FRESH_OCTETS / 2 < custody.spool._fresh_octets <= FRESH_OCTETS
    assert result(custody.spool.content("entry0000000")) == a_deposit("entry0000000", octets).content
    for n in range(60):
        custody.spool.remove_soon(f"entry{n:07}")
    assert (custody.spool._fresh_octets, custody.spool._fresh) == (0, {})


def test_what_waits_for_leisure_is_written_and_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    custody, leisure = Custody(tmp_path / "data"), list[Any]()
    spool = custody.open(at_leisure=leisure.append)
    batches: list[int] = []
    execute = SpoolFile.execute
    monkeypatch.setattr(
        SpoolFile, "execute", lambda self, batch: batches.append(len(batch.changes)) or execute(self, batch)
    )
    deposits = [a_deposit(f"entry{n:07}") for n in range(3)]
    written = [spool.commit(add(deposit)) for deposit in deposits]
    assert custody.ids == []
    assert not any(each.called for each in written), "nothing is promised before it is on the disk"
    leisure.pop()()
    assert [result(each) for each in written] == [None] * 3
    assert batches == [3]
    leisure.clear()
    spool._fresh.clear()
    read = [spool.content(deposit.entry.id) for deposit in deposits]
    assert not any(each.called for each in read)
    leisure.pop(0)()
    assert [result(each) for each in read] == [deposit.content for deposit in deposits]
    # Closing waits for no leisure.
    last = spool.commit(add(a_deposit("entry0000009")))
    custody.close()
    assert result(last) is None
    assert custody.open().entry("entry0000009") is not None
    custody.close()


def test_the_content_of_what_has_to_wait_is_not_kept_in_memory(custody: Custody) -> None:
    one, two = a_deposit("entry0000001"), a_deposit("entry0000002")
    custody.commit(add(one, two))
    assert set(custody.spool._fresh) == {"entry0000001", "entry0000002"}
    custody.commit(Change(update=(replace(one.entry, attempts=1),)))
    assert set(custody.spool._fresh) == {"entry0000002"}
    custody.clock.task.advance(FRESH_SECONDS)
    assert (custody.spool._fresh_octets, custody.spool._fresh) == (0, {})
    assert result(custody.spool.content("entry0000002")) == two.content


def test_what_many_entries_say_is_in_memory_once(custody: Custody) -> None:
    """However they came: each connection, and each attempt, makes strings of its own."""

    def own(text: str) -> str:
        return "".join([*text])

    for n in range(2):
        recipient = SpoolRecipient(Address("bob", own("here.example")), last_reply=own("451 4.4.1 no connection"))
        custody.commit(
            add(a_deposit(f"entry{n:07}", hello=own("a.client.example"), recipients=(recipient,), domain=own("b.c")))
        )
    # What is delivered at once does not come to that.
    custody.clock.task.advance(FRESH_SECONDS)
    for again in range(3):
        one, two = custody.spool.entries()
        assert one.recipients[0] is two.recipients[0]
        assert (one.hello is two.hello, one.sender is two.sender, one.domain is two.domain) == (True, True, True)
        if again:
            custody.reopen()
        else:
            later = [replace(entry, recipients=(replace(entry.recipients[0], last_reply=own("452 full")),))
                     for entry in (one, two)]  # fmt: skip
            custody.commit(Change(update=tuple(later)))


def test_what_waits_takes_less_than_seven_hundred_octets(custody: Custody) -> None:
    """An entry with everything that usual mail has, but for what it shares; senders are all different."""
    count = 1000
    for start in range(0, count, 100):
        custody.commit(add(*(
            a_deposit(
                f"entry{n:010}", sender=Address(f"newsletter-{n}", f"sender{n % 20}.example"), attempts=3,
                recipients=(SpoolRecipient(Address(f"user{n % 50}", "here.example"), Status.PENDING, 3, "451 later"),),
                received_at=NOW + n / 7, next_attempt_at=NOW + n / 3, hello=f"mail{n % 20}.sender.example",
            )
            for n in range(start, start + 100)
        )))  # fmt: skip
    seen: set[int] = set()
    octets = sum(deep_size(entry, seen) for entry in custody.spool.entries()) / count
    assert octets + sys.getsizeof(custody.spool._index) / count < 700


def deep_size(value: object, seen: set[int]) -> int:
    """Of all that is reached from ``value`` and was not seen before. What Python keeps anyway is not counted."""
    if id(value) in seen or isinstance(value, State | Status | bool | None) or (type(value) is int and value < 257):
        return 0
    seen.add(id(value))
    inside = value if isinstance(value, tuple) else [getattr(value, name) for name in getattr(value, "__slots__", ())]
    return sys.getsizeof(value) + sum(deep_size(each, seen) for each in inside)


def test_room_is_given_back_when_idle(custody: Custody) -> None:
    custody.commit(add(*(a_deposit(f"entry{n:07}", os.urandom(200_000)) for n in range(40))))
    custody.commit(Change(remove=tuple(custody.ids)))
    path = Path(custody.spool._file.path)
    for _ in range(6):
        custody.clock.task.advance(5)
    assert path.stat().st_size < 5_000_000
    assert custody.clock.task.getDelayedCalls() == []


def test_closing_writes_what_waits_and_leaves_one_file(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001"), a_deposit("entry0000002")))
    custody.spool.remove_soon("entry0000001")
    custody.close()
    assert custody.clock.task.getDelayedCalls() == []
    assert sorted(os.listdir(custody.folder)) == ["bodies", "incoming", "lock", "reserve", "spool.sqlite"]
    assert isinstance(result(custody.spool.commit(Change())), Unavailable)
    custody.open()
    assert custody.ids == ["entry0000002"]


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_trouble_is_told_while_it_is_fresh(custody: Custody) -> None:
    raw(custody).execute("PRAGMA max_page_count=1")
    big = add(a_deposit("entry0000002", os.urandom(200_000)))
    custody.commit(big)
    assert custody.spool.trouble == "disk-full"
    custody.clock.task.advance(60)
    assert custody.spool.trouble == "", "nobody may send again what would show that all is well"
    custody.commit(big)
    assert custody.spool.trouble == "disk-full"
    raw(custody).execute("PRAGMA max_page_count=1000000")
    assert custody.commit(big) == [None]
    assert custody.spool.trouble == ""


def test_a_full_file_is_said_once_and_stays_good(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    raw(custody).execute("PRAGMA max_page_count=1")
    big = a_deposit("entry0000002", os.urandom(200_000))
    for _ in range(3):
        assert [type(a) for a in custody.commit(add(big))] == [StorageFull]
    assert custody.journal.names == ["disk_full"]
    assert custody.commit(Change(remove=("entry0000001",))) == [None], "what leaves needs no room"
    raw(custody).execute("PRAGMA max_page_count=1000000")
    assert custody.commit(add(big)) == [None]
    assert custody.journal.names == ["disk_full", "disk_room"]
    custody.reopen()
    assert custody.ids == ["entry0000002"]


def test_what_is_owed_does_not_undo_what_a_full_disk_let_through_meanwhile(custody: Custody) -> None:
    """A notice has no room and is owed with the entry it speaks of; what became of that entry later had room."""
    custody.commit(add(a_deposit("entry0000001")))
    custody.commit(add(a_deposit("entry0000002")))
    raw(custody).execute("PRAGMA max_page_count=1")
    one, two = map(custody.spool.entry, ("entry0000001", "entry0000002"))
    big = a_deposit("notice000001", os.urandom(200_000))
    assert [type(a) for a in custody.commit(Change((big,), (replace(one, attempts=1), replace(two, attempts=1))))] == [
        StorageFull
    ]
    assert custody.commit(Change(update=(replace(one, attempts=2),))) == [None]
    raw(custody).execute("PRAGMA max_page_count=1000000")
    custody.clock.task.advance(5)
    custody.reopen()
    assert custody.ids == ["entry0000001", "entry0000002", "notice000001"]
    assert [custody.spool.entry(id).attempts for id in custody.ids] == [2, 1, 0]


@pytest.mark.root
def test_a_really_full_disk_lets_mail_out_and_takes_new_mail_when_there_is_room(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)], capture_output=True)
    if mounted.returncode:
        impossible(f"cannot mount: {mounted.stderr.decode()}")
    try:
        custody = Custody(data)
        custody.open()
        answers = []
        kept = {}
        for n in range(130):
            deposit = a_deposit(f"entry{n:07}", random.Random(n).randbytes(200_000))
            (answer,) = custody.commit(add(deposit))
            answers.append(type(answer))
            if answer is None:
                kept[deposit.entry.id] = deposit.content
        assert set(answers) == {type(None), StorageFull}
        assert set(answers[answers.index(StorageFull) :]) == {StorageFull}, "no flapping"
        with pytest.raises(StorageFull):
            custody.large("large0000001", bytes(24 * 1024 * 1024))
        assert {id: custody.content(id) for id in custody.ids} == kept
        # Nobody else makes room, and still what goes out is not only remembered: a kill would not bring it back.
        later = replace(custody.spool.entries()[-1], attempts=1)
        assert custody.commit(Change(update=(later,))) == [None]
        for id in list(kept)[:-1]:
            custody.spool.remove_soon(id)
            custody.clock.task.advance(0.3)
            del kept[id]
        assert not custody.spool._owed_entries
        for _ in range(30):
            custody.clock.task.advance(5)
        assert custody.commit(add(a_deposit("after0000001", bytes(100_000)))) == [None]
        assert 0 < custody.spool.free_octets() < 24 * 1024 * 1024
        custody.reopen()
        assert custody.ids == sorted([*kept, "after0000001"])
        assert custody.spool.entry(later.id) == later
        assert custody.journal.names == ["disk_full", "disk_room"]
        custody.close()
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


def test_a_full_disk_does_not_keep_us_from_starting_for_opening_writes_nothing(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    log = Path(f"{custody.spool._file.path}-wal")
    before = log.read_bytes()
    assert before
    with contextlib.closing(schema.connect(custody.spool._file.path)) as other:
        assert other.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert log.read_bytes() == before


def test_no_room_to_open_is_told_with_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: SpoolFile, notes: object, **how: object) -> list[object]:
        raise StorageFull("no room on the disk")

    monkeypatch.setattr(SpoolFile, "open", refuse)
    with pytest.raises(StorageFull, match=f"no room on the disk for the spool {tmp_path}/data/spool/0: make some"):
        Custody(tmp_path / "data").open()


def test_a_program_that_locks_the_file_costs_a_while_and_no_file(custody: Custody) -> None:
    raw(custody).execute("PRAGMA busy_timeout=1")
    with contextlib.closing(sqlite3.connect(custody.spool._file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert [type(a).__name__ for a in custody.commit(add(a_deposit("entry0000001")))] == ["Busy"]
    assert custody.commit(add(a_deposit("entry0000002"))) == [None]
    assert custody.journal.names == []


# --- a disk that fails ------------------------------------------------------------------------------------------------


def break_commits(custody: Custody, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(self: SpoolFile, connection: object, changes: object, kept: object) -> list[str]:
        raise an_error(code)

    monkeypatch.setattr(SpoolFile, "_write", refuse)


def test_a_failed_sync_condemns_the_file_and_its_mail_goes_on_in_a_new_one(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = a_deposit("small0000001"), a_deposit("large0000001", custody.large("large0000001", LARGE))
    custody.commit(add(small, large))
    with monkeypatch.context() as patch:
        break_commits(custody, patch, sqlite3.SQLITE_IOERR_FSYNC)
        (answer,) = custody.commit(add(a_deposit("refused00001")))
        assert isinstance(answer, Unavailable)
        assert not isinstance(answer, StorageFull)
    assert custody.content(small.entry.id) == small.content, "it can still be read"
    assert custody.commit(add(a_deposit("after0000001"))) == [None]
    assert custody.journal.names == ["spool_condemned", "spool_condemned"]
    assert all(level == "error" for _, _, level in custody.journal.events)
    assert custody.journal.events[-1][1]["recovered"] == 2
    for _ in range(2):
        assert custody.ids == ["after0000001", "large0000001", "small0000001"]
        assert custody.content(small.entry.id) == small.content
        assert isinstance(custody.content(large.entry.id), Content)
        custody.reopen()
    names = os.listdir(custody.folder)
    assert "spool-2.sqlite" in names
    assert f"spool.sqlite.condemned-{int(NOW)}" in names
    assert "spool.sqlite" not in names


def test_a_large_body_that_the_disk_fails_is_told_once_in_a_while(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for number in range(4):
        large = custody.large(f"large000000{number}", LARGE)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            (answer,) = custody.commit(add(a_deposit(f"large000000{number}", large)))
        assert type(answer) is Unavailable
        custody.clock.task.advance(TROUBLE_SECONDS if number == 2 else 1)
    assert custody.journal.names == ["disk_fails", "disk_fails"]
    assert custody.journal.events[0][1]["what"] == f"{custody.folder}: Input/output error"
    gone = custody.large("large0000009", LARGE)
    custody.clock.task.advance(TROUBLE_SECONDS)
    (custody.data / str(gone.path)).unlink()
    assert type(custody.commit(add(a_deposit("large0000009", gone)))[0]) is Unavailable
    assert len(custody.journal.names) == 2, "that was its sender's doing"


def test_a_file_that_lost_its_name_takes_no_mail_until_it_has_it_again(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    away = custody.folder.with_name("away")
    for harm in ("moved", "replaced"):
        custody.folder.rename(away)
        if harm == "replaced":
            shutil.copytree(away, custody.folder)
        (answer,) = custody.commit(add(a_deposit("entry0000002")))
        assert type(answer) is Elsewhere
        assert custody.spool.trouble == "disk-fails"
        custody.clock.task.advance(1)
        assert custody.spool.free_octets() > 0, "there is room, and whoever asks hears what is really wrong"
        if harm == "replaced":
            shutil.rmtree(custody.folder)
        away.rename(custody.folder)
    assert custody.commit(add(a_deposit("entry0000003"))) == [None]
    assert custody.journal.names == ["disk_fails"]
    assert str(custody.journal.events[0][1]["what"]).endswith("was moved or removed, or its folder was")
    custody.reopen()
    assert custody.ids == ["entry0000001", "entry0000003"]


def test_while_no_new_file_can_be_made_mail_is_refused_and_the_disk_left_in_peace(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    custody.commit(add(a_deposit("entry0000001"), a_deposit("entry0000002")))
    tries: list[int] = []

    def begin(folder: str, generation: int, fill: object) -> str:
        tries.append(generation)
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "begin", begin)
        with monkeypatch.context() as inner:
            break_commits(custody, inner, sqlite3.SQLITE_READONLY)
            custody.commit(Change())
        for _ in range(3):
            assert [type(a).__name__ for a in custody.commit(add(a_deposit("refused00001")))] == ["Condemned"]
        assert tries == [2]
        custody.spool.remove_soon("entry0000001")
        custody.clock.task.advance(6)
        assert len(tries) == 2
        assert custody.ids == ["entry0000002"]
        assert isinstance(custody.content("entry0000002"), Content)
    custody.clock.task.pump([1] * 6)
    custody.reopen()
    assert custody.ids == ["entry0000002"]


def test_condemned_and_closed_it_is_read_again_at_the_next_start(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "begin", lambda *a: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
        break_commits(custody, patch, sqlite3.SQLITE_IOERR_FSYNC)
        custody.commit(add(a_deposit("refused00001")))
        custody.close()
    assert (custody.folder / "spool.sqlite-wal").stat().st_size > 0, "it was not checkpointed"
    custody.open()
    assert custody.ids == ["entry0000001"]


# --- damage found at the start ----------------------------------------------------------------------------------------


def test_an_empty_file_is_set_aside(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    custody.close()
    os.truncate(custody.folder / "spool.sqlite", 0)
    custody.open()
    assert custody.ids == []
    assert custody.journal.names == ["spool_damaged"]
    assert custody.commit(add(a_deposit("entry0000002"))) == [None]
    custody.reopen()
    assert custody.ids == ["entry0000002"]
    assert custody.journal.names == ["spool_damaged"], "reported once"
    assert f"spool.sqlite.damaged-{int(NOW)}" in os.listdir(custody.folder)


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed spool with sixty entries, every tenth of them large."""
    custody = Custody(tmp_path_factory.mktemp("sixty"))
    custody.open()
    for n in range(60):
        octets = random.Random(n).randbytes(SMALL_BODY + 9 if n % 10 == 0 else 5000)
        id = f"entry{n:07}"
        custody.commit(add(a_deposit(id, custody.large(id, octets) if n % 10 == 0 else octets)))
    custody.close()
    return custody.data


def damaged_copy(sixty: Path, target: Path, harm: Any) -> Custody:
    shutil.copytree(sixty, target)
    custody = Custody(target)
    harm(custody.folder / "spool.sqlite")
    custody.open()
    return custody


def check_damaged(custody: Custody) -> tuple[int, int]:
    """How many entries are there, and how many can be handed out; those are as they were."""
    good = 0
    for id in custody.ids:
        content = custody.content(id)
        n = int(id[5:])
        if isinstance(content, Content):
            good += 1
            octets = random.Random(n).randbytes(SMALL_BODY + 9 if n % 10 == 0 else 5000)
            assert content.body.head == octets[:SMALL_BODY]
            assert content.prefix == b"Received: by us\r\n"
        else:
            assert isinstance(content, Damaged)
        size = SMALL_BODY + 9 if n % 10 == 0 else 5000
        assert custody.spool.entry(id) == replace(a_deposit(id).entry, size=size)
    return len(custody.ids), good


@pytest.mark.parametrize("seed", range(8))
def test_flipped_octets_lose_no_more_than_they_hit(sixty: Path, tmp_path: Path, seed: int) -> None:
    def flip(path: Path) -> None:
        chance = random.Random(seed)
        octets = bytearray(path.read_bytes())
        for _ in range(12):
            octets[chance.randrange(4096, len(octets))] ^= 1 << chance.randrange(8)
        path.write_bytes(octets)

    custody = damaged_copy(sixty, tmp_path / "d", flip)
    entries, good = check_damaged(custody)
    assert entries >= 35, "a page of entries holds a few of them"
    assert good >= entries - 12
    # Mail goes on, whatever is found damaged only now.
    assert any(custody.commit(add(a_deposit(f"new{n:09}")))[0] is None for n in range(3))
    custody.commit(Change(remove=tuple(custody.ids)))
    custody.reopen()
    custody.close()


def test_names_that_are_no_text_any_more_are_left_behind(sixty: Path, tmp_path: Path) -> None:
    def harm(path: Path) -> None:
        octets = path.read_bytes()
        for name in (b"entry0000007", b"spool/0/bodies/entry0000010", b"CREATE TABLE [body]"):
            octets = octets.replace(name, bytes([octets[0] | 0x80]) * 2 + name[2:])
        path.write_bytes(octets)

    custody = damaged_copy(sixty, tmp_path / "d", harm)
    check_damaged(custody)
    assert custody.commit(add(a_deposit("new000000001"))) == [None]
    custody.close()


@pytest.mark.parametrize("tenths", range(1, 10, 2))
def test_a_shortened_file_is_read_as_far_as_it_goes(sixty: Path, tmp_path: Path, tenths: int) -> None:
    custody = damaged_copy(sixty, tmp_path / "d", lambda path: os.truncate(path, path.stat().st_size * tenths // 10))
    check_damaged(custody)
    assert custody.commit(add(a_deposit("new000000001"))) == [None]
    assert set(custody.journal.names) == {"spool_damaged"}
    assert custody.files(), "bodies whose rows may be lost are kept"
    custody.reopen()
    assert "new000000001" in custody.ids
    custody.close()


def test_a_file_that_is_no_database_is_set_aside(sixty: Path, tmp_path: Path) -> None:
    custody = damaged_copy(sixty, tmp_path / "d", lambda path: path.write_bytes(os.urandom(9999)))
    assert custody.ids == []
    assert custody.journal.names == ["spool_damaged"]
    assert len(custody.files()) == 6
    assert custody.commit(add(a_deposit("new000000001"))) == [None]
    custody.close()


def test_damage_met_while_working_condemns_the_file_and_keeps_the_readable(sixty: Path, tmp_path: Path) -> None:
    def harm(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'body'").fetchone()
        with open(path, "r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(os.urandom(100))

    custody = damaged_copy(sixty, tmp_path / "d", harm)
    assert len(custody.ids) == 60
    answers = [custody.commit(add(a_deposit(f"new{n:09}")))[0] for n in range(3)]
    assert answers[-1] is None
    assert "spool_condemned" in custody.journal.names
    assert len(custody.ids) >= 61
    assert isinstance(custody.content("entry0000001"), Damaged), "its body is gone, and it is parked, not forgotten"
    custody.reopen()
    assert "entry0000001" in custody.ids
    custody.close()


# --- starting ---------------------------------------------------------------------------------------------------------


def test_a_newer_file_is_refused_untouched(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    raw(custody).execute(f"PRAGMA user_version={schema.VERSION + 1}")
    custody.close()
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in custody.folder.glob("spool*")}
    with pytest.raises(schema.Newer, match="newer release"):
        custody.open()
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in custody.folder.glob("spool*")}
    assert after == before
    with contextlib.closing(sqlite3.connect(custody.folder / "spool.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version={schema.VERSION}")
    custody.open()
    assert custody.ids == ["entry0000001"], "and the lock was let go"


def test_a_second_holder_is_refused_with_a_sentence(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    other = Custody(custody.data)
    with pytest.raises(Locked, match=f"in use by process {os.getpid()}"):
        other.open()
    custody.close()
    other.open()
    assert other.ids == ["entry0000001"]
    other.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    with pytest.raises(Unavailable, match=str(tmp_path)):
        Custody(tmp_path).open()


@pytest.mark.root
def test_a_command_run_as_root_leaves_nothing_that_the_gateways_user_cannot_open(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    custody.close()
    os.chown(custody.folder, 4242, 4243)
    custody.open()
    for name in os.listdir(custody.folder):
        found = os.stat(custody.folder / name)
        assert (found.st_uid, found.st_gid) == (4242, 4243), name


def test_a_file_without_permissions_is_ours_all_the_same(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    custody.close()
    os.chmod(custody.folder / "spool.sqlite", 0)
    custody.open()
    assert custody.ids == ["entry0000001"]


def test_the_data_folder_can_be_moved_whole(custody: Custody) -> None:
    custody.commit(add(a_deposit("large0000001", custody.large("large0000001", LARGE))))
    custody.close()
    moved = custody.data.with_name("elsewhere")
    custody.data.rename(moved)
    there = Custody(moved)
    there.open()
    assert isinstance(there.content("large0000001"), Content)
    there.close()


def test_half_made_and_superseded_files_are_tidied(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    custody.close()
    shutil.copy(custody.folder / "spool.sqlite", custody.folder / "spool-3.sqlite")
    (custody.folder / "spool-4.sqlite.part").write_bytes(b"half")
    (custody.folder / "spool-4.sqlite.part-wal").write_bytes(b"half")
    custody.open()
    assert custody.ids == ["entry0000001"]
    assert custody.journal.names == ["spool_recovered"]
    custody.close()
    assert sorted(os.listdir(custody.folder)) == [
        "bodies", "incoming", "lock", "reserve", "spool-3.sqlite", f"spool.sqlite.condemned-{int(NOW)}",
    ]  # fmt: skip


def test_junk_in_the_folders_neither_stops_nor_harms_and_is_told_once(custody: Custody) -> None:
    custody.commit(add(a_deposit("large0000001", custody.large("large0000001", LARGE))))
    custody.large("coming000001", LARGE)
    custody.close()
    for folder in ("incoming", "bodies", "."):
        for n in range(50):
            (custody.folder / folder / f"junk{n:08}").write_bytes(b"")
        os.mkfifo(custody.folder / folder / "fifofifo0001")
        (custody.folder / folder / "linklink0001").symlink_to("/dev/zero")
        (custody.folder / folder / "a folder").mkdir()
    os.mkfifo(custody.folder / "reserve.pipe")
    os.mkfifo(custody.folder / "spool-7.sqlite")
    (custody.folder / "spool-8.sqlite").mkdir()
    (custody.folder / "spool-9.sqlite").symlink_to("nowhere")
    custody.open()
    assert isinstance(custody.content("large0000001"), Content)
    assert (custody.files(), custody.files("incoming")) == (["large0000001"], [])
    assert custody.journal.names == ["spool_junk"]
    # What has a name of ours and stands for nothing is removed; all else is where nobody reads it.
    assert len(custody.files("junk")) == 50 + 3 * 3 + 4
    told = custody.journal.events[0][1]
    assert "and 58 more" in told["what"] and told["done"] == f"moved to {custody.folder}/junk"
    custody.reopen()
    assert custody.ids == ["large0000001"] and custody.journal.names == ["spool_junk"]


def test_ten_thousand_foreign_files_are_put_aside(custody: Custody) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    custody.close()
    for n in range(10_000):
        os.mknod(custody.folder / f"foreign{n}.eml")
    custody.open()
    assert custody.ids == ["entry0000001"] and len(custody.files("junk")) == 10_000
    assert len(custody.journal.events) == 1 and len(str(custody.journal.events)) < 500


@pytest.mark.parametrize("octets", [b"", b"From nobody", os.urandom(9000)])
def test_a_file_that_only_claims_to_be_the_spool_hides_no_mail(custody: Custody, octets: bytes) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    custody.close()
    (custody.folder / "spool-9.sqlite").write_bytes(octets)
    for _ in range(2):
        custody.open()
        assert custody.ids == ["entry0000001"] and custody.journal.names == ["spool_junk"]
        custody.close()
    assert (custody.folder / f"spool-9.sqlite.damaged-{int(NOW)}").read_bytes() == octets


def test_a_pipe_in_place_of_a_body_is_damage_and_not_waited_for(custody: Custody) -> None:
    custody.commit(add(a_deposit("large0000001", custody.large("large0000001", LARGE))))
    path = custody.folder / "bodies" / "large0000001"
    path.unlink()
    os.mkfifo(path)
    assert isinstance(custody.content("large0000001"), Damaged)


def test_an_upgrade_on_a_full_disk_uses_the_room_held_back(custody: Custody, monkeypatch: pytest.MonkeyPatch) -> None:
    custody.commit(add(a_deposit("entry0000001")))
    custody.close()
    connect, full = schema.connect, [True]

    def refuse(path: str) -> sqlite3.Connection:
        if full:
            full.clear()
            assert (custody.folder / "reserve").exists()
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        assert not (custody.folder / "reserve").exists()
        return connect(path)

    monkeypatch.setattr(schema, "connect", refuse)
    custody.open()
    assert custody.ids == ["entry0000001"]
