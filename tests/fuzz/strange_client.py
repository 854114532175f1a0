"""Any octets a stranger says, to the real server, reception, checks, courier and deliveries, on a wire in memory.

Octets are said as they stand; ``script`` says how what else happens is written. The letters: ``t`` time passes; ``q``
the client hangs up and another one comes; ``a`` the same, aborted; ``h`` the handshake of TLS is made; ``p`` and ``r``
the client stops and goes on reading; ``f`` what is wrong on our side from now on; ``y`` what waits for the disk and
the DNS goes on; ``m`` how primaries behave from now on; ``z`` the gateway is told to stop.
"""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import complaints
from complaints import Planted
from fakes.archive import FakeArchive
from fakes.chance import FakeChance
from fakes.checks import FakeContents, FakeOffload
from fakes.clock import FakeClock
from fakes.resolver import FakeResolver
from fakes.smtp_wire import Wire
from fakes.spool import FakeBodies, FakeSpool
from fakes.state import FakeStateStore
from fakes.transmitter import FakeTransmitter, Manner
from reference_client import Letter, read
from script import steps
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from inboundmx.app.inside import Inside, Surroundings
from inboundmx.app.settings import load
from inboundmx.checks.api import Tools
from inboundmx.delivery.pausing import Pauses
from inboundmx.model.custody import Host, Phase
from inboundmx.model.reply import Reply
from inboundmx.ports import StorageFull
from inboundmx.smtp.server import SmtpServerFactory
from inboundmx.smtp.server_connection import WAITING_LIMIT

LETTERS = frozenset("tqahprfymz")
MAX_LENGTH = 1600

SIZE_LIMIT = 1024
INI = """
[gateway]
hostname = mx.gateway.example
workers = 0
data = {folder}
[smtp]
max_message_size = 1 KB
max_recipients = 4
max_bad_commands = 6
max_bad_recipients = 3
max_hop_count = 3
[delivery]
bounce = never
[relay]
allow = 192.0.2.77
[domain a.example]
primary = 198.51.100.1
recipients = any
greylisting = no
[domain b.example]
primary = 198.51.100.2
recipients = any
handover = spool
greylisting = no
[domain c.example]
primary = 198.51.100.1
recipients = any
tempfail = pass
[check helo]
use = helo
weight.our_name = reject
[check spf]
use = spf
weight.fail = reject
[check greylist]
use = greylist
[check pills]
use = headers
header = Subject
value = pills
weight.match = reject
[check dkim]
use = dkim
weight.fail = 3
"""
OURS = frozenset({"a.example", "b.example", "c.example"})
PRIMARIES = Host("198.51.100.1"), Host("198.51.100.2")
PEERS = (
    IPv4Address("TCP", "203.0.113.7", 4000),
    IPv4Address("TCP", "192.0.2.77", 4000),
    UNIXAddress("/run/x"),
)
RELAYS = "192.0.2.77"
ZONE: dict[str, Any] = {
    "no.example": {"TXT": ["v=spf1 -all"]},
    "yes.example": {"TXT": ["v=spf1 ip4:203.0.113.7 -all"], "MX": [(10, "mx.yes.example")]},
    "mx.yes.example": {"A": ["203.0.113.7"]},
    "x.example": {"A": ["203.0.113.7"]},
}
SECONDS = (0.001, 1, 4.9, 5.1, 29, 31, 61, 119, 121, 299, 301, 599, 601, 901, 3601, 7201)

# A message may come for an hour, an answer of ours for ten minutes, and before and after that a client may be silent.
LONGEST, WAIT = 2 * 3600.0, 310.0

FULL, DOWN, LITTLE_ROOM, LATE, NO_DNS, NO_ROOM, SLOW_DNS, SPEECHLESS = (1 << bit for bit in range(8))
LITTLE = 40
LAZY = Reply(451, "4.3.0", "later"), Reply(550, "5.7.1", "never"), Reply(421, "4.3.2", "gone")
MANNERS: tuple[dict[str, Any], ...] = (
    {},
    {"up": False},
    *({"replies": {phase: reply}} for phase in (Phase.MAIL, Phase.DATA, Phase.DOT) for reply in LAZY),
    *({kind: phase} for phase in (Phase.MAIL, Phase.DATA, Phase.DOT) for kind in ("silent_at", "lost_at")),
    {"replies": {Phase.GREETING: LAZY[1]}},
    {"extensions": {}},
    {"extensions": {"SIZE": "200", "PIPELINING": ""}},
)
# At any of these a primary says no for good.
REFUSING = frozenset(at for at, manner in enumerate(MANNERS) if LAZY[1] in manner.get("replies", {}).values())
# Of these classes, our disk and the way to somewhere, nothing else is said for good.
OURS_FOR_GOOD = re.compile(rb"5[0-9]{2} 5\.[34]\.(?!4 Message is too large|6 too many hops)")
# What says no for good at the final dot, and is no word of a primary: too large, unfit, in circles, and the check.
OWN_REFUSALS = (b"552 5.3.4 ", b"554 5.6.0 ", b"554 5.4.6 ", b"550 5.7.1 ", b"554 5.7.1 ")
QUESTIONS = frozenset({"connected", "hello", "mail", "recipient", "data", "content"})


