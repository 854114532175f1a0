"""What every transmitter promises (ports.Transmitter): the real one on a wire in memory, and the fake."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.smtp_wire import ANN, BOB, EVE, SENDER, Line, Network, Outcome, WireClock, parcel, unstuffed
from fakes.transmitter import EXTENSIONS, IN, FakeTransmitter, Manner
from twisted.internet.error import ConnectionRefusedError as Refusal
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from inboundmx.model.address import Address
from inboundmx.model.custody import Client, DeliveryAttempt, Host, Phase, Terms
from inboundmx.model.reply import Reply
from inboundmx.ports import Refused

SMTP, LMTP = Host("192.0.2.10"), Host("192.0.2.10", 24, "lmtp")
NO, LATER = Reply(550, "5.7.1", "no"), Reply(450, "4.7.1", "later")
CLIENT, OTHER = Client("192.0.2.7", "one.example", "helo.one.example"), Client("2001:db8::7", "", "two")
BEFORE_DOT = [Phase.MAIL, Phase.RECIPIENT, Phase.DATA]


class Server:
    """The host's side of one connection in memory, behaving as its Manner says."""

    def __init__(self, manner: Manner, lmtp: bool, line: Line) -> None:
        self.manner = manner
        self.lmtp = lmtp
        self.line = line
        self.content: bytes | None = None
        self.sender: Address | None = None
        self.accepted: list[Address] = []
        self.client: Client | None = None
        self.wishes: dict[str, str] = {}
        self.each: list[tuple[str, str]] = []
        self.buffer = b""
        self.ended = False
        self.say(Phase.GREETING, manner.replies.get(Phase.GREETING, Reply(220, "", "hello")))

    def say(self, phase: Phase, *replies: Reply) -> None:
        if self.manner.silent_at is phase:
            self.buffer, self.ended = b"", True
            return
        if self.manner.lost_at is phase:
            self.hang_up()
            return
        self.line.protocol.dataReceived(b"".join(f"{reply}\r\n".encode() for reply in replies))

    def hang_up(self) -> None:
        if not self.line.wire.hung_up:  # type: ignore[attr-defined]
            self.ended = True
            self.line.wire.hung_up = True  # type: ignore[attr-defined]
            self.line.hangs_up()

    def pump(self) -> bool:
        """Reads what was written, answers, and says whether there was anything."""
        heard = self.line.heard()
        self.buffer += b"" if self.ended else heard
        while not self.ended and b"\r\n" in self.buffer:
            command, _, self.buffer = self.buffer.partition(b"\r\n")
            self.hear(command)
        if self.line.wire.disconnecting and not self.line.wire.hung_up:  # type: ignore[attr-defined]
            self.hang_up()
            return True
        return bool(heard)

    def hear(self, command: bytes) -> None:
        manner = self.manner
        if self.content is not None:
            self.content += command + b"\r\n"
            if command == b".":
                self.end_of_data(unstuffed(self.content))
            return
        verb, _, rest = command.decode().partition(" ")
        path, _, parameters = rest.partition("<")[2].partition(">")
        address = Address(*path.split("@")) if path else None
        named = dict(word.split("=", 1) for word in parameters.split() if "=" in word)
        if verb in ("EHLO", "LHLO"):
            lines = ["mx.example", *(f"{name} {value}".strip() for name, value in manner.extensions.items())]
            good = "".join(f"250{'-' if line != lines[-1] else ' '}{line}\r\n" for line in lines)
            reply = manner.replies.get(Phase.HELLO)
            if reply is None and Phase.HELLO not in (manner.silent_at, manner.lost_at):
                self.line.protocol.dataReceived(good.encode())
            else:
                self.say(Phase.HELLO, reply or Reply(250, "", "mx.example"))
        elif verb == "MAIL":
            self.sender, self.accepted = address, []
            self.wishes, self.each = named, []
            self.say(Phase.MAIL, manner.reply(Phase.MAIL))
        elif verb == "RCPT":
            assert address is not None
            if not manner.reply(Phase.MAIL).positive:
                self.say(Phase.RECIPIENT, Reply(503, "5.5.1", "MAIL first"))
                return
            reply = manner.recipients.get(address, Reply(250, "2.1.5", "Ok"))
            self.each.append((named.get("NOTIFY", ""), named.get("ORCPT", "")))
            if reply.positive:
                self.accepted.append(address)
            self.say(Phase.RECIPIENT, reply)
        elif verb == "DATA":
            reply = manner.reply(Phase.DATA) if self.accepted else Reply(503, "5.5.1", "RCPT first")
            self.content = b"" if reply.code == 354 else None
            self.say(Phase.DATA, reply)
        elif verb == "AUTH":
            self.say(Phase.AUTH, manner.replies.get(Phase.AUTH, IN))
        elif verb in ("XFORWARD", "XCLIENT"):
            facts = dict(word.split("=") for word in rest.replace("[UNAVAILABLE]", "").split())
            self.client = Client(facts["ADDR"].removeprefix("IPV6:"), facts["NAME"], facts["HELO"])
            self.say(Phase.CONNECT, Reply(220 if verb == "XCLIENT" else 250, "", "noted"))
        elif verb == "QUIT":
            self.hang_up()
        else:
            assert verb == "RSET"
            self.say(Phase.CONNECT, Reply(250, "2.0.0", "Ok"))

    def end_of_data(self, octets: bytes) -> None:
        manner, reply = self.manner, self.manner.reply(Phase.DOT)
        answers = {to: manner.dots.get(to, reply) if self.lmtp else reply for to in self.accepted}
        took = tuple(to for to, answer in answers.items() if answer.positive)
        if took and manner.silent_at is not Phase.DOT:
            manner.taken.append((self.sender, took, octets))
            manner.clients.append(self.client)
            each = tuple(self.each) if any(map(any, self.each)) else ()
            manner.wishes.append((self.wishes.get("RET", ""), self.wishes.get("ENVID", ""), each))
        self.content = None
        self.say(Phase.DOT, *(answers.values() if self.lmtp else [reply]))


