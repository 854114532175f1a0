"""Any octets to everything small that reads what others write: answers of DNS, scanners and primaries, commands,
records, configuration files, the console, the control socket, and the header of a proxy.

The first octet says who reads, the rest is read. Each reader says what it understood or makes its one complaint, and
what two ways of reading must agree on, they do.
"""

from __future__ import annotations

import json
import re
import struct
import sys
import tempfile
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import complaints
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
from fakes.chance import FakeChance
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from fakes.resolver import FakeResolver
from fakes.services import Outcome, Services, body
from fakes.spool import FakeSpool
from reference_client import read as read_dialogue
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock as TwistedClock
from twisted.internet.testing import StringTransport
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.python.failure import Failure

from inboundmx.app.control import ControlFactory
from inboundmx.app.effective import as_ini, effective
from inboundmx.app.operations import Operations
from inboundmx.app.settings import BadSettings, load
from inboundmx.checks.dkim_key import BadKey, key_of
from inboundmx.checks.questions import Questions
from inboundmx.checks.spf_replay import evaluate
from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, SpoolRecipient
from inboundmx.model.settings import Settings
from inboundmx.net import dns_codec
from inboundmx.ports import SPAM_SCORE_LIMIT, TooLarge, Unavailable
from inboundmx.prompt import promptly
from inboundmx.smtp.commands import Bad, Mail, Rcpt, Xclient, parse
from inboundmx.smtp.framing import ENDLESS, ContentReader, Flaw, LineReader
from inboundmx.smtp.naming import named
from inboundmx.smtp.replies import Garbage, ReplyParser
from inboundmx.smtp.server import SmtpServerFactory

sys.path.insert(0, str(Path(__file__).parents[1] / "console"))

from console_fakes import Console
from strange_client import Line, settings

MAX_LENGTH = 1024

SPF_OUTCOMES = {"pass", "fail", "softfail", "neutral", "none", "permerror", "temperror"}


def pieces(octets: bytes) -> list[bytes]:
    return [octets[at : at + 1] for at in range(len(octets))]


# --- DNS ---


def dns_reply(octets: bytes) -> None:
    """A reply with our question in it; the first octets are the type, flags and counts."""
    type, flags, *counts = octets[:5].ljust(5, b"\0")
    wanted = sorted(dns_codec.TYPES)[type % len(dns_codec.TYPES)]
    asked = dns_codec.question("a.test", wanted)
    assert asked is not None
    wire = struct.pack("!6H", 1, 0x8180 | flags & 15, 1, *counts) + asked + octets[5:]
    assert dns_codec.answers(wire, 1, asked)
    try:
        reply = dns_codec.read(wire, asked)
    except (dns_codec.Malformed, dns_codec.Failure):
        return
    assert reply.ttl is None or 0 <= reply.ttl < 2**31
    if reply.answer is None or not reply.answer.rows or wanted not in ("A", "AAAA", "TXT"):
        return
    try:
        other = dns.message.from_wire(wire, ignore_trailing=True)
        rows = other.find_rrset(other.answer, dns.name.from_text("a.test"), 1, dns.rdatatype.from_text(wanted))
    except (dns.exception.DNSException, KeyError, ValueError):
        return
    texts = {b"".join(row.strings) if wanted == "TXT" else row.address for row in rows}
    assert set(reply.answer.rows) == texts, (reply, rows)


# --- SMTP ---


def command(octets: bytes) -> None:
    line, utf8 = octets[1:], bool(octets[:1] > b"\x7f")
    found = parse(line, utf8)
    if isinstance(found, Bad):
        assert found.reply.code >= 500
        return
    if isinstance(found, Xclient):
        client = named(found.text)
        assert client is None or not client.ip or str(ip_address(client.ip)) == client.ip
        assert client is None or (client.hello or "").isprintable()
        return
    if not isinstance(found, Mail | Rcpt):
        return
    address = found.sender if isinstance(found, Mail) else found.address
    if address is None:
        return
    assert str(address).isprintable() or not address.ascii
    assert not re.search(r"[\x00-\x1f\x7f]", str(address))
    said = found.utf8 if isinstance(found, Mail) else utf8
    assert address.ascii or said
    again = parse(f"MAIL FROM:<{address}>{' SMTPUTF8' if said else ''}".encode())
    if address.domain:
        assert isinstance(again, Mail) and again.sender == address, (address, again)


