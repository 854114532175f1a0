"""A few threads for what blocks. Knows how work goes to a thread and comes back; does not know what the work is."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from inboundmx.ports import Unavailable

THREADS = 4
# Work that may wait for a thread; what comes later is refused at once.
WAITING = 64

_Job = tuple[Deferred[Any], Callable[..., Any], tuple[object, ...]]


class ThreadOffload:
    """``ports.Offload``. ``from_thread`` runs a call on the owner's side: reactor.callFromThread. Threads begin when
    there is work."""

    def __init__(self, from_thread: Callable[..., Any], threads: int = THREADS, waiting: int = WAITING) -> None:
        self._from_thread = from_thread
        self._threads = threads
        self._most = threads + waiting
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._begun = 0
        self._open: set[Deferred[Any]] = set()
        # Work given to the threads and not come back, that which nobody waits for any more included.
        self._out = 0
        self._closed: Deferred[None] | None = None

    def run(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        """Cancelling it spares work that has not begun; of work that has, nobody hears."""
        if self._closed is not None:
            return fail(Unavailable("stopping"))
        if self._out >= self._most:
            return fail(Unavailable("too much waits for a thread"))
        if self._out >= self._begun and self._begun < self._threads:
            # A daemon, so that a process whose disk hangs can still be ended; whoever stops in order waits for close().
            threading.Thread(target=self._work, name=f"offload-{self._begun}", daemon=True).start()
            self._begun += 1
        done: Deferred[Any] = Deferred(self._open.discard)
        self._open.add(done)
        self._out += 1
        self._jobs.put((done, work, arguments))
        return done

    def close(self) -> Deferred[None]:
        """What waits is refused, what has begun is waited for; fires when the threads have ended."""
        if self._closed is None:
            self._closed = Deferred()
            waiting: list[_Job] = []
            try:
                while (job := self._jobs.get_nowait()) is not None:
                    waiting.append(job)
            except queue.Empty:
                pass
            for _ in range(self._begun):
                self._jobs.put(None)
            for done, _, _ in waiting:
                self._settle(done, Failure(Unavailable("stopping")))  # type: ignore[no-untyped-call]
            if not self._begun:
                self._closed.callback(None)
        return self._closed

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            done, work, arguments = job
            result: Any = None
            if done in self._open:
                try:
                    result = work(*arguments)
                except Exception:  # noqa: BLE001 - handed on whole
                    result = Failure()  # type: ignore[no-untyped-call]
            self._from_thread(self._settle, done, result)
            # Nothing is held on to while there is no work.
            del job, done, work, arguments, result
        self._from_thread(self._ended)

    def _settle(self, done: Deferred[Any], result: Any) -> None:
        self._out -= 1
        if done in self._open:
            self._open.discard(done)
            done.callback(result)

    def _ended(self) -> None:
        self._begun -= 1
        if not self._begun and self._closed is not None:
            self._closed.callback(None)