class OnTheWire:
    """The real transmitter."""

    def __init__(self) -> None:
        self.hosts: dict[Host, Manner] = {}
        self.network = Network()
        self.reactor = self.network.reactor
        self.transmitter: Any = self.network.transmitter
        self.servers: list[Server] = []
        self.answered = 0

    def run(self) -> None:
        while True:
            for at in range(self.answered, len(self.reactor.tcpClients)):
                self.answered += 1
                address, port, factory, *_ = self.reactor.tcpClients[at]
                host = next((host for host in self.hosts if (host.address, host.port) == (address, port)), None)
                source = self.reactor.tcpClients[at][4]
                manner = self.hosts.get(host) if host is not None else None
                if manner is None or not manner.up or (source is not None and source[0] in manner.not_from):
                    factory.clientConnectionFailed(self.reactor.connectors[at], Failure(Refusal()))
                    continue
                line = self.network.answer()
                line.wire.hung_up = False  # type: ignore[attr-defined]
                assert host is not None
                self.servers.append(Server(manner, host.protocol == "lmtp", line))
            if not any([server.pump() for server in self.servers]):  # noqa: C419 - every one of them
                return

    def hang_up(self) -> None:
        self.servers[-1].hang_up()


class WithoutAWire:
    """The fake."""

    def __init__(self) -> None:
        self.hosts: dict[Host, Manner] = {}
        self.reactor = MemoryReactorClock()
        self.transmitter: Any = FakeTransmitter(WireClock(self.reactor), self.hosts)

    def run(self) -> None:
        self.reactor.pump([0.0] * 10)

    def hang_up(self) -> None:
        self.transmitter.connections[-1].lose()


