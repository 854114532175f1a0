"""A gateway, the primary that keeps books, and what lies in the gateway's folder between two lives.

Knows how both are started, killed and looked at; writes every cut into the books. Does not know what is sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from books import Arrivals, Books
from programs import PATIENCE, Child, Stage, Wire, domain, free_port, stage, until

from benchmarks.proc import cpu_seconds

HERE = Path(__file__).parent
# How long a start may take on a machine that is busy with other things; how long it takes is told, not judged.
READY_SECONDS = 60.0
# After the first worker's greeting, until the last has begun.
SWEPT_SECONDS = 20.0
# How long it may take until all that is in the spool has left it.
DRAIN_SECONDS = 180.0
# Never to be found between two lives but for the moment of one, and none of them after the next start.
HALF = (".part", "-journal", ".new")


class LedgerPrimary(Child):
    def __init__(self, folder: Path, drop: int) -> None:
        super().__init__("primary", folder)
        self.port = free_port()
        self.journal = folder / "journal"
        self._drop = drop

    def start(self) -> None:
        self.spawn(
            [sys.executable, str(HERE / "ledger_primary.py"), str(self.port), str(self.journal), f"{self._drop}"]
        )
        self.wait_for_banner(self.port)

    def arrivals(self) -> Arrivals:
        return Arrivals.read(self.journal) if self.journal.exists() else Arrivals()


class Scene:
    """``workers``: as in the INI. ``handover``: ``cut-through`` or ``spool``. ``drop``: see ``ledger_primary``."""

    def __init__(self, play: Stage, folder: Path, workers: int, handover: str, drop: int = 0) -> None:
        self.books = Books()
        self.primary = LedgerPrimary(folder, drop)
        self.sections = domain(self.primary.port, handover=handover)
        self.gateway = play.gateway(self.sections, gateway_keys=f"workers = {workers}\n", start=False)
        # Seconds from each start to the answer to EHLO.
        self.ready: list[float] = []
        # The same in seconds of CPU, which no other load on the machine makes longer.
        self.ready_cpu: list[float] = []
        self.half: list[str] = []

    # --- the gateway --------------------------------------------------------------------------------------------------

    def begin(self, launch: list[str] | None = None) -> None:
        """``launch``: before the command, to run it under."""
        self._before = self._unfinished("spool")
        self._began = time.monotonic()
        self.gateway.spawn([*(launch or []), *self.gateway.launch_command()])

    def until_ready(self) -> None:
        while not self.greets():
            assert self.gateway.running, self.gateway.said()
            assert time.monotonic() < self._began + READY_SECONDS, self.gateway.said()
            time.sleep(0.005)
        self.ready.append(time.monotonic() - self._began)
        self.ready_cpu.append(cpu_seconds(self.gateway.pid))
        # What was half done in the spool is finished or swept away before a worker serves; another may be the first.
        swept = time.monotonic() + SWEPT_SECONDS
        while (half := self._before & self._unfinished("spool")) and time.monotonic() < swept:
            time.sleep(0.02)
        self.half += sorted(half)

    def greets(self) -> bool:
        try:
            with Wire(self.gateway.port, timeout=PATIENCE) as wire:
                return wire.hello().code == 250
        except (OSError, EOFError, ValueError):
            return False

    def start(self) -> None:
        self.begin()
        self.until_ready()

    def kill(self) -> None:
        """The whole process group, at once."""
        assert self.gateway.process is not None
        self.books.cut(time.monotonic(), "gateway")
        os.killpg(self.gateway.pid, signal.SIGKILL)
        self.gateway.process.wait()

    def living_workers(self) -> list[int]:
        return [worker for nursery in children(self.gateway.pid) for worker in children(nursery)]

    def kill_worker(self, pid: int) -> None:
        self.books.cut(time.monotonic(), "worker")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _unfinished(self, folder: str = "") -> set[str]:
        """Names that only something half done has; with what they are, for a name may come again."""
        found = set()
        for path in (self.gateway.data / folder).rglob("*"):
            if path.parent.name == "incoming" or path.name.endswith(HALF):
                with contextlib.suppress(OSError):
                    found.add(f"{path.relative_to(self.gateway.data)} {path.stat().st_ino}")
        return found

    def litter(self) -> list[str]:
        """What should not be in the folder of a gateway that was stopped with an empty spool."""
        data = self.gateway.data
        bodies = [path for path in data.rglob("*") if path.parent.name in ("bodies", "incoming", "parked")]
        return sorted({*(f"{path.relative_to(data)}" for path in bodies), *self._unfinished()})

    def _all_work(self) -> bool:
        (process,) = json.loads(self.gateway.command("status", "--json"))["processes"]
        return all(worker.get("state", "ready") == "ready" for worker in process.get("workers", ()))

    # --- the primary --------------------------------------------------------------------------------------------------

    def primary_goes(self) -> None:
        self.books.cut(time.monotonic(), "primary")
        self.primary.abort()

    def primary_comes(self) -> None:
        if not self.primary.running:
            self.primary.start()

    # --- the end ------------------------------------------------------------------------------------------------------

    def settle(self) -> list[str]:
        """Everything that can be delivered is; what an operator would have to release he releases. The ids of what is
        in the spool all the same. The gateway is stopped."""
        self.primary_comes()
        until("all workers", self._all_work, DRAIN_SECONDS)
        if held := self.gateway.listed("spool", "list", "--state", "held"):
            self.gateway.command("spool", "release", *(row["id"] for row in held))
        self.gateway.drain(DRAIN_SECONDS)
        left = [row["id"] for row in self.gateway.listed("spool", "list")]
        assert self.gateway.stop() == 0, self.gateway.said()
        return left


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextlib.contextmanager
def scene(workers: int, handover: str, drop: int = 0) -> Iterator[Scene]:
    with stage() as play, tempfile.TemporaryDirectory(prefix="inboundmx-books-") as folder:
        made = Scene(play, Path(folder), workers, handover, drop)
        try:
            yield made
        finally:
            made.primary.close()
