"""How old the virus definitions are that each clamd scans with: asked at the start and every six hours.

Knows clamd's VERSION and what age is worth a warning. Does not know how anything is scanned, nor fetch definitions:
ClamAV's own freshclam does.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from inboundmx.net.servers import Fault, Server, within
from inboundmx.ports import Clock, Journal, Timer, Unavailable

EVERY_SECONDS = 6 * 3600.0
# Whoever does not answer, and who is new, is asked in a round; each takes so long at most.
ROUND_SECONDS, ANSWER_SECONDS = 600.0, 10.0
DAY = 86400.0
OLD_SECONDS = 7 * DAY
ANSWER_LIMIT = 500

_ANSWER = re.compile(rb"ClamAV ([ -.0-~]{1,60})(?:/([0-9]{1,9})/([ -~]{1,40}))?")


class Told(NamedTuple):
    """``number`` and ``made_at`` (seconds since the epoch) of the newest definitions, None when clamd has only such as
    bear no date."""

    version: str
    number: int | None
    made_at: float | None


class Definitions:
    """``servers`` gives those that are in use. What they tell stands beside them in ``status``; the journal is told of
    definitions that are too old (``definitions_old``) once, until there are new ones."""

    def __init__(self, servers: Callable[[], Iterable[Server]], clock: Clock, journal: Journal) -> None:
        self._servers = servers
        self._clock = clock
        self._journal = journal
        self._ask_at: dict[Server, float] = {}
        self._asking: dict[Server, Deferred[None]] = {}
        self._old: set[Server] = set()
        self._timer: Timer | None = None

    def look(self) -> None:
        """Asks whoever is to be asked by now: at the start, with new settings, and from then on by itself."""
        self._forget_timer()
        self._timer = self._clock.call_later(ROUND_SECONDS, self.look)
        now = self._clock.monotonic()
        servers = dict.fromkeys(self._servers())
        self._ask_at = {server: at for server, at in self._ask_at.items() if server in servers}
        self._old &= set(servers)
        for server in servers:
            if server not in self._asking and now >= self._ask_at.get(server, now):
                self._asking[server] = asking = Deferred.fromCoroutine(self._ask(server))
                asking.addBoth(self._asked, server).addErrback(_stopped)

    def stop(self) -> None:
        self._forget_timer()
        for asking in tuple(self._asking.values()):
            asking.cancel()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _asked(self, result: Any, server: Server) -> Any:
        self._asking.pop(server, None)
        return result

    async def _ask(self, server: Server) -> None:
        told = Deferred.fromCoroutine(_version(server))
        try:
            answer = await within(self._clock, told, ANSWER_SECONDS, f"{server.name} does not answer")
        except Unavailable:
            # Whether it is well is for the messages to find out: it is asked again in the next round.
            return
        self._ask_at[server] = self._clock.monotonic() + EVERY_SECONDS
        if answer.made_at is None:
            server.describe(f"ClamAV {answer.version}, definitions without a date")
            return
        age = max(0.0, self._clock.now() - answer.made_at)
        days = int(age // DAY)
        made = time.strftime("%Y-%m-%d", time.gmtime(answer.made_at))
        server.describe(f"ClamAV {answer.version}, definitions {answer.number} of {made}, {days} days old")
        if age <= OLD_SECONDS:
            self._old.discard(server)
        elif server not in self._old:
            self._old.add(server)
            fields = {"service": server.name, "definitions": answer.number, "of": made, "days": days}
            self._journal.record("definitions_old", "", fields, level="warning")


async def _version(server: Server) -> Told:
    asked = Version()
    await server.connect(asked)
    return await asked.answer


class Version(Protocol):
    """``answer`` fires with what clamd tells of itself, or fails with Fault."""

    transport: Any

    def __init__(self) -> None:
        self.answer: Deferred[Told] = Deferred(lambda _: self.transport.abortConnection())
        self._heard = b""

    def connectionMade(self) -> None:
        self.transport.write(b"zVERSION\0")

    def dataReceived(self, data: bytes) -> None:
        self._heard += data[: ANSWER_LIMIT + 1]
        line, end, _ = self._heard.partition(b"\0")
        if end or len(line) > ANSWER_LIMIT:
            self._finish(told(line))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._finish(None)

    def _finish(self, answer: Told | None) -> None:
        if not self.answer.called:
            self.transport.abortConnection()
            self.answer.callback(answer) if answer else self.answer.errback(Fault("does not say who it is"))


def told(line: bytes) -> Told | None:
    """None: no such answer."""
    match = _ANSWER.fullmatch(line)
    if match is None:
        return None
    version = match[1].decode("ascii")
    if match[3] is None:
        return Told(version, None, None)
    try:
        made = time.strptime(match[3].decode("ascii"), "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return Told(version, None, None)
    # It is written in the server's own time zone, which nobody says: a few hours do not matter in an age of days.
    return Told(version, int(match[2]), float(calendar.timegm(made)))


def _stopped(failure: Failure) -> None:
    failure.trap(CancelledError)  # type: ignore[no-untyped-call]