def replies(octets: bytes) -> None:
    def heard(parts: list[bytes]) -> tuple[list[Any], bool]:
        parser, found = ReplyParser(), []
        try:
            for part in parts:
                parser.feed(part)
                while (reply := parser.next()) is not None:
                    found.append((reply, parser.lines))
        except Garbage:
            return found, True
        return found, False

    whole = heard([octets])
    assert heard(pieces(octets)) == whole
    for reply, lines in whole[0]:
        assert all(re.fullmatch(r"[ -~]*", text) for text in (reply.text, *lines))


def framing(octets: bytes) -> None:
    def lines(parts: list[bytes]) -> list[Any]:
        reader, found = LineReader(), []
        for part in parts:
            reader.feed(part)
            while (line := reader.next()) is not None and line is not Flaw.ENDLESS:
                found.append(line)
        return found

    def content(parts: list[bytes]) -> tuple[bytes, bool, bytes]:
        reader, found, rest = ContentReader(), b"", b""
        for part in parts:
            if reader.ended:
                rest += part
            else:
                found += reader.feed(part)
                rest = reader.rest
        return found, reader.stray, rest if reader.ended else b"-"

    assert len(octets) < ENDLESS
    assert lines([octets]) == lines(pieces(octets))
    assert content([octets + b"\r\n.\r\n"]) == content(pieces(octets + b"\r\n.\r\n"))


# --- records ---


def spf(octets: bytes) -> None:
    record, _, other = octets.partition(b"\n")
    zone = {
        "a.example": {"TXT": [b"v=spf1 " + record], "A": ["192.0.2.1"], "MX": [(1, "mx.a.example")]},
        "b.example": {"TXT": [b"v=spf1 " + other], "A": ["192.0.2.2"], "MX": [(1, "a.example")]},
        "mx.a.example": {"A": ["192.0.2.3"], "AAAA": ["2001:db8::1"]},
        "1.2.0.192.in-addr.arpa": {"PTR": ["a.example", "b.example"]},
    }
    resolver = FakeResolver(zone)
    questions = Questions(resolver)
    came: list[Any] = []
    promptly(
        evaluate(questions, "192.0.2.1", "ann@a.example", "mx.a.example", "mx.gateway.example"),
        came.append,
        came.append,
    )
    questions.close()
    assert came and isinstance(came[0], tuple), came
    assert came[0][0] in SPF_OUTCOMES
    assert len(resolver.asked) <= 300


def dkim_key(octets: bytes) -> None:
    with suppress(BadKey):
        key_of(octets.split(b"\0"))


# --- configuration ---


@cache
def file() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-")) / "inboundmx.ini"


def ini(octets: bytes) -> None:
    file().write_bytes(octets)
    try:
        read = load(str(file()))
    except BadSettings as bad:
        assert bad.problems
        for problem in bad.problems:
            assert problem.line >= 0 and problem.text and "\n" not in problem.text
        return
    file().write_text(as_ini(effective(read, str)), encoding="utf-8")
    assert load(str(file())) == read


# --- scanners ---


def clamd(octets: bytes) -> None:
    services = Services()
    outcome = Outcome(services.scanners.viruses(["tcp:one.test:3310"], 1 << 20, 10.0).scan(body(b"x\r\n")))
    line = services.accept()
    line.says(octets, 3)
    line.closes()
    assert outcome.done
    assert outcome.error is not None or (outcome.value == "") == (octets == b"stream: OK\0")
    assert isinstance(outcome.error, Unavailable | TooLarge | None) and str(outcome.value).isprintable()


