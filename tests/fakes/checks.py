"""What a check is given in tests: tools over a fake resolver and a fake clock, and a way to run it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakes.resolver import FakeResolver, Zone
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from inboundmx.checks.api import Case, Check, Tools
from inboundmx.model.finding import Finding
from inboundmx.model.message import Body
from inboundmx.model.settings import GatewaySettings, Settings
from inboundmx.prompt import promptly

# Later than any clock on which a test signs.
NOW = 2_500_000_000.0


class FakeClock:
    """``ports.Clock`` over Twisted's."""

    def __init__(self) -> None:
        self.task = Clock()

    def now(self) -> float:
        return NOW + self.task.seconds()

    def monotonic(self) -> float:
        return self.task.seconds()

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> Any:
        timer = self.task.callLater(seconds, call, *arguments)

        class Timer:
            def cancel(self) -> None:
                if timer.active():
                    timer.cancel()

        return Timer()


class FakeOffload:
    """Runs at once; counts."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        self.runs += 1
        return maybeDeferred(work, *arguments)


class FakeContents:
    """Large bodies by their path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def whole(self, body: Body) -> bytes:
        return body.head if body.path is None else self.files[body.path]


def tools(zone: Zone | FakeResolver | None = None) -> Tools:
    resolver: Any = zone if hasattr(zone, "look_up") else FakeResolver(zone)
    settings = Settings(gateway=GatewaySettings(hostname="mx.gateway.example"))
    nothing: Any = None
    return Tools(settings, FakeClock(), resolver, nothing, nothing, FakeOffload(), FakeContents(), nothing)


def begun(check: Check, case: Case) -> tuple[list[Any], Deferred[Any] | None]:
    """What came so far (a Finding or a Failure), and what it waits for."""
    came: list[Any] = []
    return came, promptly(check.examine(case), came.append, came.append)


def examined(check: Check, case: Case) -> Finding:
    """What a check finds that does not have to wait."""
    came, waiting = begun(check, case)
    assert waiting is None or came, "it waits"
    if not isinstance(came[0], Finding):
        came[0].raiseException()
    return came[0]
