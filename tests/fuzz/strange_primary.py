"""Any octets a primary says, to the real client on a wire in memory.

The first three octets say what is sent and how. Then octets are heard as they stand, each line by itself; ``script``
says how what else happens is written. The letters: ``g`` from now on lines come together, as many as are said without a
cut, or again each by itself; ``t`` time passes; ``q`` and ``a`` the primary closes or drops the connection; ``k`` the
next connection is refused; ``h`` the handshake of TLS is made; ``n`` the next message is sent; ``x`` the message is
abandoned; ``c`` the connection is closed by us; ``p`` and ``r`` the primary stops and goes on reading.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import complaints
from fakes.smtp_wire import ANN, BOB, EVE, Network, Wire, body
from reference_server import transactions
from script import steps
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.python.failure import Failure

from inboundmx.model.address import Address
from inboundmx.model.custody import Client, Content, DeliveryAttempt, Host, Parcel, Phase, Terms
from inboundmx.ports import Refused
from inboundmx.smtp.client_tls import ClientContexts

LETTERS = frozenset("gtqakhnxcpr")
MAX_LENGTH = 2048

SECONDS = (0.001, 1, 4.9, 5.1, 9.9, 10.1, 59.9, 60.1, 179, 181, 301, 601, 30, 31, 2, 3)
OPENING_SECONDS, ANSWER_SECONDS, DOT_SECONDS = 5.0, 10.0, 60.0
# No message of these few commands goes on for longer, each of its waits as long as it may be; a large content may.
LONGEST, STEP = 1000.0, 5.0
# More connections than this are not made for one story.
DIALS = 20
MAIL = b"Subject: x\r\n\r\nhello\r\n"
BODIES = (MAIL, b".\r\n..\r\n.x\r\n\r\n.\r\n", b"", b"\r\n", b"Subject: no end of a line", b".", MAIL * 20)
FILE, SHORT_FILE, NO_FILE = "large", "short", "nowhere"
LARGE = (b"." * 63 + b"\r\n") * 1100
SENDERS = Address("sender", "a.example"), None, Address("\u00e9", "a.example")
CLIENTS = (None, Client("203.0.113.7", "c.example", "c.example"), Client("2001:db8::7", "", "a b=c"))
MODES = ("none", "opportunistic", "required", "verified")
FACTS = ("none", "xclient", "xforward", "none")


@cache
def folder() -> str:
    made = tempfile.mkdtemp(prefix="fuzz-")
    (Path(made) / FILE).write_bytes(LARGE)
    (Path(made) / SHORT_FILE).write_bytes(LARGE[:-100])
    return made


@cache
def contexts() -> ClientContexts:
    return ClientContexts()


class Line(Wire):
    """A wire whose other end is a primary: what it said, and how much it had heard by then. Octets of the handshake
    are none of its words."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[bytes, int]] = []
        self.encryption: Any = None
        self.gone = False

    def startTLS(self, encryption: Any) -> None:
        self.encryption = encryption

    def unregisterProducer(self) -> None:
        if self.producer is not None:
            super().unregisterProducer()


