"""ClamAV's daemon, spoken to in its own words: INSTREAM, a body in chunks, one line in answer.

Knows what each answer means, and that only a whole and well-formed OK to a whole body is a clean bill. Does not know
what becomes of a message, nor which server is asked first.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from inboundmx.model.message import Body
from inboundmx.net.servers import Fault, Server, Servers
from inboundmx.ports import Clock, Contents, Offload, TooLarge, Unavailable

# Scans at once with one server: as many as clamd has threads when its MaxThreads is not changed.
AT_ONCE = 10
# Octets of a large body read at once.
CHUNK = 256 * 1024
# The longest answer is a file name of clamd's own and the name of a signature.
ANSWER_LIMIT = 1024

_ANSWER = re.compile(rb"stream: (?:(OK)|([ -~]{1,200}) FOUND)")
_TOO_LARGE = b"INSTREAM size limit exceeded. ERROR"
_END = bytes(4)


class ClamdScanner:
    """``ports.VirusScanner``. ``max_size`` in octets stays below clamd's StreamMaxLength."""

    def __init__(
        self,
        servers: Sequence[Server],
        clock: Clock,
        offload: Offload,
        contents: Contents,
        max_size: int,
        seconds: float,
    ) -> None:
        self._servers = Servers(servers, clock)
        self._tries = len(servers)
        self._offload = offload
        self._contents = contents
        self._max_size = max_size
        self._seconds = seconds

    async def scan(self, body: Body) -> str:
        if body.size > self._max_size:
            raise TooLarge
        found = await self._servers.ask(lambda server: self._ask(server, body), self._seconds, self._tries)
        if found is None:
            raise TooLarge
        return found

    async def _ask(self, server: Server, body: Body) -> str | None:
        stream = Instream(server.name, body, self._offload, self._contents)
        await server.connect(stream)
        return await stream.answer


@implementer(IPushProducer)
class Instream(Protocol):
    """One body to one server. ``answer`` fires with the name of what was found, "" when clean, None when the server
    takes nothing so large; fails with Fault, or with Unavailable when the body could not be read."""

    transport: Any

    def __init__(self, name: str, body: Body, offload: Offload, contents: Contents) -> None:
        self.answer: Deferred[str | None] = Deferred(self._cancelled)
        self._name = name
        self._body = body
        self._offload = offload
        self._contents = contents
        self._heard = b""
        self._sent = False
        self._room: Deferred[None] | None = None
        self._sending: Deferred[None] | None = None
        self._spare: socket.socket | None = None

    # --- sending ------------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        # clamd says that a body is too large and closes while we write; then Twisted closes as well, the answer unread.
        # A second handle on the socket still has it.
        self._spare = self.transport.getHandle().dup()
        self.transport.registerProducer(self, True)
        self._sending = Deferred.fromCoroutine(self._send())
        self._sending.addErrback(self._unsent)

    async def _send(self) -> None:
        body = self._body
        self.transport.write(b"zINSTREAM\0")
        self._write(body.head)
        at = len(body.head)
        while at < body.size:
            if self._room is not None:
                await self._room
            chunk = await self._offload.run(self._contents.part, body, at, CHUNK)
            if not chunk:
                raise Unavailable("the stored body is cut short")
            self._write(chunk)
            at += len(chunk)
        self._sent = True
        self.transport.write(_END)
        self.transport.unregisterProducer()

    def _write(self, chunk: bytes) -> None:
        # A chunk of no octets would end the stream.
        if chunk:
            self.transport.writeSequence((len(chunk).to_bytes(4, "big"), chunk))

    def _unsent(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self._finish(failure)

    def pauseProducing(self) -> None:
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone: connectionLost sees to everything."""

    # --- hearing ------------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self._heard += data[: ANSWER_LIMIT + 1]
        line, end, more = self._heard.partition(b"\0")
        if end or len(line) > ANSWER_LIMIT:
            self._finish(self._understood(line) if end and not more else self._fault("gives an answer without an end"))

    def _understood(self, line: bytes) -> str | Failure | None:
        if line == _TOO_LARGE:
            return None
        match = _ANSWER.fullmatch(line)
        if match is not None and self._sent:
            return "" if match[1] else match[2].decode("ascii")
        said = "".join(sign if " " <= sign <= "~" else "?" for sign in line[:100].decode("latin-1"))
        return self._fault(f"answers {said!r}" if match is None else "answers before it has heard all")

    def _fault(self, what: str) -> Failure:
        return Failure(Fault(f"{self._name} {what}"))  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._spare is not None:
            # An error: there is nothing more to hear.
            with contextlib.suppress(OSError):
                self.dataReceived(self._spare.recv(ANSWER_LIMIT + 1))
        self._finish(self._fault("closes in the middle of its answer" if self._heard else "closes without an answer"))

    def _finish(self, result: str | Failure | None) -> None:
        if self._sending is not None:
            self._sending.cancel()
        if self.answer.called:
            return
        self._abort()
        self.answer.callback(result)

    def _cancelled(self, _: Deferred[str | None]) -> None:
        if self._sending is not None:
            self._sending.cancel()
        self._abort()

    def _abort(self) -> None:
        # Whatever the server still does with the body, nobody waits for it; the spare handle must not keep it open.
        if self._spare is not None:
            self._spare.close()
            self._spare = None
        self.transport.abortConnection()
