"""How old the virus definitions are that each clamd scans with: asked at the start and every six hours.

Knows clamd's VERSION and PING, and what age is worth a warning. Does not know how anything is scanned, nor fetch
definitions: ClamAV's own freshclam does.
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
from inboundmx.ports import Chance, Clock, Fact, Journal, StateStore, Timer, Unavailable
from inboundmx.prompt import passing

EVERY_SECONDS = 6 * 3600.0
# Whoever does not answer, and who is new, is asked in a round; each takes so long at most.
ROUND_SECONDS, ANSWER_SECONDS = 600.0, 10.0
DAY = 86400.0
OLD_SECONDS = 7 * DAY
# Where it is kept which definitions were told of as old, and for how long: then they are told of again.
SPACE, TOLD_SECONDS = "definitions", 7 * DAY
# All processes ask at the same time. Each writes down that it will tell, and after so long one of them reads its own
# word: what others wrote is there within a fraction of it.
SETTLED_SECONDS = 3.0
ANSWER_LIMIT = 500

_ANSWER = re.compile(rb"ClamAV ([ -.0-~]{1,60})(?:/([0-9]{1,9})/([ -~]{1,40}))?")
# How a clamd that answers says so, and what is said of one that does not tell its version.
_PONG = b"PONG"
UNKNOWN = "definitions unknown: it does not tell its version"


class Told(NamedTuple):
    """``number`` and ``made_at`` (seconds since the epoch) of the newest definitions, None when clamd has only such as
    bear no date."""

    version: str
    number: int | None
    made_at: float | None


class Definitions:
    """``servers`` gives those that are in use. What they tell stands beside them in ``status``; the journal is told of
    definitions that are too old (``definitions_old``) by one of all processes, and once a week until there are new
    ones; by each of them while the state store does not say who did."""

    def __init__(
        self, servers: Callable[[], Iterable[Server]], clock: Clock, chance: Chance, journal: Journal, state: StateStore
    ) -> None:
        self._servers = servers
        self._clock = clock
        self._chance = chance
        self._journal = journal
        self._state = state
        self._ask_at: dict[Server, float] = {}
        self._asking: dict[Server, Deferred[None]] = {}
        self._timer: Timer | None = None

    def look(self) -> None:
        """Asks whoever is to be asked by now: at the start, with new settings, and from then on by itself."""
        self._forget_timer()
        self._timer = self._clock.call_later(ROUND_SECONDS, self.look)
        now = self._clock.monotonic()
        servers = dict.fromkeys(self._servers())
        self._ask_at = {server: at for server, at in self._ask_at.items() if server in servers}
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
        try:
            answer = told(await self._said(server, b"VERSION"))
            if answer is None and await self._said(server, b"PING") != _PONG:
                return
        except Unavailable:
            # Whether it is well is for the messages to find out: it is asked again in the next round.
            return
        self._ask_at[server] = self._clock.monotonic() + EVERY_SECONDS
        if answer is None:
            server.describe(UNKNOWN)
            return
        if answer.made_at is None:
            server.describe(f"ClamAV {answer.version}, definitions without a date")
            return
        age = max(0.0, self._clock.now() - answer.made_at)
        days = int(age // DAY)
        made = time.strftime("%Y-%m-%d", time.gmtime(answer.made_at))
        server.describe(f"ClamAV {answer.version}, definitions {answer.number} of {made}, {days} days old")
        if age > OLD_SECONDS and await self._may_tell(server.name, float(answer.number or 0)):
            fields = {"service": server.name, "definitions": answer.number, "of": made, "days": days}
            self._journal.record("definitions_old", "", fields, level="warning")

    async def _may_tell(self, name: str, number: float) -> bool:
        """Whether it is us who tell of the definitions of that number."""
        key, now, mine = f"<{name}>", self._clock.now(), self._chance.uniform(0.0, 1.0)
        try:
            known = await self._state.get(SPACE, key)
            if known is not None and known.values[0] == number:
                return False
            self._state.put(SPACE, key, Fact((number, mine), now, now + TOLD_SECONDS))
            await passing(self._clock, SETTLED_SECONDS)
            # Read from the disk: what we remember is our own.
            written = dict(await self._state.facts(SPACE, key, 1)).get(key)
        except Unavailable:
            return True
        return written is None or written.values[1] == mine

    async def _said(self, server: Server, command: bytes) -> bytes:
        """Raises Unavailable."""
        said = Deferred.fromCoroutine(_asked(server, command))
        return await within(self._clock, said, ANSWER_SECONDS, f"{server.name} does not answer")


async def _asked(server: Server, command: bytes) -> bytes:
    question = Question(command)
    await server.connect(question)
    return await question.answer


class Question(Protocol):
    """``answer`` fires with the line that clamd says to a command, or fails with Fault."""

    transport: Any

    def __init__(self, command: bytes) -> None:
        self.answer: Deferred[bytes] = Deferred(lambda _: self.transport.abortConnection())
        self._command = command
        self._heard = b""

    def connectionMade(self) -> None:
        self.transport.write(b"z%s\0" % self._command)

    def dataReceived(self, data: bytes) -> None:
        self._heard += data[: ANSWER_LIMIT + 1]
        line, end, _ = self._heard.partition(b"\0")
        if end or len(line) > ANSWER_LIMIT:
            self._finish(line if end else None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._finish(None)

    def _finish(self, line: bytes | None) -> None:
        if not self.answer.called:
            self.transport.abortConnection()
            self.answer.errback(Fault("gives no answer")) if line is None else self.answer.callback(line)


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
