"""A connection to a server we deliver to, kept open between transactions.

Knows octets, replies, deadlines and the end of a connection; anything heard that was not asked for ends it. Does not
know what the answers mean: ``client`` opens, ``client_transaction`` transmits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from inboundmx.model.custody import Client, Host, Parcel, Terms
from inboundmx.model.reply import Reply
from inboundmx.ports import Clock, Timer
from inboundmx.smtp.client_facts import Introduction
from inboundmx.smtp.client_tls import ClientEncryption, reason_of
from inboundmx.smtp.client_transaction import Transaction
from inboundmx.smtp.replies import Garbage, ReplyParser
from inboundmx.smtp.writing import write

# QUIT is given so long to leave; then the connection is torn down.
FAREWELL_SECONDS = 5.0


class Listener(Interface):
    """Whoever has asked something and waits for the answers."""

    def heard(self, reply: Reply) -> None: ...

    def failed(self, trouble: str) -> None:
        """The connection is of no more use: a word of DeliveryAttempt.trouble. Nothing more is heard."""


class Opener(Listener, Interface):
    """The first listener."""

    def connected(self) -> None: ...

    def secured(self) -> None: ...


@implementer(IHandshakeListener)
class SmtpConnection(Protocol):
    """``ports.Connection``, once ``client.Opening`` is through with it. ``transaction_open``: MAIL was accepted and
    nothing has ended that transaction, so RSET goes before the next. ``facts``: how the host is told of clients,
    ``xforward`` or ``xclient``; ``refused`` when it did not want to hear of the first one; else empty. ``told``: whom
    it takes us for, by XCLIENT; None: ourselves. ``ended_by``: what TLS did not like, once that has ended it."""

    # Twisted's interfaces for transports do not name all that a TCP transport does.
    transport: Any

    def __init__(
        self, host: Host, terms: Terms, clock: Clock, hostname: str, folder: str, opener: Opener
    ) -> None:
        self.host = host
        self.terms = terms
        self.clock = clock
        self.hostname = hostname
        self.folder = folder
        self.tls = ""
        self.extensions: Mapping[str, str] = {}
        self.lmtp = host.protocol == "lmtp"
        self.pipelining = False
        self.transaction_open = False
        self.facts = ""
        self.told: Client | None = None
        self.ended_by = ""
        self.gone: Deferred[None] = Deferred()
        self._opener = opener
        self._listener: Listener | None = opener
        self._parser = ReplyParser()
        self._ending = False
        self._close_after = False
        self._deadline = 0.0
        self._timer: Timer | None = None
        self._timer_at = 0.0

    # --- ports.Connection ---

    @property
    def usable(self) -> bool:
        return self._listener is None and not self._ending

    def transmit(self, parcel: Parcel, *, answer_seconds: float, dot_seconds: float) -> Transaction:
        transaction = Transaction(self, parcel, answer_seconds, dot_seconds)
        if not self.usable:
            transaction.failed("lost")
        elif self.facts == "xclient" and parcel.client != self.told:
            introduction = Introduction(self, transaction, parcel.client, answer_seconds)
            self._listener = introduction
            introduction.start()
        else:
            self._listener = transaction
            transaction.start()
        return transaction

    def close(self) -> None:
        """With a transaction under way: abandons it before the final dot, and waits for the answer after it."""
        if self._ending:
            return
        if isinstance(self._listener, Transaction | Introduction):
            self._close_after = True
            self._listener.abandon()
            return
        self._say_goodbye()

    # --- for listeners ---

    @property
    def silent(self) -> bool:
        """Whether nothing was heard that was not asked for."""
        return self._parser.empty

    @property
    def heard_lines(self) -> tuple[str, ...]:
        """The lines of the reply being heard."""
        return self._parser.lines

    def send(self, octets: bytes, seconds: float) -> None:
        self.send_all([octets], seconds)

    def send_all(self, pieces: list[bytes], seconds: float) -> None:
        """Asks, and waits so long for the answer. What was heard already cannot be an answer to it."""
        if not self._parser.empty:
            self.fail("garbage")
            return
        self.wait(seconds)
        write(self.transport, pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def wait(self, seconds: float) -> None:
        """The listener fails with ``timeout`` unless ``wait`` or ``release`` is called again within ``seconds``."""
        # One timer serves many waits: it looks at the deadline when it fires, which is mostly never.
        self._deadline = self.clock.monotonic() + seconds
        if self._timer is None or self._deadline < self._timer_at:
            self._set_timer(seconds)

    def pass_on(self, listener: Listener, transaction: Transaction) -> None:
        """The listener is through, and the transaction it prepared begins."""
        if self._listener is listener:
            self._listener = transaction
            transaction.start()

    def release(self, listener: Listener, *, keep: bool = True) -> None:
        """The listener is through. The connection is idle, or closed when it is not worth keeping."""
        if self._listener is listener:
            self._listener = None
        if self._ending or self._listener is not None:
            return
        if not self._parser.empty:
            self.discard()
        elif self._close_after or not keep:
            self._say_goodbye()

    def fail(self, trouble: str) -> None:
        """Tears the connection down and tells the listener."""
        listener = self._listener
        self.discard()
        if listener is not None:
            listener.failed(trouble)

    def discard(self) -> None:
        """Tears the connection down without a word to anybody."""
        self._listener = None
        if self._ending:
            return
        self._ending = True
        self._set_timer(None)
        self.transport.abortConnection()

    def start_tls(self, encryption: ClientEncryption) -> None:
        """Anything heard in the clear after the answer to STARTTLS would pass for encrypted: that ends it."""
        if not self._parser.empty:
            self.fail("garbage")
            return
        self.transport.startTLS(encryption)

    # --- twisted ---

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._opener.connected()

    def handshakeCompleted(self) -> None:
        if not self._ending:
            self._opener.secured()

    def dataReceived(self, data: bytes) -> None:
        if self._ending:
            return
        parser = self._parser
        parser.feed(data)
        while (listener := self._listener) is not None:
            try:
                reply = parser.next()
            except Garbage:
                self.fail("garbage")
                return
            if reply is None:
                return
            listener.heard(reply)
        if not parser.empty:
            self.discard()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ending = True
        self._set_timer(None)
        self.ended_by = reason_of(reason.value)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.failed("lost")
        self.gone.callback(None)

    # --- the end ---

    def _say_goodbye(self) -> None:
        self._ending = True
        self._set_timer(FAREWELL_SECONDS)
        self.transport.write(b"QUIT\r\n")
        self.transport.loseConnection()

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer_at = self.clock.monotonic() + seconds
            self._timer = self.clock.call_later(seconds, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        if self._ending:
            self.transport.abortConnection()
        elif self._listener is not None:
            left = self._deadline - self.clock.monotonic()
            if left > 0:
                self._set_timer(left)
            else:
                self.fail("timeout")
