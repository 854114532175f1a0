"""Connections to servers we deliver to, opened until a message may be sent.

Knows greetings, when encryption is wanted, and that a password is not for everybody's ears. Does not know which server
is tried, nor who pays for it when none answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectBindError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from inboundmx.model.custody import Host, Phase, Terms
from inboundmx.model.ip import is_ip
from inboundmx.model.reply import Reply
from inboundmx.ports import Clock, Connection, Refused
from inboundmx.smtp.client_connection import SmtpConnection
from inboundmx.smtp.client_hello import Hello, Login
from inboundmx.smtp.client_tls import ClientContexts, ClientEncryption

# RFC 5321 4.5.3.2.1's five minutes are for the greeting; what takes no connection in this time is not there.
TCP_SECONDS = 30.0

_DETAILS = {
    "refused": "no connection",
    "dns": "the name of the server cannot be looked up",
    "timeout": "no answer in time",
    "lost": "the connection was lost",
    "garbage": "the answer was not understood",
    "tls": "no encrypted connection as asked for",
    "rejects_us": "the server refuses to talk to this gateway",
}


class SmtpTransmitter:
    """``ports.Transmitter`` over TCP. ``connector``: the reactor (TCP, name resolver, time for its connects);
    ``hostname``: our name in EHLO; ``folder``: what the paths of large bodies are relative to; ``trust_root``: whom
    tls = verified trusts, the system's authorities when None."""

    def __init__(
        self, connector: Any, clock: Clock, hostname: str, folder: str, trust_root: Any = None
    ) -> None:
        self.connector = connector
        self.clock = clock
        self.hostname = hostname
        self.folder = folder
        self.contexts = ClientContexts(trust_root)

    def connect(self, host: Host, *, terms: Terms, seconds: float, source: str = "") -> Deferred[Connection]:
        return Opening(self, host, terms, seconds, source).done