class World:
    def __init__(self, kind: type) -> None:
        self.kind: Any = kind()
        self.manner = Manner()
        self.kind.hosts[SMTP] = self.kind.hosts[LMTP] = self.manner

    def advance(self, seconds: float) -> None:
        self.kind.reactor.advance(seconds)
        self.kind.run()

    def dial(self, host: Host = SMTP, tls: str = "opportunistic", source: str = "", **terms: Any) -> Outcome:
        outcome = Outcome(self.kind.transmitter.connect(host, terms=Terms(tls, **terms), seconds=5.0, source=source))
        self.kind.run()
        return outcome

    def connection(self, host: Host = SMTP, **terms: Any) -> Any:
        return self.dial(host, **terms).value

    def send(self, connection: Any, *to: Address, run: bool = True, **options: Any) -> Outcome:
        self.transmission = connection.transmit(parcel(*to, **options), answer_seconds=10.0, dot_seconds=60.0)
        outcome = Outcome(self.transmission.done)
        if run:
            self.kind.run()
        return outcome

    def attempt(self, *to: Address, host: Host = SMTP, **options: Any) -> DeliveryAttempt:
        self.used = self.connection(host)
        result: DeliveryAttempt = self.send(self.used, *to, **options).value
        return result


@pytest.fixture(params=[OnTheWire, WithoutAWire])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def codes(attempt: DeliveryAttempt) -> list[int]:
    return [reply.code for _, reply in attempt.replies]


# --- opening ---


def test_a_connection_opens(world: World) -> None:
    connection = world.connection()
    assert connection.usable
    assert connection.host == SMTP
    assert connection.tls == ""
    assert "PIPELINING" in connection.extensions


def test_a_host_that_is_down(world: World) -> None:
    world.manner.up = False
    refused = world.dial().error
    assert isinstance(refused, Refused)
    assert (refused.trouble, refused.phase, refused.reply) == ("refused", "connect", None)


@pytest.mark.parametrize("phase", [Phase.GREETING, Phase.HELLO])
@pytest.mark.parametrize(("reply", "trouble"), [(NO, "rejects_us"), (Reply(421, "", "busy"), "lost")])
def test_a_host_that_does_not_want_us(world: World, phase: Phase, reply: Reply, trouble: str) -> None:
    world.manner.replies[phase] = reply
    refused = world.dial().error
    assert (refused.trouble, refused.phase, refused.reply) == (trouble, phase.value, reply)


@pytest.mark.parametrize("phase", [Phase.GREETING, Phase.HELLO])
def test_a_host_that_hangs_up_on_us(world: World, phase: Phase) -> None:
    world.manner.lost_at = phase
    assert (world.dial().error.trouble, world.dial().error.phase) == ("lost", phase.value)


def test_a_host_that_says_nothing(world: World) -> None:
    world.manner.silent_at = Phase.GREETING
    outcome = world.dial()
    world.advance(4.9)
    assert not outcome.fired
    world.advance(0.2)
    assert outcome.error.trouble == "timeout"


def test_a_host_without_the_encryption_that_is_required(world: World) -> None:
    assert world.dial(tls="required").error.trouble == "tls"


def test_an_opening_may_be_cancelled(world: World) -> None:
    world.manner.silent_at = Phase.GREETING
    outcome = world.dial()
    outcome.deferred.cancel()
    assert len(outcome.failures) == 1
    world.advance(10.0)
    assert not world.kind.reactor.getDelayedCalls()


@pytest.mark.parametrize("source", ["192.0.2.5", ""])
def test_a_host_that_cannot_be_reached_from_everywhere(world: World, source: str) -> None:
    world.manner.not_from = frozenset({"192.0.2.5"})
    outcome = world.dial(source=source)
    if source:
        assert (outcome.error.trouble, outcome.error.phase) == ("refused", "connect")
    else:
        assert outcome.value.usable


# --- authentication ---


LOGIN = {"username": "gateway", "password": "secret", "auth_without_tls": True}


