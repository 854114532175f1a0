"""The console's end of its connections: HTTP/1 by twisted.web, one question on each, everything bounded.

Knows octets, time and how many may come at once. Does not know what is asked, nor where we listen: the assembly binds
``ConsoleService.factory`` as it binds the SMTP ports, before privileges are given up.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from inboundmx.console.access import neighbourhood, plain
from inboundmx.console.answers import ALWAYS, Question
from inboundmx.console.routes import Facts
from inboundmx.console.site import Site
from inboundmx.model.settings import Settings
from inboundmx.ports import Clock, Journal, Timer

CONNECTIONS = 100
# And so many of one address, of IPv6 of the /64 it is in: nobody alone keeps everybody else out.
CONNECTIONS_OF_ONE = 20
# From the first octet to the last, question and answer.
SECONDS = 30.0
HEAD_LIMIT = 8192
FIELDS = 100
# Nobody has a reason to send content; so much is read past for the sake of an answer, and none of it is kept.
CONTENT_LIMIT = 65536


class ConsoleRequest(Request):
    """One question."""

    channel: ConsoleChannel
    _read_past = 0

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._read_past += len(data)
        if self._read_past > CONTENT_LIMIT:
            self.channel.transport.abortConnection()

    def process(self) -> None:
        if self._read_past > CONTENT_LIMIT:
            return
        question = self._question()
        waiting = self.channel.factory.site.prepare(question)
        if waiting is None:
            self._answer(question)
        else:
            waiting.addCallback(lambda _: self._answer(question))

    def _answer(self, question: Question) -> None:
        if self._disconnected:
            return
        answer = self.channel.factory.site.answer(question)
        self.setResponseCode(answer.code, HTTPStatus(answer.code).phrase.encode())
        fields = (("Content-Type", answer.type), ("Content-Length", str(len(answer.content))), ("Connection", "close"))
        for name, value in (*fields, *ALWAYS, *answer.fields):
            self.responseHeaders.setRawHeaders(name, [value])
        self.write(answer.content)  # type: ignore[no-untyped-call]
        self.finish()  # type: ignore[no-untyped-call]

    def _question(self) -> Question:
        return Question(
            self.method.decode("latin-1"),
            self.path.decode("latin-1"),
            self.clientproto.decode("latin-1"),
            self._values(b"Host"),
            self._values(b"Authorization"),
            plain(getattr(self.client, "host", "")),
            plain(getattr(self.host, "host", "")),
        )

    def _values(self, name: bytes) -> tuple[str, ...]:
        return tuple(value.decode("latin-1") for value in self.requestHeaders.getRawHeaders(name, ()))


class ConsoleChannel(HTTPChannel):
    """One connection, which ends with its first answer or when its time is over."""

    factory: ConsoleFactory
    transport: Any
    requestFactory = ConsoleRequest
    totalHeadersSize = HEAD_LIMIT
    maxHeaders = FIELDS
    # Twisted's own limit begins anew with every octet; ours does not.
    timeOut = None
    peer = ""
    _timer: Timer | None = None

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.channels.add(self)
        self._timer = self.factory.clock.call_later(SECONDS, self.transport.abortConnection)

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.factory.left(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class ConsoleFactory(ServerFactory):
    """``site`` is there before the reactor runs, and so before anybody is heard."""

    noisy = False
    site: Site

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.channels: set[ConsoleChannel] = set()
        self.emptied: Deferred[None] | None = None

    def buildProtocol(self, addr: Any) -> Any:
        peer = neighbourhood(plain(getattr(addr, "host", "")))
        of_one = sum(channel.peer == peer for channel in self.channels)
        if len(self.channels) >= CONNECTIONS or of_one >= CONNECTIONS_OF_ONE:
            return None
        channel = ConsoleChannel()  # type: ignore[no-untyped-call]
        channel.peer = peer
        channel.factory = self
        return channel

    def left(self, channel: ConsoleChannel) -> None:
        self.channels.discard(channel)
        if not self.channels and self.emptied is not None:
            emptied, self.emptied = self.emptied, None
            emptied.callback(None)

    def log(self, request: Request) -> None:
        """Twisted tells of each request; that somebody looked is no event."""


class ConsoleService:
    """``settings`` gives those in force. ``factory`` is what the endpoints of ``[console] listen`` serve."""

    def __init__(self, settings: Callable[[], Settings], clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.factory = ConsoleFactory(clock)

    def start(self, facts: Facts, journal: Journal) -> None:
        """Before the reactor runs."""
        self.factory.site = Site(self._settings, facts, self._clock, journal)

    def stop(self) -> Deferred[None]:
        """Once the ports are closed: ends what is still connected; fires when all of it is gone."""
        if not self.factory.channels:
            return succeed(None)
        if self.factory.emptied is None:
            self.factory.emptied = Deferred()
        emptied = self.factory.emptied
        for channel in tuple(self.factory.channels):
            channel.transport.abortConnection()
        return emptied
