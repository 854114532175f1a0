"""A conversation that answers from a script and remembers what it was asked, and a server on an in-memory wire."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fakes.chance import FakeChance
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock as TwistedClock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from inboundmx.model.envelope import Envelope
from inboundmx.model.message import Body
from inboundmx.model.reply import Replies, Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import GatewaySettings, Settings, SmtpSettings
from inboundmx.ports import Welcome
from inboundmx.smtp.server import SmtpServerFactory

HOSTNAME = "mx.example.net"
ANSWERS: Mapping[str, Reply] = {
    "connected": Reply(220, "", f"{HOSTNAME} ESMTP"),
    "hello": Reply(250, "", "hello"),
    "mail": Reply(250, "2.1.0", "Sender OK"),
    "recipient": Reply(250, "2.1.5", "Recipient OK"),
    "data": Reply(354, "", "Go on"),
    "content": Reply(250, "2.0.0", "Taken"),
}


class FakeDraft:
    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.trouble: Exception | None = None
        self.discarded = False

    def write(self, chunk: bytes) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.chunks.append(chunk)

    def finish(self) -> Body:
        if self.trouble is not None:
            raise self.trouble
        content = b"".join(self.chunks)
        return Body(len(content), content, None, hashlib.sha256(content).digest())

    def discard(self) -> None:
        self.discarded = True


class FakeConversation:
    """``answers``: by question, a Reply, an exception to raise, or a list of these used up in turn. ``slow``: questions
    answered through a Deferred kept in ``pending`` (with the answer), until ``fire`` is called."""

    def __init__(self, answers: Mapping[str, Any] | None = None, slow: frozenset[str] = frozenset()) -> None:
        self.answers = {**ANSWERS, **(answers or {})}
        self.slow = slow
        self.asked: list[tuple[Any, ...]] = []
        self.told: list[tuple[Any, ...]] = []
        self.pending: list[tuple[Deferred[Reply], Any]] = []
        self.contents: list[bytes] = []
        self.drafts: list[FakeDraft] = []
        self.draft_trouble: Exception | None = None
        self.write_trouble: Exception | None = None
        self.cancelled = 0
        self.welcome = Welcome(None)
        self.session = Session("id0123456789", "192.0.2.7", 4000, "192.0.2.1", 0.0)

    def _answer(self, question: str, *arguments: Any) -> Any:
        self.asked.append((question, *arguments))
        answer = self.answers[question]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if question in self.slow:
            waiting: Deferred[Reply] = Deferred(self._cancelled)
            self.pending.append((waiting, answer))
            return self._wait(waiting)
        if isinstance(answer, Reply | Replies):
            return self._at_once(answer)
        raise answer

    def _cancelled(self, _: Any) -> None:
        self.cancelled += 1

    async def _at_once(self, reply: Reply) -> Reply:
        return reply

    async def _wait(self, waiting: Deferred[Reply]) -> Reply:
        return await waiting

    def fire(self) -> None:
        """Answers the oldest question that waits."""
        waiting, answer = self.pending.pop(0)
        if isinstance(answer, Reply | Replies):
            waiting.callback(answer)
        else:
            waiting.errback(answer)

    def arriving(self) -> Welcome:
        return self.welcome

    def client(self) -> Session:
        return self.session

    def connected(self, early: bool = False) -> Any:
        return self._answer("connected", *(("early",) if early else ()))

    def hello(self, session: Session) -> Any:
        return self._answer("hello", session)

    def mail(self, envelope: Envelope, prdr: bool) -> Any:
        return self._answer("mail", envelope, prdr)

    def recipient(self, address: Any, **dsn: str) -> Any:
        return self._answer("recipient", address, *dsn.items())

    def data(self) -> Any:
        return self._answer("data")

    def draft(self) -> FakeDraft:
        if self.draft_trouble is not None:
            raise self.draft_trouble
        draft = FakeDraft()
        draft.trouble = self.write_trouble
        self.drafts.append(draft)
        return draft

    def content(self, body: Body) -> Any:
        self.contents.append(body.head)
        return self._answer("content", body)

    def refused(self, verb: str, reply: Reply) -> Reply:
        self.told.append(("refused", verb, reply.code))
        return Reply(reply.code, reply.enhanced, f"{reply.text} id0123456789", reply.then_close)

    def reset(self) -> None:
        self.told.append(("reset",))

    def closed(self, reason: str) -> None:
        self.told.append(("closed", reason))


class FakeReception:
    """Gives out the conversations it was made with, then fresh ones."""

    def __init__(self, *conversations: FakeConversation) -> None:
        self.waiting = list(conversations)
        # Whom it refuses before a handshake, or what it raises when asked.
        self.refuses: Callable[[Session], Reply | None] = lambda session: None
        self.sessions: list[Session] = []
        self.conversations: list[FakeConversation] = []

    def unwelcome(self, session: Session) -> Reply | None:
        return self.refuses(session)

    def conversation(self, session: Session) -> FakeConversation:
        self.sessions.append(session)
        conversation = self.waiting.pop(0) if self.waiting else FakeConversation()
        self.conversations.append(conversation)
        return conversation


class FakeClock:
    """``ports.Clock`` that moves only when told to."""

    def __init__(self) -> None:
        self.twisted = TwistedClock()

    def now(self) -> float:
        return 1_700_000_000.0 + self.twisted.seconds()

    def monotonic(self) -> float:
        return self.twisted.seconds()

    def call_later(self, seconds: float, call: Any, *arguments: object) -> Any:
        delayed = self.twisted.callLater(seconds, call, *arguments)
        return _FakeTimer(delayed)

    def advance(self, seconds: float) -> None:
        self.twisted.advance(seconds)


class _FakeTimer:
    def __init__(self, call: Any) -> None:
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


class Wire(StringTransport):
    """A transport that counts how often it was written to, and on which TLS begins without a handshake: the test calls
    ``handshakeCompleted``."""

    def __init__(self, peer: Any = None, host: Any = None) -> None:
        super().__init__(host, peer)
        self.writes = 0
        self.aborted = False
        self.started_tls: list[Any] = []

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def startTLS(self, options: Any) -> None:
        self.started_tls.append(options)

    def getHandle(self) -> Any:
        return self

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_servername(self) -> bytes | None:
        return None

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


def settings(**smtp: Any) -> Settings:
    return Settings(gateway=GatewaySettings(hostname=HOSTNAME), smtp=replace(SmtpSettings(), **smtp))


class Client:
    """The far end of one in-memory connection."""

    def __init__(self, factory: SmtpServerFactory, peer: Any = None) -> None:
        self.wire = Wire(peer)
        self.protocol: Any = factory.buildProtocol(None)
        self.protocol.makeConnection(self.wire)

    def heard(self) -> bytes:
        """What was said since the last time."""
        said = self.wire.value()
        self.wire.clear()
        return said

    def say(self, data: bytes) -> bytes:
        self.protocol.dataReceived(data)
        return self.heard()

    def codes(self, data: bytes = b"") -> list[str]:
        """Sends, and gives the codes of the replies heard since the last time, one a reply."""
        if data:
            self.protocol.dataReceived(data)
        return [line[:3].decode() for line in self.heard().split(b"\r\n")[:-1] if line[3:4] != b"-"]

    @property
    def closed(self) -> bool:
        return self.wire.disconnecting or self.wire.aborted

    def hang_up(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionLost()))


class Server:
    """A factory with everything about it faked."""

    def __init__(self, *conversations: FakeConversation, tls_options: Any = None, **smtp: Any) -> None:
        self.clock = FakeClock()
        self.reception = FakeReception(*conversations)
        self.factory = SmtpServerFactory(self.reception, self.clock, FakeChance(), settings(**smtp), tls_options)

    def connect(self, peer: Any = None) -> Client:
        return Client(self.factory, peer)
