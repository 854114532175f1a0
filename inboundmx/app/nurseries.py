"""A nursery that is always there: when it dies, another is executed in its place.

Knows when. Does not know workers: those that the dead one forked live on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from inboundmx.app.respawning import Backoff
from inboundmx.app.spawning import Cradle, Nursery, executed


class Nurseries:
    """``current`` is the one to ask, dead or alive. ``died`` is told in how many seconds there will be another."""

    def __init__(self, reactor: Any, cradle: Cradle, died: Callable[[float], object]) -> None:
        self._reactor = reactor
        self._died = died
        self._backoff = Backoff()
        self._timer: Any = None
        self._begin(cradle)

    def _begin(self, cradle: Cradle) -> None:
        self._since = self._reactor.seconds()
        self.current = Nursery(self._reactor, cradle)
        self.current.lost = self._lost

    def _lost(self) -> None:
        wait = self._backoff.died(self._reactor.seconds() - self._since)
        self._died(wait)
        self._timer = self._reactor.callLater(wait, lambda: self._begin(executed()))

    def close(self) -> Deferred[None]:
        """Fires when there is none any more, nor will be."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return self.current.close() if self.current.alive else succeed(None)
