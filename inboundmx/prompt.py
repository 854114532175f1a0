"""Coroutines, run promptly: started at once, and made a Deferred only if they really wait.

Knows how a coroutine is driven. Does not know a reactor: Deferred is Twisted's future type and does no I/O, so every
ring may await one. A coroutine that never suspends costs a fraction of what ``Deferred.fromCoroutine`` costs.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Goes on with a coroutine from the first thing it waited for."""
    while True:
        try:
            try:
                value = yield waiting
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - the coroutine's business, not ours
                waiting = coroutine.throw(error)
            else:
                waiting = coroutine.send(value)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def resumed(coroutine: Coroutine[Any, Any, T], waiting: Any) -> Deferred[T]:
    """The rest of a coroutine that was sent None once and is ``waiting`` for what it yielded."""
    return Deferred.fromCoroutine(_resume(coroutine, waiting))


def promptly(
    coroutine: Coroutine[Any, Any, T], done: Callable[[T], object], failed: Callable[[Failure], object]
) -> Deferred[Any] | None:
    """Runs ``coroutine`` until it finishes or waits. Finished: calls ``done`` (or ``failed``) now and returns None.
    Waiting: returns a Deferred that may be cancelled; ``done`` or ``failed`` is called when it ends."""
    try:
        waiting = coroutine.send(None)
    except StopIteration as stop:
        done(stop.value)
        return None
    except Exception:  # noqa: BLE001 - handed on whole
        failed(Failure())  # type: ignore[no-untyped-call]
        return None
    deferred: Deferred[Any] = resumed(coroutine, waiting)
    deferred.addCallbacks(done, failed)
    return deferred
