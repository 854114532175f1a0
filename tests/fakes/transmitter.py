"""A transmitter without a wire: hosts behave as their Manner says. It passes the contract suite of the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from inboundmx.model.address import Address
from inboundmx.model.custody import Client, DeliveryAttempt, Host, Parcel, Phase, Terms
from inboundmx.model.reply import Reply
from inboundmx.ports import Clock, Refused

OK = Reply(250, "2.0.0", "Ok")
GO = Reply(354, "", "go on")
IN = Reply(235, "2.7.0", "authenticated")
EXTENSIONS = {"PIPELINING": "", "SIZE": "0", "8BITMIME": "", "SMTPUTF8": ""}
REJECTS_US = (521, 530, 535, 538)


@dataclass
class Manner:
    """How a host behaves. Change it at any time. ``up``: whether it accepts connections; ``not_from``: our addresses
    from which it cannot be reached. ``replies`` at GREETING, HELLO, AUTH, MAIL, DATA and DOT; ``recipients`` at RCPT;
    ``dots`` at the dot of LMTP; what is not said is a good answer. ``silent_at`` and ``lost_at``: from there on it says
    nothing, or the connection ends instead of the answer.
    ``taken``: what it said 250 to: sender, recipients, content; ``clients`` who it was told had brought that, None:
    nobody was named; ``wishes`` what it was asked to tell the sender: RET, ENVID, and NOTIFY and ORCPT of each;
    ``questions`` whom it was only asked about."""

    up: bool = True
    not_from: frozenset[str] = frozenset()
    replies: dict[Phase, Reply] = field(default_factory=dict)
    recipients: dict[Address, Reply] = field(default_factory=dict)
    dots: dict[Address, Reply] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=lambda: EXTENSIONS)
    silent_at: Phase | None = None
    lost_at: Phase | None = None
    taken: list[tuple[Address | None, tuple[Address, ...], bytes]] = field(default_factory=list)
    clients: list[Client | None] = field(default_factory=list)
    wishes: list[tuple[str, str, tuple[tuple[str, str], ...]]] = field(default_factory=list)
    questions: list[Address] = field(default_factory=list)

    def reply(self, phase: Phase) -> Reply:
        return self.replies.get(phase, GO if phase is Phase.DATA else OK)


class FakeTransmitter:
    """``hosts`` that are not named are down. ``latency`` seconds pass before anything happens. ``dialled``: what was
    asked for: host, terms, source."""

    def __init__(self, clock: Clock, hosts: Mapping[Host, Manner], latency: float = 0.0) -> None:
        self.clock = clock
        self.hosts = hosts
        self.latency = latency
        self.connections: list[FakeConnection] = []
        self.dialled: list[tuple[Host, Terms, str]] = []

    def connect(self, host: Host, *, terms: Terms, seconds: float, source: str = "") -> Deferred[Any]:
        self.dialled.append((host, terms, source))
        deadline: Any = None
        answer: Any = None

        def cancelled(_: Deferred[Any]) -> None:
            deadline.cancel()
            answer.cancel()

        done: Deferred[Any] = Deferred(cancelled)

        def refuse(trouble: str, phase: Phase, reply: Reply | None = None) -> None:
            cancelled(done)
            done.errback(Refused(trouble, phase.value, reply, trouble))

        def answered() -> None:
            manner = self.hosts.get(host) or Manner(up=False)
            if not manner.up or source in manner.not_from:
                refuse("refused", Phase.CONNECT)
                return
            for phase in (Phase.GREETING, Phase.HELLO):
                reply = manner.reply(phase)
                if manner.silent_at is phase:
                    return
                if manner.lost_at is phase:
                    refuse("lost", phase)
                    return
                if not reply.positive:
                    refuse("rejects_us" if reply.permanent else "lost", phase, reply)
                    return
            if terms.tls in ("required", "verified") or (terms.username and not terms.auth_without_tls):
                refuse("tls", Phase.TLS)
                return
            if terms.username:
                reply = manner.replies.get(Phase.AUTH, IN)
                if "AUTH" not in manner.extensions:
                    refuse("rejects_us", Phase.AUTH)
                    return
                if reply.code != 235:
                    refuse("rejects_us" if reply.permanent else "lost", Phase.AUTH, reply)
                    return
            cancelled(done)
            facts = terms.client_facts if terms.client_facts.upper() in manner.extensions else ""
            self.connections.append(FakeConnection(self, host, manner, facts))
            done.callback(self.connections[-1])

        deadline = self.clock.call_later(seconds, refuse, "timeout", Phase.GREETING)
        answer = self.clock.call_later(self.latency, answered)
        return done


class FakeConnection:
    """``ports.Connection``. ``lose`` ends it from the host's side."""

    def __init__(self, transmitter: FakeTransmitter, host: Host, manner: Manner, facts: str) -> None:
        self.host = host
        self.facts = facts
        self.told: Client | None = None
        self.tls = ""
        self.extensions = manner.extensions
        self.gone: Deferred[None] = Deferred()
        self.manner = manner
        self.clock = transmitter.clock
        self.latency = transmitter.latency
        self.current: FakeTransmission | None = None
        self.open = True
        self.close_after = False

    @property
    def usable(self) -> bool:
        return self.open and self.current is None

    def transmit(self, parcel: Parcel, *, answer_seconds: float, dot_seconds: float) -> FakeTransmission:
        transmission = FakeTransmission(self, parcel, answer_seconds, dot_seconds)
        if self.usable and not (self.told is not None and parcel.client is None):
            # Told of a client once, it cannot be made to take us for ourselves again.
            self.told = parcel.client if self.facts == "xclient" else None
            self.current = transmission
            transmission.start()
        else:
            transmission.fail("lost")
        return transmission

    def close(self) -> None:
        if self.current is not None:
            self.close_after = True
            self.current.abandon()
        elif self.open:
            self.end()

    def lose(self) -> None:
        self.end()
        if self.current is not None:
            self.current.fail("lost")

    def end(self) -> None:
        if self.open:
            self.open = False
            self.clock.call_later(0, self.gone.callback, None)


