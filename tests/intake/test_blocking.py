"""Blocks: what holds at once, what is kept for all workers, and how many there may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from twisted.internet.defer import Deferred, maybeDeferred

from inboundmx.intake import blocking
from inboundmx.intake.blocking import Blocks
from inboundmx.intake.live_lists import LiveLists
from inboundmx.ports import Unavailable
from inboundmx.storage.lists_file import ListsFile


class Worker:
    """One of those that share a folder. ``slow``: what is to be written waits."""

    def __init__(self, folder: Path, clock: FakeClock, slow: bool = False) -> None:
        self.clock: Any = clock
        self.journal: Any = FakeJournal()
        self.file = ListsFile(str(folder), "blocks")
        self.jobs: list[tuple[Deferred[None], Any]] = []
        self.trouble: Unavailable | None = None
        self.slow = slow
        kept = LiveLists(self.clock, self.journal, self.file, self.run, "blocks", look_seconds=1.0)
        kept.begin()
        kept.start()
        self.kept = kept
        self.blocks = Blocks(self.clock, self.journal, kept)

    async def run(self, work: Any, *arguments: Any) -> Any:
        if self.slow:
            turn: Deferred[None] = Deferred()
            self.jobs.append((turn, None))
            await turn
        if self.trouble is not None:
            raise self.trouble
        return await maybeDeferred(work, *arguments)

    def go_on(self) -> None:
        while self.jobs:
            self.jobs.pop(0)[0].callback(None)

    def block(self, who: str, seconds: float = 3600.0) -> None:
        self.blocks.begin(who, seconds, "too much", "rule some")

    def blocked(self, ip: str) -> bool:
        return self.blocks.find(ip) is not None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_block_holds_at_once_and_a_second_later_everywhere(tmp_path: Path, clock: FakeClock) -> None:
    one, two = Worker(tmp_path, clock, slow=True), Worker(tmp_path, clock)
    one.block("192.0.2.7")
    one.block("2001:db8:1:1::/64")
    assert one.blocked("192.0.2.7") and one.blocked("2001:db8:1:1::5") and not one.blocked("2001:db8:1:2::5")
    assert not two.blocked("192.0.2.7")
    one.go_on()
    clock.advance(1)
    assert two.blocked("192.0.2.7") and two.blocked("2001:db8:1:1::5")
    assert one.blocked("192.0.2.7")


def test_it_survives_a_restart_and_ends_by_itself(tmp_path: Path, clock: FakeClock) -> None:
    Worker(tmp_path, clock).block("192.0.2.7", 100)
    again = Worker(tmp_path, clock)
    assert again.blocked("192.0.2.7")
    clock.advance(99)
    assert again.blocked("192.0.2.7")
    clock.advance(1)
    assert not again.blocked("192.0.2.7")
    clock.advance(2)
    assert list(again.kept.entries()) == [] and again.journal.named("list_entry_over")


def test_a_disk_that_is_full_leaves_the_block_in_this_worker(tmp_path: Path, clock: FakeClock) -> None:
    worker = Worker(tmp_path, clock)
    worker.trouble = Unavailable("no room")
    worker.block("192.0.2.7")
    assert worker.blocked("192.0.2.7")
    worker.block("192.0.2.8")
    assert len(worker.journal.named("blocks_not_kept")) == 1, "it is not tried again and again"
    worker.trouble = None
    clock.advance(blocking.RETRY_SECONDS)
    worker.block("192.0.2.9")
    assert {entry.value for entry in worker.kept.entries()} == {"192.0.2.7", "192.0.2.8", "192.0.2.9"}
    clock.advance(3600)
    assert not worker.blocked("192.0.2.7")


def test_there_may_be_only_so_many_and_those_that_end_first_go(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "MOST_BLOCKS", 50)
    worker = Worker(tmp_path, clock)
    for number in range(200):
        worker.block(f"192.0.2.{number}", 1000 + number)
    assert len(worker.kept) <= 50
    assert worker.blocked("192.0.2.199") and not worker.blocked("192.0.2.0")


def test_what_waits_to_be_kept_is_bounded(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "MOST_WAITING", 10)
    worker = Worker(tmp_path, clock, slow=True)
    for number in range(100):
        worker.block(f"192.0.2.{number}")
    assert len(worker.blocks._waiting) == 10
    assert not worker.blocked("192.0.2.50") and worker.blocked("192.0.2.99")


def test_where_nothing_keeps_them_they_hold_here(clock: FakeClock) -> None:
    nothing: Any = FakeJournal()
    here: Any = clock
    blocks = Blocks(here, nothing)
    blocks.begin("192.0.2.7", 60, "why", "who")
    assert blocks.find("192.0.2.7") is not None
    blocks.forget(["192.0.2.7"])
    assert blocks.find("192.0.2.7") is None
