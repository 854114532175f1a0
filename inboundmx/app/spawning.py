"""The supervisor's end of the nursery: how it is begun, told to fork workers, and tells what became of them.

Knows processes, what they inherit, and where a new one finds this package. Does not know what a worker is told.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from inboundmx.app.channel import Channel, Said, pair

# A process that is executed finds its end of the channel here.
CHANNEL = 3
# How a process ended of which nobody can say it.
UNKNOWN = -int(signal.SIGKILL)
# Its channel ends a moment before the process does.
REAP_SECONDS = 0.01


class Cradle(NamedTuple):
    """A process that is to be a nursery, and our end of its channel."""

    pid: int
    end: socket.socket


def forked() -> Cradle | socket.socket:
    """A nursery that shares with us what we have loaded; in itself, its end of the channel. For a process without
    threads and without a reactor, which children would have as well."""
    ours, theirs = pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        return theirs
    theirs.close()
    return Cradle(pid, ours)


def executable(module: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment that execute a module of this package: of the very one that we are of."""
    package = str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    # -P: not the folder that we happen to be in.
    return [sys.executable, "-P", "-m", module], {**os.environ, "PYTHONPATH": path}


def executed() -> Cradle:
    """A nursery that loads everything by itself, in a second."""
    ours, theirs = pair()
    command, environment = executable("inboundmx.app.nursery")
    with theirs:
        pid = os.posix_spawn(
            sys.executable,
            command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL)],
            setsigdef=[signal.SIGPIPE],
        )
    return Cradle(pid, ours)


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
            self._silent = True
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


class Nursery:
    """One process that forks workers. ``lost`` is told when it has ended by itself."""

    def __init__(self, reactor: Any, cradle: Cradle) -> None:
        self.lost: Callable[[], object] = lambda: None
        self.alive = True
        self.gone: Deferred[None] = Deferred()
        self._reactor = reactor
        self._pid = cradle.pid
        self._lives: dict[int, Worker] = {}
        self._number = 0
        self._channel = Channel(reactor, cradle.end, lambda said, _: self._heard(said), self._reap)

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
        self._reap()
        return self.gone

    def _heard(self, said: Said) -> None:
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

    def _reap(self) -> None:
        """Its channel has ended: it does, or has."""
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                self._reactor.callLater(REAP_SECONDS, self._reap)
                return
        self.alive = False
        for worker in self._lives.values():
            # Nobody will tell how it ends; that it does, its channel shows.
            worker.orphaned()
        self._lives.clear()
        self.gone.callback(None)
        self.lost()
