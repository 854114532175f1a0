"""One connection of a stranger: the Twisted shell around a ``Dialogue``.

Knows transports and how long a client may take. Does not know SMTP (``dialogue`` does), how many other connections
there are (``server`` counts), nor what a message is worth.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.ip import ip_of, is_ip
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.policy.relaying import within
from inboundmx.ports import Conversation, Timer, Unavailable
from inboundmx.smtp.dialogue import STOPPING, Dialogue, written
from inboundmx.smtp.naming import Named
from inboundmx.smtp.tls import asked_name
from inboundmx.smtp.writing import write, write_last

if TYPE_CHECKING:
    from inboundmx.smtp.server import SmtpServerFactory

_log = Logger()

# Octets held for a client that sends on while its question is being answered; beyond, we stop reading.
WAITING_LIMIT = 64 * 1024
# A command line may take this long once a transaction is under way (RFC 5321 4.5.3.2.7).
TRANSACTION_COMMAND_SECONDS = 300.0
# How long a message may be slower than it must be on the whole: whoever sends it waits as long for us (RFC 5321
# 4.5.3.2.5), and a line may be down for a while.
PACE_SECONDS = 300.0
# So many commands that lead nowhere are needed to begin; who goes on with them is waited for since it came.
EXCUSED_JUNK = 3
# No answer of ours may take longer: then it is 451. A client waits 10 minutes for the last one (RFC 5321 4.5.3.2.6).
QUESTION_SECONDS = 600.0
# What was written last must be taken within this, then the connection is cut.
CLOSING_SECONDS = 30.0
# Bad commands and recipients of a client that limits do not hold for.
_NO_LIMIT = sys.maxsize
# How long a client may take to hear that its connection is needed, or that we stop.
LAST_WORD_SECONDS = 1.0

_TIMEOUT = Reply(421, "4.4.2", "Waited for you for too long", then_close=True)
_TOO_SLOW = Reply(421, "4.4.2", "Your message comes too slowly", then_close=True)
_GIVE_WAY = Reply(421, "4.3.2", "Too many connections, and we have waited for you; please try again", then_close=True)
_NOT_A_PROXY = Reply(554, "5.7.1", "Only our own proxies come this way", then_close=True)
_BROKEN = Reply(421, "4.3.0", "Something is wrong on our side; please try again later", then_close=True)


class Live(NamedTuple):
    """A connection as it is now. ``stage``: greeting, hello, mail or content, whichever began last. ``messages``: how
    many were taken."""

    session: Session
    stage: str
    messages: int


@implementer(IHandshakeListener, IPushProducer)
class SmtpServer(Protocol):
    """One connection. Its ``Conversation`` is told ``closed`` exactly once, however it ends."""

    transport: Any

    __slots__ = (
        "_content_ends",
        "_content_since",
        "_conversation",
        "_deadline",
        "_dialogue",
        "_ended",
        "_factory",
        "_handshaking",
        "_idle_since",
        "_line_since",
        "_made_at",
        "_pace_at",
        "_pace_octets",
        "_peer_ip",
        "_reading",
        "_refusal",
        "_settings",
        "_silence",
        "_submission",
        "_timer",
        "_timer_at",
        "_tls_options",
        "_turning",
        "_unread",
        "_waiting",
        "_writable",
    )

    def __init__(self, factory: SmtpServerFactory, submission: bool = False) -> None:
        self._factory = factory
        self._submission = submission
        self._settings = factory.settings
        self._tls_options = factory.tls_options
        self._conversation: Conversation | None = None
        self._dialogue: Dialogue | None = None
        self._waiting: Deferred[Any] | None = None
        self._silence: Timer | None = None
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._deadline = 0.0
        self._line_since: float | None = None
        self._content_since: float | None = None
        self._content_ends = 0.0
        self._pace_at = 0.0
        self._pace_octets = 0
        self._made_at = self._idle_since = 0.0
        self._peer_ip: str | None = None
        self._refusal: Reply | None = None
        self._handshaking = False
        self._turning = False
        self._ended = False
        self._reading = True
        self._writable = True
        self._unread = b""

    # --- what Twisted calls -------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self._factory.connections.add(self)
        settings = self._settings.smtp
        now = self._made_at = self._idle_since = self._factory.clock.monotonic()
        self._wait_until(now + settings.command_timeout + settings.banner_delay, now)
        if not isinstance(transport, TLSMemoryBIOProtocol):
            self._begin()
            return
        # The greeting waits for the handshake, and so for what is to be known of it. One connection too many is not
        # worth a handshake, nor is who is refused anyway; whose it is behind a proxy is not known before.
        peer: Any = transport.getPeer()  # type: ignore[no-untyped-call]
        if not isinstance(transport.transport, HAProxyProtocolWrapper):
            self._count(_ip(peer))
        elif not self._is_proxy(peer):
            self._refusal = _NOT_A_PROXY
        if self._refusal is not None:
            self._turn_away(peer, self._refusal)
        elif self._peer_ip is not None and self._is_unwelcome(peer):
            self._abort()

    def handshakeCompleted(self) -> None:
        if self._dialogue is None:
            self._begin()
        else:
            self._secured(self._dialogue)
            self._turn()

    def dataReceived(self, data: bytes) -> None:
        dialogue = self._dialogue
        if dialogue is None:
            # Said before it is known whose connection this is: read after that.
            self._unread += data
            if len(self._unread) > WAITING_LIMIT:
                self._read(False)
            return
        if dialogue.closing:
            return
        if self._handshaking:
            # Behind a wrapper (PROXY) nobody tells us of the handshake; what we read now has come through it.
            self._secured(dialogue)
        dialogue.receive(data)
        if self._writable and not self._turning and not dialogue.asking:
            self._turn()
        else:
            self._hold_back(dialogue)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._ended:
            return
        self._ended = True
        self._factory.forget(self, self._peer_ip)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._silence is not None:
            self._end_silence()
        conversation, self._conversation = self._conversation, None
        dialogue, self._dialogue = self._dialogue, None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        if conversation is not None:
            try:
                conversation.closed((dialogue.closing if dialogue else "") or "lost")
            except Exception as error:  # noqa: BLE001 - nobody is left to answer
                self._report("closed", error)

    def pauseProducing(self) -> None:
        """The client does not read what we answer, so we do not read what it says."""
        self._writable = False
        self._read(False)

    def resumeProducing(self) -> None:
        self._writable = True
        self._turn()

    def stopProducing(self) -> None:
        self._writable = False

    # --- for the factory ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Finishes what is under way, then 421."""
        if self._dialogue is None:
            self._abort()
        elif self._silence is not None:
            self.interrupt()
        else:
            self._dialogue.stop()
            self._turn()

    def interrupt(self, reply: Reply = STOPPING) -> None:
        """Says ``reply``, a 421, and closes, whatever is under way."""
        dialogue = self._dialogue
        if dialogue is None:
            self._abort()
        elif not dialogue.closing and not dialogue.begin_tls:
            self._end_silence()
            dialogue.interrupt(reply, "stopping" if reply is STOPPING else "limit")
            self._flush(dialogue)

    def live(self) -> Live | None:
        """How far it is; None while it is not known whose it is, and after its end."""
        conversation, dialogue = self._conversation, self._dialogue
        if conversation is None or dialogue is None or dialogue.closing:
            return None
        return Live(conversation.client(), dialogue.stage, dialogue.messages)

    def cut(self) -> None:
        """Ends the connection now, whatever is under way."""
        if self._dialogue is not None:
            self._dialogue.closing = self._dialogue.closing or "stopping"
        self._abort()

    def kept_waiting(self, now: float) -> float:
        """Seconds for which the client has not got on with its mail, though it could have; 0 while it is our turn."""
        dialogue = self._dialogue
        if dialogue is None:
            return now - self._made_at
        under_way = dialogue.under_way
        if dialogue.closing or under_way == "question":
            return 0.0
        since: float | None = self._idle_since
        if dialogue.begin_tls:
            since = self._line_since
        elif under_way == "content":
            since = self._content_since
            if since is not None and dialogue.content_octets >= self._settings.smtp.min_data_rate * (now - since):
                return 0.0
        if dialogue.junk > EXCUSED_JUNK and not dialogue.in_transaction:
            since = self._made_at
        return 0.0 if since is None else now - since

    def give_way(self) -> None:
        """Somebody else needs the connection more."""
        dialogue = self._dialogue
        if dialogue is None or dialogue.begin_tls:
            self._abort()
            return
        dialogue.interrupt(_GIVE_WAY, "limit")
        self._flush(dialogue)
        if not self._ended:
            now = self._factory.clock.monotonic()
            self._wait_until(now + LAST_WORD_SECONDS, now)

    # --- the conversation ---------------------------------------------------------------------------------------------

    def _count(self, ip: str) -> None:
        """Whoever speaks for others is as many as those without an address."""
        trusted = self._settings.smtp.xclient
        self._peer_ip = "" if trusted and within(ip, trusted) else ip
        self._refusal = self._factory.counted(self._peer_ip)

    def _is_proxy(self, peer: Any) -> bool:
        """Who comes by a local socket was let in by its file."""
        return getattr(peer, "host", None) is None or within(_ip(peer), self._settings.smtp.proxies)

    def _turn_away(self, peer: Any, refusal: Reply) -> None:
        """Ends a connection that is not worth a handshake; it is on record like others."""
        try:
            session = self._session_of(_ip(peer), peer, self.transport.getHost())
            self._conversation = self._factory.reception.conversation(session)
            self._conversation.refused("CONNECT", refusal)
        except Exception as error:  # noqa: BLE001 - it ends all the same
            self._report("CONNECT", error)
        self._abort()

    def _is_unwelcome(self, peer: Any) -> bool:
        try:
            session = self._session_of(_ip(peer), peer, self.transport.getHost())
            return self._factory.reception.unwelcome(session) is not None
        except Exception as error:  # noqa: BLE001 - it is looked at again after the handshake
            self._report("CONNECT", error)
            return False

    def _session_of(self, ip: str, peer: Any, local: Any, tls: str = "", sni: str = "") -> Session:
        now = self._factory.clock.now()
        id = make_id(now, self._factory.chance.token(TOKEN_LENGTH))
        return Session(
            id, ip, getattr(peer, "port", 0), _ip(local), now, tls=tls, sni=sni, submission=self._submission
        )

    def _secured(self, dialogue: Dialogue) -> None:
        self._handshaking = False
        dialogue.secured(*self._tls())

    def _begin(self) -> None:
        factory, transport = self._factory, self.transport
        if isinstance(transport, HAProxyProtocolWrapper) and transport._proxyInfo is None:
            if self._is_proxy(transport.getPeer()):
                self._begin_after_header(transport)
                return
            # Whatever it says is not read.
            transport.dataReceived = _nothing  # type: ignore[method-assign, assignment]
            self._refusal = _NOT_A_PROXY
        peer, local = transport.getPeer(), transport.getHost()
        if not (_named(peer) and _named(local)):
            # A PROXY header may say anything.
            self._abort()
            return
        ip = _ip(peer)
        if self._peer_ip is None and self._refusal is None:
            self._count(ip)
        tls = self._tls() if isinstance(transport, TLSMemoryBIOProtocol) else ()
        session = self._session_of(ip, peer, local, *tls)
        try:
            conversation = self._conversation = factory.reception.conversation(session)
            welcome = conversation.arriving()
        except Exception as error:  # noqa: BLE001 - a fault of ours is never a silent hang-up
            self._report("CONNECT", error)
            self._close(written(_BROKEN))
            return
        if welcome.refusal is not None:
            # Most of what comes in a flood: nothing more is made for it.
            self._close(written(welcome.refusal))
            return
        gateway, smtp = self._settings.gateway, self._settings.smtp
        if welcome.spared:
            smtp = replace(
                smtp, max_bad_commands=_NO_LIMIT, max_bad_recipients=_NO_LIMIT, max_junk_commands=_NO_LIMIT
            )
        dialogue = self._dialogue = Dialogue(
            conversation,
            session,
            smtp,
            gateway.hostnames.get(session.local_ip, gateway.hostname),
            starttls=self._tls_options is not None,
            report=self._report,
            rename=self._rename if smtp.xclient and within(ip, smtp.xclient) else None,
        )
        if self._refusal is not None:
            dialogue.interrupt(self._refusal, "limit")
        elif welcome.strange and self._settings.smtp.banner_delay > 0:
            dialogue.keep_silent()
            self._silence = factory.clock.call_later(self._settings.smtp.banner_delay, self._greet)
        if self._unread:
            dialogue.receive(self._unread)
            self._unread = b""
        self._turn()

    def _rename(self, client: Named) -> tuple[Conversation, Session, Reply | None]:
        """What is done for a client that somebody else speaks for, in place of what was done for that one."""
        assert self._conversation is not None and self._dialogue is not None
        before, factory = self._dialogue.session, self._factory
        now = factory.clock.now()
        session = Session(
            make_id(now, factory.chance.token(TOKEN_LENGTH)),
            before.peer_ip if client.ip is None else client.ip,
            before.peer_port if client.port is None else client.port,
            before.local_ip,
            now,
            tls=before.tls,
            sni=before.sni,
            submission=before.submission,
        )
        conversation = factory.reception.conversation(session)
        self._conversation.closed("renamed")
        self._conversation = conversation
        if self._peer_ip is not None:
            factory.uncounted(self._peer_ip)
        self._count(session.peer_ip)
        refusal = conversation.arriving().refusal
        if refusal is None and self._refusal is not None:
            refusal = conversation.refused("CONNECT", self._refusal)
        return conversation, session, refusal

    def _greet(self) -> None:
        dialogue, self._silence = self._dialogue, None
        if dialogue is not None and not dialogue.closing:
            dialogue.greet()
            self._turn()

    def _end_silence(self) -> None:
        silence, self._silence = self._silence, None
        if silence is not None:
            silence.cancel()

    def _begin_after_header(self, wrapper: HAProxyProtocolWrapper) -> None:
        """Behind a proxy the client's address is known once the PROXY header has come, of which Twisted's wrapper
        tells nobody: so its input passes through here until then."""
        receive = wrapper.dataReceived

        def received(data: bytes) -> None:
            try:
                receive(data)
            except ValueError:
                # Twisted trips over a port that is no number.
                self._abort()
                return
            if wrapper._proxyInfo is not None:
                del wrapper.dataReceived
                self._begin()

        wrapper.dataReceived = received  # type: ignore[method-assign]

    def _turn(self, first: Callable[[], None] | None = None) -> None:
        """Works off what has come, as far as it goes without waiting; writes the answers in one piece. ``first`` tells
        the dialogue of an answer that was waited for."""
        dialogue = self._dialogue
        if dialogue is None or self._turning or self._ended:
            return
        self._turning = True
        try:
            if first is not None:
                first()
            while self._writable and (question := dialogue.advance()) is not None:
                self._waiting = question.addCallbacks(self._answered, self._failed)
                if dialogue.asking:
                    break
                self._waiting = None
        except Exception as error:  # noqa: BLE001 - a fault of ours is answered, never a dropped socket
            self._report("dialogue", error)
            dialogue.interrupt(_BROKEN, "limit")
        finally:
            self._turning = False
        self._flush(dialogue)

    def _answered(self, reply: Reply) -> None:
        dialogue = self._dialogue
        if dialogue is None or dialogue.closing:
            return
        if self._turning:
            dialogue.answered(reply)
        else:
            self._waiting = None
            self._turn(partial(dialogue.answered, reply))

    def _failed(self, failure: Failure) -> None:
        dialogue = self._dialogue
        if dialogue is None or dialogue.closing:
            return
        error = failure.value or Exception()
        if self._turning:
            dialogue.failed(error)
        else:
            self._waiting = None
            self._turn(partial(dialogue.failed, error))

    def _flush(self, dialogue: Dialogue) -> None:
        transport = self.transport
        data = b""
        outgoing = dialogue.outgoing
        if outgoing:
            data = outgoing.pop() if len(outgoing) == 1 else b"".join(outgoing)
            outgoing.clear()
        if dialogue.closing:
            self._close(data)
            return
        if data:
            write(transport, data)
        if dialogue.begin_tls and not self._handshaking:
            self._handshaking = True
            transport.startTLS(self._tls_options)
        if dialogue.asking or not (self._reading and self._writable):
            # Else all that came was worked off, but for the beginning of a line.
            self._hold_back(dialogue)
        self._set_deadline(dialogue)

    # --- reading, waiting, closing ------------------------------------------------------------------------------------

    def _hold_back(self, dialogue: Dialogue) -> None:
        """We go on reading while a question is being answered, so that a hang-up is noticed; up to a bound."""
        self._read(self._writable and dialogue.waiting <= WAITING_LIMIT)

    def _read(self, wanted: bool) -> None:
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _set_deadline(self, dialogue: Dialogue) -> None:
        now = self._factory.clock.monotonic()
        settings = self._settings.smtp
        deadline = now + settings.session_timeout
        since_line: float | None = None
        since_content: float | None = None
        under_way = dialogue.under_way
        if under_way == "question":
            deadline = now + QUESTION_SECONDS
            self._idle_since = now
        elif under_way == "content":
            since_content = self._content_since
            if since_content is None:
                since_content = now
                self._pace_at, self._pace_octets = now + PACE_SECONDS, 0
            self._content_ends = deadline = min(deadline, since_content + settings.message_timeout)
            deadline = min(deadline, self._pace_at)
        elif under_way or dialogue.begin_tls:
            since_line = now if self._line_since is None else self._line_since
            seconds = settings.command_timeout
            if dialogue.in_transaction:
                seconds = max(seconds, TRANSACTION_COMMAND_SECONDS)
            deadline = min(deadline, since_line + seconds)
        else:
            self._idle_since = now
        self._line_since = since_line
        self._content_since = since_content
        self._deadline = deadline
        if self._timer is None or deadline < self._timer_at:
            self._wait_until(deadline, now)

    def _wait_until(self, deadline: float, now: float) -> None:
        """One timer a connection: one that is too early looks again, only one that is too late is made anew."""
        self._deadline = deadline
        if self._timer is None:
            # No later than closing would need it: most connections are over by then, and have made one timer, not two.
            self._timer_at = min(deadline, now + CLOSING_SECONDS)
        elif deadline < self._timer_at:
            self._timer.cancel()
            self._timer_at = deadline
        else:
            return
        self._timer = self._factory.clock.call_later(max(0.0, self._timer_at - now), self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        now = self._factory.clock.monotonic()
        if now < self._deadline:
            self._wait_until(self._deadline, now)
            return
        dialogue = self._dialogue
        if dialogue is None or dialogue.closing or dialogue.begin_tls:
            self._abort()
            return
        waiting = self._waiting
        if waiting is not None:
            self._wait_until(now + CLOSING_SECONDS, now)
            waiting.cancel()
            return
        reply = _TIMEOUT
        if self._content_since is not None and now < self._content_ends:
            if self._keeps_pace(dialogue, now):
                self._wait_until(min(self._content_ends, self._pace_at), now)
                return
            reply = _TOO_SLOW
        dialogue.interrupt(reply, "timeout")
        self._flush(dialogue)

    def _keeps_pace(self, dialogue: Dialogue, now: float) -> bool:
        """Whether enough of the message has come since this was asked last; the next time is set."""
        octets = dialogue.content_octets
        came, self._pace_octets = octets - self._pace_octets, octets
        self._pace_at = now + PACE_SECONDS
        return came >= self._settings.smtp.min_data_rate * PACE_SECONDS

    def _close(self, last: bytes) -> None:
        transport = self.transport
        # A producer that stays registered would keep the transport from closing.
        transport.unregisterProducer()
        self._read(True)
        now = self._factory.clock.monotonic()
        self._wait_until(now + CLOSING_SECONDS, now)
        write_last(transport, last)

    def _abort(self) -> None:
        self.transport.abortConnection()

    # --- small facts --------------------------------------------------------------------------------------------------

    def _tls(self) -> tuple[str, str]:
        """Protocol and cipher, and the name that was asked for."""
        connection = self.transport.getHandle()
        return f"{connection.get_protocol_version_name()} {connection.get_cipher_name()}", asked_name(connection)

    def _report(self, doing: str, error: BaseException) -> None:
        session = self._dialogue.session.id if self._dialogue is not None else ""
        if isinstance(error, Unavailable):
            reason = error.reason
        else:
            # What a stranger said may be in it.
            reason = ascii(f"{type(error).__name__}: {error}"[:200])
        _log.error("{doing} failed in session {session}: {reason}", doing=doing, session=session, reason=reason)
        _log.debug("{trace}", trace="".join(traceback.format_exception(error)))


def _nothing(_data: bytes) -> None:
    """What is done with octets that nobody reads."""


def _named(address: Any) -> bool:
    """Whether what should be an IP address is one; the peer of a unix socket has none."""
    host = getattr(address, "host", None)
    return host is None or is_ip(host.partition("%")[0])


def _ip(address: Any) -> str:
    """The bare address; one IPv4 address is the same whichever family its socket has."""
    host = str(getattr(address, "host", "")).partition("%")[0]
    if ":" in host and (address := ip_of(host)) is not None and address.version == 4:
        return str(address)
    return host
