"""Operations on the files of a stopped gateway: each worker's spool is locked, opened, worked on and closed again.

Knows how the parts are put together without a reactor. Does not know what is done; ``app.operations`` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inboundmx.app.answers import NotUnderstood, Told
from inboundmx.app.block_operations import BlockOperations
from inboundmx.app.greylist_operations import GreylistOperations
from inboundmx.app.list_operations import ListOperations
from inboundmx.app.maillog import LineWriter, MailLog, line_writer
from inboundmx.app.operations import Noun, Operations
from inboundmx.app.pause_operations import PauseOperations
from inboundmx.app.recipient_operations import RecipientOperations
from inboundmx.cli.asking import SOCKET_NAME, CannotAsk
from inboundmx.cli.printing import complain
from inboundmx.delivery.pausing import Pause, Pauses
from inboundmx.directory.memory import Memory
from inboundmx.intake.doorkeeping import forget_shared
from inboundmx.intake.live_lists import LiveLists
from inboundmx.model.settings import LogSettings, Settings
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly
from inboundmx.spool.locking import Locked
from inboundmx.spool.sqlite import SqliteSpool
from inboundmx.storage.ledger import Ledger
from inboundmx.storage.lists_file import ListsFile
from inboundmx.storage.pause_file import PauseFile
from inboundmx.storage.state import SqliteStateStore
from inboundmx.storage.writer import InlineLane, at_once

# In whose ledger stands what is done to things that belong to no worker.
FIRST_WORKER = "0"
# Operations that no single spool answers: once is enough, while a spool's lock keeps the gateway from starting.
_OF_ALL = frozenset({"spool.pause", "spool.resume", "spool.pauses"})


class _NoTimer:
    def cancel(self) -> None:
        """There is nothing to forget."""


class CommandClock:
    """``ports.Clock`` of a command, which ends sooner than anything could be called back: what would be done later is
    done when files are closed."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> _NoTimer:
        return _NoTimer()


def open_log(log: LogSettings) -> LineWriter:
    """Where what is done to the files is logged, beside the ledger: the gateway's log file. Its standard output is not
    ours to write to."""
    if log.to != "stdout":
        try:
            return line_writer(log)
        except OSError as error:
            complain(f"{log.to}: {error.strerror or error}; what is done now is recorded in the ledger alone")
    return LineWriter(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))


def perform(
    settings: Settings, operation: str, arguments: Mapping[str, Any], asked_by: str, writer: LineWriter
) -> list[bytes]:
    """The rows of every spool there is, or of what all share, as JSON text. Raises CannotAsk."""
    data = Path(settings.gateway.data)
    clock = CommandClock()
    rows: list[bytes] = []
    try:
        if operation.startswith(("greylist.", "lists.", "recipients.", "blocks.")):
            return _shared(settings, operation, arguments, asked_by, clock, writer)
        for folder in sorted(path for path in (data / "spool").glob("*") if path.is_dir()):
            with (
                _journal(settings, folder.name, clock, writer) as journal,
                _spool(folder, data, clock, journal) as spool,
            ):
                rows += _finished(_on_files(settings, spool, journal, clock).perform(operation, arguments, asked_by))
            if operation in _OF_ALL:
                break
    except NotUnderstood as wrong:
        raise CannotAsk(str(wrong), usage=True) from None
    except Locked:
        raise CannotAsk(
            f"a gateway holds the spool in {data}, but nobody answers at {data / SOCKET_NAME}: "
            "it is just starting or stopping, or another command is at work; try again"
        ) from None
    except Unavailable as trouble:
        raise CannotAsk(f"not done: {trouble.reason}") from None
    except PermissionError as trouble:
        raise CannotAsk(f"{trouble.filename}: permission denied; run this as root or as the gateway's user") from None
    return rows


def _on_files(settings: Settings, spool: SqliteSpool, journal: MailLog, clock: CommandClock) -> Operations:
    file = PauseFile(settings.gateway.data)

    async def keep(pauses: Sequence[Pause]) -> None:
        file.write(pauses)

    pauses = Pauses(clock, journal, keep, file.read())
    pausing = PauseOperations(pauses, clock, lambda: settings)
    return Operations(
        spool,
        None,
        journal,
        clock,
        settings,
        lambda: {"paused": pausing.rows()},
        {"spool": pausing},
        lambda domain: pauses.of(domain) is not None,
    )


