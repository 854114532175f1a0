"""Endpoint strings of the INI, made into listening sockets.

Knows what ``tcp:25`` means here (both IP families), that a burst of strangers needs a long backlog, and that ``ssl:``
without keys of its own takes the certificate of ``[tls]``. Does not know what is spoken on the sockets.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import serverFromString
from twisted.protocols.tls import TLSMemoryBIOFactory

BACKLOG = 1024


class CurrentCertificate:
    """A context factory whose context may be replaced while it listens, so that a reload needs no new socket."""

    def __init__(self) -> None:
        self.options: Any = None

    def getContext(self) -> Any:
        if self.options is None:
            raise SSL.Error("no certificate is configured")
        return self.options.getContext()


def dual_stack() -> bool:
    """Whether one IPv6 socket can serve both families here."""
    try:
        if Path("/proc/sys/net/ipv6/bindv6only").read_text().strip() == "1":
            return False
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def endpoint_strings(text: str) -> list[str]:
    """One INI endpoint as the Twisted strings to listen on."""
    kind, _, rest = text.partition(":")
    if kind in ("tcp", "ssl") and "interface=" not in rest:
        if dual_stack():
            return [f"{kind}6:{rest}:interface=\\:\\:"]
        if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
            return [text, f"{kind}6:{rest}:interface=\\:\\:"]
    return [text]


def listen(reactor: Any, text: str, factory: Any, certificate: Any) -> list[Any]:
    """Raises OSError or twisted's CannotListenError, and ValueError for a string that Twisted does not know."""
    ports: list[Any] = []
    for string in endpoint_strings(text):
        kind, _, rest = string.partition(":")
        serving = factory
        if kind in ("ssl", "ssl6") and "privateKey=" not in rest:
            # Twisted has no ssl6; our own wrapping serves both.
            kind = "tcp6" if kind == "ssl6" else "tcp"
            serving = TLSMemoryBIOFactory(certificate, False, factory)
        if kind in ("tcp", "tcp6", "ssl") and "backlog=" not in rest:
            rest = f"{rest}:backlog={BACKLOG}"
        endpoint: Any = serverFromString(reactor, f"{kind}:{rest}")  # type: ignore[no-untyped-call]
        waiting = endpoint.listen(serving)
        outcome: list[Any] = []
        waiting.addBoth(outcome.append)
        if not outcome:
            raise ValueError(f"{text} does not start listening at once")
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        ports.append(outcome[0])
    return ports