def test_authenticated(world: World) -> None:
    world.manner.extensions = {"AUTH": "PLAIN", "PIPELINING": ""}
    connection = world.connection(**LOGIN)
    assert connection.usable
    assert world.send(connection, ANN).value.delivered


@pytest.mark.parametrize(("reply", "trouble"), [(Reply(535, "5.7.8", "no"), "rejects_us"), (LATER, "lost")])
def test_not_authenticated(world: World, reply: Reply, trouble: str) -> None:
    world.manner.extensions = {"AUTH": "PLAIN"}
    world.manner.replies[Phase.AUTH] = reply
    refused = world.dial(**LOGIN).error
    assert (refused.trouble, refused.phase, refused.reply) == (trouble, "auth", reply)


def test_a_host_without_authentication(world: World) -> None:
    refused = world.dial(**LOGIN).error
    assert (refused.trouble, refused.phase, refused.reply) == ("rejects_us", "auth", None)


def test_a_password_does_not_go_in_the_clear(world: World) -> None:
    world.manner.extensions = {"AUTH": "PLAIN"}
    refused = world.dial(username="gateway", password="secret").error
    assert (refused.trouble, refused.phase) == ("tls", "tls")


# --- transmitting ---


def test_delivered(world: World) -> None:
    attempt = world.attempt(ANN, BOB)
    assert attempt.delivered
    assert (attempt.phase, attempt.trouble, attempt.dot_sent, attempt.host) == (Phase.DOT, "", True, SMTP)
    assert [address for address, _ in attempt.replies] == [ANN, BOB]
    assert world.manner.taken == [(SENDER, (ANN, BOB), b"Subject: x\r\n\r\nhello\r\n")]
    assert world.used.usable


def test_nothing_happens_before_transmit_returned(world: World) -> None:
    connection = world.connection()
    outcome = world.send(connection, run=False)
    assert not outcome.fired
    assert not world.transmission.dot_sent
    assert not connection.usable
    world.kind.run()
    assert world.transmission.dot_sent
    assert outcome.value.delivered


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.DATA, Phase.DOT])
@pytest.mark.parametrize("reply", [NO, LATER])
def test_refused_for_all(world: World, phase: Phase, reply: Reply) -> None:
    world.manner.replies[phase] = reply
    attempt = world.attempt(ANN, BOB)
    assert attempt.replies == ((ANN, reply), (BOB, reply))
    assert (attempt.phase, attempt.trouble, attempt.dot_sent) == (phase, "", phase is Phase.DOT)
    assert not attempt.delivered
    assert world.manner.taken == []
    assert world.used.usable
    world.manner.replies.clear()
    assert world.send(world.used).value.delivered


@pytest.mark.parametrize("to", [(ANN,), (ANN, BOB)])
def test_every_recipient_refused(world: World, to: tuple[Address, ...]) -> None:
    world.manner.recipients.update({ANN: NO, BOB: LATER})
    attempt = world.attempt(*to)
    assert codes(attempt) == [550, 450][: len(to)]
    assert (attempt.phase, attempt.trouble) == (Phase.RECIPIENT, "")
    world.manner.recipients.clear()
    assert world.send(world.used).value.delivered


def test_some_refused(world: World) -> None:
    world.manner.recipients.update({BOB: NO})
    attempt = world.attempt(ANN, BOB, EVE)
    assert codes(attempt) == [250, 550, 250]
    assert (attempt.phase, attempt.trouble, attempt.delivered) == (Phase.DOT, "", False)
    assert world.manner.taken[0][1] == (ANN, EVE)


def test_some_refused_with_all_or_nothing(world: World) -> None:
    world.manner.recipients.update({BOB: NO})
    attempt = world.attempt(ANN, BOB, EVE, all_or_nothing=True)
    assert codes(attempt) == [250, 550, 250]
    assert (attempt.phase, attempt.trouble, attempt.dot_sent) == (Phase.RECIPIENT, "", False)
    assert world.manner.taken == []
    assert world.send(world.used).value.delivered


