"""The real clock: wall time for dates, monotonic time for waits, the reactor for calling back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled


class _Timer:
    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def cancel(self) -> None:
        try:
            self._call.cancel()
        except (AlreadyCalled, AlreadyCancelled):
            return


class ReactorClock:
    """``ports.Clock`` over a Twisted reactor."""

    def __init__(self, reactor: Any) -> None:
        """``reactor`` provides Twisted's IReactorTime."""
        self._reactor = reactor

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> _Timer:
        return _Timer(self._reactor.callLater(seconds, call, *arguments))