@cache
def settings() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inboundmx.ini"
        file.write_text(INI.format(folder=folder))
        return load(str(file))


class Books:
    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.faults: list[Any] = []

    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        if event in ("discarded", "failed"):
            self.ended.add(id)
        elif event in ("fault", "check_failed") and complaints.PLANTED not in str(fields):
            self.faults.append((id, dict(fields)))


class Resolver(FakeResolver):
    down = False

    async def look_up(self, name: str, type: str) -> Any:
        if self.down:
            raise Planted
        return await super().look_up(name, type)


class Bodies(FakeBodies):
    down = False

    def draft(self, id: str) -> Any:
        if self.down:
            raise Planted
        return super().draft(id)


class Line(Wire):
    """A transport on which TLS begins without octets of its own."""

    def __init__(self, peer: Any) -> None:
        super().__init__()
        self.peerAddr = peer
        self.hostAddr = IPv4Address("TCP", "192.0.2.1", 25)
        self.tls = 0

    def unregisterProducer(self) -> None:
        """Harmless a second time, as on a socket."""
        if self.producer is not None:
            super().unregisterProducer()

    def startTLS(self, options: Any) -> None:
        self.tls += 1

    def getHandle(self) -> Any:
        return self

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_servername(self) -> bytes | None:
        return None

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"


class Overheard:
    """A conversation, and which questions it was asked."""

    def __init__(self, conversation: Any, visit: Visit) -> None:
        self._conversation = conversation
        self._visit = visit

    def __getattr__(self, name: str) -> Any:
        if name in QUESTIONS:
            self._visit.asked.append(name)
        elif name == "closed":
            self._visit.closed += 1
        return getattr(self._conversation, name)


class Visit:
    """One connection from the client's side."""

    def __init__(self, story: Story, peer: Any) -> None:
        self.story = story
        self.peer = getattr(peer, "host", "")
        self.wire = Line(peer)
        self.asked: list[str] = []
        self.conversations = self.closed = 0
        self.segments = [bytearray()]
        self.waiting: list[bytes] = []
        self.shaking = False
        self.refusing = story.manner in REFUSING
        story.visit = self
        self.protocol: Any = story.factory.buildProtocol(None)
        self.protocol.makeConnection(self.wire)

    @property
    def over(self) -> bool:
        return bool(self.wire.disconnecting or self.wire.aborted)

    def say(self, octets: bytes) -> None:
        self.waiting.append(octets)
        self.deliver()

    def deliver(self) -> None:
        """As a transport does: nothing while the server does not read, and nothing is heard once it has closed."""
        while self.waiting and not self.over and not self.shaking and self.wire.producerState == "producing":
            octets = self.waiting.pop(0)
            self.segments[-1] += octets
            self.protocol.dataReceived(octets)
            dialogue = self.protocol._dialogue
            assert dialogue is None or dialogue.waiting <= WAITING_LIMIT + MAX_LENGTH
            self.look()

    def look(self) -> None:
        if self.wire.tls >= len(self.segments) and not self.shaking:
            # What was said in the clear and not read is forgotten; what comes now is the handshake.
            self.shaking = True
            self.waiting.clear()

    def shake(self) -> None:
        if self.shaking and not self.over:
            self.shaking = False
            self.segments.append(bytearray())
            self.protocol.handshakeCompleted()

    def calm(self) -> bool:
        """Whether all that was said could be answered: nothing is asked, held back or on its way."""
        dialogue = self.protocol._dialogue
        return (
            not self.over
            and not self.waiting
            and not self.shaking
            and dialogue is not None
            and not dialogue.asking
            and self.protocol._writable
        )

    def hang_up(self, error: Exception) -> None:
        self.protocol.connectionLost(Failure(error))

    def judge(self) -> list[Letter]:
        said = self.wire.value()
        reading = read([bytes(each) for each in self.segments], said, self.over)
        assert not (self.calm() and reading.unanswered), "a complete line, and no reply"
        allowed = iter(reading.asked)
        assert all(question in allowed for question in self.asked), (self.asked, reading.asked)
        lines = sum(each.count(b"\r\n") for each in self.segments)
        assert len(said) <= 600 * (lines + 3), f"{len(said)} octets said to {lines} lines"
        assert self.refusing or self.story.small or not OURS_FOR_GOOD.search(said), f"refused for good: {said!r}"
        for letter in reading.letters:
            self._judge(letter)
        return reading.letters

    def _judge(self, letter: Letter) -> None:
        reply = letter.reply or b""
        if reply[:1] == b"2":
            assert letter.fit and len(letter.content) <= SIZE_LIMIT, f"accepted: {letter.content!r}"
        elif reply[:1] == b"5" and not self.refusing:
            assert reply.startswith(OWN_REFUSALS), f"nobody refused that: {reply!r}"
            if reply.startswith(b"552 5.3.4 "):
                assert len(letter.content) > SIZE_LIMIT or self.story.small, f"not too large: {reply!r}"
            elif reply.startswith(b"554 5.6.0 "):
                assert not letter.fit, f"nothing wrong with it: {reply!r}"
            elif reply.startswith(b"554 5.4.6 "):
                assert letter.content.lower().count(b"received") >= 3, f"no circle: {reply!r}"
            else:
                assert b"pills" in letter.content.lower() or b"=?" in letter.content, f"no reason: {reply!r}"


