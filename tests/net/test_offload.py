"""Threads: few, bounded in what waits for them, and gone at the end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from inboundmx.net.offload import ThreadOffload
from inboundmx.ports import Unavailable


class Owner:
    """The owner's side: calls from threads wait here until they are taken."""

    def __init__(self, threads: int = 2, waiting: int = 3) -> None:
        self.calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()
        self.offload = ThreadOffload(lambda call, *arguments: self.calls.put((call, arguments)), threads, waiting)

    def until(self, done: Deferred[Any]) -> Any:
        came: list[Any] = []
        done.addBoth(came.append)
        while not came:
            call, arguments = self.calls.get(timeout=20)
            call(*arguments)
        return came[0]


@pytest.fixture
def owner() -> Any:
    owner = Owner()
    yield owner
    owner.until(owner.offload.close())
    for thread in threading.enumerate():
        if thread.name.startswith("offload-"):
            thread.join(20)
            assert not thread.is_alive()


def test_work_is_done_in_a_thread(owner: Owner) -> None:
    assert owner.until(owner.offload.run(threading.current_thread)) is not threading.current_thread()
    assert owner.until(owner.offload.run(divmod, 7, 2)) == (3, 1)


def test_what_it_raises_is_handed_on(owner: Owner) -> None:
    assert owner.until(owner.offload.run(divmod, 7, 0)).check(ZeroDivisionError)


def test_too_much_waiting_is_refused(owner: Owner) -> None:
    gate = threading.Event()
    taken = [owner.offload.run(gate.wait, 20) for _ in range(5)]
    refused = owner.until(owner.offload.run(gate.wait, 20))
    assert refused.check(Unavailable)
    gate.set()
    assert [owner.until(each) for each in taken] == [True] * 5
    assert owner.until(owner.offload.run(divmod, 7, 2)) == (3, 1)


def test_work_that_nobody_waits_for_is_spared(owner: Owner) -> None:
    gate, done = threading.Event(), []
    busy = [owner.offload.run(gate.wait, 20) for _ in range(2)]
    spared = owner.offload.run(done.append, 1)
    spared.cancel()
    assert owner.until(spared).check(CancelledError)
    busy[0].cancel()
    assert owner.until(busy[0]).check(CancelledError)
    gate.set()
    assert owner.until(busy[1]) is True
    assert owner.until(owner.offload.run(divmod, 7, 2)) == (3, 1)
    assert done == []


def test_closing_refuses_what_waits_and_waits_for_what_has_begun() -> None:
    owner = Owner()
    gate = threading.Event()
    begun = threading.Semaphore(0)

    def work() -> bool:
        begun.release()
        return gate.wait(20)

    busy = [owner.offload.run(work) for _ in range(2)]
    assert begun.acquire(timeout=20) and begun.acquire(timeout=20)
    waiting = owner.offload.run(divmod, 7, 2)
    closed = owner.offload.close()
    assert owner.until(waiting).check(Unavailable)
    assert not closed.called
    assert owner.until(owner.offload.run(divmod, 7, 2)).check(Unavailable)
    gate.set()
    assert [owner.until(each) for each in busy] == [True, True]
    assert owner.until(closed) is None


def test_closing_without_any_work() -> None:
    owner = Owner()
    assert owner.until(owner.offload.close()) is None
