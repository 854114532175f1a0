"""A question to a worker over its control socket, and its answer as it comes; the rows of several such in one stream.

Knows the control socket's lines. Does not know who is asked what, nor what a row says but for the id it begins with.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from inboundmx.app.control import control_name
from inboundmx.cli.asking import socket_address

# Rows kept of one worker while those of another are written.
ROWS_WAITING = 500
LINE_LIMIT = 64 * 1024 * 1024

_ROW = b'{"row":'
# Octets of a row up to the end of the millisecond in its id.
_TIME = len('{"id":"') + 9


class Question(LineReceiver):
    """One question to one worker, and its answer as it comes. ``begun`` fires with the first that is heard, or that
    nothing will be. ``trouble`` is why the answer is not whole, ``wrong`` what is wrong with the question."""

    delimiter = b"\n"
    MAX_LENGTH = LINE_LIMIT
    transport: Any

    def __init__(self, reactor: Any, worker: str, request: bytes, seconds: float) -> None:
        self.worker = worker
        self.rows: deque[str] = deque()
        self.over = False
        self.trouble = ""
        self.wrong = ""
        self.begun: Deferred[None] = Deferred()
        self._more: Deferred[None] | None = None
        self._reactor = reactor
        self._request = request
        self._seconds = seconds
        self._paused = False
        self._timer = reactor.callLater(seconds, self._silent)

    def connectionMade(self) -> None:
        self.transport.write(self._request)

    def lineReceived(self, line: bytes) -> None:
        if line.startswith(_ROW):
            self.rows.append(line[len(_ROW) : -1].decode("ascii"))
            if len(self.rows) >= ROWS_WAITING and not self._paused:
                self._pause(True)
            elif not self._paused:
                self._timer.reset(self._seconds)
            self._heard()
            return
        said = json.loads(line)
        if "error" in said and said.get("usage"):
            self.wrong = said["error"]
        self._end(said.get("error", "") if not self.wrong else "")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end("ended before its answer was whole")

    def failed(self, trouble: str) -> None:
        self._end(trouble)

    def next(self) -> str | None:
        """The next row; None when there is none now."""
        if not self.rows:
            return None
        row = self.rows.popleft()
        if self._paused and len(self.rows) < ROWS_WAITING // 2:
            self._pause(False)
        return row

    def more(self) -> Deferred[None]:
        """Fires when something is heard."""
        if self._more is None:
            self._more = Deferred()
        return self._more

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
        self._end("")

    def _pause(self, paused: bool) -> None:
        """Whoever does not read does not know whether the other is silent."""
        self._paused = paused
        if paused:
            self._timer.cancel()
            self.pauseProducing()  # type: ignore[no-untyped-call]
        else:
            self._timer = self._reactor.callLater(self._seconds, self._silent)
            self.resumeProducing()  # type: ignore[no-untyped-call]

    def _silent(self) -> None:
        self._end(f"did not answer within {self._seconds:.0f} seconds")
        if self.transport is not None:
            self.transport.abortConnection()

    def _end(self, trouble: str) -> None:
        if self.over:
            return
        self.over = True
        self.trouble = trouble
        if self._timer.active():
            self._timer.cancel()
        if self.transport is not None:
            self.transport.loseConnection()
        self._heard()

    def _heard(self) -> None:
        if not self.begun.called:
            self.begun.callback(None)
        more, self._more = self._more, None
        if more is not None:
            more.callback(None)


class _Asking(ClientFactory):
    noisy = False

    def __init__(self, question: Question) -> None:
        self._question = question

    def buildProtocol(self, addr: Any) -> Question:
        return self._question

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._question.failed("does not answer")


def put(reactor: Any, data: Path, worker: str, request: bytes, seconds: float) -> Question:
    """Asks a worker of the gateway in the folder ``data``; ``seconds`` is how long it may say nothing."""
    question = Question(reactor, worker, request, seconds)
    with socket_address(data / control_name(worker)) as address:
        reactor.connectUNIX(address, _Asking(question), timeout=seconds)
    return question


def concatenated(questions: Iterable[Question]) -> Iterator[str | Deferred[None]]:
    """Their rows; where none is there yet, what fires when there may be."""
    for question in questions:
        while True:
            row = question.next()
            if row is not None:
                yield row
            elif question.over:
                break
            else:
                yield question.more()


def merged(questions: Sequence[Question]) -> Iterator[str | Deferred[None]]:
    """As ``concatenated``, but the oldest first: an id begins with its time, and a listed row with its id."""
    heads: dict[Question, str] = {}
    waiting = list(questions)
    while True:
        for question in tuple(waiting):
            while (row := question.next()) is None and not question.over:
                yield question.more()
            waiting.remove(question)
            if row is not None:
                heads[question] = row
        if not heads:
            return
        oldest = min(heads, key=lambda question: heads[question][:_TIME])
        yield heads.pop(oldest)
        waiting.append(oldest)
