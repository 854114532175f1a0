"""The stranger: many SMTP sessions from one process, timed. ``python -m benchmarks.load '{"port": …}'`` prints JSON.

Knows one event loop over epoll, cheap enough to load a fast server from one core. Does not pipeline: each command
waits for its answer, as smtp-source does, so that every peer is asked in the same way.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import percentiles

# The port is chosen when it is known whither: else those of connections closed a minute ago would be too many. Python
# has had a name for it only since 3.12.
IP_BIND_ADDRESS_NO_PORT = 24


@dataclass
class Plan:
    """``sessions`` at once, each connection sends ``per_connection`` messages of ``size`` octets, ``messages`` in all,
    or as many as are begun within ``seconds``, where 0 is no limit. ``refused``: the recipient is one the server does
    not take, and that is what is counted. ``message``: a file to be sent in place of a usual letter of ``size`` octets.
    ``source``: the address to come from. ``strangers``: a folder of letters of which each comes once, by a
    ``stranger`` of its own, from number ``first`` on."""

    port: int
    sessions: int
    messages: int
    size: int = 4096
    per_connection: int = 1
    recipient: str = "user@here.example"
    refused: bool = False
    sender: str = "load@stranger.example"
    message: str = ""
    source: str = ""
    strangers: str = ""
    first: int = 0
    seconds: float = 0.0


def stranger(number: int) -> tuple[str, str]:
    """The address and the domain of this one; addresses are of the range for benchmarks (RFC 2544)."""
    return f"198.18.{number // 250}.{number % 250 + 1}", f"d{number}.cold.example"


@dataclass
class Times:
    """Seconds: from MAIL to the last answer, and from the final dot to its answer."""

    mail: list[float] = field(default_factory=list)
    dot: list[float] = field(default_factory=list)
    done: int = 0
    errors: dict[str, int] = field(default_factory=dict)


def content(size: int) -> bytes:
    """A message of about ``size`` octets with the header section of everyday mail (about 2 KB), final dot included."""
    fields = [b"From: Load <load@stranger.example>", b"To: <user@here.example>", b"Subject: benchmark",
              b"Date: Sat, 21 Nov 2026 12:00:00 +0000", b"MIME-Version: 1.0", b"Content-Type: text/plain"]  # fmt: skip
    fields += [b"X-Field-%02d: " % number + b"v" * 66 for number in range(20)]
    head = b"\r\n".join(fields) + b"\r\n\r\n"
    line = b"The quick brown fox jumps over the lazy dog, and then once more for good.\r\n"
    return head + line * max(1, (size - len(head)) // len(line)) + b".\r\n"


def stuffed(letter: bytes) -> bytes:
    """As it goes over the wire (RFC 5321 4.5.2), final dot included."""
    return (b"\r\n" + letter).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


class Session:
    """One connection: what was said, and what is to be said at the next answer."""

    __slots__ = ("buffer", "dot_at", "left", "mail_at", "number", "socket", "step", "unsent")

    def __init__(self, connection: socket.socket, left: int, number: int) -> None:
        self.socket = connection
        # Of the stranger that this is, where each is another.
        self.number = number
        self.buffer = b""
        self.step = "banner"
        self.left = left
        self.unsent = b""
        self.mail_at = self.dot_at = 0.0


class Load:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._content = stuffed(Path(plan.message).read_bytes()) if plan.message else content(plan.size)
        self._epoll = select.epoll()
        self._sessions: dict[int, Session] = {}
        self._begun = 0
        self._ends = 0.0
        self.times = Times()

    def run(self) -> dict[str, object]:
        """Everything, start to end. The clock starts with the first connect and stops with the last answer counted."""
        started, cpu = time.perf_counter(), time.process_time()
        self._ends = started + (self._plan.seconds or float("inf"))
        for _ in range(self._plan.sessions):
            self._open()
        last = started
        while self._sessions:
            events = self._epoll.poll(20.0)
            if not events:
                self._error("silence")
                break
            before = self.times.done
            for number, event in events:
                session = self._sessions.get(number)
                if session is None:
                    continue
                try:
                    self._ready(session, event)
                except OSError as trouble:
                    self._error(errno.errorcode.get(trouble.errno or 0, "error"))
                    self._close(session)
            if self.times.done > before:
                last = time.perf_counter()
        return {
            "started": started,
            "seconds": last - started,
            # Of a core; near 1 this process, not the peer, would be what is measured.
            "load_share": (time.process_time() - cpu) / max(last - started, 1e-9),
            "begun": self._begun,
            "done": self.times.done,
            "errors": self.times.errors,
            "mail_ms": percentiles(self.times.mail),
            "dot_ms": percentiles(self.times.dot),
        }

    def _open(self) -> None:
        left = min(self._plan.per_connection, self._plan.messages - self._begun)
        if left <= 0 or time.perf_counter() > self._ends:
            return
        number = self._plan.first + self._begun
        self._begun += left
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        source = stranger(number)[0] if self._plan.strangers else self._plan.source
        if source:
            connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((source, 0))
        trouble = connection.connect_ex(("127.0.0.1", self._plan.port))
        if trouble not in {0, errno.EINPROGRESS}:
            self._error(errno.errorcode[trouble])
            connection.close()
            return
        self._sessions[connection.fileno()] = Session(connection, left, number)
        self._epoll.register(connection, select.EPOLLIN)

    def _error(self, what: str) -> None:
        self.times.errors[what] = self.times.errors.get(what, 0) + 1

    def _close(self, session: Session) -> None:
        # What is closed epoll forgets by itself.
        del self._sessions[session.socket.fileno()]
        session.socket.close()
        self._open()

    def _ready(self, session: Session, event: int) -> None:
        if event & select.EPOLLOUT:
            self._write_on(session)
            return
        received = session.socket.recv(4096)
        if not received:
            if session.step != "quit":
                self._error("closed")
            self._close(session)
            return
        session.buffer += received
        if session.buffer.endswith(b"\r\n"):
            line = session.buffer[:-2].rpartition(b"\r\n")[2]
            if line[3:4] != b"-":
                session.buffer = b""
                self._answer(session, line)

    def _write(self, session: Session, octets: bytes) -> None:
        # Most letters fit the socket's buffer, and then nothing is to be waited for.
        sent = session.socket.send(octets)
        if sent < len(octets):
            session.unsent = octets[sent:]
            self._epoll.modify(session.socket, select.EPOLLIN | select.EPOLLOUT)

    def _write_on(self, session: Session) -> None:
        sent = session.socket.send(session.unsent)
        session.unsent = session.unsent[sent:]
        if not session.unsent:
            self._epoll.modify(session.socket, select.EPOLLIN)

    def _say(self, session: Session, step: str, line: bytes) -> None:
        session.step = step
        session.socket.send(line)

    def _answer(self, session: Session, line: bytes) -> None:
        step, positive = session.step, line[:1] in b"23"
        if step == "quit":
            self._close(session)
        elif step == "rcpt" and self._plan.refused:
            self._counted(session, line[:1] == b"5", line)
        elif not positive:
            self._error(f"{step}: {line[:3].decode()}")
            self._say(session, "quit", b"QUIT\r\n")
        elif step == "banner":
            name = f"mail.{stranger(session.number)[1]}" if self._plan.strangers else "load.stranger.example"
            self._say(session, "ehlo", b"EHLO %s\r\n" % name.encode())
        elif step == "ehlo":
            self._mail(session)
        elif step == "mail":
            self._say(session, "rcpt", b"RCPT TO:<%s>\r\n" % self._plan.recipient.encode())
        elif step == "rcpt":
            self._say(session, "data", b"DATA\r\n")
        elif step == "data":
            session.step = "dot"
            session.dot_at = time.perf_counter()
            if self._plan.strangers:
                self._write(session, stuffed(Path(self._plan.strangers, str(session.number)).read_bytes()))
            else:
                self._write(session, self._content)
        else:
            self.times.dot.append(time.perf_counter() - session.dot_at)
            self._counted(session, True, line)

    def _mail(self, session: Session) -> None:
        session.mail_at = time.perf_counter()
        sender = f"load@{stranger(session.number)[1]}" if self._plan.strangers else self._plan.sender
        self._say(session, "mail", b"MAIL FROM:<%s>\r\n" % sender.encode())

    def _counted(self, session: Session, right: bool, line: bytes) -> None:
        if right:
            self.times.done += 1
            self.times.mail.append(time.perf_counter() - session.mail_at)
        else:
            self._error(f"{session.step}: {line[:3].decode()}")
        session.left -= 1
        if session.left:
            self._mail(session)
        else:
            self._say(session, "quit", b"QUIT\r\n")


if __name__ == "__main__":
    print(json.dumps(Load(Plan(**json.loads(sys.argv[1]))).run()))
