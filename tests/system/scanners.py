"""Real clamd and spamd, and servers that only pretend to be such.

Knows how each is started and asked whether it is ready. Does not know what the gateway makes of their answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from programs import PACKAGES, PATIENCE, Child, free_port, need

HERE = Path(__file__).parent
PACKAGES |= {"clamd": "clamav-daemon", "spamd": "spamd", "spamc": "spamc", "rspamd": "rspamd", "clamscan": "clamav"}

# Never written whole, so that no scanner takes this file for what it helps to find.
_HALVES = ("X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTI", "VIRUS-TEST-FILE!$H+H*")
EICAR = "".join(_HALVES).encode()
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
# What the second signature of ours finds: tests of anything but viruses need no virus.
MARKER = b"inboundmx-home-made-signature"


def ask(address: str | tuple[str, int], question: bytes) -> bytes:
    """One question, and all of the answer."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as line:
        line.settimeout(PATIENCE)
        line.connect(address)
        line.sendall(question)
        heard = b""
        while more := line.recv(65536):
            heard += more
        return heard


class Daemon(Child):
    """A child that answers a question when it is ready."""

    def wait_for(self, address: str | tuple[str, int], question: bytes, answer: bytes) -> None:
        deadline = time.monotonic() + 2 * PATIENCE
        while True:
            if not self.running:
                pytest.fail(f"{self.name} ended instead of answering\n{self.said()}")
            with contextlib.suppress(OSError):
                if answer in ask(address, question):
                    return
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} does not answer\n{self.said()}")
            time.sleep(0.01)


class Clamd(Daemon):
    """clamd with two signatures of our own, on a Unix socket and a port. ``more``: lines of its configuration."""

    def __init__(self, folder: Path, stream_max: str = "25M", more: str = "") -> None:
        super().__init__("clamd", folder)
        self.path = folder / "clamd.sock"
        self.port = free_port()
        database = folder / "db"
        database.mkdir()
        (database / "test.ndb").write_text(
            f"Test.EICAR.NDB:0:*:{EICAR[28:64].hex()}\nTest.Marker.NDB:0:*:{MARKER.hex()}\n"
        )
        (folder / "clamd.conf").write_text(
            f"Foreground yes\nLocalSocket {self.path}\nTCPSocket {self.port}\nTCPAddr 127.0.0.1\n"
            f"DatabaseDirectory {database}\nTemporaryDirectory {folder}\nLogFile {folder}/clamd.log\n"
            f"MaxThreads 2\nStreamMaxLength {stream_max}\nSelfCheck 0\n{more}"
        )

    def start(self) -> Self:
        self.spawn([need("clamd"), f"--config-file={self.folder}/clamd.conf"])
        self.wait_for(str(self.path), b"zPING\0", b"PONG")
        return self


class Spamd(Daemon):
    """spamd with the rules it comes with, no network tests, and two children."""

    children = 2

    def __init__(self, folder: Path) -> None:
        super().__init__("spamd", folder)
        self.port = free_port()

    def start(self) -> Self:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        if user:
            shutil.chown(self.folder, "nobody")
        count = str(self.children)
        self.spawn(
            [
                *(need("spamd"), "-L", "-x", "-i", "127.0.0.1", "-p", str(self.port), *user, "-s", "stderr"),
                *("--max-children", count, "--min-children", count, "--min-spare", "1", "--max-spare", count),
                *(f"--helper-home-dir={self.folder}", "-r", str(self.folder / "spamd.pid")),
            ]
        )
        self.wait_for(("127.0.0.1", self.port), b"PING SPAMC/1.5\r\n\r\n", b"PONG")
        return self


