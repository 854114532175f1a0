"""Who is measured: the product, and Debian's Postfix as it is shipped, each in a folder of its own on loopback.

Knows how they are started and stopped, and where their mail goes: an ``smtp-sink`` each. Nothing of the machine's own
mail set-up is read for values or changed; port 25 is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import proc

# What they are called in results.
POSTFIX, TUNED, PROXY, QUEUE = "postfix", "postfix, tuned", "haraka, proxy", "haraka, queue"
OURS, SPOOL = "inboundmx", "inboundmx, spool"
TWO, TWO_SPOOL = "inboundmx, 2 workers", "inboundmx, spool, 2 workers"
DOMAIN = "here.example"
LARGEST = 64 * 2**20
MOST_CONNECTIONS = 10_000


class NotHere(Exception):
    """A peer that cannot be measured on this machine; the text says what it would take."""


class Failed(Exception):
    """A peer that is here, and does not do what it should."""


def program(name: str, package: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise NotHere(f"{name} is not installed: apt-get install {package}")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_banner(
    port: int, name: str, log: Path, process: subprocess.Popen[bytes] | None = None, seconds: float = 60.0
) -> None:
    """No longer than ``process`` lives, where it is given. Raises Failed, with the end of what it has logged."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0) as probe:
                if probe.recv(4)[:3] == b"220":
                    probe.sendall(b"QUIT\r\n")
                    return
        except OSError:
            time.sleep(0.01)
    said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise Failed(f"{name} did not greet: {said}")


@contextlib.contextmanager
def stopped_on_failure(stop: Callable[[], None]) -> Iterator[None]:
    """Of what was started, and is to become ready within: it is stopped whatever comes between, a signal that ends the
    run included."""
    try:
        yield
    except BaseException:
        stop()
        raise


class Sink:
    """smtp-sink, with its running count of messages."""

    # Whom smtp-sink becomes may not be let into ours.
    cwd: str | None = "/"

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "sink.log"
        self.start()

    def command(self) -> list[str]:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [program("smtp-sink", "postfix"), "-c", *user, f"127.0.0.1:{self.port}", "1000"]

    def start(self) -> None:
        """Counts from nothing."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self.command(), cwd=self.cwd, stdout=log, stderr=log)
        self.pid = self._process.pid
        with stopped_on_failure(self.stop):
            wait_for_banner(self.port, "the sink", self._log, self._process)

    def count(self) -> int:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - 200))
            found = re.findall(rb"mesg=(\d+)", log.read())
        return int(found[-1]) if found else 0

    def wait_for(self, count: int, seconds: float = 60.0) -> bool:
        """Until so many messages have come, or no more of them do for ``seconds``."""
        last, moved = self.count(), time.monotonic()
        while last < count:
            time.sleep(0.002)
            if (now := self.count()) != last:
                last, moved = now, time.monotonic()
            elif time.monotonic() - moved > seconds:
                return False
        return True

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Peer(ABC):
    """A server on ``port`` that forwards here.example to its own sink; ``pid`` is the root of its processes."""

    pid: int
    port: int

    def __init__(self, folder: Path, sink: type[Sink] = Sink) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        self.folder = folder
        self.sink = sink(folder)
        self.port = free_port()

    def cpu_seconds(self) -> float:
        return proc.cpu_seconds(self.pid)

    def list_command(self) -> list[str]:
        """Shows what waits."""
        raise NotImplementedError(f"{type(self).__name__} cannot be asked what waits")

    def flush_command(self) -> list[str]:
        """Tries all that waits now."""
        raise NotImplementedError(f"{type(self).__name__} cannot be told to try all that waits")

    @abstractmethod
    def stop(self) -> None:
        """The sink, too."""
        self.sink.stop()


# Greylisting is on in everything that is compared; who comes for the first time is not put off for long.
GREYLIST = """
[greylisting]
block = 1s
[check greylist]
use = greylist
"""


class Ours(Peer):
    """``more``: further sections of its INI, in place of greylisting. ``preload``: a library that it is to load."""

    def __init__(
        self,
        folder: Path,
        handover: str = "cut-through",
        more: str = GREYLIST,
        *,
        workers: int = 0,
        sink: type[Sink] = Sink,
        preload: Path | None = None,
    ) -> None:
        super().__init__(folder, sink)
        self._config = folder / "inboundmx.ini"
        self._config.write_text(
            f"""
