"""The gateway with a clock that can be put forward, run in a child process: hours pass in moments, sockets stay real.

``warped_gateway.py CONFIG SOCKET``: a number of seconds on a line sent to the unix socket SOCKET lets that much time
pass, from timer to timer, with a moment for the network at each; the answer is a line when it has passed. ``jump`` and
a number puts the wall clock alone off, as an operator or a time server does; it stays so through restarts.
"""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver

from inboundmx.app import assemble, process

# Real time for connections to be made, answered or refused before the next timer.
MOMENT = 0.004


class _Timer:
    def __init__(self, at: float, number: int, call: Callable[[], object]) -> None:
        self.key = (at, number)
        self.call: Callable[[], object] | None = call

    def __lt__(self, other: _Timer) -> bool:
        return self.key < other.key

    def cancel(self) -> None:
        self.call = None


class WarpedClock:
    """``ports.Clock``: the real clocks and an offset that only grows, and what the wall clock is off besides."""

    made: WarpedClock
    jumped = 0.0

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._offset = 0.0
        self._timers: list[_Timer] = []
        self._numbers = count()
        self._armed: Any = None
        WarpedClock.made = self

    def now(self) -> float:
        return time.time() + self._offset + self.jumped

    def monotonic(self) -> float:
        return time.monotonic() + self._offset

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> _Timer:
        timer = _Timer(self.monotonic() + seconds, next(self._numbers), lambda: call(*arguments))
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._arm()
        return timer

    async def pass_time(self, seconds: float) -> None:
        end = self.monotonic() + seconds
        while (left := end - self.monotonic()) > 0:
            self._forget_cancelled()
            step = max(0.0, self._timers[0].key[0] - self.monotonic()) if self._timers else left
            self._offset += min(step, left)
            self._fire()
            await deferLater(self._reactor, MOMENT, lambda: None)

    def _forget_cancelled(self) -> None:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)

    def _arm(self) -> None:
        if self._armed is not None and self._armed.active():
            self._armed.cancel()
        self._forget_cancelled()
        if self._timers:
            wait = max(0.0, self._timers[0].key[0] - self.monotonic())
            self._armed = self._reactor.callLater(wait, self._fire)

    def _fire(self) -> None:
        now = self.monotonic()
        while self._timers and self._timers[0].key[0] <= now:
            call = heapq.heappop(self._timers).call
            if call is not None:
                call()
        self._arm()


class Remote(LineReceiver):
    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        if line.startswith(b"jump "):
            WarpedClock.jumped += float(line.removeprefix(b"jump "))
            Path(f"{sys.argv[2]}.jumped").write_text(str(WarpedClock.jumped))
            self.sendLine(b"passed")
            return
        passed = Deferred.fromCoroutine(WarpedClock.made.pass_time(float(line)))
        passed.addCallback(lambda _: self.sendLine(b"passed"))


if __name__ == "__main__":
    kept = Path(f"{sys.argv[2]}.jumped")
    WarpedClock.jumped = float(kept.read_text()) if kept.exists() else 0.0
    assemble.ReactorClock = WarpedClock  # type: ignore[assignment,misc]
    remote = Factory.forProtocol(Remote)
    remote.noisy = False
    reactor: Any = installed
    reactor.listenUNIX(sys.argv[2], remote)
    sys.exit(process.run(sys.argv[1]))