class Rspamd(Daemon):
    """rspamd with GTUBE, a rule for a subject that is marked, and some that show what it was told."""

    RULES = """
local function rule(name, score, hits)
  rspamd_config:register_symbol{ name = name, score = score, callback = function(task)
    return hits(task, (task:get_from("smtp") or {})[1], task:get_recipients("smtp") or {}) and true or false
  end }
end
rule("MARKED", 7.5, function(task) return (task:get_header("Subject") or ""):find("marked") end)
rule("HEARD_IP", 0, function(task) return tostring(task:get_from_ip()) == "127.0.0.1" end)
rule("HEARD_HELO", 0, function(task) return task:get_helo() == "client.stranger.example" end)
rule("HEARD_FROM", 0, function(task, from) return from and from.addr == "someone@stranger.example" end)
rule("HEARD_NULL", 0, function(task, from) return not from or from.addr == "" end)
rule("HEARD_TWO", 0, function(task, from, rcpt) return #rcpt == 2 and rcpt[2].addr == "other@here.example" end)
"""

    def __init__(self, folder: Path) -> None:
        super().__init__("rspamd", folder)
        self.port = free_port()
        (folder / "names.dat").write_text("test\nexample\n")
        (folder / "rules.lua").write_text(self.RULES)
        (folder / "rspamd.conf").write_text(
            f'options {{ pidfile = "{folder}/pid"; tempdir = "{folder}"; url_tld = "{folder}/names.dat";\n'
            '  dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; } }\n'
            'logging { type = "console"; level = "warning"; }\n'
            f'worker "normal" {{ bind_socket = "127.0.0.1:{self.port}"; count = 1; }}\n'
            f'actions {{ reject = 15; add_header = 6; }}\nlua = "{folder}/rules.lua";\n'
        )

    def start(self) -> Self:
        user = ["-u", "nobody", "-g", "nogroup"] if os.geteuid() == 0 else []
        if user:
            shutil.chown(self.folder, "nobody")
        self.spawn([need("rspamd"), "-f", *user, "-c", str(self.folder / "rspamd.conf")])
        self.wait_for(("127.0.0.1", self.port), b"GET /ping HTTP/1.0\r\n\r\n", b"pong")
        return self


class Liar:
    """A server on a free port that does ``act`` with each connection, in a thread of its own. ``asked`` counts them,
    ``open`` are those that are."""

    def __init__(self, act: Callable[[socket.socket], object]) -> None:
        self.act = act
        self.asked = self.open = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"tcp:127.0.0.1:{self.port}"

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with self._lock:
            self.asked += 1
            self.open += 1
        try:
            with line, contextlib.suppress(OSError):
                line.settimeout(PATIENCE)
                self.act(line)
        finally:
            with self._lock:
                self.open -= 1

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def read_stream(line: socket.socket) -> bytes:
    """All that a client of clamd's sends, up to the end of its stream. Who asks for its version is not answered."""
    heard = line.makefile("rb")
    if (begun := heard.read(9)) == b"zVERSION\0":
        raise ConnectionAbortedError
    assert begun + heard.read(1) == b"zINSTREAM\0"
    whole = b""
    while length := int.from_bytes(heard.read(4), "big"):
        whole += heard.read(length)
    return whole


def read_request(line: socket.socket) -> bytes:
    """All that a client of spamd's sends: its message."""
    heard = line.makefile("rb")
    length = 0
    while (field := heard.readline().strip()) != b"":
        if field.lower().startswith(b"content-length:"):
            length = int(field.partition(b":")[2])
    return heard.read(length)


def asked_of(folder: Path, kind: str, servers: Sequence[str], bodies: Sequence[bytes], **more: Any) -> dict[str, Any]:
    """Our own client asked about bodies, in a process with a reactor. ``outcomes``: for each a name (clamd), a score
    and rules (spamd), ``TooLarge``, or ``Unavailable: reason``; ``seconds``: how long each took; ``lag``: the longest
    that the reactor was blocked."""
    for number, octets in enumerate(bodies):
        (folder / f"body{number}").write_bytes(octets)
    job = {"kind": kind, "servers": list(servers), "bodies": len(bodies)} | more
    done = subprocess.run(
        [sys.executable, str(HERE / "scanning_child.py"), str(folder), json.dumps(job)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="session")
def clamd() -> Iterator[Clamd]:
    need("clamd")
    yield from _started(Clamd)


@pytest.fixture(scope="session")
def spamd() -> Iterator[Spamd]:
    """Half a second and 300 MB: one for all tests."""
    need("spamd")
    yield from _started(Spamd)


@pytest.fixture(scope="session")
def rspamd() -> Iterator[Rspamd]:
    need("rspamd")
    yield from _started(Rspamd)


def _started(make: Callable[[Path], Any]) -> Iterator[Any]:
    with room() as folder:
        daemon = make(folder)
        try:
            yield daemon.start()
        finally:
            daemon.close()


@contextlib.contextmanager
def room() -> Iterator[Path]:
    """A folder with a short name that programs which give up root can reach."""

    with tempfile.TemporaryDirectory(prefix="inboundmx-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def liars() -> Iterator[Callable[[Callable[[socket.socket], object]], Liar]]:
    made: list[Liar] = []

    def make(act: Callable[[socket.socket], object]) -> Liar:
        made.append(Liar(act))
        return made[-1]

    yield make
    for liar in made:
        liar.close()
