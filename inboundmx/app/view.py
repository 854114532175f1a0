"""One view of several workers: what an operator asks is asked of each, and their rows are joined while they come.

Knows which questions go to all, which to one, and who did not answer. Does not know how a worker is asked
(``questions``), nor what a row says but for the status (``joining``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from inboundmx.app.answers import NotUnderstood, Told
from inboundmx.app.joining import health_word, joined_status
from inboundmx.app.questions import Question, concatenated, merged, put
from inboundmx.model.settings import Settings
from inboundmx.ports import Unavailable

# A worker that says nothing for so long is named instead. A change of many entries waits for many syncs of a busy disk.
SILENT_SECONDS = 5.0
CHANGE_SECONDS = 100.0
# A view as old as that is good enough for programs that ask again and again.
FRESH_SECONDS = 1.0

_READING = frozenset(
    {"status", "spool.list", "spool.show", "spool.pauses", "quarantine.list", "quarantine.show"}
    | {"lists.list", "blocks.list", "connections.list"}
)
_IN_ORDER = frozenset({"spool.list", "quarantine.list"})
# What all workers share: any of them can tell.
_OF_ONE = frozenset(
    {"greylist.list", "recipients.list", "recipients.import", "spool.pauses", "lists.list", "blocks.list"}
)
# And what each must hear of nevertheless, one after the other, for they write to the same file; a dry run needs one.
_BY_TURNS = frozenset(
    {
        *("spool.pause", "spool.resume", "greylist.forget", "greylist.release", "recipients.forget"),
        *("lists.add", "lists.remove", "blocks.add", "blocks.remove"),
    }
)
# What all do at once before these. Each writes what it still has in hand, which it does when asked for that: so the
# first finds it, and what two of them have is not counted twice. And what one has counted begins no block anew.
_BEFORE = {
    "greylist.forget": "greylist.list",
    "greylist.release": "greylist.list",
    "recipients.forget": "recipients.list",
    "blocks.remove": "blocks.forget",
}
# Where one does it for all, and the others need but look at what it wrote.
_THEN = {
    "greylist.release": "greylist.look",
    "lists.add": "lists.look",
    "lists.remove": "lists.look",
    "blocks.add": "blocks.look",
    "blocks.remove": "blocks.look",
}
_log = Logger()


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
                questions.append(put(self._reactor, self._data, worker["worker"], request, seconds))
        return questions, ([] if one and questions else away)

    async def _by_turns(self, operation: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Told]:
        """What the first says; of what was forgotten, the sum."""
        before = _BEFORE.get(operation)
        if before is not None:
            given = {"limit": 1} if before.endswith(".list") else arguments
            questions, _ = self._ask(before, given, asked_by, False)
            await DeferredList([question.begun for question in questions])
            for question in questions:
                question.hang_up()
        request = _request(operation, arguments, asked_by)
        first: list[str] | None = None
        forgotten = 0
        troubles: list[str] = []
        for worker in self._workers():
            name = worker["worker"]
            if worker["state"] != "ready":
                # It reads what the others wrote when it starts.
                continue
            question = put(self._reactor, self._data, name, request, CHANGE_SECONDS)
            while not question.over:
                await question.more()
            if question.wrong:
                raise NotUnderstood(question.wrong)
            if question.trouble:
                troubles.append(f"worker {name}: {question.trouble}")
            elif operation in _THEN:
                request = _request(_THEN[operation], {}, asked_by)
            rows = list(question.rows)
            forgotten += sum(json.loads(row).get("forgotten", 0) for row in rows)
            first = first or rows
        if troubles or first is None:
            raise Unavailable("; ".join(troubles) or "no worker is there to do it")
        return [{"forgotten": forgotten}] if operation.endswith(".forget") else first

    def _told(self, questions: list[Question], away: list[str], in_order: bool, limit: int | None) -> Iterator[Told]:
        left = limit if limit is not None else -1
        try:
            for row in merged(questions) if in_order else concatenated(questions):
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