def test_lmtp_answers_for_each(world: World) -> None:
    world.manner.recipients.update({BOB: NO})
    world.manner.dots.update({EVE: LATER})
    attempt = world.attempt(ANN, BOB, EVE, host=LMTP)
    assert codes(attempt) == [250, 550, 450]
    assert (attempt.phase, attempt.trouble, attempt.dot_sent) == (Phase.DOT, "", True)
    assert world.manner.taken[0][1] == (ANN,)


def test_a_message_too_large(world: World) -> None:
    world.manner.extensions = {"SIZE": "5"}
    attempt = world.attempt(ANN)
    assert (codes(attempt), attempt.trouble, attempt.phase) == ([552], "", Phase.MAIL)
    assert world.used.usable


def test_a_message_the_host_cannot_take(world: World) -> None:
    world.manner.extensions = {}
    attempt = world.attempt(Address("grün", "b.example"), utf8=True)
    assert (codes(attempt), attempt.trouble, attempt.phase) == ([553], "unable", Phase.MAIL)
    assert world.used.usable


WISHES = (("SUCCESS,DELAY", ""), ("", "rfc822;bob@b.example"))


@pytest.mark.parametrize("offered", [True, False])
def test_wishes_go_where_dsn_is_offered(world: World, offered: bool) -> None:
    world.manner.extensions = {**EXTENSIONS, **({"DSN": ""} if offered else {})}
    attempt = world.attempt(ANN, BOB, ret="HDRS", envid="E1", dsn=WISHES)
    assert attempt.delivered
    assert attempt.dsn is offered
    assert world.manner.wishes == [("HDRS", "E1", WISHES) if offered else ("", "", ())]


@pytest.mark.parametrize("facts", ["xforward", "xclient", "none"])
@pytest.mark.parametrize("offered", ["XFORWARD", "XCLIENT"])
def test_clients_are_told_as_asked_for_and_offered(world: World, facts: str, offered: str) -> None:
    world.manner.extensions = {**EXTENSIONS, offered: "NAME ADDR HELO"}
    connection = world.connection(client_facts=facts)
    for client in (CLIENT, CLIENT, OTHER):
        assert world.send(connection, client=client).value.delivered
    told = facts.upper() == offered
    assert world.manner.clients == ([CLIENT, CLIENT, OTHER] if told else [None] * 3)


def test_mail_of_nobody_ends_a_connection_that_was_told_of_somebody(world: World) -> None:
    world.manner.extensions = {**EXTENSIONS, "XCLIENT": "NAME ADDR HELO"}
    connection = world.connection(client_facts="xclient")
    assert world.send(connection, client=None).value.delivered
    assert world.send(connection, client=CLIENT).value.delivered
    attempt = world.send(connection, client=None).value
    assert (codes(attempt), attempt.trouble, attempt.phase, attempt.dot_sent) == ([451], "lost", Phase.MAIL, False)
    assert not connection.usable
    assert world.manner.clients == [None, CLIENT]


# --- trouble ---


@pytest.mark.parametrize("phase", [*BEFORE_DOT, Phase.DOT])
def test_lost(world: World, phase: Phase) -> None:
    world.manner.lost_at = phase
    attempt = world.attempt(ANN)
    assert (codes(attempt), attempt.trouble, attempt.dot_sent) == ([451], "lost", phase is Phase.DOT)
    assert attempt.phase is phase
    assert not world.used.usable
    assert not attempt.delivered


