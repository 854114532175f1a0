"""``inboundmx selftest durability``: whether a promise outlives the gateway's death, on the disk that is to keep it.

Knows how a private gateway is started in a folder of its own, killed, and asked what it still holds; and what a sync
costs there. Does not know the gateway that runs: its spool is never touched. Blocking, in a process without a reactor.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from inboundmx.app.spawning import executable
from inboundmx.app.trial_mail import DOMAIN, Books, Primary, Strangers
from inboundmx.storage.mounted import Doubt, Mounted, doubts, mounted

PREFIX = "inboundmx-selftest-"
_SYNCS, _SYNC_SECONDS, _PAGE = 500, 5.0, bytes(4096)
_READY_SECONDS = 30.0
# Nothing arrives for so long: what is missing then does not come by itself.
_QUIET_SECONDS = 15.0
_MOMENT = 0.01
_INI = """\
[gateway]
hostname = mx.{domain}
listen = tcp:{port}:interface=127.0.0.1
data = {folder}/data
workers = 0

[log]
to = {folder}/log

[domain {domain}]
primary = 127.0.0.1:{primary}
recipients = any
handover = spool
tls = none
"""


class CannotTry(Exception):
    """The trial could not be made; the text says why."""


class _DoesNotServe(Exception):
    """A gateway was started, and this is what it said instead of greeting."""


@dataclass(frozen=True, slots=True)
class Syncs:
    """What it takes to write a page and sync it, in seconds."""

    count: int
    median: float
    p99: float


@dataclass(frozen=True, slots=True)
class Report:
    """``lost`` and ``altered``: promised, and not as it should be; ``waiting``: promised, and still in the spool when
    the trial ended. ``ready_seconds``: the longest that a killed gateway took to serve again; ``dead``: what one said
    that never did. ``kept_at``: where all of it was left, because something was wrong."""

    folder: str
    place: Mounted | None
    syncs: Syncs
    doubts: tuple[Doubt, ...]
    offered: int
    promised: int
    lost: int
    altered: int
    waiting: int
    copies: int
    kills: int
    ready_seconds: float
    messages_a_second: float
    dead: str
    kept_at: str

    @property
    def kept(self) -> bool:
        """Every promise, over all kills."""
        return not (self.lost or self.altered or self.waiting or self.dead)

    @property
    def good(self) -> bool:
        return self.kept and not any(doubt.certain for doubt in self.doubts)


def measure_syncs(folder: Path) -> Syncs:
    """Raises OSError."""
    seconds: list[float] = []
    end = time.monotonic() + _SYNC_SECONDS
    path = folder / "syncs"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        while len(seconds) < _SYNCS and time.monotonic() < end:
            begun = time.perf_counter()
            os.write(descriptor, _PAGE)
            os.fdatasync(descriptor)
            seconds.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
    return Syncs(len(seconds), statistics.median(seconds), sorted(seconds)[int(len(seconds) * 0.99)])


def try_out(folder: Path, messages: int, seconds: float, kills: int, tell: Callable[[str], object]) -> Report:
    """Sends ``messages``, for ``seconds`` at most, and kills the gateway ``kills`` times meanwhile, all in a new folder
    inside ``folder``. ``tell`` is given a line now and then. Raises CannotTry."""
    try:
        room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    except OSError as trouble:
        raise CannotTry(f"cannot use {folder}: {trouble.strerror}") from trouble
    keep = False
    try:
        place = mounted(str(room))
        syncs = measure_syncs(room)
        tell(f"{syncs.count} syncs took {syncs.median * 1000:.3g} ms each; now mail")
        report = _Trial(room, messages, seconds, kills, tell).run(str(folder), place, syncs)
        keep = not report.kept
        return report
    except _DoesNotServe as trouble:
        raise CannotTry(f"the gateway of the trial does not serve: {trouble}") from trouble
    except OSError as trouble:
        raise CannotTry(f"{room}: {trouble.strerror or trouble}") from trouble
    finally:
        if not keep:
            shutil.rmtree(room, ignore_errors=True)


class _Trial:
    def __init__(self, room: Path, messages: int, seconds: float, kills: int, tell: Callable[[str], object]) -> None:
        self._room = room
        self._messages = messages
        self._end = time.monotonic() + seconds
        self._kills = kills
        self._tell = tell
        self._books = Books()
        self._config = room / "inboundmx.ini"
        self._python, self._environment = executable("inboundmx")
        self._gateway: subprocess.Popen[bytes] | None = None
        self._port = _free_port()
        self._ready = 0.0
        self._served = 0.0
        self._killed = 0
        self._dead = ""

    def run(self, folder: str, place: Mounted | None, syncs: Syncs) -> Report:
        """Raises _DoesNotServe or OSError when it does not even begin."""
        primary = Primary(self._books)
        strangers = Strangers(self._port, self._books)
        self._config.write_text(
            _INI.format(domain=DOMAIN, port=self._port, folder=self._room, primary=primary.port), encoding="utf-8"
        )
        try:
            self._start()
            strangers.start()
            try:
                self._send()
            except _DoesNotServe as trouble:
                self._dead = str(trouble)
            strangers.stop()
            waiting = 0 if self._dead else self._settle()
        finally:
            self._kill()
            primary.shutdown()
            primary.server_close()
        return self._report(folder, place, syncs, waiting)

    def _report(self, folder: str, place: Mounted | None, syncs: Syncs, waiting: int) -> Report:
        books = self._books
        missing = len(books.missing)
        waiting = min(waiting, missing)
        report = Report(
            folder=folder,
            place=place,
            syncs=syncs,
            doubts=tuple(doubts(place, syncs.median)),
            offered=books.offered,
            promised=books.promised,
            lost=missing - waiting,
            altered=len(books.altered),
            waiting=waiting,
            copies=books.copies,
            kills=self._killed,
            ready_seconds=self._ready,
            messages_a_second=books.promised / max(self._served, _MOMENT),
            dead=self._dead,
            kept_at=str(self._room),
        )
        return replace(report, kept_at="") if report.kept else report

    def _send(self) -> None:
        """Until enough is promised, and it was killed often enough."""
        begun = time.monotonic()
        while time.monotonic() < self._end:
            share = self._messages * (self._killed + 1) / (self._kills + 1)
            if self._killed == self._kills and self._books.promised >= share:
                break
            if self._killed < self._kills and self._books.promised >= share:
                # Not always at the same point of a commit.
                time.sleep(random.uniform(0.0, 0.05))
                self._served += time.monotonic() - begun
                self._kill()
                self._killed += 1
                begun = time.monotonic()
                self._start()
                self._ready = max(self._ready, time.monotonic() - begun)
                self._tell(f"killed {self._killed} times, {self._books.promised} messages promised")
                begun = time.monotonic()
            time.sleep(_MOMENT)
        self._served += time.monotonic() - begun

    def _settle(self) -> int:
        """Waits until all has arrived, or nothing does any more; then how much is still in the spool."""
        missing, quiet = len(self._books.missing), time.monotonic()
        while missing and time.monotonic() - quiet < _QUIET_SECONDS:
            time.sleep(_MOMENT)
            if len(self._books.missing) < missing:
                missing, quiet = len(self._books.missing), time.monotonic()
        if not missing:
            return 0
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            listed = subprocess.run(
                [*self._command(), "spool", "list", "--json"],
                env=self._environment,
                capture_output=True,
                timeout=_READY_SECONDS,
                check=True,
            )
            return len(json.loads(listed.stdout))
        return 0

    # --- the gateway --------------------------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        return [*self._python, "--config", str(self._config)]

    def _start(self) -> None:
        """Raises _DoesNotServe."""
        end = time.monotonic() + _READY_SECONDS
        with (self._room / "output").open("ab") as output:
            self._gateway = subprocess.Popen(
                [*self._command(), "run"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        while not _greets(self._port):
            if self._gateway.poll() is not None or time.monotonic() > end:
                said = (self._room / "output").read_text(errors="replace").strip().splitlines()[-1:]
                raise _DoesNotServe("".join(said) or "it says nothing")
            time.sleep(_MOMENT)

    def _kill(self) -> None:
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.kill()
            gateway.wait()


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as line:
            return line.recv(3) == b"220"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
