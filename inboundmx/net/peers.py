"""How much waits in the spools of the gateways that our mail leaves by: asked of each one's console, again and again.

Knows whose console is asked, how often, and for how long an answer holds. Does not know which gateway is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from inboundmx.model.settings import OutboundSettings, Settings
from inboundmx.net.http_get import fetch
from inboundmx.net.servers import Fault, within
from inboundmx.ports import Chance, Clock, Health, Timer, Unavailable

EVERY_SECONDS = 30.0
# Gateways that were started together do not go on asking together.
JITTER = 0.1
ANSWER_SECONDS = 5.0
# What was heard longer ago says nothing of now.
HOLDS_SECONDS = 120.0
PATH = "/api/status"
# More than any spool holds: a number of any length would be no number to reckon with.
MOST = 10**9


class _Load(NamedTuple):
    url: str
    waiting: int
    heard_at: float


class PeerLoads:
    """``settings`` gives those in force; ``reactor`` connects."""

    def __init__(
        self, reactor: Any, settings: Callable[[], Settings], clock: Clock, chance: Chance, health: Health
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._health = health
        self._loads: dict[str, _Load] = {}
        self._asking: dict[tuple[str, str], Deferred[Any]] = {}
        self._timer: Timer | None = None

    def load(self, name: str) -> int | None:
        """Messages that wait in the spool of ``[outbound NAME]``; None: nobody knows."""
        load = self._loads.get(name)
        if load is None or self._clock.monotonic() - load.heard_at > HOLDS_SECONDS:
            return None
        return load.waiting

    def start(self) -> None:
        self._timer = self._clock.call_later(0, self._round)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for asked in tuple(self._asking.values()):
            asked.cancel()

    def _round(self) -> None:
        self._timer = self._clock.call_later(EVERY_SECONDS * (1.0 + self._chance.uniform(-JITTER, JITTER)), self._round)
        asked = [each for each in self._settings().outbound if each.enabled and each.status_url]
        urls = {each.name: each.status_url for each in asked}
        self._loads = {name: load for name, load in self._loads.items() if urls.get(name) == load.url}
        for outbound in asked:
            key = outbound.name, outbound.status_url
            if key not in self._asking:
                self._asking[key] = asking = Deferred.fromCoroutine(self._ask(outbound))
                asking.addBoth(self._asked, key).addErrback(_stopped)

    async def _ask(self, outbound: OutboundSettings) -> None:
        service = f"console {outbound.status_url}"
        told = Deferred.fromCoroutine(self._waiting(outbound))
        try:
            waiting = await within(self._clock, told, ANSWER_SECONDS, "does not answer in time")
        except Unavailable as trouble:
            self._health.noted(service, False, trouble.reason)
        else:
            self._loads[outbound.name] = _Load(outbound.status_url, waiting, self._clock.monotonic())
            self._health.noted(service, True, "")

    def _asked(self, result: Any, key: tuple[str, str]) -> Any:
        del self._asking[key]
        return result

    async def _waiting(self, outbound: OutboundSettings) -> int:
        url = outbound.status_url.rstrip("/") + PATH
        who = outbound.status_username, outbound.status_password
        return _told(await fetch(self._reactor, url, *who, seconds=ANSWER_SECONDS))


def _stopped(failure: Failure) -> None:
    failure.trap(CancelledError)  # type: ignore[no-untyped-call]


def _told(content: bytes) -> int:
    try:
        waiting = json.loads(content)["spool"]["waiting"]
    except (ValueError, TypeError, LookupError, RecursionError):
        waiting = None
    if type(waiting) is not int or not 0 <= waiting <= MOST:
        raise Fault("does not say how many messages wait in its spool")
    return waiting