class _ConnectionFactory(Factory):
    noisy = False

    def __init__(self, build: Callable[[], SmtpConnection]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> SmtpConnection:
        return self._build()


class Opening:
    """One connection on its way to being usable; a second one in the clear when encryption is opportunistic, the first
    one's handshake failed, and no password would have to go in the clear. ``done`` fires with the Connection or fails
    with Refused."""

    def __init__(self, transmitter: SmtpTransmitter, host: Host, terms: Terms, seconds: float, source: str) -> None:
        self.done: Deferred[Connection] = Deferred(self._cancelled)
        self._transmitter = transmitter
        self._host = host
        self._terms = terms
        self._wanted = terms.tls
        self._clear_will_do = not terms.username or terms.auth_without_tls
        self._seconds = seconds
        self._source = source
        self._finished = False
        self._encryption: ClientEncryption | None = None
        self._connection: SmtpConnection | None = None
        self._timer = transmitter.clock.call_later(seconds, self._too_slow)
        self._dial()

    def _dial(self) -> None:
        self._phase = Phase.CONNECT
        self._next: Callable[[Reply], None] = self._after_banner
        self._connection = None
        self._dialing = self._endpoint().connect(_ConnectionFactory(self._build))
        self._dialing.addErrback(self._unreachable)

    def _endpoint(self) -> Any:
        connector, address, port = self._transmitter.connector, self._host.address, self._host.port
        limit = min(self._seconds + 1, TCP_SECONDS)
        bind = (self._source, 0) if self._source else None
        if not is_ip(address):
            return HostnameEndpoint(connector, address, port, timeout=limit, bindAddress=bind)
        make = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        if (":" in address) != (":" in self._source):
            bind = None  # an address of the other family leads nowhere
        return make(connector, address, port, timeout=limit, bindAddress=bind)

    def _build(self) -> SmtpConnection:
        transmitter = self._transmitter
        self._connection = SmtpConnection(
            self._host, self._terms, transmitter.clock, transmitter.hostname, transmitter.folder, self
        )
        return self._connection

    def _unreachable(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, DNSLookupError):
            self._refuse("dns")
        elif isinstance(error, ConnectTimedOut):
            self._refuse("timeout")
        else:
            source = f" from {self._source}" if isinstance(error, ConnectBindError) else ""
            number = getattr(error, "osError", None)
            why = f": {os.strerror(number)}" if isinstance(number, int) else ""
            self._refuse("refused", detail=f"{_DETAILS['refused']}{source}{why}")

    # --- called by the connection ---

    def connected(self) -> None:
        self._phase = Phase.GREETING

    def heard(self, reply: Reply) -> None:
        self._next(reply)

    def secured(self) -> None:
        assert self._connection is not None and self._encryption is not None
        if not self._encryption.accepted():
            self._refuse("tls", detail=f"the certificate of the server does not name {self._encryption.host}")
            return
        self._connection.tls = self._encryption.described
        self._say_hello()

    def failed(self, trouble: str) -> None:
        if trouble == "lost" and self._phase is Phase.TLS and self._encryption is not None:
            why = self._connection.ended_by if self._connection is not None else ""
            self._refuse("tls", detail=f"{_DETAILS['tls']}: {why}" if why else "")
        else:
            self._refuse(trouble)

    # --- step by step ---

    def _after_banner(self, reply: Reply) -> None:
        if reply.code == 220:
            self._say_hello()
        else:
            self._unwelcome(reply)

    def _say_hello(self) -> None:
        assert self._connection is not None
        self._phase = Phase.HELLO
        # The whole opening has one limit, kept by our own timer.
        name, limit = self._transmitter.hostname, self._seconds + 1
        hello = Hello(self._connection, name, limit, self._encrypt_or_go, self._unwelcome)
        self._next = hello.heard
        hello.say()

    def _encrypt_or_go(self) -> None:
        connection = self._connection
        assert connection is not None
        if self._wanted == "none" or connection.tls:
            self._log_in_or_go()
        elif "STARTTLS" in connection.extensions:
            self._phase = Phase.TLS
            self._next = self._after_starttls
            connection.send(b"STARTTLS\r\n", self._seconds + 1)
        elif self._wanted == "opportunistic":
            self._log_in_or_go()
        else:
            self._phase = Phase.TLS
            self._refuse("tls", detail="the server does not offer STARTTLS")

    def _after_starttls(self, reply: Reply) -> None:
        assert self._connection is not None
        if reply.code == 220:
            name, verify = self._host.name or self._host.address, self._wanted == "verified"
            self._encryption = ClientEncryption(self._transmitter.contexts, name, verify=verify)
            self._connection.start_tls(self._encryption)
        elif reply.temporary and reply.code != 421:
            self._refuse("tls", reply)
        else:
            self._unwelcome(reply)

    def _log_in_or_go(self) -> None:
        connection = self._connection
        assert connection is not None
        if not self._terms.username:
            self._ready()
        elif not connection.tls and not self._terms.auth_without_tls:
            self._phase = Phase.TLS
            self._refuse("tls", detail="no encrypted connection, and the password may not go in the clear")
        else:
            self._phase = Phase.AUTH
            login = Login(connection, self._seconds + 1, self._ready, self._refuse)
            self._next = login.heard
            login.start()

    def _unwelcome(self, reply: Reply) -> None:
        if reply.permanent:
            self._refuse("rejects_us", reply)
        else:
            self._refuse("lost" if reply.temporary else "garbage", reply)

    # --- the end ---

    def _ready(self) -> None:
        connection = self._connection
        assert connection is not None
        connection.release(self)
        if not connection.usable:
            self._refuse("garbage")
            return
        facts = self._terms.client_facts
        if facts.upper() in connection.extensions:
            connection.facts = facts
        self._finish()
        self.done.callback(connection)

    def _too_slow(self) -> None:
        self._refuse("timeout")

    def _refuse(self, trouble: str, reply: Reply | None = None, detail: str = "") -> None:
        """``detail``: what is wrong, where the word of trouble alone does not say it."""
        if self._finished:
            return
        if trouble == "tls" and self._wanted == "opportunistic" and self._clear_will_do:
            self._hang_up()
            self._wanted = "none"
            self._encryption = None
            self._dial()
            return
        self._finish()
        if reply is not None and self._connection is not None:
            self._connection.release(self, keep=False)
        self._hang_up()
        detail = detail or _DETAILS[trouble]
        if reply is not None:
            detail = f"{detail}: {reply}"
        self.done.errback(Refused(trouble, self._phase.value, reply, detail))

    def _cancelled(self, _: Deferred[Connection]) -> None:
        self._finish()
        self._hang_up()

    def _finish(self) -> None:
        self._finished = True
        self._timer.cancel()

    def _hang_up(self) -> None:
        """Whatever there is of a connection is torn down without a word."""
        self._dialing.cancel()
        if self._connection is not None:
            self._connection.discard()