def spamd(octets: bytes) -> None:
    services = Services()
    scorer = services.scanners.spam(["tcp:one.test:783"], 1 << 20, 1, 5, 10.0)
    outcome = Outcome(scorer.score(body(b"x\r\n"), b""))
    line = services.accept()
    line.says(octets, 7)
    line.closes()
    assert outcome.done and isinstance(outcome.error, Unavailable | None)
    if outcome.error is None:
        score, rules = outcome.value
        assert -SPAM_SCORE_LIMIT <= score <= SPAM_SCORE_LIMIT
        assert all(rule.isprintable() for rule in rules)


# --- who asks us ---


def console(octets: bytes) -> None:
    asked = Console()
    line = asked.connect()
    assert line is not None
    for piece in octets.split(b"\xff|"):
        line.says(piece)
    if not line.gone:
        line.hangs_up()
    assert not asked.clock.turned.getDelayedCalls() and not asked.service.factory.channels
    said = line.wire.value()
    assert said == b"" or re.match(rb"HTTP/1\.[01] [1-5][0-9]{2} ", said), said[:80]
    # A stranger without a password learns how we are, and nothing else.
    assert b'"spool"' not in said or b"YW5uOnMzY3JldA==" in octets


ENTRY = SpoolEntry("1d", "1d", "1d", 1.0, None, (SpoolRecipient(Address("ann", "a.example")),), 3, "a.example")


def control(octets: bytes) -> None:
    spool, clock = FakeSpool(), TwistedClock()
    spool.commit(Change(add=(Deposit(ENTRY, Content(b"", 0, body(b"x\r\n"))),)))
    wall: Any = type("Wall", (), {"now": lambda self: 2.0, "monotonic": lambda self: 2.0})()
    factory = ControlFactory(Operations(spool, None, FakeJournal(), wall, Settings()), clock)  # type: ignore[arg-type]
    connection: Any = factory.buildProtocol(None)
    transport = StringTransport()
    connection.makeConnection(transport)
    for piece in octets.split(b"\xff|"):
        connection.dataReceived(piece)
        written = -1
        for _ in range(1000):
            if transport.producer is None:
                break
            # As a transport does: asked for more once it has written something; else the connection looks again itself.
            if written < len(transport.value()):
                written = len(transport.value())
                transport.producer.resumeProducing()
            else:
                clock.advance(0)
    assert transport.producer is None, "an answer without an end"
    answers = transport.value().split(b"\n")
    assert answers.pop() == b""
    for answer in answers:
        json.loads(answer.decode("ascii"))
    assert len(answers) >= octets.replace(b"\xff|", b"").count(b"\n") or transport.disconnecting
    connection.connectionLost(Failure(ConnectionDone()))
    assert not clock.getDelayedCalls(), f"timers of a connection that is gone: {answers}"


class Nobody:
    """A reception that refuses everybody, and knows who came."""

    def __init__(self) -> None:
        self.sessions: list[Any] = []

    def unwelcome(self, session: Any) -> Any:
        raise complaints.Planted

    def conversation(self, session: Any) -> Any:
        self.sessions.append(session)
        raise complaints.Planted


def proxy(octets: bytes) -> None:
    reception = Nobody()
    served = SmtpServerFactory(reception, FakeClock(), FakeChance(), settings())  # type: ignore[arg-type]
    wrapped: Any = HAProxyWrappingFactory(served)
    peer = IPv4Address("TCP", "127.0.0.1", 1)
    protocol, wire = wrapped.buildProtocol(peer), Line(peer)
    protocol.makeConnection(wire)
    for piece in octets.split(b"\xff|"):
        if not wire.disconnecting and not wire.aborted:
            protocol.dataReceived(piece)
    headed = octets.startswith((b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"))
    assert headed or not reception.sessions, "greeted without a header"
    assert len(reception.sessions) <= 1
    read_dialogue([octets], wire.value(), closed=True)
    protocol.connectionLost(Failure(ConnectionDone()))
    assert not served.connections and not served._by_ip


READERS = (
    dns_reply, command, replies, framing, spf, dkim_key, ini, clamd, spamd, console, control, proxy,
)  # fmt: skip


def one(octets: bytes) -> None:
    """Has one of them read. Raises where it fails in any way but its own."""
    complaints.listen()
    READERS[(octets[:1] or b"\0")[0] % len(READERS)](octets[1:])
    complaints.none()