class FakeTransmission:
    """``ports.Transmission``."""

    def __init__(self, connection: FakeConnection, parcel: Parcel, answer_seconds: float, dot_seconds: float) -> None:
        self.done: Deferred[DeliveryAttempt] = Deferred(lambda _: self.abandon())
        self.dot_sent = False
        self.phase = Phase.MAIL
        self.answers: dict[Address, Reply] = {}
        self._connection = connection
        self._parcel = parcel
        self._answer_seconds = answer_seconds
        self._dot_seconds = dot_seconds
        self._started_at = connection.clock.now()
        self._timer: Any = None

    def start(self) -> None:
        unfit = self._unfit()
        if unfit is None:
            self._timer = self._connection.clock.call_later(self._connection.latency, self._converse)
        else:
            self._answer_all(unfit[0])
            self._finish(unfit[1])

    def abandon(self) -> None:
        if not self.done.called and not self.dot_sent:
            self.fail("abandoned")

    def fail(self, trouble: str) -> None:
        self._answer_all(Reply(451, "4.4.2", trouble))
        self._connection.end()
        self._finish(trouble)

    def _unfit(self) -> tuple[Reply, str] | None:
        parcel, extensions = self._parcel, self._connection.extensions
        if "SMTPUTF8" not in extensions and not all(address.ascii for address in parcel.recipients):
            return Reply(553, "5.6.7", "no internationalized mail"), "unable"
        if 0 < int(extensions.get("SIZE") or 0) < parcel.content.size:
            return Reply(552, "5.3.4", "too large"), ""
        return None

    def _converse(self) -> None:
        self._timer = None
        manner, parcel = self._connection.manner, self._parcel
        if not self._goes_on(Phase.MAIL, manner.reply(Phase.MAIL)):
            return
        accepted = {}
        for address in parcel.recipients:
            reply = manner.recipients.get(address, OK)
            if not self._goes_on(Phase.RECIPIENT, reply, address):
                return
            if reply.positive:
                accepted[address] = reply
        if parcel.question:
            manner.questions.extend(parcel.recipients)
        unlike = parcel.all_or_nothing and len(accepted) < len(parcel.recipients)
        if not accepted or parcel.question or unlike:
            self.answers |= accepted
            self._finish("")
            return
        if not self._goes_on(Phase.DATA, manner.reply(Phase.DATA)):
            return
        self.dot_sent = True
        self._end_of_data(tuple(accepted))

    def _end_of_data(self, accepted: tuple[Address, ...]) -> None:
        manner, content = self._connection.manner, self._parcel.content
        reply = manner.reply(Phase.DOT)
        answers = dict.fromkeys(accepted, reply)
        if self._connection.host.protocol == "lmtp":
            answers |= {address: answer for address, answer in manner.dots.items() if address in answers}
        # A host that ends the connection instead of answering may have the message all the same.
        took = tuple(address for address, answer in answers.items() if answer.positive)
        if took and manner.silent_at is not Phase.DOT:
            manner.taken.append((self._parcel.sender, took, content.prefix + content.body.head[content.skip :]))
            parcel, connection = self._parcel, self._connection
            manner.clients.append(parcel.client if connection.facts else None)
            manner.wishes.append((parcel.ret, parcel.envid, parcel.dsn) if "DSN" in manner.extensions else ("", "", ()))
        if self._goes_on(Phase.DOT, reply):
            self.answers |= answers
            self._finish("")

    def _goes_on(self, phase: Phase, reply: Reply, address: Address | None = None) -> bool:
        """Whether the conversation reaches the next step."""
        manner = self._connection.manner
        self.phase = phase
        if manner.silent_at is phase:
            seconds = self._dot_seconds if phase is Phase.DOT else self._answer_seconds
            self._timer = self._connection.clock.call_later(seconds, self.fail, "timeout")
            return False
        if manner.lost_at is phase:
            self.fail("lost")
            return False
        if reply.code in REJECTS_US:
            self.fail("rejects_us")
            return False
        if reply.code == 421:
            self._answer_all(reply)
            self._connection.end()
            self._finish("" if phase is Phase.DOT else "lost")
            return False
        if reply.positive or phase is Phase.DOT:
            return True
        if address is not None:
            self.answers[address] = reply
            return True
        self._answer_all(reply)
        self._finish("")
        return False

    def _answer_all(self, reply: Reply) -> None:
        for address in self._parcel.recipients:
            self.answers.setdefault(address, reply)

    def _finish(self, trouble: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        connection = self._connection
        if connection.current is self:
            connection.current = None
            if connection.close_after:
                connection.end()
        attempt = DeliveryAttempt(
            host=connection.host,
            started_at=self._started_at,
            ended_at=connection.clock.now(),
            phase=self.phase,
            replies=tuple((address, self.answers[address]) for address in self._parcel.recipients),
            trouble=trouble,
            dot_sent=self.dot_sent,
            dsn="DSN" in connection.extensions,
        )
        self.done.callback(attempt)
