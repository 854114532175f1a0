"""Calls the primaries to hear whether they answer, for ``inboundmx check``. Blocks, in threads of its own; never part
of the service. Knows as much SMTP as a greeting takes; does not deliver anything.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inboundmx.model.custody import Host

SECONDS = 5.0
AT_ONCE = 16
LINES_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Call:
    """How one call went: ``answered`` when banner and EHLO were positive; ``detail`` is what was heard, or the
    trouble."""

    host: Host
    answered: bool
    detail: str
    extensions: frozenset[str] = frozenset()


class _Trouble(Exception):
    pass


def call_all(hosts: Iterable[Host], hello: str, seconds: float = SECONDS) -> dict[Host, Call]:
    """Each host called once, several at a time, each for at most ``seconds``, looking its name up included."""
    found: dict[Host, Call] = {}
    waiting = list(dict.fromkeys(hosts))
    while waiting:
        batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        deadline = time.monotonic() + seconds
        # Daemons: a look-up cannot be cancelled, and must not keep the command from ending.
        threads = {
            host: threading.Thread(target=_call_into, args=(found, host, hello, deadline), daemon=True)
            for host in batch
        }
        for thread in threads.values():
            thread.start()
        for host, thread in threads.items():
            thread.join(max(0.0, deadline + 0.5 - time.monotonic()))
            found.setdefault(host, Call(host, False, f"no answer within {seconds:g} s"))
    return found


def _call_into(found: dict[Host, Call], host: Host, hello: str, deadline: float) -> None:
    call = call_one(host, hello, deadline)
    found.setdefault(host, call)


def call_one(host: Host, hello: str, deadline: float, clock: Callable[[], float] = time.monotonic) -> Call:
    """Connects, reads the banner, says EHLO (LHLO) and QUIT."""
    try:
        with _connected(host, deadline, clock) as line:
            banner = _reply(line, deadline, clock)
            if not banner[0].startswith("220"):
                raise _Trouble(f"greets with {banner[0]}")
            verb = "LHLO" if host.protocol == "lmtp" else "EHLO"
            line.sendall(f"{verb} {hello}\r\n".encode("ascii"))
            answer = _reply(line, deadline, clock)
            line.sendall(b"QUIT\r\n")
            if not answer[0].startswith("250"):
                raise _Trouble(f"answers {verb} with {answer[0]}")
    except _Trouble as trouble:
        return Call(host, False, str(trouble))
    except TimeoutError:
        return Call(host, False, "connected, and then no answer in time")
    except OSError as error:
        return Call(host, False, f"connection broken: {error.strerror or error}")
    words = frozenset(line[4:].split(" ")[0].upper() for line in answer[1:])
    return Call(host, True, banner[0], words)


def _connected(host: Host, deadline: float, clock: Callable[[], float]) -> socket.socket:
    try:
        found = socket.getaddrinfo(host.address, host.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise _Trouble(f"{host.address} does not resolve: {getattr(error, 'strerror', None) or error}") from None
    trouble = "no address"
    for family, kind, protocol, _, address in found:
        left = deadline - clock()
        if left <= 0:
            break
        line = socket.socket(family, kind, protocol)
        line.settimeout(left)
        try:
            line.connect(address)
        except OSError as error:
            line.close()
            trouble = "no answer in time" if isinstance(error, TimeoutError) else str(error.strerror or error)
        else:
            return line
    raise _Trouble(f"cannot connect: {trouble}")


def _reply(line: socket.socket, deadline: float, clock: Callable[[], float]) -> list[str]:
    """The lines of one reply, printable."""
    heard = b""
    while True:
        lines = heard.split(b"\r\n")[:-1]
        for number, each in enumerate(lines, start=1):
            if each[3:4] != b"-":
                return [_printable(one) for one in lines[:number]]
        if len(lines) > LINES_LIMIT or len(heard) > 512 * LINES_LIMIT:
            raise _Trouble("answers without an end")
        left = deadline - clock()
        if left <= 0:
            raise TimeoutError
        line.settimeout(left)
        more = line.recv(4096)
        if not more:
            raise _Trouble("closes the connection without an answer")
        heard += more


def _printable(line: bytes) -> str:
    text = line[:200].decode("utf-8", "replace")
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
