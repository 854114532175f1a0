"""A clock that is turned by hand (ports.Clock)."""

from __future__ import annotations

from twisted.internet.task import Clock as Turned


class FakeClock:
    """Wall clock and monotonic clock; ``jump`` moves the wall clock alone."""

    def __init__(self) -> None:
        self.turned = Turned()
        self.offset = 1_800_000_000.0

    def now(self):
        return self.offset + self.turned.seconds()

    def monotonic(self):
        return self.turned.seconds()

    def call_later(self, seconds, call, *arguments):
        return _FakeTimer(self.turned.callLater(seconds, call, *arguments))

    def jump(self, seconds):
        self.offset += seconds

    def advance(self, seconds):
        """In steps from timer to timer, as time passes."""
        end = self.turned.seconds() + seconds
        while True:
            due = [call.getTime() for call in self.turned.getDelayedCalls() if call.getTime() <= end]
            if not due:
                break
            self.turned.advance(max(min(due) - self.turned.seconds(), 0))
        self.turned.advance(end - self.turned.seconds())


class _FakeTimer:
    def __init__(self, call) -> None:
        self.call = call

    def cancel(self):
        if self.call.active():
            self.call.cancel()