class Story:
    def __init__(self) -> None:
        self.clock = clock = FakeClock()
        self.state = FakeStateStore(clock)
        self.resolver = Resolver(ZONE)
        self.spool = FakeSpool()
        self.bodies = Bodies()
        self.books = Books()
        self.manners = {host: Manner() for host in PRIMARIES}
        self.manner = 0
        self.small = False
        self.late = False
        self.speechless = False
        self.pausing = False
        nothing: Any = None
        tools = Tools(
            settings(), clock, self.resolver, self.state, nothing, FakeOffload(), FakeContents(), nothing
        )  # fmt: skip
        transmitter = FakeTransmitter(clock, self.manners)
        keep: Any = lambda pauses: succeed(None)  # noqa: E731
        pauses = Pauses(clock, self.books, keep)
        chance, archive = FakeChance(), FakeArchive()
        outside = Surroundings(
            clock, chance, self.books, self.spool, self.bodies, transmitter, tools, pauses, archive=archive
        )
        self.inside = Inside(outside)
        self.inside.start()
        self.factory = SmtpServerFactory(self, clock, FakeChance(), settings(), object())
        self.visits: list[Visit] = []
        self.letters: list[tuple[Visit, Letter]] = []
        self.visit: Any = None
        self.arrive(0)

    def unwelcome(self, session: Any) -> Any:
        if self.speechless:
            raise Planted
        return self.inside.reception.unwelcome(session)

    def conversation(self, session: Any) -> Any:
        if self.speechless:
            raise Planted
        self.visit.conversations += 1
        return Overheard(self.inside.reception.conversation(session), self.visit)

    def arrive(self, peer: int) -> None:
        self.visits.append(Visit(self, PEERS[peer % len(PEERS)]))

    # --- what happens ---

    def tell(self, octets: bytes) -> None:
        for letter, argument, said in steps(octets, LETTERS):
            if letter:
                getattr(self, f"_{letter}")(argument)
            else:
                self.visit.say(said)
            self.turn()
        self.visit.judge()
        # Whoever says nothing more is not waited for, whatever is going on.
        waited = 0.0
        while not self.visit.over:
            assert waited < LONGEST, "a connection without an end"
            self.clock.advance(WAIT)
            waited += WAIT
        self._close(ConnectionDone())
        self.judge()

    def turn(self) -> None:
        """What is due now, and what came of it."""
        for _ in range(3):
            due = self.clock.turned.getDelayedCalls()
            if due and due[0].getTime() <= self.clock.monotonic():
                self.clock.advance(0)
            self.visit.deliver()
            self.visit.look()

    def _t(self, argument: int) -> None:
        if self.clock.monotonic() < LONGEST:
            self.clock.advance(SECONDS[argument % len(SECONDS)])

    def _close(self, error: Exception) -> None:
        visit = self.visit
        letters = visit.judge()
        visit.hang_up(error)
        self.letters += [(visit, letter) for letter in letters]
        assert visit.closed == visit.conversations, f"told of the end {visit.closed} times"
        assert not self.factory.connections and not self.factory._by_ip, "a connection that is gone is counted"

    def _q(self, argument: int) -> None:
        self._close(ConnectionDone())
        self.arrive(argument)

    def _a(self, argument: int) -> None:
        self._close(ConnectionLost())
        self.arrive(argument)

    def _h(self, _argument: int) -> None:
        self.visit.shake()

    def _p(self, _argument: int) -> None:
        if not self.visit.over:
            self.visit.protocol.pauseProducing()

    def _r(self, _argument: int) -> None:
        if not self.visit.over:
            self.visit.protocol.resumeProducing()

    def _f(self, argument: int) -> None:
        full = StorageFull(complaints.PLANTED)
        self.spool.failure = full if argument & FULL else Planted() if argument & DOWN else None
        self.bodies.room = LITTLE if argument & LITTLE_ROOM else float("inf")
        self.spool.automatic = not argument & LATE
        self.resolver.down = bool(argument & NO_DNS)
        self.late = self.late or bool(argument & (LATE | SLOW_DNS))
        self.bodies.down = bool(argument & NO_ROOM)
        self.resolver.holding = bool(argument & SLOW_DNS)
        self.speechless = bool(argument & SPEECHLESS)

    def _y(self, _argument: int) -> None:
        self.resolver.release()
        self.spool.sync()

    def _m(self, argument: int) -> None:
        self.manner = argument % len(MANNERS)
        for manner in self.manners.values():
            # As one that is there already behaves from now on, with what it has taken.
            fresh = Manner(**MANNERS[self.manner])
            for name in ("up", "replies", "silent_at", "lost_at", "extensions"):
                setattr(manner, name, getattr(fresh, name))
        self.small = self.small or "SIZE" in MANNERS[self.manner].get("extensions", {})
        self.visit.refusing = self.visit.refusing or self.manner in REFUSING

    def _z(self, _argument: int) -> None:
        self.factory.drain(5.0)

    # --- what must be so ---

    def judge(self) -> None:
        taken: dict[str, list[Any]] = {}
        for manner in self.manners.values():
            for sender, recipients, content in manner.taken:
                id = re.match(rb"Received: [^;]* id ([0-9a-z]+)", content)
                assert id is not None, f"without a stamp: {content[:200]!r}"
                taken.setdefault(id[1].decode(), []).append((sender, recipients, content))
        stored: dict[str, list[Any]] = {}
        for entry, body_id, _, _ in self.spool._disk.values():
            body = self.spool._bodies[body_id]
            recipients = tuple(each.address for each in entry.recipients)
            stored.setdefault(entry.message_id, []).append((entry.sender, recipients, body.head))
        ended = [(visit, letter) for visit, letter in self.letters if letter.whole]
        told = set()
        for visit, letter in ended:
            reply = letter.reply or b""
            if reply[:1] == b"2":
                id = reply.rpartition(b" ")[2].decode()
                assert id not in told, f"one id twice: {id}"
                told.add(id)
                assert id in taken or id in stored or id in self.books.ended, f"nobody has {id}: {reply!r}"
            for id in {id for id in (*taken, *stored) if reply.endswith(f" {id}".encode())}:
                for sender, recipients, content in [*taken.get(id, ()), *stored.get(id, ())]:
                    _same(visit, letter, sender, recipients, content)
        everything = {*taken, *stored}
        assert len(everything) <= len(ended), f"{len(everything)} messages from {len(ended)} contents"
        # What nobody was told of came from somebody who was not there to hear it, or heard of our trouble.
        for id in everything - told:
            copies = [*taken.get(id, ()), *stored.get(id, ())]
            assert any(_is(*whose, *copy) for whose in ended for copy in copies), f"nobody sent {id}"
        assert not self.books.faults, self.books.faults
        assert not any(visit.protocol._timer for visit in self.visits), "a timer of a connection that is gone"
        # Ten minutes without an answer of the disk or the DNS are too long.
        complaints.none(*(("CancelledError",) if self.late else ()))


