"""What was decided is kept, found again, bounded, and never in the way."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import NOW, TestClock, result

from inboundmx.ports import Unavailable
from inboundmx.storage import ledger as module
from inboundmx.storage.ledger import Event, Ledger, read_story
from inboundmx.storage.writer import InlineLane, at_once


class Kept:
    """A ledger that works at once, and what it reported."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = TestClock()
        self.reports: list[str] = []
        self.ledger: Ledger
        self.open()

    def open(self, worker: str = "0", keep: float = 1000.0, keep_size: int = 1 << 30, lane: Any = None) -> Ledger:
        self.ledger = Ledger(
            str(self.data),
            worker,
            keep=keep,
            keep_size=keep_size,
            clock=self.clock,
            report=lambda event, fields: self.reports.append(event),
            from_thread=at_once,
            lane=lambda name: lane or InlineLane(),
        )
        return self.ledger

    def add(self, id: str, number: int = 0, **named: Any) -> None:
        self.ledger.add(self.clock.now(), id, "refused", f'{{"number":{number}}}', **named)

    def flush(self) -> None:
        self.clock.task.advance(0.2)

    def close(self) -> None:
        assert result(self.ledger.close()) is None

    def reopen(self, **named: Any) -> None:
        self.close()
        self.open(**named)

    def story(self, id: str) -> list[Event]:
        return read_story(str(self.data), id)

    @property
    def path(self) -> Path:
        return self.data / "ledger" / "0.sqlite"

    def rows(self) -> int:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM event").fetchone()
        return int(count)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    if not kept.ledger._closing:
        kept.close()


def test_a_story_is_told_in_order_by_any_of_its_ids(kept: Kept) -> None:
    kept.add("told00000001", 1)
    kept.add("other0000001", 2)
    kept.clock.task.advance(1)
    kept.add("told00000001", 3, also=("entry0000001", "entry0000002"))
    kept.flush()
    assert kept.story("told00000001") == [
        Event(NOW, "refused", {"number": 1}),
        Event(NOW + 1, "refused", {"number": 3}),
    ]
    assert kept.story("entry0000002") == [Event(NOW + 1, "refused", {"number": 3})]
    assert kept.story("told0000000") == []


def test_all_workers_are_asked(kept: Kept) -> None:
    kept.add("told00000001", 1)
    kept.reopen(worker="1")
    kept.clock.task.advance(-5)
    kept.add("told00000001", 2)
    kept.flush()
    assert [event.fields["number"] for event in kept.story("told00000001")] == [2, 1]


def test_it_writes_by_time_or_by_number(kept: Kept) -> None:
    kept.add("told00000001")
    kept.clock.task.advance(0.19)
    assert kept.story("told00000001") == []
    kept.clock.task.advance(0.01)
    assert len(kept.story("told00000001")) == 1
    for number in range(module.BATCH_ROWS):
        kept.add("many00000001", number)
    assert [event.fields["number"] for event in kept.story("many00000001")] == list(range(module.BATCH_ROWS))


@pytest.mark.parametrize("count", [1, 49, 50, 51, 249])
def test_any_number_of_rows_is_kept_once(kept: Kept, count: int) -> None:
    for number in range(count):
        kept.add("many00000001", number, also=(f"also{number:08}",) * 2)
    kept.close()
    assert [event.fields["number"] for event in kept.story("many00000001")] == list(range(count))
    assert [event.fields["number"] for event in kept.story(f"also{count - 1:08}")] == [count - 1]


def test_closing_writes_what_waits_and_nothing_is_taken_after(kept: Kept) -> None:
    kept.add("told00000001")
    kept.close()
    assert len(kept.story("told00000001")) == 1
    assert kept.clock.task.getDelayedCalls() == []
    kept.add("late00000001")
    assert kept.clock.task.getDelayedCalls() == []


