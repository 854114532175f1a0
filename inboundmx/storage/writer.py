"""One thread that does dear work in batches. Knows how a batch goes to the thread and comes back; does not know SQL.

The owner collects on its own side. While one batch is out the next collects, and it leaves when the owner has nothing
else to do: a burst of a hundred messages costs two hops and two syncs, and a lone one waits for nobody.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

B = TypeVar("B")
R = TypeVar("R")

# Runs a call on the owner's side: reactor.callFromThread, or a queue that a test empties.
FromThread = Callable[..., Any]
# Calls as soon as the owner's side has nothing else to do.
AtLeisure = Callable[[Callable[[], None]], object]


# Until a call that could not be handed back is tried again.
AGAIN_SECONDS = 0.1


class Lane(Protocol):
    """Does jobs one after the other, in the order given."""

    def __call__(self, job: Callable[[], None]) -> None: ...

    def stop(self) -> None:
        """No more jobs will come; those given are still done."""


class ThreadLane:
    """A lane with a thread of its own."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon, so that a process whose disk hangs can still be ended; whoever stops in order waits for close().
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def __call__(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def stop(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class InlineLane:
    """A lane for a program without a reactor: does the job while the caller waits."""

    def __call__(self, job: Callable[[], None]) -> None:
        job()

    def stop(self) -> None:
        pass


def at_once(call: Callable[..., object], *arguments: object) -> None:
    """The FromThread that belongs to InlineLane, and the AtLeisure of who has no reactor."""
    call(*arguments)


class Writer(Generic[B, R]):
    """``take`` gives the next batch, None: nothing to do. ``execute`` does it in the lane; ``settled`` gets the batch
    with its result, or with what ``execute`` raised, on the owner's side: one hop there and one back a batch.

    The bound on what waits is the owner's, who alone knows whether to refuse or to forget.
    """

    def __init__(
        self,
        take: Callable[[], B | None],
        execute: Callable[[B], R],
        settled: Callable[[B, R | Exception], object],
        lane: Lane,
        from_thread: FromThread,
        at_leisure: AtLeisure = at_once,
    ) -> None:
        self._take = take
        self._execute = execute
        self._settled = settled
        self._lane = lane
        self._from_thread = from_thread
        self._at_leisure = at_leisure
        self._out = False
        self._gathering = False
        self._last: Callable[[], None] | None = None
        self._closed: Deferred[None] | None = None

    @property
    def idle(self) -> bool:
        return not (self._out or self._gathering)

    def wake(self) -> None:
        """Something may wait: hands it over unless a batch is out, after which it is asked for anyway."""
        if self._out:
            return
        batch = self._take()
        if batch is not None:
            self._out = True
            self._lane(lambda: self._run(batch))
        elif self._last is not None:
            self._out = True
            self._lane(self._finish)
            self._lane.stop()

    def soon(self) -> None:
        """As ``wake``, once the owner's side has nothing else to do: a lone message waits for nobody, and what many
        strangers send goes together. A batch costs 0.35 ms however little is in it, and much of that is two threads in
        turn for the interpreter: 15 to 20 % of the CPU of a message with 20 or 50 sessions."""
        if not (self._out or self._gathering):
            self._gathering = True
            try:
                self._at_leisure(self._gathered)
            except MemoryError:
                self._gathering = False
                raise

    def _gathered(self) -> None:
        self._gathering = False
        self.wake()

    def close(self, last: Callable[[], None]) -> Deferred[None]:
        """Does what waits, then ``last`` in the lane (closing files), then ends the lane. Fires when that is done;
        fails with what ``last`` raised. Once only."""
        self._last = last
        self._closed = Deferred()
        closed = self._closed
        self.wake()
        return closed

    def _run(self, batch: B) -> None:
        result: R | Exception
        try:
            result = self._execute(batch)
        except Exception as error:  # noqa: BLE001 - handed to the owner whole
            result = error
        self._hand_back([partial(self._back, batch, result)])

    def _hand_back(self, calls: list[Callable[[], object]]) -> None:
        """Has the one call made on the owner's side, once. While there is no memory even for that, it is tried again:
        the owner waits for it, and with the owner all mail."""
        while calls:
            try:
                self._from_thread(_make, calls)
                return
            except MemoryError:
                time.sleep(AGAIN_SECONDS)

    def _back(self, batch: B, result: R | Exception) -> None:
        # Still out while the owner settles: what its callbacks put in goes together in the next batch.
        try:
            self._settled(batch, result)
        finally:
            self._out = False
            if self._last is None:
                self.soon()
            else:
                self.wake()

    def _finish(self) -> None:
        assert self._last is not None and self._closed is not None
        try:
            self._last()
        except Exception as error:  # noqa: BLE001 - handed to who waits for close()
            self._hand_back([partial(self._closed.errback, error)])
        else:
            self._hand_back([partial(self._closed.callback, None)])


def _make(calls: list[Callable[[], object]]) -> None:
    # It may have been handed over although that has failed.
    if calls:
        calls.pop()()
