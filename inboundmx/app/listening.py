"""Endpoint strings of the INI, made into listening sockets.

Knows what ``tcp:25`` means here (both IP families), that a burst of strangers needs a long backlog, and that ``ssl:``
without keys of its own takes the certificate of ``[tls]``. Does not know what is spoken on the sockets.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from inboundmx.app.starting import CannotStart
from inboundmx.smtp.server_socket import StrangersPort

BACKLOG = 1024


@implementer(IOpenSSLServerConnectionCreator)
class CurrentCertificate:
    """What TLS is begun with, which may be replaced while it listens, so that a reload needs no new socket."""

    def __init__(self) -> None:
        self.options: Any = None

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        if self.options is None:
            raise SSL.Error("no certificate is configured")
        return SSL.Connection(self.options.getContext(), None)


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
        serving, string = _unwrapped(string, factory, certificate)
        kind, _, rest = string.partition(":")
        if kind in ("tcp", "tcp6", "ssl") and "backlog=" not in rest:
            string = f"{string}:backlog={BACKLOG}"
        endpoint: Any = serverFromString(_Ports(reactor), string)  # type: ignore[no-untyped-call]
        waiting = endpoint.listen(serving)
        outcome: list[Any] = []
        waiting.addBoth(outcome.append)
        if not outcome:
            raise ValueError(f"{text} does not start listening at once")
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        ports.append(outcome[0])
    return ports


def hint_at_start(trouble: CannotListenError) -> str:
    number = getattr(trouble.socketError, "errno", None)
    if number == errno.EADDRINUSE:
        return f"; another program listens there, see: ss -ltnp 'sport = :{trouble.port}'"
    if number == errno.EACCES:
        return "; ports below 1024 need root or the capability to bind them, see docs/install.md"
    return ""


# What an operator may do about it, to be added to a sentence.
Hint = Callable[[CannotListenError], str]


def bound(reactor: Any, text: str, factory: Any, certificate: Any, hint: Hint = hint_at_start) -> list[Any]:
    """As ``listen``, but what goes wrong is said in a sentence: raises CannotStart."""
    try:
        return listen(reactor, text, factory, certificate)
    except CannotListenError as trouble:
        reason = getattr(trouble.socketError, "strerror", None) or trouble.socketError
        raise CannotStart([f"cannot listen on {text}: {reason}{hint(trouble)}"]) from trouble
    except (OSError, ValueError, LookupError) as trouble:
        raise CannotStart([f"cannot listen on {text}: {trouble}"]) from trouble


def stopped(ports: Iterable[Any]) -> Deferred[Any]:
    """Fires when nobody listens any more."""
    return DeferredList([port.stopListening() or succeed(None) for port in ports], consumeErrors=True)


def adopt(reactor: Any, text: str, descriptor: int, factory: Any, certificate: Any) -> Any:
    """The port of an endpoint whose socket another process has bound, for us to listen on as well. The descriptor is
    closed: the port has its own. Raises OSError, and ValueError as ``listen`` does."""
    with socket.socket(fileno=descriptor) as inherited:
        port = _Ports(reactor).adoptStreamPort(
            inherited.fileno(), inherited.family, _wrapped(text, factory, certificate)
        )
        if inherited.family == socket.AF_UNIX:
            # Its file is whose bound it: of a nameless socket Twisted does not remove one.
            port._bindPath = "\0"
    return port


def _unwrapped(string: str, factory: Any, certificate: Any) -> tuple[Any, str]:
    """The factory with our own wrapping of ``ssl:`` without keys, and the string without it."""
    kind, _, rest = string.partition(":")
    if kind in ("ssl", "ssl6") and "privateKey=" not in rest:
        # Twisted has no ssl6; our own wrapping serves both.
        return TLSMemoryBIOFactory(certificate, False, factory), f"{'tcp6' if kind == 'ssl6' else 'tcp'}:{rest}"
    return factory, string


def _wrapped(text: str, factory: Any, certificate: Any) -> Any:
    """What is served on an endpoint's plain socket."""
    kind, _, rest = text.partition(":")
    if kind == "haproxy":
        return HAProxyWrappingFactory(_wrapped(rest, factory, certificate))  # type: ignore[no-untyped-call]
    serving, string = _unwrapped(text, factory, certificate)
    if string.startswith("ssl:"):
        caught = _Catching()
        serverFromString(caught, string).listen(factory)  # type: ignore[no-untyped-call]
        return TLSMemoryBIOFactory(caught.context, False, factory)
    return serving


class _Ports:
    """Stands for a reactor; where that is Twisted's for epoll, TCP ports are ours."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = BACKLOG, interface: str = "") -> Any:
        if not isinstance(self._reactor, EPollReactor):
            return self._reactor.listenTCP(port, factory, backlog, interface)
        made = StrangersPort(port, factory, backlog, interface, self._reactor)
        made.startListening()
        return made

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> Any:
        if not isinstance(self._reactor, EPollReactor) or family == socket.AF_UNIX:
            return self._reactor.adoptStreamPort(descriptor, family, factory)
        made: Any = StrangersPort._fromListeningDescriptor(self._reactor, descriptor, family, factory)
        made.startListening()
        return made


class _Catching:
    """Stands for a reactor, to be told with which keys of its own an ``ssl:`` endpoint would listen."""

    context: Any

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, **_: Any) -> None:
        self.context = contextFactory
