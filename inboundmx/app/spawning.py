"""The supervisor's end of the nursery: how it is started, told to fork workers, and tells what became of them.

Knows reactor.spawnProcess, what a child inherits, and where it finds this package. Does not know what a worker is told.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from inboundmx.app import ini
from inboundmx.app.channel import Channel, Said, pair

# The nursery finds its end of the channel here.
CHANNEL = 3
# How a process ended of which nobody can say it.
UNKNOWN = -int(signal.SIGKILL)


class Worker:
    """A forked process. ``heard`` gets what it says; ``gone`` fires with how it ended: a signal's number below zero, or
    its exit status."""

    def __init__(self, reactor: Any, end: socket.socket, heard: Callable[[Said], object]) -> None:
        self.pid = 0
        self.gone: Deferred[int] = Deferred()
        self._silent = self._orphan = False
        self.channel = Channel(reactor, end, lambda said, _: heard(said), self._ended_its_channel)

    def signal(self, number: int) -> None:
        """Harmless when it has ended. One that was not even forked hears that its channel ends."""
        if self.gone.called:
            return
        if self.pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        else:
            self.channel.close()

    def ended(self, status: int) -> None:
        self.channel.close()
        if not self.gone.called:
            self.gone.callback(status)

    def orphaned(self) -> None:
        """Its nursery is gone."""
        self._orphan = True
        if self._silent:
            self.ended(UNKNOWN)

    def _ended_its_channel(self) -> None:
        self._silent = True
        if self._orphan:
            self.ended(UNKNOWN)


class Nursery(ProcessProtocol):
    """One process that forks workers. ``lost`` is told when it has ended by itself."""

    def __init__(self, reactor: Any) -> None:
        self.lost: Callable[[], object] = lambda: None
        self.alive = True
        self.gone: Deferred[None] = Deferred()
        self._reactor = reactor
        self._lives: dict[int, Worker] = {}
        self._number = 0
        ours, theirs = pair()
        package = str(Path(__file__).parent.parent.parent)
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self._process = reactor.spawnProcess(
                self,
                sys.executable,
                # Not the folder that we happen to be in.
                [sys.executable, "-P", "-m", "inboundmx.app.nursery"],
                env={**os.environ, "PYTHONPATH": path},
                childFDs={0: nothing, 1: 1, 2: 2, CHANNEL: theirs.fileno()},
            )
        finally:
            os.close(nothing)
            theirs.close()
        self._channel = Channel(reactor, ours, self._heard, lambda: None)

    def become(self, user: str) -> None:
        """Before the first ``fork``."""
        self._channel.tell({"do": "become", "user": user})

    def fork(self, heard: Callable[[Said], object]) -> Worker:
        """A new worker, which may be spoken to at once. It ends at once when the nursery has."""
        ours, theirs = pair()
        worker = Worker(self._reactor, ours, heard)
        self._number += 1
        with theirs:
            told = self._channel.tell({"do": "fork", "life": self._number}, [theirs.fileno()])
        if told and self.alive:
            self._lives[self._number] = worker
        else:
            self._reactor.callLater(0.0, worker.ended, UNKNOWN)
        return worker

    def close(self) -> Deferred[None]:
        """Ends it; fires when it has."""
        self.lost = lambda: None
        self._channel.close()
        return self.gone

    def kill(self) -> None:
        """Before it was told anything."""
        self._process.signalProcess("KILL")
        self._channel.close()

    def _heard(self, said: Said, descriptors: list[int]) -> None:
        if "forked" in said:
            worker = self._lives[said["forked"]]
            worker.pid = said["pid"]
            if worker.pid < 0:
                del self._lives[said["forked"]]
                worker.ended(UNKNOWN)
        elif "ended" in said:
            for number, worker in tuple(self._lives.items()):
                if worker.pid == said["ended"]:
                    del self._lives[number]
                    worker.ended(said["status"])

    def processEnded(self, reason: Failure) -> None:
        self.alive = False
        self._channel.close()
        for worker in self._lives.values():
            # Nobody will tell how it ends; that it does, its channel shows.
            worker.orphaned()
        self._lives.clear()
        self.gone.callback(None)
        self.lost()


def glanced(config: str) -> bool:
    """Whether there will probably be workers, at a glance into the file; no where it is not plain to see."""
    found = ini.glance(config, "gateway")
    return found is not None and ("workers" not in found or found["workers"].value != "0")
