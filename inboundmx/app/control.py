"""The control socket: a line of JSON asks for an operation, lines of JSON answer.

Knows who may ask, how much, and for how long. Does not know what an operation does; ``app.operations`` does.

A request is ``{"operation": "spool.list", "arguments": {...}}``; the answer is ``{"row": {...}}`` as often as needed,
then ``{"end": true}`` or ``{"error": "a sentence", "usage": true when the request is at fault}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from inboundmx.app.answers import NotUnderstood, Told
from inboundmx.cli.asking import REQUEST_LIMIT, SOCKET_NAME, socket_address, user_name
from inboundmx.ports import Unavailable

MAX_CONNECTIONS = 20
IDLE_SECONDS = 60.0
STOP_SECONDS = 5.0
# Rows written before mail gets its turn again.
_ROWS_AT_ONCE = 500
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_log = Logger()


def control_name(worker: str) -> str:
    """Of the socket at which a worker answers the supervisor."""
    return f"control-{worker}.sock"


class Asked(Protocol):
    """``app.operations.Operations``, or whoever asks several of them."""

    async def perform(self, operation: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Told]: ...


class AlreadyRunning(Exception):
    """Another gateway answers at the control socket of this data folder."""


@implementer(IPullProducer)
class _Rows:
    """Writes the rows of an answer as fast as they are read."""

    def __init__(self, connection: ControlConnection, rows: Iterator[Told]) -> None:
        self._connection = connection
        self._rows = rows
        self._stopped = False
        # For rows that others make: nothing is asked for before it fires.
        self._waiting: Deferred[None] | None = None

    def resumeProducing(self) -> None:
        if self._stopped or self._waiting is not None:
            return
        lines: list[str] = []
        ended = False
        row: Told = None
        try:
            while len(lines) < _ROWS_AT_ONCE and (row := next(self._rows)) is not None:
                if isinstance(row, Deferred):
                    break
                lines.append('{"row":' + (row if isinstance(row, str) else _encode(row)) + "}")
        except StopIteration:
            lines.append(_encode({"end": True}))
            ended = True
        except Unavailable as trouble:
            lines.append(_encode({"error": trouble.reason, "usage": False}))
            ended = True
        except Exception:  # noqa: BLE001 - whatever a row was made of, the asker is told and the log knows
            lines.append(_fault())
            ended = True
        if ended or lines:
            self._connection.write_lines(lines)
        if isinstance(row, Deferred) and not ended:
            self._waiting = row
            row.addCallback(self._go_on)
        elif not (ended or lines):
            # A transport asks for more only once it has written something.
            self._connection.factory.clock.callLater(0.0, self.resumeProducing)
        if ended:
            self._connection.answered()

    def _go_on(self, result: None) -> None:
        self._waiting = None
        self.resumeProducing()

    def stopProducing(self) -> None:
        self._stopped = True
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()


class ControlConnection(LineReceiver):
    """One asker. A second request waits unread until the first is answered."""

    # Twisted leaves these without types.
    pauseProducing: Any
    resumeProducing: Any

    delimiter = b"\n"
    MAX_LENGTH = REQUEST_LIMIT
    factory: ControlFactory
    transport: Any
    connected: Any

    def connectionMade(self) -> None:
        self._idle: Any = None
        self._pid, self._uid = _peer(self.transport)
        self.factory.connections.add(self)
        if len(self.factory.connections) > MAX_CONNECTIONS:
            self._say_no("too many commands are running; try again in a moment")
            self.transport.loseConnection()
        elif self._uid not in (None, 0, os.geteuid()):
            self._say_no("only root and the user of the gateway may ask")
            self.transport.loseConnection()
        else:
            self._wait()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._wait_no_more()
        self.factory.connections.discard(self)

    def _wait(self) -> None:
        self._idle = self.factory.clock.callLater(IDLE_SECONDS, self.transport.loseConnection)

    def _wait_no_more(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._say_no(f"a request has at most {REQUEST_LIMIT} octets", usage=True)
        self.transport.loseConnection()

    def lineReceived(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            operation, arguments = request["operation"], request.get("arguments") or {}
            behind = request.get("on_behalf_of") or ""
            if not isinstance(operation, str) or not isinstance(arguments, dict) or not isinstance(behind, str):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
            self._say_no("a request is one line of JSON with an operation and its arguments", usage=True)
            return
        self.pauseProducing()
        self._wait_no_more()
        answer = Deferred.fromCoroutine(self.factory.operations.perform(operation, arguments, self._asker(behind)))
        self.factory.underway.add(answer)
        # Not cancelled when the asker goes away: what was begun is finished, and recorded.
        answer.addBoth(self._forget, answer)
        answer.addCallbacks(self._tell, self._refuse)
        answer.addErrback(lambda failure: _log.failure("control socket", failure))

    def _forget(self, result: Any, answer: Deferred[Any]) -> Any:
        self.factory.underway.discard(answer)
        return result

    def _asker(self, behind: str) -> str:
        if behind and self._pid is not None and self._pid == self.factory.asked_for:
            return behind
        if self._uid is None:
            return "unknown"
        user = user_name(self._uid)
        # Only root's word is taken for who stands behind it.
        return f"{behind[:64]} through {user}" if behind and self._uid == 0 else user

    def _tell(self, rows: Iterable[Told]) -> None:
        if self.connected:
            self.transport.registerProducer(_Rows(self, iter(rows)), False)

    def _refuse(self, failure: Failure) -> None:
        if isinstance(failure.value, NotUnderstood):
            self._say_no(str(failure.value), usage=True)
        elif isinstance(failure.value, Unavailable):
            self._say_no(f"not done: {failure.value}; try again later")
        else:
            self.write_lines([_fault(failure)])
        self._next()

    def write_lines(self, lines: list[str]) -> None:
        if self.connected:
            self.transport.write(("\n".join(lines) + "\n").encode("ascii"))

    def _say_no(self, sentence: str, usage: bool = False) -> None:
        self.write_lines([_encode({"error": sentence, "usage": usage})])

    def answered(self) -> None:
        self.transport.unregisterProducer()
        self._next()

    def _next(self) -> None:
        if self.connected:
            self._wait()
            self.resumeProducing()


def _fault(failure: Failure | None = None) -> str:
    _log.failure("an operation failed", failure)
    return _encode({"error": "the gateway failed to do this; its log says why"})


class ControlFactory(ServerFactory):
    protocol: Any = ControlConnection
    noisy = False

    def __init__(self, operations: Asked, clock: Any, asked_for: int | None = None) -> None:
        self.operations = operations
        self.clock = clock
        self.asked_for = asked_for
        self.connections: set[ControlConnection] = set()
        self.underway: set[Deferred[Any]] = set()


class ControlSocket(Service):
    """The socket ``name`` in the folder ``data`` while the service runs. Starting raises AlreadyRunning, or OSError.

    To be started after privileges are dropped, so that the socket is the gateway user's own.
    """

    def __init__(
        self, data: Path, operations: Asked, reactor: Any, name: str = SOCKET_NAME, asked_for: int | None = None
    ) -> None:
        """``asked_for``: the process whose word is taken for who asks through it."""
        self._path = data / name
        self._reactor: Any = reactor
        self._port: Any = None
        self._named = contextlib.ExitStack()
        self.factory = ControlFactory(operations, reactor, asked_for)

    def startService(self) -> None:
        make_way(self._path)
        with contextlib.ExitStack() as named:
            # Twisted removes the file by this name in the end, so the name must last as long.
            address = named.enter_context(socket_address(self._path))
            self._port = self._reactor.listenUNIX(address, self.factory, backlog=MAX_CONNECTIONS, mode=0o600)
            self._named = named.pop_all()
        begin: Any = super().startService
        begin()

    def stopService(self) -> Deferred[Any]:
        """What is being done is finished first, within a few seconds."""
        end: Any = super().stopService
        end()
        waiting: list[Deferred[Any]] = []
        if self._port is not None:
            waiting.append(Deferred.fromCoroutine(self._stop_listening(self._port)))
            self._port = None
        for answer in tuple(self.factory.underway):
            ended: Deferred[None] = Deferred()
            answer.addBoth(_pass_on, ended)
            answer.addTimeout(STOP_SECONDS, self._reactor)
            waiting.append(ended)
        return DeferredList(waiting, consumeErrors=True).addCallback(lambda _: self._hang_up())

    async def _stop_listening(self, port: Any) -> None:
        with self._named, contextlib.suppress(FileNotFoundError):
            await port.stopListening()

    def _hang_up(self) -> None:
        for connection in tuple(self.factory.connections):
            connection.transport.loseConnection()


def _pass_on(result: Any, ended: Deferred[None]) -> Any:
    ended.callback(None)
    return result


def make_way(path: Path) -> None:
    """Removes a socket that a dead process left behind. Raises AlreadyRunning when a living one answers."""
    try:
        with socket_address(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(address)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    else:
        raise AlreadyRunning(f"another gateway is running with this data folder: it answers at {path}")


def _peer(transport: Any) -> tuple[int | None, int | None]:
    """Process and user; None where the other side is no process: in memory."""
    peer = getattr(transport, "socket", None)
    if peer is None:
        return None, None
    said = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", said)
    return int(pid), int(uid)
