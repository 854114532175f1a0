"""Programs of the operator's that look at a message: each has a copy of its own, and is ended in time.

Knows arguments without a shell, the copy, and that a program is killed with all that it started. Does not know what an
exit status means.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from inboundmx.model.message import Body
from inboundmx.net.offload import ThreadOffload
from inboundmx.net.servers import Fault, Servers, Service
from inboundmx.policy.copied_header import HEADER_LIMIT, without
from inboundmx.ports import Clock, Contents, Health, Ran, Unavailable

# Programs that run at the same time, of all checks; more may wait until their time is over.
THREADS, WAITING = 32, 320
# Octets of a large body copied at once; of what a program says, what is kept and what is heard before it is ended.
CHUNK, KEPT, HEARD = 256 * 1024, 1000, 1024 * 1024
FILE = "message.eml"
# Nothing of ours: neither what a service manager gave us, nor secrets.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Programs:
    """``scratch`` is the folder for copies, nobody else's; what a life before left there is swept away."""

    def __init__(
        self, from_thread: Callable[..., Any], clock: Clock, contents: Contents, health: Health, scratch: str
    ) -> None:
        self._clock = clock
        self._contents = contents
        self._health = health
        self._scratch = scratch
        self._threads = ThreadOffload(from_thread, THREADS, WAITING)
        self._services: dict[tuple[str, ...], Service] = {}
        self._running: set[_Run] = set()
        shutil.rmtree(scratch, ignore_errors=True)

    def program(self, argv: Sequence[str], at_once: int, seconds: float) -> Program:
        """``seconds``: for waiting and running. One service however many checks ask for it, as with servers."""
        key = tuple(argv)
        service = self._services.get(key)
        if service is None:
            service = self._services[key] = Service(f"command {argv[0]}", self._clock, self._health)
        service.places = at_once
        return Program(self, service, key, seconds)

    def close(self) -> Deferred[None]:
        """Ends those that run; fires when they are gone."""
        for run in tuple(self._running):
            run.kill()
        return self._threads.close()

    async def started(self, argv: Sequence[str], write: Callable[[int], None], words: Mapping[str, str]) -> Ran:
        """In a thread, until it has ended by itself. Cancelled, it is killed."""
        run = _Run(argv, self._scratch, write, words)
        self._running.add(run)
        try:
            return await self._threads.run(run)  # type: ignore[no-any-return]
        except CancelledError:
            run.kill()
            raise
        finally:
            self._running.discard(run)

    def copied(self, body: Body, prefix: bytes, field: str, descriptor: int) -> None:
        """``prefix`` and the message, without the fields of that name. Blocks. Raises OSError and Unavailable."""
        head = without(body.head, field) if field else body.head
        with open(descriptor, "wb", closefd=True) as copy:
            copy.write(prefix)
            copy.write(head)
            at = len(body.head)
            while at < body.size:
                chunk = self._contents.part(body, at, CHUNK)
                if not chunk:
                    raise Unavailable("the stored body is cut short")
                copy.write(chunk)
                at += len(chunk)


class Program:
    """``ports.Program``."""

    def __init__(self, programs: Programs, service: Service, argv: tuple[str, ...], seconds: float) -> None:
        self._programs = programs
        self._service = service
        self._servers = Servers([service], programs._clock)
        self._argv = argv
        self._seconds = seconds

    async def run(self, body: Body, prefix: bytes, words: Mapping[str, str], field: str) -> Ran:
        return await self._servers.ask(lambda _: self._run(body, prefix, words, field), self._seconds, 1)

    async def _run(self, body: Body, prefix: bytes, words: Mapping[str, str], field: str) -> Ran:
        self._service.tried()
        try:
            return await self._programs.started(
                self._argv, lambda descriptor: self._programs.copied(body, prefix, field, descriptor), words
            )
        except Fault as fault:
            raise Fault(f"{self._service.name} {fault.reason}") from None


def filled(argv: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """The arguments with ``%filepath`` and the like, however capitalised, in place. What stands there instead is not
    looked at again, and never splits an argument."""
    names = re.compile("%(" + "|".join(words) + ")", re.IGNORECASE)
    return [names.sub(lambda match: words[match[1].lower()], argument) for argument in argv]


class _Run:
    """One run of a program, called in a thread; ``kill`` may be called in any other, at any time."""

    def __init__(
        self, argv: Sequence[str], scratch: str, write: Callable[[int], None], words: Mapping[str, str]
    ) -> None:
        self._argv = argv
        self._scratch = scratch
        self._write = write
        self._words = words
        self._lock = threading.Lock()
        self._killed = False
        # The leader of its process group, from when it was started until it is reaped.
        self._leader = 0

    def __call__(self) -> Ran:
        try:
            os.makedirs(self._scratch, mode=0o700, exist_ok=True)
            folder = tempfile.mkdtemp(dir=self._scratch)
        except OSError as error:
            raise Unavailable(f"no copy can be made: {error.strerror}") from error
        try:
            return self._ran(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            self._end()

    def _end(self) -> None:
        if self._leader:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._leader, signal.SIGKILL)

    def _ran(self, folder: str) -> Ran:
        path = os.path.join(folder, FILE)
        try:
            self._write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise Unavailable(f"no copy can be made: {error.strerror}") from error
        argv = filled(self._argv, {**self._words, "filepath": path})
        process = self._begun(argv, folder)
        try:
            said = _heard(process)
        except OSError as error:
            raise Unavailable(f"it cannot be watched: {error.strerror}") from error
        finally:
            status = self._reaped(process)
        return Ran(status, said.replace(path, FILE), _head(path))

    def _begun(self, argv: Sequence[str], folder: str) -> subprocess.Popen[bytes]:
        if self._killed:
            raise Unavailable("nobody waits for it")
        # Nothing is held meanwhile: who kills it must not wait for a disk.
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
                env={**ENVIRONMENT, "HOME": folder, "TMPDIR": folder}, start_new_session=True, bufsize=0,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise Fault(f"cannot be started: {getattr(error, 'strerror', None) or error}") from error
        with self._lock:
            self._leader = process.pid
            if self._killed:
                self._end()
        return process

    def _reaped(self, process: subprocess.Popen[bytes]) -> int:
        """How it ended; whatever it has left running is ended as well. The number of a process is another's once it is
        reaped, so that comes last."""
        with self._lock:
            self._end()
            self._leader = 0
        assert process.stdout is not None
        process.stdout.close()
        try:
            _, status = os.waitpid(process.pid, 0)
        except ChildProcessError as error:
            process.returncode = -signal.SIGKILL
            raise Unavailable("its end was not seen") from error
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode


def _heard(process: subprocess.Popen[bytes]) -> str:
    """The beginning of what it says, when it has ended; it may go on as long as nobody kills it."""
    assert process.stdout is not None
    output, ended = process.stdout.fileno(), os.pidfd_open(process.pid)
    os.set_blocking(output, False)
    said, heard = b"", 0
    poll = select.poll()
    try:
        poll.register(output, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while heard <= HEARD:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if output in ready:
                chunk = os.read(output, 65536)
                heard += len(chunk)
                said += chunk[: KEPT - len(said)]
                if not chunk:
                    poll.unregister(output)
            elif ended in ready:
                return said.decode("utf-8", "replace")
    finally:
        os.close(ended)
    raise Unavailable("it says more than anybody should")


def _head(path: str) -> bytes:
    """The beginning of its copy as it left it; nothing when that is gone, or no file any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.read(descriptor, HEADER_LIMIT)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return b""