class Story:
    def __init__(self, how: bytes) -> None:
        first, second, third = how
        self.network = Network(folder())
        self.network.transmitter.contexts = contexts()
        self.lmtp = bool(first & 4)
        self.host = Host("192.0.2.10", 24 if self.lmtp else 25, "lmtp" if self.lmtp else "smtp")
        login = {"username": "us", "password": "secret", "auth_without_tls": bool(first & 128)} if first & 64 else {}
        self.terms = Terms(MODES[first >> 4 & 3], client_facts=FACTS[second & 3], **login)
        recipients = (ANN, BOB, EVE)[: 1 + (first & 3)]
        sender = SENDERS[(second >> 2 & 3) % len(SENDERS)]
        content = Content(b"", 0, body(BODIES[(second >> 4 & 7) % len(BODIES)]))
        if second & 128:
            content = Content(b"Received: by us\r\n.\r\n", min(4, content.body.size), content.body)
        if third & 3:
            content = Content(content.prefix, 0, body(LARGE, ("", FILE, SHORT_FILE, NO_FILE)[third & 3]))
        dsn = tuple(("SUCCESS,FAILURE", f"rfc822;{each}") for each in recipients) if third & 4 else ()
        self.parcels = [
            Parcel(
                f"id{number}", sender, recipients, content, bool(third & 8), bool(third & 16), bool(first & 8),
                "HDRS" if third & 4 else "", "env+2Bid" if third & 4 else "", dsn, CLIENTS[number % len(CLIENTS)],
            )
            for number in range(3)
        ]  # fmt: skip
        self.together = False
        self.lines: list[Line] = []
        self.protocols: list[Any] = []
        self.connection: Any = None
        self.refusal: Any = None
        self.sent: list[tuple[Any, Parcel, Line, list[DeliveryAttempt]]] = []
        self.dial()

    def dial(self) -> None:
        self.connection = self.refusal = None
        self._connect()
        self.accept()

    def _connect(self) -> None:
        outcome = self.network.transmitter.connect(self.host, terms=self.terms, seconds=OPENING_SECONDS)
        outcome.addCallbacks(self._opened, self._refused)

    def _opened(self, connection: Any) -> None:
        self.connection = connection
        self.transmit()

    def _refused(self, failure: Failure) -> None:
        assert isinstance(failure.value, Refused), failure
        self.refusal = failure.value

    def accept(self) -> None:
        """Takes the connection that was asked for, if one is."""
        clients = self.network.reactor.tcpClients
        assert len(clients) <= DIALS + 2, "dials for ever"
        if len(clients) > len(self.lines):
            line = Line()
            self.lines.append(line)
            protocol = clients[-1][2].buildProtocol(IPv4Address("TCP", "192.0.2.10", 25))
            self.protocols.append(protocol)
            protocol.makeConnection(line)

    def transmit(self) -> None:
        connection = self.connection
        if connection is None or not connection.usable or len(self.sent) >= 6:
            return
        parcel = self.parcels[len(self.sent) % len(self.parcels)]
        attempts: list[DeliveryAttempt] = []
        transmission = connection.transmit(parcel, answer_seconds=ANSWER_SECONDS, dot_seconds=DOT_SECONDS)
        self.sent.append((transmission, parcel, self.lines[-1], attempts))
        transmission.done.addCallback(attempts.append)

    # --- what happens ---

    def tell(self, octets: bytes) -> None:
        for letter, argument, said in steps(octets, LETTERS):
            if letter:
                getattr(self, f"_{letter}")(argument)
            else:
                for piece in [said] if self.together else said.splitlines(keepends=True):
                    self.hear(piece)
                    self.accept()
            self.accept()
        self._p(0)
        self._r(0)
        before = len(self.lines)
        self.network.reactor.pump([STEP] * int(LONGEST / STEP))
        # Falling back to the clear, it has dialled once more, and nobody answered.
        assert len(self.network.reactor.tcpClients) <= before + 1
        assert self.connection is not None or self.refusal is not None, "neither open nor refused"
        for _, _, _, attempts in self.sent:
            assert len(attempts) == 1, f"ended {len(attempts)} times"
        for at in range(len(self.lines)):
            self.lose(ConnectionDone(), at)
        assert not self.network.timers, self.network.reactor.getDelayedCalls()
        self.judge()

    def hear(self, said: bytes) -> None:
        line = self.lines[-1]
        if line.gone or line.aborted or line.encryption is not None:
            return
        line.said.append((said, len(line.value())))
        self.protocols[-1].dataReceived(said)

    def lose(self, error: Exception, at: int = -1) -> None:
        if not self.lines[at].gone:
            self.lines[at].gone = True
            if self.lines[at].producer is not None:
                self.lines[at].producer.stopProducing()
            self.protocols[at].connectionLost(Failure(error))

    def _g(self, _argument: int) -> None:
        self.together = not self.together

    def _t(self, argument: int) -> None:
        self.network.reactor.advance(SECONDS[argument % len(SECONDS)])

    def _q(self, _argument: int) -> None:
        self._again(ConnectionDone())

    def _a(self, _argument: int) -> None:
        self._again(ConnectionLost())

    def _again(self, error: Exception) -> None:
        self.lose(error)
        self.accept()
        over = self.refusal is not None or self.connection is not None
        if over and self.lines[-1].gone and len(self.lines) < DIALS:
            self.dial()

    def _k(self, _argument: int) -> None:
        if self.lines[-1].gone and len(self.lines) < DIALS:
            self._connect()
            self.network.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            self.network.reactor.tcpClients.pop()

    def _h(self, _argument: int) -> None:
        line, encryption = self.lines[-1], self.lines[-1].encryption
        if encryption is not None and not line.gone and not line.aborted:
            line.encryption = None
            encryption.clientConnectionForTLS(self.protocols[-1])
            self.protocols[-1].handshakeCompleted()

    def _n(self, _argument: int) -> None:
        self.transmit()

    def _x(self, _argument: int) -> None:
        if self.sent:
            self.sent[-1][0].abandon()

    def _c(self, _argument: int) -> None:
        if self.connection is not None:
            self.connection.close()

    def _p(self, _argument: int) -> None:
        if self.lines[-1].producer is not None:
            self.lines[-1].producer.pauseProducing()

    def _r(self, _argument: int) -> None:
        if self.lines[-1].producer is not None:
            self.lines[-1].producer.resumeProducing()

    # --- what must be so ---

    def judge(self) -> None:
        for line in self.lines:
            said = line.value()
            rest = said.replace(b"\r\n", b"")
            assert b"\r" not in rest and b"\n" not in rest, f"a bare CR or LF: {said[:300]!r}"
            begun = transactions(said, line.said, self.lmtp)
            told = [(parcel, attempts[0]) for _, parcel, over, attempts in self.sent if over is line]
            claims = [(parcel, attempt) for parcel, attempt in told if _claimed(attempt)]
            # By SMTP there is one answer at most; by LMTP one for each recipient.
            accepted = [each for each in begun if each.recipients and any(code < 300 for code in each.answers)]
            assert len(claims) <= len(accepted), f"delivered without a word: {claims}"
            for (parcel, attempt), sent in zip(claims, accepted, strict=False):
                assert not sent.early, f"delivered by an answer to nothing: {line.said}"
                content = parcel.content.prefix
                content += (LARGE if parcel.content.body.path else parcel.content.body.head)[parcel.content.skip :]
                content += b"" if content.endswith(b"\r\n") or not content else b"\r\n"
                assert sent.content == content, "altered"
                positive = [address for address, reply in attempt.replies if reply.positive]
                good = sum(code < 300 for code in sent.answers) if self.lmtp else len(sent.recipients)
                assert len(positive) <= good, f"{positive} of {sent}"
                for address in positive:
                    assert any(str(address).encode() in each for each in sent.recipients), f"{address} of {sent}"
        for _, parcel, _, attempts in self.sent:
            assert {address for address, _ in attempts[0].replies} == set(parcel.recipients)
            assert all(reply.code >= 200 for _, reply in attempts[0].replies)
            if attempts[0].trouble:
                own = [r for _, r in attempts[0].replies if not r.positive or attempts[0].phase is not Phase.DOT]
                assert self.lmtp or len(own) == len(attempts[0].replies), attempts[0]
        complaints.none()


def _claimed(attempt: DeliveryAttempt) -> bool:
    """Whether it says of anybody that the message was delivered."""
    return attempt.phase is Phase.DOT and any(reply.positive for _, reply in attempt.replies)


def one(octets: bytes) -> None:
    """Tells one story. Raises where something in it must not be."""
    complaints.listen()
    Story(octets[:3].ljust(3, b"\0")).tell(octets[3:])
