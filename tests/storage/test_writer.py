"""One hop there and one back a batch."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from inboundmx.storage import writer
from inboundmx.storage.writer import InlineLane, ThreadLane, Writer, at_once


class Owner:
    """Collects numbers; what was executed and settled is remembered. Odd batches of one fail."""

    def __init__(self, lane: Any, from_thread: Any, at_leisure: Any = at_once) -> None:
        self.waiting: list[int] = []
        self.executed: list[list[int]] = []
        self.settled: list[tuple[list[int], Any]] = []
        self.threads: set[int] = set()
        self.writer: Writer[list[int], int] = Writer(
            self.take, self.execute, self.settle, lane, from_thread, at_leisure
        )

    def put(self, number: int, soon: bool = False) -> None:
        self.waiting.append(number)
        if soon:
            self.writer.soon()
        else:
            self.writer.wake()

    def take(self) -> list[int] | None:
        taken, self.waiting = self.waiting, []
        return taken or None

    def execute(self, batch: list[int]) -> int:
        self.threads.add(threading.get_ident())
        self.executed.append(batch)
        if batch == [13]:
            raise ValueError("thirteen")
        return sum(batch)

    def settle(self, batch: list[int], result: Any) -> None:
        self.settled.append((batch, result))
        if batch == [7]:
            for number in (70, 71):
                self.put(number)


class Steps:
    """A lane whose jobs are done when a test says so."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.stopped = False

    def __call__(self, job: Any) -> None:
        self.jobs.append(job)

    def stop(self) -> None:
        self.stopped = True

    def step(self) -> None:
        self.jobs.pop(0)()


def fired(deferred: Deferred[Any]) -> list[Any]:
    got: list[Any] = []
    deferred.addBoth(got.append)
    return got


def test_while_a_batch_is_out_the_next_collects() -> None:
    lane = Steps()
    owner = Owner(lane, at_once)
    for number in (1, 2, 3):
        owner.put(number)
    assert len(lane.jobs) == 1
    assert not owner.writer.idle
    lane.step()
    assert owner.settled == [([1], 1)]
    lane.step()
    assert owner.settled == [([1], 1), ([2, 3], 5)]
    assert lane.jobs == []
    assert owner.writer.idle


def test_what_comes_before_there_is_leisure_goes_together() -> None:
    lane, leisure = Steps(), list[Any]()
    owner = Owner(lane, at_once, leisure.append)
    for number in (1, 2, 3):
        owner.put(number, soon=True)
    assert lane.jobs == []
    assert not owner.writer.idle, "a batch is about to leave"
    (had,) = leisure
    leisure.clear()
    had()
    owner.put(4, soon=True)
    assert leisure == [], "while a batch is out nothing is asked for"
    lane.step()
    assert owner.settled == [([1, 2, 3], 6)]
    assert lane.jobs == [], "what came meanwhile waits for leisure as well"
    (had,) = leisure
    owner.put(5)
    assert len(lane.jobs) == 1, "who wakes it does not wait"
    had()
    lane.step()
    assert owner.settled[1:] == [([4, 5], 9)]


def test_who_finds_no_memory_to_ask_for_leisure_asks_again() -> None:
    lane, asked = Steps(), list[Any]()

    def at_leisure(call: Any) -> None:
        asked.append(call)
        if len(asked) == 1:
            raise MemoryError

    owner = Owner(lane, at_once, at_leisure)
    with pytest.raises(MemoryError):
        owner.put(1, soon=True)
    assert owner.writer.idle
    owner.put(2, soon=True)
    asked[1]()
    lane.step()
    assert owner.settled == [([1, 2], 3)]


def test_closing_waits_for_no_leisure() -> None:
    leisure: list[Any] = []
    owner = Owner(InlineLane(), at_once, leisure.append)
    owner.put(1, soon=True)
    closed = fired(owner.writer.close(lambda: None))
    assert owner.settled == [([1], 1)]
    assert closed == [None]
    for had in leisure:
        had()
    assert len(owner.settled) == 1


def test_what_is_put_in_while_a_batch_is_settled_goes_together() -> None:
    owner = Owner(InlineLane(), at_once)
    owner.put(7)
    assert [batch for batch, _ in owner.settled] == [[7], [70, 71]]


def test_what_the_work_raises_comes_back_and_the_next_batch_goes_on() -> None:
    owner = Owner(InlineLane(), at_once)
    owner.put(13)
    owner.put(1)
    (_, error), good = owner.settled
    assert isinstance(error, ValueError)
    assert good == ([1], 1)


def test_closing_does_what_waits_and_then_the_last_thing() -> None:
    lane, last = Steps(), []
    owner = Owner(lane, at_once)
    owner.put(1)
    owner.put(2)
    closed = fired(owner.writer.close(lambda: last.append(list(owner.executed))))
    assert not lane.stopped
    while lane.jobs:
        assert not closed
        lane.step()
    assert last == [[[1], [2]]]
    assert closed == [None]
    assert lane.stopped
    owner.put(3)
    assert lane.jobs == [], "it is closed"


def test_closing_fails_with_what_the_last_thing_raised() -> None:
    def last() -> None:
        raise OSError("no")

    (failure,) = fired(Owner(InlineLane(), at_once).writer.close(last))
    assert failure.check(OSError)


def test_a_thread_does_the_work_and_the_owner_settles() -> None:
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    owner = Owner(ThreadLane("test"), lambda *call: calls.put(call))
    hops = 0

    def pump() -> None:
        nonlocal hops
        call, *arguments = calls.get(timeout=30)
        call(*arguments)
        hops += 1

    for number in range(100):
        owner.put(number)
    while not owner.writer.idle:
        pump()
    assert [batch for batch, _ in owner.settled] == [[0], list(range(1, 100))]
    assert hops == 2
    assert threading.get_ident() not in owner.threads
    closed = fired(owner.writer.close(lambda: None))
    pump()
    assert closed == [None]


@pytest.mark.parametrize("handed", [False, True])
def test_what_is_done_is_told_once_however_little_memory_is_left(handed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "AGAIN_SECONDS", 0.0)
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    failures = [MemoryError(), MemoryError()]

    def from_thread(*call: Any) -> None:
        if handed or not failures:
            calls.put(call)
        if failures:
            raise failures.pop()

    def pump() -> None:
        call, *arguments = calls.get(timeout=30)
        call(*arguments)

    owner = Owner(ThreadLane("test"), from_thread)
    owner.put(1)
    while not owner.settled:
        pump()
    failures.append(MemoryError())
    closed = fired(owner.writer.close(lambda: None))
    while not closed:
        pump()
    assert (owner.settled, closed) == ([([1], 1)], [None])