def _plain(text: str) -> str:
    return text.replace("\\", "").replace('"', "")


def _same(visit: Visit, letter: Letter, sender: Any, recipients: Any, content: bytes) -> None:
    """What was taken is what was said, of whom and for whom."""
    assert content.endswith(letter.content.partition(b"\r\n\r\n")[2]), f"altered: {letter.content!r} {content!r}"
    lines = [line.decode("utf-8", "replace") for line in letter.recipients]
    assert len(recipients) <= len(lines), f"{recipients} from {lines}"
    for address in recipients:
        assert visit.peer == RELAYS or address.domain in OURS, f"relayed to {address}"
        postmaster = address.local.lower() == "postmaster" and any("<postmaster>" in line.lower() for line in lines)
        assert postmaster or any(_names(line, address) for line in lines), f"{address} is not in {lines}"
    mail = letter.sender.decode("utf-8", "replace")
    assert ("<>" in mail) if sender is None else _names(mail, sender), f"{sender} is not in {mail}"


def _names(line: str, address: Any) -> bool:
    known = address.domain in line.lower() or "xn--" in address.domain or address.domain.startswith("[")
    return known and _plain(address.local) in _plain(line)


def _is(visit: Visit, letter: Letter, sender: Any, recipients: Any, content: bytes) -> bool:
    try:
        _same(visit, letter, sender, recipients, content)
    except AssertionError:
        return False
    return True


def one(octets: bytes) -> None:
    """Tells one story. Raises where something in it must not be."""
    complaints.listen()
    Story().tell(octets)
