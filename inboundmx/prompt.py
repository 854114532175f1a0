"""Coroutines, run promptly: started at once, and made a Deferred only if they really wait.

Knows how a coroutine is driven. Does not know a reactor: Deferred is Twisted's future type and does no I/O, so every
ring may await one. A coroutine that never suspends costs a fraction of what ``Deferred.fromCoroutine`` costs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.ports import Clock

T = TypeVar("T")


def passing(clock: Clock, seconds: float) -> Deferred[None]:
    """Fires when so much time has passed; to cancel it is not to wait for it any more."""
    over: Deferred[None] = Deferred(lambda _: timer.cancel())
    timer = clock.call_later(seconds, over.callback, None)
    return over


class _Rest(Deferred[T]):
    """Fires when a coroutine that waits has come to its end. To cancel it is to cancel what the coroutine waits for,
    and how that ends is for the coroutine to say: exactly as with ``Deferred.fromCoroutine``, which costs 3 us more
    each time, for a context, a second generator and a status around every step."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], waiting: Any) -> None:
        super().__init__()
        self._coroutine = coroutine
        self._waiting = waiting
        waiting.addBoth(self._came)

    def cancel(self) -> None:
        if self.called:
            super().cancel()
        else:
            self._waiting.cancel()

    def _came(self, result: Any) -> None:
        # A Deferred that has its result is never waited for, so this does not call itself.
        try:
            if isinstance(result, Failure):
                waiting = result.throwExceptionIntoGenerator(self._coroutine)  # type: ignore[no-untyped-call]
            else:
                waiting = self._coroutine.send(None)
        except StopIteration as stop:
            value = stop.value
        except BaseException:  # noqa: BLE001 - handed on whole
            self.errback()
            return
        else:
            self._waiting = waiting
            waiting.addBoth(self._came)
            return
        self.callback(value)


def resumed(coroutine: Coroutine[Any, Any, T], waiting: Any) -> Deferred[T]:
    """The rest of a coroutine that was sent None once and is ``waiting`` for the Deferred it yielded."""
    return _Rest(coroutine, waiting)


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
