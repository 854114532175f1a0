"""What every trial needs: a stage with programs, crowds of senders, and a client that notices when others wait.

Knows how load is made and how processes are looked at. Does not know any fault.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from programs import DOMAIN, Child, Gateway, Stage, Wire, domain, free_port, letter, until

from benchmarks.proc import cpu_seconds, forget_peak

PATIENCE = 120.0
NOOP_SECONDS = 0.01
# For whoever asks NOOP after NOOP.
UNHURRIED = "[smtp]\nmax_junk_commands = 1000000\n"
HERE = Path(__file__).parent


class CountingPrimary(Child):
    """Takes mail by the hundred thousand; comes and goes. What it took is in one file."""

    def __init__(self, folder: Path) -> None:
        super().__init__("primary", folder)
        self.port = free_port()
        self._taken = folder / "taken"

    def start(self) -> CountingPrimary:
        self.spawn([sys.executable, str(HERE / "counting_primary.py"), str(self.port), str(self._taken)])
        self.wait_for_banner(self.port)
        return self

    def taken(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Of each message its serial (``-`` for a notice), its digest, and its recipients."""
        if self._taken.exists():
            with self._taken.open() as lines:
                for line in lines:
                    serial, digest, recipients = line.rstrip("\n").split(" ")
                    yield serial, digest, tuple(recipients.split(","))

    def count(self) -> int:
        return sum(1 for _ in self.taken())


@dataclass
class Crowd:
    """What came of many messages: of each the code that decided, and how long that took from the connection on."""

    codes: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    took: float = 0.0

    @property
    def refused_for_good(self) -> int:
        return sum(times for code, times in self.codes.items() if code >= 500)

    @property
    def worst(self) -> float:
        return max(self.seconds, default=0.0)


BROKEN = 0


def proxied(port: int, peer: str, timeout: float = PATIENCE) -> Wire:
    """A connection that a trusted proxy says is from ``peer``."""
    wire = Wire(port, timeout=timeout)
    wire.send(f"PROXY TCP4 {peer} 192.0.2.200 4000 25\r\n".encode())
    return wire


def stranger(number: int) -> str:
    """An address for each of many."""
    return f"198.18.{number // 250}.{number % 250 + 1}"


def sent(
    port: int, octets: bytes, recipients: Sequence[str], *, sender: str = "someone@stranger.example", peer: str = ""
) -> int:
    """The code of the answer that decided, BROKEN where there was none. ``peer``: an address for the PROXY line."""
    try:
        with proxied(port, peer) if peer else Wire(port, timeout=PATIENCE) as wire:
            wire.hello()
            for answer in wire.envelope(sender, *recipients):
                if answer.code >= 400:
                    return answer.code
            code = wire.content(octets).code
            wire.send(b"QUIT\r\n")
            return code
    except (OSError, EOFError, AssertionError, ValueError):
        return BROKEN


def crowd(count: int, at_once: int, send: Callable[[int], int]) -> Crowd:
    """``send`` is called with each number below ``count`` and gives a code."""
    found = Crowd()
    lock = threading.Lock()

    def one(number: int) -> None:
        began = time.monotonic()
        code = send(number)
        took = time.monotonic() - began
        with lock:
            found.codes[code] += 1
            found.seconds.append(took)

    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(count)))
    found.took = time.monotonic() - began
    return found


class Noops:
    """A client that says NOOP all the time; ``longest`` is how many seconds an answer took at most. It is a thread of
    this process, so what else goes on here is in it: one that asks somebody idle tells how much.

    With the ``pid`` of who answers, ``worked`` is the processor time that it spent at most before an answer was there:
    what others have to wait for whatever else the machine does."""

    def __init__(self, port: int, pid: int = 0) -> None:
        self._wire = Wire(port, timeout=PATIENCE)
        self._wire.hello()
        self._pid = pid
        self.seconds: list[float] = []
        self._cpu: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            spent, began = cpu_of(self._pid), time.monotonic()
            self._wire.ask(b"NOOP")
            self.seconds.append(time.monotonic() - began)
            self._cpu.append(cpu_of(self._pid) - spent)
            time.sleep(NOOP_SECONDS)

    @property
    def longest(self) -> float:
        return max(self.seconds, default=0.0)

    @property
    def worked(self) -> float:
        return max(self._cpu, default=0.0)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        self._wire.close()


@contextmanager
def noops(port: int, pid: int = 0) -> Iterator[Noops]:
    asking = Noops(port, pid)
    try:
        yield asking
    finally:
        asking.close()


# --- looking at a process ---------------------------------------------------------------------------------------------


def cpu_of(pid: int) -> float:
    """Seconds that all threads of a process have worked so far; of this one for 0. Linux makes a clock of its number,
    as clock_getcpuclockid(3) does."""
    return time.clock_gettime((~pid << 3) | 2)


def _status(pid: int, name: str) -> int:
    found = re.search(rf"(?m)^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def resident_mib(pid: int) -> float:
    return _status(pid, "VmRSS") / 1024


def peak_mib(pid: int) -> float:
    """Since ``forget_peak``."""
    return _status(pid, "VmHWM") / 1024


def virtual_kib(pid: int) -> int:
    return _status(pid, "VmSize")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


# --- the stage --------------------------------------------------------------------------------------------------------


class Lab:
    """Programs for one trial. ``scale``: 1 for the figures, less for a test; ``full`` tells the two apart."""

    def __init__(self, play: Stage, scale: float) -> None:
        self.play = play
        self.scale = scale
        self.full = scale >= 1
        self._closing = ExitStack()
        self.gateways: list[Gateway] = []

    def times(self, count: int, least: int = 1) -> int:
        return max(least, round(count * self.scale))

    def counting(self, *, start: bool = True) -> CountingPrimary:
        made = self.play.partner("counting", CountingPrimary)
        return made.start() if start else made

    def gateway(self, sections: str, *, launcher: str = "run", start: bool = True) -> Gateway:
        """With ``proxied``, a port where strangers say by a PROXY line whence they come."""
        port = free_port()
        gateway = self.play.gateway(
            sections,
            extra_listen=f"haproxy:tcp:{port}:interface=127.0.0.1",
            launcher=launcher,
            start=start,
        )
        gateway.proxied = port
        self.gateways.append(gateway)
        return gateway

    def close_later(self, call: Callable[[], object]) -> None:
        self._closing.callback(call)

    def close(self) -> None:
        self._closing.close()

    def faults(self) -> int:
        return sum(len(gateway.faults()) for gateway in self.gateways)


def progress(text: str) -> None:
    print(f"  … {text}", file=sys.stderr, flush=True)


def serial(number: int, body: bytes = b"Hello.\r\n") -> bytes:
    """A letter that the counting primary knows by its number."""
    return b"X-Serial: n%d\r\n" % number + letter(f"number {number}", body)


__all__ = [
    "DOMAIN", "UNHURRIED", "Crowd", "Lab", "Noops", "Wire", "cpu_of", "cpu_seconds", "crowd", "descriptors", "domain",
    "forget_peak", "letter", "noops", "peak_mib", "progress", "proxied", "resident_mib", "sent", "serial", "stranger",
    "until", "virtual_kib",
]  # fmt: skip
