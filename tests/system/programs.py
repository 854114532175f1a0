"""Real programs as test partners: each a child process in a folder of its own, on a free port of 127.0.0.1.

Knows how each is started, when it is ready (by its own protocol, asked every few milliseconds) and how it is stopped.
A program that is not installed skips the test with the apt line that would enable it; with
``INBOUNDMX_REQUIRE_PROGRAMS=1`` it fails instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from requiring import impossible

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
HOSTNAME = "mx.gateway.example"
DOMAIN = "here.example"
# How long a child may take to become ready, or an effect to show, on a machine that is busy with other things.
PATIENCE = 20.0

T = TypeVar("T")

PACKAGES = {
    "smtp-sink": "postfix",
    "smtp-source": "postfix",
    "swaks": "swaks",
    "dovecot": "dovecot-lmtpd",
    "openssl": "openssl",
    "ip": "iproute2",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
    "fsck.ext4": "e2fsprogs",
    "nsd": "nsd",
    "rbldnsd": "rbldnsd",
    "strace": "strace",
    "slapd": "slapd",
}


def need(program: str) -> str:
    """The path of an installed program; otherwise skips, or fails where everything is required."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        impossible(f"{program} is not installed: apt-get install {PACKAGES[program]}")
    return path


def _ports() -> Iterator[int]:
    """Those below what the system gives to connections outwards, in blocks that no other run of tests has: a file that
    is locked for as long as this process lives says whose a block is. A name of a socket would not do: a network of its
    own, which some modules run in, has names of its own."""
    width = 64
    blocks = list(range(10_000, 32_768 - width, width))
    random.shuffle(blocks)
    folder = Path(tempfile.gettempdir(), "inboundmx-test-ports")
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):
        folder.chmod(0o1777)
    for first in blocks:
        with contextlib.ExitStack() as unless_ours:
            try:
                mine = os.open(folder / str(first), os.O_RDWR | os.O_CREAT, 0o666)
                unless_ours.callback(os.close, mine)
                fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            unless_ours.pop_all()
        yield from range(first, first + width)


_some_ports = _ports()


def free_port() -> int:
    """Never the same twice, so that whoever is given it can take a while before he listens."""
    for port in _some_ports:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports were given away")


def until(what: str, ask: Callable[[], T], patience: float = PATIENCE) -> T:
    """Asks every few milliseconds until the answer is true; returns it. Fails by name when it never is."""
    deadline = time.monotonic() + patience
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"not within {patience:g} s: {what}")
        time.sleep(0.01)