@pytest.mark.parametrize("phase", [*BEFORE_DOT, Phase.DOT])
def test_silence(world: World, phase: Phase) -> None:
    world.manner.silent_at = phase
    connection = world.connection()
    outcome = world.send(connection, ANN)
    world.advance(59.0 if phase is Phase.DOT else 9.0)
    assert not outcome.fired
    world.advance(2.0)
    attempt = outcome.value
    assert (codes(attempt), attempt.trouble, attempt.dot_sent) == ([451], "timeout", phase is Phase.DOT)
    assert attempt.phase is phase
    assert not connection.usable
    assert attempt.ended_at - attempt.started_at >= (60.0 if phase is Phase.DOT else 10.0)


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.DATA, Phase.DOT])
def test_answers_that_speak_of_us(world: World, phase: Phase) -> None:
    world.manner.replies[phase] = Reply(530, "5.7.0", "authenticate first")
    attempt = world.attempt(ANN)
    assert (codes(attempt), attempt.trouble, attempt.dot_sent) == ([451], "rejects_us", phase is Phase.DOT)
    assert not world.used.usable


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.DATA, Phase.DOT])
def test_421(world: World, phase: Phase) -> None:
    world.manner.replies[phase] = Reply(421, "4.3.2", "closing")
    attempt = world.attempt(ANN)
    assert (codes(attempt), attempt.trouble) == ([421], "" if phase is Phase.DOT else "lost")
    assert not world.used.usable


def test_refused_recipients_stay_refused_in_trouble(world: World) -> None:
    world.manner.recipients.update({ANN: NO})
    world.manner.lost_at = Phase.DATA
    attempt = world.attempt(ANN, BOB)
    assert (codes(attempt), attempt.trouble) == ([550, 451], "lost")


# --- abandoning, closing, losing ---


@pytest.mark.parametrize("phase", BEFORE_DOT)
@pytest.mark.parametrize("how", ["abandon", "cancel", "close"])
def test_abandoned_before_the_dot(world: World, phase: Phase, how: str) -> None:
    world.manner.silent_at = phase
    connection = world.connection()
    outcome = world.send(connection, ANN)
    {"abandon": world.transmission.abandon, "cancel": outcome.deferred.cancel, "close": connection.close}[how]()
    attempt = outcome.value
    assert (codes(attempt), attempt.trouble, attempt.dot_sent) == ([451], "abandoned", False)
    assert not connection.usable
    world.transmission.abandon()
    world.advance(100.0)
    assert not world.kind.reactor.getDelayedCalls()


def test_abandoning_after_the_dot_does_nothing(world: World) -> None:
    world.manner.silent_at = Phase.DOT
    connection = world.connection()
    outcome = world.send(connection, ANN)
    world.transmission.abandon()
    connection.close()
    assert not outcome.fired
    world.advance(61.0)
    assert outcome.value.trouble == "timeout"


def test_close_is_idempotent_and_told(world: World) -> None:
    connection = world.connection()
    gone: list[object] = []
    connection.gone.addCallback(gone.append)
    connection.close()
    connection.close()
    assert not connection.usable
    world.kind.run()
    assert gone == [None]
    attempt = world.send(connection).value
    assert (codes(attempt), attempt.trouble, attempt.dot_sent) == ([451], "lost", False)


def test_a_lost_idle_connection_is_told(world: World) -> None:
    connection = world.connection()
    gone: list[object] = []
    connection.gone.addCallback(gone.append)
    world.kind.hang_up()
    world.kind.run()
    assert gone == [None]
    assert not connection.usable


@pytest.mark.parametrize("host", [SMTP, LMTP])
@pytest.mark.parametrize("extensions", [EXTENSIONS, {}])
def test_a_question_ends_with_the_answers_to_rcpt(world: World, host: Host, extensions: dict[str, str]) -> None:
    world.manner.extensions, world.manner.recipients[BOB] = extensions, NO
    connection = world.connection(host)
    for asked, answer in ((ANN, 250), (BOB, 550), (ANN, 250)):
        attempt = world.send(connection, asked, sender=None, question=True).value
        assert (attempt.phase, attempt.trouble, attempt.dot_sent) == (Phase.RECIPIENT, "", False)
        assert (codes(attempt), connection.usable) == ([answer], True)
    # Whatever was asked, only what is sent afterwards arrives, and from whom it is.
    world.send(connection, EVE)
    assert [(sender, to) for sender, to, _ in world.manner.taken] == [(SENDER, (EVE,))]
