"""How long work takes on the machine that runs the tests: beside a loop, in processor time, so that neither a slow
machine nor a busy one makes a difference."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache


def cpu(work: Callable[[], object]) -> float:
    """Seconds of this thread that it takes, without what comes and goes."""

    def once() -> float:
        before = time.thread_time()
        work()
        return time.thread_time() - before

    return min(once() for _ in range(3))


@cache
def pace() -> float:
    """A million steps of a loop: some 50 ms."""
    return cpu(lambda: sum(map(int, range(1_000_000))))