def _shared(
    settings: Settings,
    operation: str,
    arguments: Mapping[str, Any],
    asked_by: str,
    clock: CommandClock,
    writer: LineWriter,
) -> list[bytes]:
    """On the state store or the lists, which need no lock of ours: any process may have them open."""
    noun, _, verb = operation.partition(".")
    with _journal(settings, FIRST_WORKER, clock, writer) as journal:
        if noun == "lists":
            lists = LiveLists(clock, _Aloud(journal), ListsFile(settings.gateway.data), _at_once)
            lists.begin()
            return _finished(ListOperations(lists, journal, clock, lambda: settings).perform(verb, arguments, asked_by))
        state = SqliteStateStore(
            settings.gateway.data,
            clock,
            at_once,
            report=lambda event, fields: complain(f"{event.replace('_', ' ')}: {fields.get('what')}"),
            lane=lambda name: InlineLane(),
        )
        blocks = LiveLists(clock, _Aloud(journal), ListsFile(settings.gateway.data, "blocks"), _at_once, "blocks")
        try:
            if noun == "blocks":
                blocks.begin()
            nouns: Mapping[str, Noun] = {
                "greylist": GreylistOperations(state, journal, clock, lambda: settings),
                "recipients": RecipientOperations(state, Memory(state, clock), journal, clock, lambda: settings),
                "blocks": BlockOperations(blocks, journal, clock, partial(forget_shared, state)),
            }
            rows = _finished(_rows(nouns[noun], operation, verb, arguments, asked_by))
        finally:
            state.close()
    return rows


async def _at_once(work: Callable[..., Any], *arguments: object) -> Any:
    return work(*arguments)


async def _rows(noun: Noun, operation: str, verb: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Told]:
    rows = await noun.perform(verb, arguments, asked_by)
    if rows is None:
        raise NotUnderstood(f"no operation is called {operation!r}")
    return rows


def _finished(coroutine: Any) -> list[bytes]:
    """With lanes that do everything at once, no coroutine waits. The rows are made before the files are closed."""
    rows: list[bytes] = []

    def done(told: Iterable[Told]) -> None:
        rows.extend(
            row.encode("ascii") if isinstance(row, str) else json.dumps(row).encode("ascii")
            for row in told
            if row is not None
        )

    def failed(failure: Any) -> None:
        failure.raiseException()

    promptly(coroutine, done, failed)
    return rows


class _Aloud:
    """``ports.Journal`` that also tells whoever typed the command of trouble: what a damaged spool lost is seen by the
    first who opens it, and that may be a command."""

    def __init__(self, journal: MailLog) -> None:
        self._journal = journal

    def record(self, event: str, id: str, fields: Mapping[str, object], *, level: str = "info") -> None:
        self._journal.record(event, id, fields, level=level)
        if level == "error":
            told = "; ".join(str(fields[name]) for name in ("what", "done") if fields.get(name))
            complain(f"{event.replace('_', ' ')}: {told}")


@contextlib.contextmanager
def _spool(folder: Path, data: Path, clock: CommandClock, journal: MailLog) -> Iterator[SqliteSpool]:
    spool = SqliteSpool.open(
        str(folder), str(data), clock=clock, journal=_Aloud(journal), from_thread=at_once,
        lane=lambda name: InlineLane(), adopt=False,
    )  # fmt: skip
    try:
        yield spool
    finally:
        spool.close().addErrback(lambda failure: journal.record("fault", "", {"what": str(failure.value)}))


@contextlib.contextmanager
def _journal(settings: Settings, worker: str, clock: CommandClock, writer: LineWriter) -> Iterator[MailLog]:
    """What is done to the files stands in the same ledger and log file as what the gateway does."""
    log = settings.log
    journal = MailLog(log, clock, writer, None)
    ledger = Ledger(
        settings.gateway.data,
        worker,
        keep=log.keep,
        keep_size=log.keep_size,
        clock=clock,
        report=lambda event, fields: complain(f"{event.replace('_', ' ')}: {fields.get('what')}"),
        from_thread=at_once,
        lane=lambda name: InlineLane(),
    )
    journal.keep_in(ledger)
    try:
        yield journal
    finally:
        journal.flush()
        ledger.close()