# --- a stranger's end of the wire -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole SMTP reply."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)

    @property
    def enhanced(self) -> str:
        return self.lines[-1].split(" ")[0]

    @property
    def id(self) -> str:
        """The last word: what ``explain`` accepts."""
        return self.lines[-1].split(" ")[-1].strip("().")

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Wire:
    """A raw SMTP client: sends octets exactly as given, reads whole replies."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout: float = PATIENCE, source: str = "") -> None:
        """``source``: the address to come from; the system's choice where it is empty."""
        self.socket = socket.create_connection((host, port), timeout, (source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def starttls(self, context: ssl.SSLContext) -> None:
        """The handshake alone; what was asked before it is the caller's business."""
        self._buffer = b""
        self.socket = context.wrap_socket(self.socket, server_hostname=HOSTNAME)

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            received = self.socket.recv(65536)
            if not received:
                raise EOFError(f"closed by the gateway after {self._buffer!r}")
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def reply(self) -> Answer:
        lines = []
        while True:
            line = self._line()
            lines.append(line[4:].decode("utf-8", "backslashreplace"))
            if line[3:4] != b"-":
                return Answer(int(line[:3]), tuple(lines))

    def ask(self, line: str | bytes) -> Answer:
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def hello(self, name: str = "client.stranger.example") -> Answer:
        """Banner and EHLO."""
        banner = self.reply()
        assert banner.code == 220, banner
        return self.ask(f"EHLO {name}")

    def envelope(self, sender: str, *recipients: str, parameters: str = "") -> list[Answer]:
        """MAIL and RCPTs; their answers."""
        return [
            self.ask(f"MAIL FROM:<{sender}>{parameters}"),
            *(self.ask(f"RCPT TO:<{recipient}>") for recipient in recipients),
        ]

    def content(self, octets: bytes) -> Answer:
        """DATA with dot-stuffed content that ends in CRLF; the answer to the final dot, or to DATA when refused."""
        go = self.ask("DATA")
        if go.code != 354:
            return go
        self.send(stuffed(octets) + b".\r\n")
        return self.reply()

    def rest(self) -> list[bytes]:
        """All lines until the gateway closes."""
        with contextlib.suppress(ConnectionResetError):
            while received := self.socket.recv(65536):
                self._buffer += received
        rest, self._buffer = self._buffer, b""
        return rest.split(b"\r\n")[:-1]


def stuffed(octets: bytes) -> bytes:
    """Dot-stuffing of RFC 5321 4.5.2."""
    return (b"." if octets.startswith(b".") else b"") + octets.replace(b"\r\n.", b"\r\n..")


def post(
    port: int,
    octets: bytes,
    *,
    sender: str = "someone@stranger.example",
    recipients: Sequence[str] = (f"user@{DOMAIN}",),
    parameters: str = "",
    source: str = "",
) -> Answer:
    """One message on one connection; the first answer that is a refusal, or the one to the final dot."""
    with Wire(port, source=source) as wire:
        wire.hello()
        for answer in wire.envelope(sender, *recipients, parameters=parameters):
            if answer.code >= 400:
                return answer
        answer = wire.content(octets)
        wire.send(b"QUIT\r\n")
        return answer


def letter(subject: str, body: bytes = b"Hello.\r\n", headers: bytes = b"") -> bytes:
    """A plain message with CRLF lines."""
    lines = (
        "From: <someone@stranger.example>",
        f"To: <user@{DOMAIN}>",
        f"Subject: {subject}",
        "Date: Sat, 21 Nov 2026 12:00:00 +0000",
        f"Message-ID: <{os.urandom(8).hex()}@stranger.example>",
    )
    return headers + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


# --- children ---------------------------------------------------------------------------------------------------------


class Child:
    """A process of ours. ``output`` collects what it says on stdout, ``errors`` on stderr."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.output = folder / f"{name}.out"
        self.errors = folder / f"{name}.err"

    def spawn(
        self, arguments: Sequence[str], *, environment: dict[str, str] | None = None, inherited: Sequence[int] = ()
    ) -> None:
        """``inherited``: descriptors that stay open in it."""
        with self.output.open("ab") as output, self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                arguments,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                pass_fds=inherited,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        return "".join(
            f"--- {path.name} ---\n{path.read_text(errors='replace')[-4000:]}"
            for path in (self.output, self.errors)
            if path.exists()
        )

    def wait_for_banner(self, port: int, host: str = "127.0.0.1") -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            if not self.running:
                pytest.fail(f"{self.name} ended instead of greeting\n{self.said()}")
            try:
                with socket.create_connection((host, port), 3.0) as probe:
                    if probe.recv(4).startswith(b"220"):
                        probe.sendall(b"QUIT\r\n")
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} does not greet\n{self.said()}")
            time.sleep(0.005)

    def end(self, how: signal.Signals = signal.SIGTERM, patience: float = PATIENCE) -> int:
        """Signals it, waits, and returns its exit status. Kills it, and fails, when it does not end."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.abort()
            pytest.fail(f"{self.name} did not end within {patience:g} s of {how.name}\n{self.said()}")

    def abort(self) -> None:
        """At once, with everything it started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        self.abort()


class Gateway(Child):
    """The product itself, black box. ``proxied``: a port where a PROXY line is believed, if there is one."""

    proxied = 0

    def __init__(self, folder: Path, sections: str, *, gateway_keys: str, extra_listen: str, launcher: str) -> None:
        super().__init__("gateway", folder)
        self.port = free_port()
        self.data = folder / "data"
        self.config = folder / "inboundmx.ini"
        self.launcher = launcher
        # A command that starts it and becomes it, such as a tracer's.
        self.through: Sequence[str] = ()
        self._gateway_keys = gateway_keys
        self._extra_listen = extra_listen
        self.configure(sections)

    def configure(self, sections: str) -> None:
        """Writes the INI file: ``sections`` after a ``[gateway]`` of ours."""
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        if self._extra_listen:
            listen += f" {self._extra_listen}"
        keys = f"hostname = {HOSTNAME}\nlisten = {listen}\n"
        if "workers =" not in self._gateway_keys:
            # One process starts sooner than three; the same must hold with any number of workers. Time is warped in
            # one alone, and so is what is patched.
            workers = "0" if self.launcher in ("warped", "small") else os.environ.get("INBOUNDMX_WORKERS", "0")
            keys += f"workers = {workers}\n"
        if "data =" not in self._gateway_keys:
            keys += f"data = {self.data}\n"
        self.config.write_text(f"[gateway]\n{keys}{self._gateway_keys}\n{sections}\n")

    def launch_command(self) -> list[str]:
        if self.launcher == "twistd":
            twistd = "from twisted.scripts.twistd import run; run()"
            # Its own log goes aside, so that stdout is ours.
            options = ("-n", "--pidfile=", f"--logfile={self.folder}/twistd.log")
            return [sys.executable, "-c", twistd, *options, "inboundmx", "--config", str(self.config)]
        if self.launcher == "warped":
            return [sys.executable, str(HERE / "warped_gateway.py"), str(self.config), str(self.folder / "time")]
        if self.launcher in ("hanging", "small"):
            return [sys.executable, str(HERE / f"{self.launcher}_gateway.py"), str(self.config)]
        return [sys.executable, "-m", "inboundmx", "--config", str(self.config), "run"]

    def pass_time(self, seconds: float) -> None:
        """With the launcher ``warped``: returns when so much time has passed for the gateway."""
        self._tell_the_clock(f"{seconds}\n")

    def jump(self, seconds: float) -> None:
        """With the launcher ``warped``: the wall clock alone is put off by so much, restarts included."""
        self._tell_the_clock(f"jump {seconds}\n")

    def _tell_the_clock(self, line: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as remote:
            remote.settimeout(120)
            remote.connect(str(self.folder / "time"))
            remote.sendall(line.encode())
            assert remote.recv(100) == b"passed\n"

    def start(self, *, descriptors: int | None = None) -> Self:
        """``descriptors``: how many files and sockets it may have open."""
        limit = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"] if descriptors else []
        self.spawn([*limit, *self.through, *self.launch_command()])
        self.wait_for_banner(self.port)
        return self

    def stop(self) -> int:
        return self.end(signal.SIGTERM)

    def kill9(self) -> None:
        self.abort()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def hangup(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def log_events(self, *, event: str = "", id: str = "") -> list[dict[str, Any]]:
        """The log's lines, in order. A line that is no JSON object fails."""
        if not self.output.exists():
            return []
        events = []
        # The last line may still be being written.
        for line in self.output.read_text().split("\n")[:-1]:
            value = json.loads(line)
            assert isinstance(value, dict), line
            if (not event or value.get("event") == event) and (not id or value.get("id") == id):
                events.append(value)
        return events

    def faults(self) -> list[object]:
        """What went wrong inside, in any of its lives: nothing, however hostile the world is."""
        errors = self.errors.read_text(errors="replace") if self.errors.exists() else ""
        return [*([errors] if "Traceback" in errors else []), *self.log_events(event="fault")]

    def command(self, *arguments: str, status: int | None = 0) -> str:
        """An operator's command with this configuration; its stdout. ``status`` None: any exit status will do."""
        done = subprocess.run(
            [sys.executable, "-m", "inboundmx", "--config", str(self.config), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if status is not None:
            shown = f"inboundmx {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            assert done.returncode == status, shown
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command lists with --json."""
        value = json.loads(self.command(*arguments, "--json"))
        assert isinstance(value, list)
        return value

    def drain(self, patience: float = 40.0) -> None:
        """Forces delivery until nothing active is left in the spool."""
        deadline = time.monotonic() + patience
        while left := self.listed("spool", "list", "--state", "active"):
            if time.monotonic() > deadline:
                pytest.fail(f"still in the spool after {patience:g} s: {left[:3]}\n{self.said()}")
            self.command("spool", "force", "--state", "active", status=None)
            time.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Received:
    """A message as a primary got it."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    tls: bool
    parameters: tuple[str, ...]
    """What MAIL and each RCPT said behind the address."""
    host: str
    peer: str
    """The two addresses of the connection: the primary's and ours."""

    @property
    def head(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[0] + b"\r\n"

    def field(self, name: str) -> list[str]:
        """The unfolded values of a header field, from the top."""
        found = []
        for line in self.head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n"):
            key, colon, value = line.partition(b":")
            if colon and key.strip().lower() == name.lower().encode():
                found.append(value.strip().decode("utf-8", "replace"))
        return found


class RecordingPrimary(Child):
    """aiosmtpd in a child process: keeps the exact octets of what it accepts, and answers as it is told."""

    def __init__(
        self, folder: Path, port: int, certificate: Certificate | None, hosts: Sequence[str] = ("127.0.0.1",)
    ) -> None:
        super().__init__("primary", folder)
        self.port = port
        self._hosts = tuple(hosts)
        self._certificate = (str(certificate.certificate), str(certificate.key)) if certificate else ()
        self._script = folder / "script.json"
        self.script()

    def script(self, **answers: Any) -> None:
        """``mail`` ``dot``: a reply line in place of the positive one; ``rcpt``: address to reply line; ``known``: the
        only addresses it has;
        ``dot_delay``: seconds before the answer to the final dot; ``drop_at_dot``: keep the message, say nothing,
        close; ``offers``: further keywords of EHLO, such as DSN. In force from the next command on."""
        aside = self._script.with_suffix(".new")
        aside.write_text(json.dumps(answers))
        aside.replace(self._script)

    def start(self) -> Self:
        program = str(HERE / "recording_primary.py")
        where = f"{','.join(self._hosts)},{self.port}"
        self.spawn([sys.executable, program, where, str(self.folder), *self._certificate])
        self.wait_for_banner(self.port, self._hosts[0])
        return self

    def stop(self) -> None:
        self.abort()

    def received(self) -> list[Received]:
        """Everything accepted so far, in order."""
        mails = []
        for path in sorted(self.folder.glob("*.json")):
            if path != self._script:
                told = json.loads(path.read_text())
                content = path.with_suffix(".eml").read_bytes()
                recipients, parameters = tuple(told["recipients"]), tuple(told["parameters"])
                ends = told["host"], told["peer"]
                mails.append(Received(told["sender"], recipients, content, told["tls"], parameters, *ends))
        return mails

    def count(self) -> int:
        return len(list(self.folder.glob("*.eml")))

    def asked(self) -> list[str]:
        """The recipients it heard of at RCPT, in order, those that it refused as well."""
        told = self.folder / "asked"
        return told.read_text().splitlines() if told.exists() else []

    def subjects(self) -> Counter[str]:
        """How often each subject was accepted."""
        return Counter(mail.field("Subject")[0] for mail in self.received())

    def one(self, marker: bytes) -> Received:
        """Waits for a message that holds ``marker``, and makes sure that it is the only one."""

        def found() -> list[Received]:
            return [mail for mail in self.received() if marker in mail.content]

        mails = until(f"{marker!r} at the primary", found)
        assert len(mails) == 1
        return mails[0]


class Sink(Child):
    """Postfix's smtp-sink. ``arguments`` make it fail on purpose (-f -r -q -Q -W ...)."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        super().__init__("sink", folder)
        self.port = port
        self.arguments = arguments
        self.mail = folder / "mail"
        self.mail.mkdir()
        # As root it insists on being somebody else.
        self.user = ["-u", "nobody"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(self.mail, "nobody")

    def start(self) -> Self:
        dump = ["-d", f"{self.mail}/%H%M%S."]
        self.spawn([need("smtp-sink"), *self.user, *dump, *self.arguments, f"127.0.0.1:{self.port}", "1000"])
        self.wait_for_banner(self.port)
        return self

    def stop(self) -> None:
        self.abort()

    def messages(self) -> list[bytes]:
        """What was dumped, smtp-sink's own notes on top; lines end in LF."""
        return [path.read_bytes() for path in self.mail.iterdir()]


class DovecotLmtp(Child):
    """Dovecot's LMTP server, every user accepted, a maildir each."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__("dovecot", folder)
        self.port = port
        self.config = folder / "dovecot.conf"
        mail = folder / "mail"
        mail.mkdir()
        shutil.chown(mail, "nobody", "nogroup")
        self.config.write_text(
            f"""
protocols = lmtp
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
mail_location = maildir:{mail}/%n
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
ssl = no
lda_mailbox_autocreate = yes
postmaster_address = postmaster@{DOMAIN}
passdb {{
  driver = static
  args = nopassword=yes
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={mail}/%n allow_all_users=yes
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.port}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""
        )

    def start(self) -> Self:
        self.spawn([need("dovecot"), "-F", "-c", str(self.config)])
        self.wait_for_banner(self.port)
        return self

    def close(self) -> None:
        # Its helpers are in process groups of their own and leave only when the master tells them.
        if self.running:
            self.end(signal.SIGTERM)

    def mailbox(self, user: str) -> list[bytes]:
        return [path.read_bytes() for path in (self.folder / "mail" / user / "new").glob("*")]


class Certificate:
    """A self-signed certificate for HOSTNAME, made anew for each run."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        self.key = folder / "key.pem"
        subprocess.run(
            [
                *(need("openssl"), "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-keyout", str(self.key), "-out", str(self.certificate), "-days", "2"),
                *("-subj", f"/CN={HOSTNAME}", "-addext", f"subjectAltName=DNS:{HOSTNAME}"),
            ],
            check=True,
            capture_output=True,
        )

    @property
    def section(self) -> str:
        return f"[tls]\ncertificate = {self.certificate}\nprivate_key = {self.key}\n"

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


C = TypeVar("C", bound=Child)


class Saboteur(Child):
    """strace on a running process: makes its system calls fail, as ``inject`` says (strace -e inject=…; several with
    spaces between); with ``files`` those on these alone."""

    def __init__(self, folder: Path, victim: Child, inject: str, files: Sequence[Path]) -> None:
        super().__init__("strace", folder)
        each = inject.split()
        calls = ",".join(one.partition(":")[0] for one in each)
        how = [word for one in each for word in ("-e", f"inject={one}")]
        only = [word for file in files for word in ("-P", str(file))]
        self.spawn([need("strace"), "-f", "-y", "-e", f"trace={calls}", *how, *only, "-p", str(victim.pid)])
        until("strace attached", lambda: self._attached())

    def _attached(self) -> bool:
        said = self.errors.read_text()
        if not self.running:
            impossible(f"processes cannot be traced here: {said.strip()}")
        return "attached" in said

    def close(self) -> None:
        """Lets go of the victim, unharmed from now on."""
        if self.running:
            self.end(signal.SIGTERM)


@contextlib.contextmanager
def small_disk(gateway: Gateway, options: str) -> Iterator[None]:
    """A file system of its own for the data of a gateway that was not started; ended before it goes. Needs root."""
    gateway.data.mkdir(mode=0o700)
    mount = [need("mount"), "-t", "tmpfs", "-o", f"{options},mode=0700", "tmpfs", str(gateway.data)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        impossible(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        gateway.abort()
        # Whom it had started ends a moment after it.
        until("unmounted", lambda: subprocess.run(["umount", str(gateway.data)], check=False).returncode == 0)


class Stage:
    """Makes partners in folders of their own, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def _room(self, name: str) -> Path:
        room = self._folder / f"{name}{len(self._children)}"
        room.mkdir()
        return room

    def _keep(self, child: C) -> C:
        self._children.append(child)
        return child

    def gateway(
        self,
        sections: str,
        *,
        gateway_keys: str = "",
        extra_listen: str = "",
        launcher: str = "run",
        start: bool = True,
    ) -> Gateway:
        """The product on a free port, greeting. ``sections``: the INI without ``[gateway]``."""
        room = self._room("gateway")
        gateway = self._keep(
            Gateway(room, sections, gateway_keys=gateway_keys, extra_listen=extra_listen, launcher=launcher)
        )
        return gateway.start() if start else gateway

    def recording(
        self,
        *,
        start: bool = True,
        certificate: Certificate | None = None,
        hosts: Sequence[str] = ("127.0.0.1",),
        port: int = 0,
    ) -> RecordingPrimary:
        """``certificate``: with STARTTLS. ``hosts``: the addresses it listens on."""
        primary = self._keep(RecordingPrimary(self._room("primary"), port or free_port(), certificate, hosts))
        return primary.start() if start else primary

    def sink(self, *arguments: str) -> Sink:
        need("smtp-sink")
        return self._keep(Sink(self._room("sink"), free_port(), *arguments)).start()

    def partner(self, name: str, make: Callable[[Path], C]) -> C:
        """One of another kind, made in a folder of its own; whoever made it starts it."""
        return self._keep(make(self._room(name)))

    def dovecot(self) -> DovecotLmtp:
        need("dovecot")
        return self._keep(DovecotLmtp(self._room("dovecot"), free_port())).start()

    def sabotage(self, victim: Child, inject: str, *files: Path) -> Saboteur:
        need("strace")
        return self._keep(Saboteur(self._room("strace"), victim, inject, files))

    def faults(self) -> list[object]:
        return [fault for child in self._children if isinstance(child, Gateway) for fault in child.faults()]

    def end(self) -> None:
        for child in reversed(self._children):
            child.close()


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """In a folder that programs which give up root can still reach, as those of pytest cannot be."""
    with tempfile.TemporaryDirectory(prefix="inboundmx-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)
        made = Stage(Path(folder))
        try:
            yield made
        finally:
            made.end()


def domain(primary_port: int, name: str = DOMAIN, **keys: str) -> str:
    """A ``[domain …]`` section with one primary on loopback; ``primary`` among the keys replaces it. It takes everybody
    unless the keys say who exists: what else is tested should not depend on that."""
    keys.setdefault("primary", f"127.0.0.1:{primary_port}")
    keys.setdefault("recipients", "any")
    return f"[domain {name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
