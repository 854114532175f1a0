"""Worker processes: how one is started, and that it has ended.

Knows reactor.spawnProcess, what a child inherits, and where it finds this package. Does not know what it is told.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from inboundmx.app import ini
from inboundmx.app.channel import pair

# A worker finds its end of the channel here.
CHANNEL = 3
# No more are started before the settings are read.
GLANCED_LIMIT = 8


class Spawned(ProcessProtocol):
    """A worker process. ``gone`` fires with how it ended: a signal's number below zero, or its exit status."""

    def __init__(self) -> None:
        self.gone: Deferred[int] = Deferred()
        self.end: socket.socket
        self.process: Any
        self.started_as = 0

    @property
    def pid(self) -> int | None:
        """None once it has ended."""
        pid: int | None = self.process.pid
        return pid

    def signal(self, name: str) -> None:
        """``TERM``, ``KILL``; harmless when it has ended."""
        if self.process.pid is not None:
            self.process.signalProcess(name)

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self.gone.callback(-value.signal if value.signal else value.exitCode)


def spawn(reactor: Any, number: int) -> Spawned:
    """A new process that imports what a worker takes and then waits for its first packet. It has our standard output
    and error, and nothing else of ours. The number is an argument only for people who look at a list of processes."""
    ours, theirs = pair()
    spawned = Spawned()
    spawned.end = ours
    package = str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    try:
        spawned.process = reactor.spawnProcess(
            spawned,
            sys.executable,
            # Not the folder that we happen to be in.
            [sys.executable, "-P", "-m", "inboundmx.app.worker", str(number)],
            env={**os.environ, "PYTHONPATH": path},
            childFDs={0: _nothing(), 1: 1, 2: 2, CHANNEL: theirs.fileno()},
        )
    finally:
        theirs.close()
    spawned.started_as = spawned.process.pid
    return spawned


def _nothing() -> int:
    global _null
    if _null is None:
        _null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    return _null


_null: int | None = None


def glanced(config: str) -> int:
    """How many workers there will probably be, at a glance into the file; 0 where it is not plain to see."""
    try:
        text = ini.decode(Path(config).read_bytes(), config)
    except (OSError, ValueError):
        return 0
    if not isinstance(text, str):
        return 0
    sections, problems = ini.read(text, config)
    found = [section.entries for section in sections if section.name == "gateway"]
    if problems or len(found) != 1:
        return 0
    said = found[0]["workers"].value if "workers" in found[0] else "1"
    return min(int(said), GLANCED_LIMIT) if said.isdigit() and said.isascii() else 1


class Early:
    """Workers that were started before it is known what they will do."""

    def __init__(self, reactor: Any, count: int) -> None:
        self._waiting = [spawn(reactor, number) for number in range(count)]

    def take(self) -> Spawned | None:
        return self._waiting.pop(0) if self._waiting else None

    def close(self) -> None:
        """What nobody took is ended."""
        for spawned in self._waiting:
            spawned.signal("KILL")
            spawned.end.close()
        self._waiting.clear()