def test_what_waits_is_bounded_and_the_oldest_goes(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_ROWS", 1000)
    jobs: list[Any] = []
    monkeypatch.setattr(InlineLane, "__call__", lambda self, job: jobs.append(job))
    for number in range(2600):
        kept.add("many00000001", number)
    assert kept.ledger.dropped == 1100
    monkeypatch.undo()
    while jobs:
        jobs.pop(0)()
    kept.flush()
    numbers = [event.fields["number"] for event in kept.story("many00000001")]
    assert numbers == [*range(500), *range(1600, 2600)]


def test_what_is_too_old_goes_in_steps(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PRUNE_ROWS", 60)
    for number in range(100):
        kept.add("old000000001", number, also=("older0000001",))
    kept.flush()
    kept.clock.task.advance(999)
    kept.add("new000000001")
    kept.flush()
    assert kept.rows() == 101
    kept.clock.task.advance(2)
    for left in (42, 3, 4):
        kept.add("new000000001")
        kept.flush()
        assert kept.rows() == left
    assert kept.story("older0000001") == []


def test_the_file_is_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.reopen(keep_size=1_000_000)
    for number in range(6000):
        kept.ledger.add(NOW, f"id{number:010}", "refused", '{"text":"%s"}' % ("x" * 500))
    kept.close()
    assert kept.path.stat().st_size < 2_000_000
    assert kept.story("id0000000000") == []
    assert len(kept.story("id0000005999")) == 1
    # A smaller bound is kept too, and the room given back.
    monkeypatch.setattr(module, "_VACUUM_PAGES", 20)
    kept.open(keep_size=100_000)
    for number in range(40):
        kept.add(f"id{number:010}")
        kept.flush()
    kept.close()
    assert kept.path.stat().st_size < 400_000


@pytest.mark.parametrize("octets", [b"no database at all" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_set_aside(kept: Kept, octets: bytes) -> None:
    kept.add("told00000001")
    kept.close()
    kept.path.write_bytes(octets)
    kept.open()
    kept.add("told00000002")
    kept.flush()
    assert kept.reports == ["ledger_damaged"]
    assert len(kept.story("told00000002")) == 1
    assert any(".damaged-" in name for name in os.listdir(kept.path.parent))


def test_a_ledger_that_cannot_be_written_is_said_once_and_works_again(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("in the way")
    kept = Kept(tmp_path)
    for number in range(3):
        kept.add("lost00000001", number)
        kept.flush()
    assert kept.reports == ["ledger_failing"]
    assert kept.ledger.dropped == 3
    (tmp_path / "ledger").unlink()
    kept.add("told00000001")
    kept.flush()
    assert kept.reports == ["ledger_failing", "ledger_recovered"]
    assert len(kept.story("told00000001")) == 1
    kept.close()


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: pytest.fail("opened"))
    kept = Kept(tmp_path)
    kept.path.parent.mkdir()
    os.mkfifo(kept.path, 0o400)
    kept.add("lost00000001")
    kept.flush()
    assert kept.reports == ["ledger_failing"]
    with pytest.raises(Unavailable, match="is no file"):
        kept.story("lost00000001")


@pytest.mark.root
def test_a_command_run_as_root_leaves_a_file_that_the_gateways_user_can_open(tmp_path: Path) -> None:
    os.chown(tmp_path, 4242, 4243)
    kept = Kept(tmp_path)
    kept.add("told00000001")
    kept.flush()
    for path in (kept.path.parent, *kept.path.parent.iterdir()):
        assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4243), path
    kept.close()


def test_reading_where_nothing_or_something_else_is(tmp_path: Path) -> None:
    assert read_story(str(tmp_path), "told00000001") == []
    (tmp_path / "ledger").mkdir()
    assert read_story(str(tmp_path), "told00000001") == []
    (tmp_path / "ledger" / "0.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match="cannot read"):
        read_story(str(tmp_path), "told00000001")
    kept = Kept(tmp_path)
    kept.reopen(worker="1")
    kept.add("told00000001")
    kept.close()
    assert len(read_story(str(tmp_path), "told00000001")) == 1


def test_a_file_that_is_being_made_tells_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger" / "0.sqlite")) as made:
        made.execute("PRAGMA journal_mode=WAL")
        assert read_story(str(tmp_path), "told00000001") == []
