"""A clock that is turned by hand, hosts that answer by hand, and a spool that is a dict."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field, replace

from fakes.clock import FakeClock
from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.model.address import Address
from inboundmx.model.custody import (
    Change,
    Content,
    DeliveryAttempt,
    Host,
    Parcel,
    Phase,
    Route,
    SpoolEntry,
    SpoolRecipient,
)
from inboundmx.model.message import Body
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DeliverySettings, DomainSettings, Settings
from inboundmx.policy.routing import route_for
from inboundmx.ports import Refused, Unavailable
from inboundmx.prompt import promptly

# What takes no connection in this time is not there.
TCP_SECONDS = 30.0
DOMAIN = "a.example"
FIRST, SECOND = Host("192.0.2.10"), Host("192.0.2.11")
OK = Reply(250, "2.0.0", "taken")
ANN, BOB, EVE = (Address(name, DOMAIN) for name in ("ann", "bob", "eve"))
SENDER = Address("s", "b.example")


class FakeChance:
    def __init__(self) -> None:
        self.count = 0

    def token(self, length):
        self.count += 1
        return f"{self.count:0{length}d}"

    def uniform(self, low, high):
        return (low + high) / 2

    def shuffled(self, items):
        return list(items)


class FakeTransmission:
    def __init__(self, connection, parcel, answer_seconds, dot_seconds):
        self.connection = connection
        self.parcel = parcel
        self.seconds = (answer_seconds, dot_seconds)
        self.done = Deferred()
        self.dot_sent = False
        self.started_at = connection.transmitter.clock.now()

    def answer(self, *replies, phase=Phase.DOT, trouble="", dot_sent=None, keep=True):
        """All recipients hear the one reply, or each its own."""
        dot_sent = (phase is Phase.DOT) if dot_sent is None else dot_sent
        recipients = self.parcel.recipients
        replies = replies * len(recipients) if len(replies) == 1 else replies
        now = self.connection.transmitter.clock.now()
        self.connection.open = self.connection.open and keep
        self.connection.current = None
        self.done.callback(
            DeliveryAttempt(
                self.connection.host,
                self.started_at,
                now,
                phase,
                tuple(zip(recipients, replies, strict=True)),
                "",
                trouble,
                dot_sent,
            )
        )

    def lose(self, phase=Phase.MAIL, dot_sent=False, reply=None):
        self.answer(reply or Reply(451, "4.4.2", "lost"), phase=phase, trouble="lost", dot_sent=dot_sent, keep=False)

    def abandon(self):
        if not self.dot_sent and not self.done.called:
            self.answer(Reply(451, "4.4.7", "late"), phase=Phase.MAIL, trouble="abandoned", keep=False)


class FakeConnection:
    def __init__(self, transmitter, host):
        self.transmitter = transmitter
        self.host = host
        self.tls = ""
        self.extensions = transmitter.extensions
        self.open = True
        self.current = None

    @property
    def usable(self):
        return self.open and self.current is None

    def transmit(self, parcel, *, answer_seconds, dot_seconds):
        self.current = transmission = FakeTransmission(self, parcel, answer_seconds, dot_seconds)
        self.transmitter.sent.append(transmission)
        if self.transmitter.automatic is not None:
            self.transmitter.automatic(transmission)
        return transmission

    def close(self):
        if self.open:
            self.open = False


@dataclass
class FakeTransmitter:
    """``up``: connections come at once; a Refused for a host: fail at once; None: by hand, from ``asked``.
    ``automatic`` answers each transmission."""

    clock: FakeClock
    hosts: dict[Host, object] = field(default_factory=dict)
    asked: list = field(default_factory=list)
    connections: list = field(default_factory=list)
    sent: list = field(default_factory=list)
    automatic: object = None
    extensions: dict = field(default_factory=dict)
    sources: list = field(default_factory=list)
    bad_sources: tuple = ()

    def connect(self, host, *, terms, seconds, source=""):
        how = self.hosts.get(host, "up")
        cancelled = []
        opening = Deferred(cancelled.append)
        self.asked.append((host, seconds, opening, self.clock.now()))
        self.sources.append(source)
        if source and source in self.bad_sources:
            opening.errback(REFUSED)
            return opening
        if how == "up":
            self.open(opening, host)
        elif isinstance(how, Refused):
            opening.errback(how)
        elif how == "silent":
            timer = self.clock.call_later(
                min(seconds, TCP_SECONDS),
                lambda: cancelled or opening.errback(Refused("timeout", "connect", None, "no answer in time")),
            )
            cancelled_before = opening._canceller
            opening._canceller = lambda d: (timer.cancel(), cancelled_before(d))
        return opening

    def open(self, opening, host):
        connection = FakeConnection(self, host)
        self.connections.append(connection)
        opening.callback(connection)

    def live(self, host=None):
        return [c for c in self.connections if c.open and (host is None or c.host == host)]

    @property
    def last(self):
        return self.sent[-1]


REFUSED = Refused("refused", "connect", None, "no connection")


class FakeRoutes:
    """``ports.Routes``: by the section, or as ``ways`` says for a domain: a Route, or what is raised. ``held`` is what
    a look-up waits for."""

    def __init__(self) -> None:
        self.ways = {}
        self.held = None
        self.asked = []

    async def find(self, domain, sender=None, priority=5):
        self.asked.append((domain.name, domain.via, sender, priority))
        if self.held is not None:
            await self.held
        way = self.ways.get(domain.name)
        if isinstance(way, Exception):
            raise way
        return way or route_for(domain, len(self.asked))


class FakeSpool:
    def __init__(self):
        self.rows = {}
        self.contents = {}
        self.changes = deque()
        self.removed = []
        self.trouble = None
        self.damaged = None

    def put(self, *entries):
        for entry in entries:
            self.rows[entry.id] = entry
            self.contents[entry.id] = CONTENT

    def commit(self, change: Change):
        if self.trouble is not None:
            return fail(self.trouble)
        self.changes.append(change)
        for deposit in change.add:
            self.rows[deposit.entry.id] = deposit.entry
            self.contents[deposit.entry.id] = deposit.content
        for entry in change.update:
            self.rows[entry.id] = entry
        for id in change.remove:
            self.rows.pop(id, None)
        return succeed(None)

    def remove_soon(self, id):
        self.rows.pop(id, None)
        self.removed.append(id)

    def entries(self):
        return list(self.rows.values())

    def entry(self, id):
        return self.rows.get(id)

    def content(self, id):
        if self.damaged is not None:
            return fail(self.damaged)
        if id not in self.rows:
            return fail(KeyError(id))
        return succeed(self.contents[id])

    def free_octets(self):
        return 10**9


def body(octets=b"Subject: x\r\n\r\nhello\r\n"):
    return Body(len(octets), octets, None, hashlib.sha256(octets).digest())


CONTENT = Content(b"Received: here\r\n", 0, body())
NO_ROOM = Unavailable("the disk fails")


def parcel(*recipients, id="message1"):
    recipients = recipients or (ANN,)
    return Parcel(id, SENDER, recipients, CONTENT, all_or_nothing=len(recipients) > 1)


def route(*hosts, domain=DOMAIN):
    return Route(domain, hosts or (FIRST,))


def entry(id="entry1", *recipients, at=1_800_000_000.0, **more):
    values = {
        "id": id,
        "message_id": f"m-{id}",
        "body_id": id,
        "received_at": at,
        "sender": SENDER,
        "recipients": tuple(SpoolRecipient(r) for r in recipients or (ANN,)),
        "size": 100,
        "domain": DOMAIN,
        "next_attempt_at": at,
    }
    return SpoolEntry(**{**values, **more})


def settings(*domains, **delivery):
    domains = domains or (DomainSettings(DOMAIN, primary=(FIRST, SECOND)),)
    return Settings(delivery=DeliverySettings(**delivery), domains={domain.name: domain for domain in domains})


def domain(**more):
    return replace(DomainSettings(DOMAIN, primary=(FIRST,)), **more)


def run(coroutine):
    """A list that will hold what the coroutine comes to, and the Deferred it waits for, if any."""
    results = []
    waiting = promptly(coroutine, results.append, lambda failure: results.append(failure.value))
    return results, waiting
