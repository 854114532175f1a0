"""Questions about recipients to a service that answers one at a time: asked once, by few at a time, remembered.

Knows for how long an answer holds, when a service is left alone, and that a service that says no to everybody is not
believed. Does not know how it is asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from inboundmx.ports import Clock, Health, Unavailable

# Changes at the service show after ten minutes at most.
HOLDS_SECONDS = 600.0
KEPT = 10_000
WAITING = 100
# After so many failures in a row it is left alone for a while.
FAILURES = 3
ALONE_SECONDS = 10.0


class Questions:
    """``ask`` is the service, which raises Unavailable; ``name`` what an operator calls it."""

    def __init__(
        self, name: str, ask: Callable[[str], Awaitable[bool]], at_once: int, clock: Clock, health: Health
    ) -> None:
        self._name = name
        self._ask = ask
        self._clock = clock
        self._health = health
        self._places = DeferredSemaphore(at_once)
        self._failures = 0
        # Of whom it said yes last, and when.
        self._witness = ""
        self._witnessed_at = float("-inf")
        self._alone_until = float("-inf")
        # By address: until when it holds, and what was said.
        self._answers: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._asking: dict[str, list[Deferred[bool]]] = {}

    async def holds(self, address: str) -> bool:
        """Raises Unavailable."""
        known = self._answers.get(address)
        if known is not None and known[0] > self._clock.monotonic():
            return known[1]
        waiting: Deferred[bool] = Deferred()
        others = self._asking.get(address)
        if others is not None:
            others.append(waiting)
            return await waiting
        if len(self._asking) >= WAITING:
            raise Unavailable(f"{self._name} is busy")
        self._asking[address] = [waiting]
        # It goes on when whoever asked does not wait any more: the answer is remembered.
        Deferred.fromCoroutine(self._question(address)).addBoth(self._answered, address)
        return await waiting

    async def _question(self, address: str) -> bool:
        await self._places.acquire()
        try:
            if self._clock.monotonic() < self._alone_until:
                raise Unavailable("is left alone for now")
            try:
                held = await self._told(address)
            except Unavailable as trouble:
                self._failures += 1
                if self._failures >= FAILURES:
                    self._alone_until = self._clock.monotonic() + ALONE_SECONDS
                self._health.noted(self._name, False, trouble.reason)
                raise
        finally:
            self._places.release()
        self._failures = 0
        self._health.noted(self._name, True, "")
        return held

    async def _told(self, address: str) -> bool:
        """A no is believed from who says yes to somebody: a service that is not there any more, or lost what it knew,
        denies everybody."""
        held = await self._ask(address)
        now = self._clock.monotonic()
        if held:
            self._witness, self._witnessed_at = address, now
        elif now - self._witnessed_at >= HOLDS_SECONDS:
            postmaster = f"postmaster@{address.rpartition('@')[2]}"
            for other in dict.fromkeys((self._witness, postmaster)):
                if other and other != address and await self._ask(other):
                    self._witness, self._witnessed_at = other, now
                    return False
            raise Unavailable("says no to everybody that it is asked about, postmaster included")
        return held

    def _answered(self, held: Any, address: str) -> None:
        if isinstance(held, Failure):
            reason = getattr(held.value, "reason", "") or f"{type(held.value).__name__}: {held.value}"
            trouble = Unavailable(f"{self._name} {reason}")
            for waiting in self._asking.pop(address):
                if not waiting.called:
                    waiting.errback(trouble)
            return
        self._answers[address] = self._clock.monotonic() + HOLDS_SECONDS, held
        self._answers.move_to_end(address)
        if len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        for waiting in self._asking.pop(address):
            if not waiting.called:
                waiting.callback(held)