[gateway]
hostname = mx.gateway.example
listen = tcp:{self.port}:interface=127.0.0.1
data = {folder}/data
workers = {workers}
[smtp]
max_connections = {2 * MOST_CONNECTIONS}
max_connections_per_ip = {2 * MOST_CONNECTIONS}
max_junk_commands = 1000000
max_message_size = 64MB
[log]
to = {folder}/gateway.log
[delivery]
handover = {handover}
[domain {DOMAIN}]
primary = 127.0.0.1:{self.sink.port}
recipients = any
{more}
"""
        )
        self._environment = os.environ | ({"LD_PRELOAD": str(preload)} if preload else {})
        self._command = [sys.executable, "-m", "inboundmx", "--config", str(self._config), "spool"]
        self.start()

    def start(self) -> None:
        """Also after ``halt``: with what it has on disk, and nothing else."""
        log = self.folder / "output"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "inboundmx", "--config", str(self._config), "run"],
                stdout=output, stderr=output, env=self._environment,
            )  # fmt: skip
        self.pid = self._process.pid
        with stopped_on_failure(self.stop):
            wait_for_banner(self.port, "inboundmx", log, self._process)

    def list_command(self) -> list[str]:
        return [*self._command, "list"]

    def flush_command(self) -> list[str]:
        return [*self._command, "force", "--state", "active"]

    def halt(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        self.halt()
        super().stop()


class Postfix(Peer):
    """Debian's own master.cf, but for the port it listens on; main.cf says only where, and for whom. ``more``: further
    lines of it. ``preload``: a library that all its daemons are to load."""

    def __init__(self, folder: Path, more: str = "", *, sink: type[Sink] = Sink, preload: Path | None = None) -> None:
        if os.geteuid() != 0:
            raise NotHere("Postfix can be started by root only: run the benchmarks as root to compare with it")
        self._postfix = program("postfix", "postfix")
        shipped = Path("/etc/postfix/master.cf.proto")
        if not shipped.exists():
            raise NotHere(f"{shipped} is not there: this needs Debian's postfix package")
        super().__init__(folder, sink)
        self._config = folder / "etc"
        for path in (self._config, folder / "queue", folder / "data"):
            path.mkdir()
        shutil.chown(folder / "data", "postfix")
        (self._config / "master.cf").write_text(
            re.sub(r"(?m)^smtp(\s+inet\s)", rf"127.0.0.1:{self.port}\1", shipped.read_text())
        )
        (self._config / "main.cf").write_text(
            f"""
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = mx.gateway.example
mydestination =
mynetworks = 203.0.113.0/24
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relay_domains = {DOMAIN}
relayhost = [127.0.0.1]:{self.sink.port}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_client_event_limit_exceptions = 0.0.0.0/0
message_size_limit = {LARGEST}
{f"import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_PRELOAD={preload}" if preload else ""}
{more}
"""
        )
        with stopped_on_failure(self.stop):
            started = subprocess.run(
                [self._postfix, "-c", str(self._config), "start"], capture_output=True, text=True, check=False
            )
            if started.returncode != 0:
                raise Failed(f"Postfix did not start: {started.stdout}{started.stderr}")
            wait_for_banner(self.port, "postfix", folder / "mail.log")
        self.pid = int((folder / "queue" / "pid" / "master.pid").read_text())

    def list_command(self) -> list[str]:
        return [program("postqueue", "postfix"), "-c", str(self._config), "-p"]

    def flush_command(self) -> list[str]:
        return [program("postqueue", "postfix"), "-c", str(self._config), "-f"]

    def stop(self) -> None:
        subprocess.run([self._postfix, "-c", str(self._config), "stop"], capture_output=True, check=False)
        super().stop()
