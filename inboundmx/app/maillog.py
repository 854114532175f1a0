"""The journal: each event is written as JSON once, for the log and for the ledger.

Knows how a line looks and that writing it must not hold up mail: lines are collected and handed to a thread, so that a
slow pipe or disk behind the log stops nobody. Does not know what events mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from inboundmx.model.settings import LogSettings
from inboundmx.ports import Clock

_LEVELS = ("debug", "info", "warning", "error")
_FLUSH_SECONDS = 0.05
_BATCHES_WAITING = 200
_STDOUT = 1
_LINE_LIMIT = 64 * 1024
# Printable ASCII only: no line break, no escape sequence, no direction mark gets out of a JSON string.
_encoder = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=str)


def _prepared(encoder: json.JSONEncoder) -> Callable[[object], str]:
    """As ``encoder.encode``, which makes its inner encoder anew for each text: 3 us of 4 remain."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    quoted, separators = json.encoder.encode_basestring_ascii, (encoder.key_separator, encoder.item_separator)
    inner = make(None, encoder.default, quoted, None, *separators, False, False, True)
    return lambda value: "".join(inner(value, 0))


_encode = _prepared(_encoder)


class LedgerFile(Protocol):
    def add(self, at: float, id: str, event: str, text: str, also: tuple[str, ...] = ()) -> None: ...


class LineWriter:
    """A thread that appends lines to a file descriptor. Past its bound lines are dropped and counted. A log is rotated
    by making a new writer and ending the old one. ``lock``: a file whose lock is held while lines are written, so that
    those of several processes do not mix in a pipe, which takes no more than 4096 octets at once."""

    def __init__(self, descriptor: int, lock: int | None = None) -> None:
        self._descriptor = descriptor
        self._lock = lock
        self._batches: queue.Queue[bytes | None] = queue.Queue(_BATCHES_WAITING)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        try:
            self._batches.put_nowait(lines)
        except queue.Full:
            self.dropped += lines.count(b"\n")

    def end(self) -> None:
        """What was written is still appended, then the file is closed. Does not wait for it; one that is stuck with a
        full queue stays as it is."""
        with contextlib.suppress(queue.Full):
            self._batches.put_nowait(None)

    def close(self) -> None:
        """As ``end``, and waits for it, two seconds at most."""
        with contextlib.suppress(queue.Full):
            self._batches.put(None, timeout=2.0)
        self._thread.join(2.0)

    def _run(self) -> None:
        while (lines := self._batches.get()) is not None:
            # A log that cannot be written must not stop mail; the ledger still has the event.
            with contextlib.suppress(OSError), self._alone():
                while lines:
                    lines = lines[os.write(self._descriptor, lines) :]
        if self._descriptor != _STDOUT:
            # A rotated file that stays open would keep its room on the disk for ever.
            os.close(self._descriptor)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


def open_log(settings: LogSettings) -> int:
    """The descriptor that lines are written to. Raises OSError when the log file cannot be opened."""
    if settings.to == "stdout":
        return _STDOUT
    return os.open(settings.to, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def close_log(descriptor: int) -> None:
    if descriptor > 2:
        os.close(descriptor)


def line_writer(settings: LogSettings) -> LineWriter:
    """Raises OSError when the log file cannot be opened."""
    return LineWriter(open_log(settings))


class MailLog:
    """``ports.Journal``."""

    def __init__(self, settings: LogSettings, clock: Clock, writer: LineWriter, ledger: LedgerFile | None) -> None:
        self.settings = settings
        self._least = _LEVELS.index(settings.level)
        self._clock = clock
        self._writer = writer
        self._ledger = ledger
        self._waiting: list[str] = []
        self._second = -1
        self._stamp = ""
        self._dropped = 0

    def configure(self, settings: LogSettings, writer: LineWriter) -> None:
        """Goes on by new settings, and with a writer of its own: where they name the same file, one that was rotated
        meanwhile is begun anew."""
        self.flush()
        self.settings = settings
        self._least = _LEVELS.index(settings.level)
        before, self._writer, self._dropped = self._writer, writer, 0
        before.end()

    def keep_in(self, ledger: LedgerFile | None) -> None:
        self._ledger = ledger

    def record(self, event: str, id: str, fields: Mapping[str, object], *, level: str = "info") -> None:
        if level == "debug" and self._least > 0:
            return
        rank = _LEVELS.index(level)
        now = self._clock.now()
        text = _encode(fields)
        if len(text) > _LINE_LIMIT:
            text = _encode({"cut": text[:_LINE_LIMIT]})
        if rank > 0 and self._ledger is not None:
            entry = fields.get("entry")
            self._ledger.add(now, id, event, text, (entry,) if isinstance(entry, str) and entry != id else ())
        if rank >= self._least:
            self._line(now, level, event, id, fields, text)

    def _line(self, now: float, level: str, event: str, id: str, fields: Mapping[str, object], text: str) -> None:
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = datetime.fromtimestamp(self._second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        at = f"{self._stamp}.{int(now * 1000) % 1000:03d}Z"
        if self.settings.format == "json":
            head = f'{{"at":"{at}","level":"{level}","event":"{event}","id":"{id}"'
            line = f"{head},{text[1:]}" if len(text) > 2 else head + "}"
        else:
            told = " ".join(f"{_name(name)}={_encode(value)}" for name, value in fields.items())
            line = f"{at} {level} {event} {id} {told}"
        if not self._waiting:
            self._clock.call_later(_FLUSH_SECONDS, self.flush)
        self._waiting.append(line)

    def flush(self) -> None:
        if self._waiting:
            self._writer.write(("\n".join(self._waiting) + "\n").encode("ascii", "replace"))
            self._waiting.clear()
        if self._writer.dropped > self._dropped:
            lost, self._dropped = self._writer.dropped - self._dropped, self._writer.dropped
            self.record("log_lines_dropped", "", {"lines": lost, "to": self.settings.to}, level="warning")

    def close(self) -> None:
        self.flush()
        self._writer.close()


def _name(name: str) -> str:
    """What an operator asks for has names of his own, in the detail that debug adds."""
    return name if name.isidentifier() else _encode(name)


@implementer(ILogObserver)
class FaultObserver:
    """Turns what Twisted logs of failures into one journal line each: a fault of ours must never be silent, nor a
    traceback over many lines."""

    def __init__(self, journal: MailLog) -> None:
        self._journal = journal

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.warn:
            return
        fields: dict[str, Any] = {"what": (formatEvent(event) or "")[:2000]}
        failure = event.get("log_failure")
        if failure is not None:
            fields["what"] = f"{failure.type.__name__}: {failure.getErrorMessage()}"[:500]
            fields["where"] = [f"{f[1].rsplit('/', 1)[-1]}:{f[2]} {f[0]}" for f in failure.frames[-6:]]
        self._journal.record("fault", "", fields, level="warning" if level == LogLevel.warn else "error")
