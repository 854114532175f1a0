"""Calls the primaries to hear whether they answer, and whether they would send a stranger's mail on, for ``inboundmx
check``. Blocks, in threads of its own; never part of the service. Knows as much SMTP as that takes; does not deliver
anything.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from inboundmx.model.custody import Host

SECONDS = 5.0
# What is asked about a recipient may be looked up in the DNS first.
PROBE_SECONDS = 20.0
AT_ONCE = 16
LINES_LIMIT = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """How one call went: ``answered`` when banner and EHLO were positive; ``detail`` is what was heard, or the
    trouble. ``encryption`` and ``certificate``: what was wrong with them, empty when nothing was or nobody looked."""

    host: Host
    answered: bool
    detail: str
    extensions: frozenset[str] = frozenset()
    encryption: str = ""
    certificate: str = ""


class _Trouble(Exception):
    pass


def call_all(
    hosts: Iterable[Host], hello: str, encrypted: Container[Host] = (), seconds: float = SECONDS
) -> dict[Host, Call]:
    """Each host called once, several at a time, each for at most ``seconds``, looking its name up included. Of those in
    ``encrypted`` encryption and certificate are looked at."""

    def one(host: Host, hello: str, deadline: float) -> Call:
        return call_one(host, hello, deadline, encrypt=host in encrypted)

    return _all(one, hosts, hello, seconds)


def open_relays(hosts: Iterable[Host], hello: str, seconds: float = PROBE_SECONDS) -> dict[Host, Call]:
    """Those of the hosts that would take mail from us for a domain that nobody has."""
    return {host: call for host, call in _all(probe_one, hosts, hello, seconds).items() if call.answered}


def _all(
    one: Callable[[Host, str, float], Call], hosts: Iterable[Host], hello: str, seconds: float
) -> dict[Host, Call]:
    found: dict[Host, Call] = {}
    waiting = list(dict.fromkeys(hosts))
    while waiting:
        batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        came = side_by_side([partial(one, host, hello) for host in batch], seconds)
        for host, call in zip(batch, came, strict=True):
            found[host] = call or Call(host, False, f"no answer within {seconds:g} s")
    return found


def side_by_side(calls: Sequence[Callable[[float], T]], seconds: float) -> list[T | None]:
    """What each made of its deadline, an instant of the monotonic clock; None: it did not end in time."""
    found: list[T | None] = [None] * len(calls)
    deadline = time.monotonic() + seconds

    def call(place: int) -> None:
        found[place] = calls[place](deadline)

    # Daemons: a look-up cannot be cancelled, and must not keep the command from ending.
    threads = [threading.Thread(target=call, args=(place,), daemon=True) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline + 0.5 - time.monotonic()))
    return found[:]


def call_one(
    host: Host, hello: str, deadline: float, clock: Callable[[], float] = time.monotonic, encrypt: bool = False
) -> Call:
    """Connects, reads the banner, says EHLO (LHLO) and QUIT; where it offers STARTTLS and ``encrypt``, over TLS."""

    def greeted(line: socket.socket) -> Call:
        banner, words = _greeting(line, host, hello, deadline, clock)
        if encrypt and "STARTTLS" in words:
            return Call(host, True, banner, words, *_encrypted(line, host, deadline, clock))
        line.sendall(b"QUIT\r\n")
        return Call(host, True, banner, words)

    return _tried(greeted, host, deadline, clock)


def _encrypted(
    line: socket.socket, host: Host, deadline: float, clock: Callable[[], float]
) -> tuple[str, str]:
    """What is wrong with encryption, and with the certificate, as a delivery with tls = verified would find it."""
    answer = _said(line, "STARTTLS", deadline, clock)
    if not answer.startswith("220"):
        return f"answers STARTTLS with {answer}", ""
    line.settimeout(max(0.01, deadline - clock()))
    try:
        with ssl.create_default_context().wrap_socket(line, server_hostname=host.name or host.address) as encrypted:
            encrypted.sendall(b"QUIT\r\n")
    except ssl.SSLCertVerificationError as error:
        return "", f"its certificate is not valid: {error.verify_message}"
    except ssl.SSLError as error:
        return f"no encryption after STARTTLS: {error.reason or error}", ""
    return "", ""


def probe_one(host: Host, hello: str, deadline: float, clock: Callable[[], float] = time.monotonic) -> Call:
    """``answered``: it accepted, with the null sender, a recipient in a domain that cannot exist (RFC 6761 6.4), in the
    clear or over the TLS it offers. Nothing is ever sent."""

    def probed(line: socket.socket) -> Call:
        _, words = _greeting(line, host, hello, deadline, clock)
        answer = _stranger(line, deadline, clock)
        if not answer.startswith("2") and "STARTTLS" in words and _said(line, "STARTTLS", deadline, clock)[:3] == "220":
            line.settimeout(max(0.01, deadline - clock()))
            with _UNVERIFIED.wrap_socket(line, server_hostname=None) as encrypted:
                _hello(encrypted, host, hello, deadline, clock)
                answer = _stranger(encrypted, deadline, clock)
                encrypted.sendall(b"QUIT\r\n")
        else:
            line.sendall(b"QUIT\r\n")
        return Call(host, answer.startswith("2"), answer)

    return _tried(probed, host, deadline, clock)


# Whoever it is: what matters is what it accepts.
_UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_UNVERIFIED.check_hostname, _UNVERIFIED.verify_mode = False, ssl.CERT_NONE


def _tried(
    step: Callable[[socket.socket], Call], host: Host, deadline: float, clock: Callable[[], float]
) -> Call:
    try:
        with _connected(host, deadline, clock) as line:
            return step(line)
    except _Trouble as trouble:
        return Call(host, False, str(trouble))
    except TimeoutError:
        return Call(host, False, "connected, and then no answer in time")
    except OSError as error:
        return Call(host, False, f"connection broken: {error.strerror or error}")


def _greeting(
    line: socket.socket, host: Host, hello: str, deadline: float, clock: Callable[[], float]
) -> tuple[str, frozenset[str]]:
    """The banner, and the extensions offered."""
    banner = _reply(line, deadline, clock)
    if not banner[0].startswith("220"):
        raise _Trouble(f"greets with {banner[0]}")
    return banner[0], _hello(line, host, hello, deadline, clock)


def _hello(
    line: socket.socket, host: Host, hello: str, deadline: float, clock: Callable[[], float]
) -> frozenset[str]:
    verb = "LHLO" if host.protocol == "lmtp" else "EHLO"
    line.sendall(f"{verb} {hello}\r\n".encode("ascii"))
    answer = _reply(line, deadline, clock)
    if not answer[0].startswith("250"):
        raise _Trouble(f"answers {verb} with {answer[0]}")
    return frozenset(line[4:].split(" ")[0].upper() for line in answer[1:])


def _stranger(line: socket.socket, deadline: float, clock: Callable[[], float]) -> str:
    """What is said to mail for a stranger; the transaction ends there."""
    nobody = secrets.token_hex(8)
    answer = _said(line, "MAIL FROM:<>", deadline, clock)
    if answer.startswith("2"):
        answer = _said(line, f"RCPT TO:<{nobody}@{nobody}.invalid>", deadline, clock)
        _said(line, "RSET", deadline, clock)
    return answer


def _said(line: socket.socket, command: str, deadline: float, clock: Callable[[], float]) -> str:
    line.sendall(f"{command}\r\n".encode("ascii"))
    return _reply(line, deadline, clock)[0]


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
