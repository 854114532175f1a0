"""One view of several workers: what an operator asks is asked of each, and their rows are joined while they come.

Knows which questions go to all, which to one, and who did not answer. Does not know what a row says, but for its id and
for the status (``joining``).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from inboundmx.app.answers import NotUnderstood, Told
from inboundmx.app.control import control_name
from inboundmx.app.joining import health_word, joined_status
from inboundmx.cli.asking import socket_address
from inboundmx.model.settings import Settings
from inboundmx.ports import Unavailable

# A worker that says nothing for so long is named instead. A change of many entries waits for many syncs of a busy disk.
SILENT_SECONDS = 5.0
CHANGE_SECONDS = 100.0
# Rows kept of one worker while those of another are written.
ROWS_WAITING = 500
LINE_LIMIT = 64 * 1024 * 1024
# A view as old as that is good enough for programs that ask again and again.
FRESH_SECONDS = 1.0

_READING = frozenset({"status", "spool.list", "spool.show", "spool.pauses", "quarantine.list", "quarantine.show"})
_IN_ORDER = frozenset({"spool.list", "quarantine.list"})
# What all workers share: any of them can tell.
_OF_ONE = frozenset({"greylist.list", "spool.pauses"})
# And what each must hear of nevertheless, one after the other, for they write to the same file; a dry run needs one.
_BY_TURNS = frozenset({"spool.pause", "spool.resume", "greylist.forget"})
_ROW = b'{"row":'
_log = Logger()


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


class View:
    """``perform`` as ``Operations.perform``. ``workers`` gives a row for each as the supervisor knows it: ``worker``,
    ``pid``, ``state`` and more."""

    def __init__(
        self, reactor: Any, data: Path, workers: Callable[[], list[dict[str, Any]]], settings: Callable[[], Settings]
    ) -> None:
        self._reactor = reactor
        self._data = data
        self._workers = workers
        self._settings = settings
        self._rows: list[dict[str, Any]] = []
        self._status: dict[str, Any] = self._joined([])
        self._seen_at = float("-inf")
        self._looking: list[Deferred[None]] = []

    async def perform(self, operation: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Told]:
        if operation == "status":
            await self._look()
            return [self._status]
        if operation in _BY_TURNS and not arguments.get("dry_run"):
            return await self._by_turns(operation, arguments, asked_by)
        one = operation in _OF_ONE | _BY_TURNS
        questions, away = self._ask(operation, arguments, asked_by, one)
        await DeferredList([question.begun for question in questions])
        for question in questions:
            if question.wrong:
                for other in questions:
                    other.hang_up()
                raise NotUnderstood(question.wrong)
        limit = arguments.get("limit") if operation in _IN_ORDER else None
        return self._told(questions, away, operation in _IN_ORDER, limit)

    # --- for the console ----------------------------------------------------------------------------------------------

    def status(self) -> Mapping[str, Any]:
        """As it was when somebody last looked (``refresh``)."""
        return self._status

    def trouble(self) -> str:
        return health_word(self._rows)

    def refresh(self) -> Deferred[None] | None:
        """Fires when what ``status`` and ``trouble`` say is not old; None: it is not."""
        if self._reactor.seconds() - self._seen_at < FRESH_SECONDS:
            return None
        waiting: Deferred[None] = Deferred()
        self._looking.append(waiting)
        if len(self._looking) == 1:
            Deferred.fromCoroutine(self._look()).addBoth(self._looked)
        return waiting

    def _looked(self, result: Any) -> None:
        if isinstance(result, Failure):
            # Who waits is told what was seen before; the log knows why it is not new.
            _log.failure("the workers cannot be looked at", result)
        looking, self._looking = self._looking, []
        for waiting in looking:
            waiting.callback(None)

    async def _look(self) -> None:
        questions, _ = self._ask("status", {}, "", False)
        await DeferredList([question.begun for question in questions])
        heard = {question.worker: json.loads(row) for question in questions if (row := question.next()) is not None}
        for question in questions:
            question.hang_up()
        self._rows = list(heard.values())
        workers = []
        for worker in self._workers():
            said = heard.get(worker["worker"])
            if said is not None:
                worker |= {"connections": said["connections"]}
            elif worker["state"] == "ready":
                worker["state"] = "silent"
            workers.append(worker)
        self._status = self._joined(workers)
        self._seen_at = self._reactor.seconds()

    def _joined(self, workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return joined_status(self._rows, workers, self._settings().fingerprint)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(
        self, operation: str, arguments: Mapping[str, Any], asked_by: str, one: bool
    ) -> tuple[list[Question], list[str]]:
        """Those that were asked, and the numbers of those that cannot be."""
        request = _request(operation, arguments, asked_by)
        seconds = SILENT_SECONDS if operation in _READING else CHANGE_SECONDS
        questions: list[Question] = []
        away: list[str] = []
        for worker in self._workers():
            if worker["state"] != "ready":
                away.append(worker["worker"])
            elif not (one and questions):
                questions.append(self._question(worker["worker"], request, seconds))
        return questions, ([] if one and questions else away)

    def _question(self, worker: str, request: bytes, seconds: float) -> Question:
        question = Question(self._reactor, worker, request, seconds)
        with socket_address(self._data / control_name(worker)) as address:
            self._reactor.connectUNIX(address, _Asking(question), timeout=seconds)
        return question

    async def _by_turns(self, operation: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Told]:
        """What the first says; of what was forgotten, the sum."""
        if operation == "greylist.forget":
            # Each writes what it still has in hand, so that what two of them have is not counted twice.
            questions, _ = self._ask("greylist.list", {"limit": 1}, asked_by, False)
            await DeferredList([question.begun for question in questions])
            for question in questions:
                question.hang_up()
        request = _request(operation, arguments, asked_by)
        first: list[str] = []
        forgotten = 0
        troubles: list[str] = []
        for worker in self._workers():
            name = worker["worker"]
            if worker["state"] != "ready":
                # It reads what the others wrote when it starts.
                continue
            question = self._question(name, request, CHANGE_SECONDS)
            while not question.over:
                await question.more()
            if question.wrong:
                raise NotUnderstood(question.wrong)
            if question.trouble:
                troubles.append(f"worker {name}: {question.trouble}")
            rows = list(question.rows)
            forgotten += sum(json.loads(row).get("forgotten", 0) for row in rows)
            first = first or rows
        if troubles or not first:
            raise Unavailable("; ".join(troubles) or "no worker is there to do it")
        return [{"forgotten": forgotten}] if operation == "greylist.forget" else first

    def _told(self, questions: list[Question], away: list[str], in_order: bool, limit: int | None) -> Iterator[Told]:
        left = limit if limit is not None else -1
        try:
            for row in _merged(questions) if in_order else _concatenated(questions):
                if not left:
                    return
                if isinstance(row, str):
                    left -= 1
                yield row
        finally:
            for question in questions:
                question.hang_up()
        troubles = [f"worker {question.worker} {question.trouble}" for question in questions if question.trouble]
        troubles += [f"worker {name} is not running just now" for name in away]
        if troubles:
            raise Unavailable(f"{'; '.join(troubles)}: what it has in its spool is not told of here")


def _request(operation: str, arguments: Mapping[str, Any], asked_by: str) -> bytes:
    request = {"operation": operation, "arguments": arguments, "on_behalf_of": asked_by}
    return json.dumps(request).encode("ascii") + b"\n"


def _concatenated(questions: Iterable[Question]) -> Iterator[str | Deferred[None]]:
    for question in questions:
        while True:
            row = question.next()
            if row is not None:
                yield row
            elif question.over:
                break
            else:
                yield question.more()


def _merged(questions: Sequence[Question]) -> Iterator[str | Deferred[None]]:
    """The oldest first: an id begins with its time, and a listed row with its id."""
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


# Octets of a row up to the end of the millisecond in its id.
_TIME = len('{"id":"') + 9
