"""A whole gateway in a faked world, driven by a seed: strangers, primaries, troubles, crashes; and the books of it all.

Real are the SMTP server and client, reception, checks, policy and deliveries. Faked are time, network, chance, and a
spool that forgets what was not committed.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from fakes.archive import FakeArchive
from fakes.checks import FakeContents, FakeOffload
from fakes.resolver import FakeResolver
from fakes.spool import FakeBodies, FakeSpool
from fakes.state import FakeStateStore
from network import End, Life, Network, Time
from operators import Operator
from parties import GONE, MAY_SEND, NAMES, VERIFIED, Primary, Stranger, Visit
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from inboundmx.app.inside import Inside, Surroundings
from inboundmx.app.operations import Operations
from inboundmx.app.pause_operations import PauseOperations
from inboundmx.checks.api import Tools
from inboundmx.delivery.pausing import Pause, Pauses
from inboundmx.model.custody import State, Status
from inboundmx.policy.retrying import EXHAUSTED
from inboundmx.ports import StorageFull, Unavailable
from inboundmx.smtp.client import SmtpTransmitter
from inboundmx.smtp.server import SmtpServerFactory

HOUR, DAY = 3600.0, 86400.0
# A day has about so many moments of the gateway's; timers it may have at rest, and for each entry and wire.
MOMENTS = 5000
TIMERS, TIMERS_EACH = 40, 6
OURS = "192.0.2.1"
HOSTS = ("one", "two", "three", "senders", "far", "backed", "else", "relay", "boxes", "other")
PRIMARIES = {name: f"198.51.100.{number}" for number, name in enumerate(HOSTS, 1)}
# Strangers, one of whom may send out through us.
STRANGER, OUR_PRIMARY = "203.0.113.7", MAY_SEND
# Who names its clients by XCLIENT, a proxy, and one who never waits for the greeting.
FRONT, PROXY, EARLY = "192.0.2.2", "192.0.2.3", "198.18.0.9"
INI = f"""
[gateway]
hostname = mx.gateway.example
workers = 0
[delivery]
tls = none
[domain a.example]
recipients = any
primary = {PRIMARIES["one"]}
greylisting = no
bounce = always
[domain b.example]
recipients = any
primary = {PRIMARIES["one"]} {PRIMARIES["two"]}
handover = spool
greylisting = no
bounce = always
[domain c.example]
recipients = any
mode = backup
primary = {PRIMARIES["three"]}
greylisting = no
[domain d.example]
recipients = any
primary = {PRIMARIES["two"]}
[domain sender.example]
recipients = any
primary = {PRIMARIES["senders"]}
handover = spool
greylisting = no
[domain e.example]
recipients = any
primary = lmtp:{PRIMARIES["boxes"]}:25
greylisting = no
bounce = always
[domain f.example]
recipients = learned callout
primary = {PRIMARIES["two"]}
bounce = always
[check greylist]
use = greylist
[check early]
use = early_talker
weight.yes = reject
[smtp]
banner_delay = 2s
xclient = {FRONT}
proxies = {PROXY}
[backup]
primaries = {PRIMARIES["backed"]}
[relay]
allow = {OUR_PRIMARY}
[outbound relay]
server = {PRIMARIES["relay"]}
exclusive = no
[archive outgoing]
rule = outgoing
path = /archive
"""
DOMAINS = ("a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "backed.example")
EARLY_ONES = 2
# Whose mail earns no notice: nobody's sender is known there (``bounce = verified``).
SILENT = ("@c.example", "@d.example", "@backed.example")
# Where mail of a domain may arrive, and nowhere else.
PLACES = {
    "a.example": {"one"},
    "b.example": {"one", "two"},
    "c.example": {"three"},
    "d.example": {"two"},
    "f.example": {"two"},
    "e.example": {"boxes"},
    "sender.example": {"senders"},
    "backed.example": {"backed"},
    "far.example": {"far", "relay", "other"},
    "else.example": {"else", "relay", "other"},
    # A gateway may know them.
    "null.example": {"relay", "other"},
    "nowhere.example": {"relay", "other"},
}
AWAY = ("@far.example", "@else.example", "@null.example", "@nowhere.example")
ZONE = {
    "far.example": {"MX": [(10, "mx1.far.example"), (10, "mx2.far.example")]},
    "mx1.far.example": {"A": [PRIMARIES["far"]]},
    "mx2.far.example": {"A": ["198.51.100.99"]},
    "else.example": {"A": [PRIMARIES["else"]]},
    "null.example": {"MX": [(0, ".")]},
    "backed.example": {"MX": [(10, "mx.backed.example"), (20, "mx.gateway.example")]},
    "mx.backed.example": {"A": [PRIMARIES["backed"]]},
    "mx.gateway.example": {"A": [OURS]},
}


# From the first attempt to the last one of the list of those we are backup of.
BACKUP_SECONDS = 1470 * 60.0
# What is told to whom asked for what (RFC 3461 4.1).
WANTED = {
    "": {"failed", "delayed"},
    " NOTIFY=NEVER": set(),
    " NOTIFY=SUCCESS,FAILURE": {"failed", "relayed", "delivered"},
    " NOTIFY=DELAY": {"delayed"},
}


def field_of(text, name):
    """A header field's value, or nothing."""
    return next((line.partition(": ")[2] for line in text.split("\r\n") if line.startswith(f"{name}: ")), "")


class SimulatedChance:
    """ports.Chance from the world's generator."""

    LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"

    def __init__(self, chance: random.Random):
        self.chance = chance
        self.uniform = chance.uniform

    def token(self, length):
        return "".join(self.chance.choices(self.LETTERS, k=length))

    def shuffled(self, items):
        return self.chance.sample(list(items), len(items))


class SimulatedResolver(FakeResolver):
    """``trouble``: how likely a look-up is not answered."""

    def __init__(self, chance):
        super().__init__(ZONE)
        self.chance = chance
        self.trouble = 0.0

    async def look_up(self, name, type):
        if self.chance.random() < self.trouble:
            raise Unavailable("no answer")
        self.asked.clear()
        return await super().look_up(name, type)


class SimulatedSpool(FakeSpool):
    """Commits reach the disk a moment later, together; a crash in between loses them."""

    def __init__(self, chance):
        super().__init__(automatic=False)
        self.chance = chance
        self.life: Any = None
        # Messages whose schedule began anew.
        self.anew: set[str] = set()
        # Since when something is decided that could not be written; never, while all is.
        self.failing_since = float("inf")

    def begin(self, life):
        self.crash()
        self.life = life
        # As the real one: told of what was owed, and could be written at last.
        self.written_late = lambda entries: None

    def sync(self):
        late = [deposit.entry for change in self._owed for deposit in change.add] if self.failure is None else []
        super().sync()
        if self.failure is None:
            self.failing_since = float("inf")
        if late:
            self.written_late(late)

    def commit(self, change):
        before = ((self._disk[entry.id][0], entry) for entry in change.update if entry.id in self._disk)
        self.anew |= {entry.message_id for kept, entry in before if entry.slots_used < kept.slots_used}
        self.life.call_later(self.chance.choice((0.0, 0.002, 0.03)), self.sync)
        return super().commit(change)

    def remove_soon(self, id):
        super().remove_soon(id)
        self.life.call_later(0.2, self.sync)

    def content(self, id):
        read = super().content(id)
        if self.chance.random() < 0.5:
            return read
        later: Deferred[Any] = Deferred()
        self.life.call_later(0.003, read.addBoth, lambda result: None if later.called else later.callback(result))
        return later

    def on_disk(self):
        return [stored[0] for stored in self._disk.values()]


class Books:
    """ports.Journal. Only what must never happen, and what ends a recipient's story, is kept."""

    def __init__(self, told):
        self.faults: list[Any] = []
        self.dropped: set[tuple[str, str]] = set()
        # Of whom it is told that their mail arrived.
        self.arrived: set[tuple[str, str]] = set()
        self.events: Counter[str] = Counter()
        self.deleted: set[tuple[str, str]] = set()
        # Entries that are copies for an archive, and messages whose copy an operator gave up: their mail goes on.
        self.copies: set[str] = set()
        self.unarchived: set[str] = set()
        # Entries an operator stopped: what must not arrive.
        self.held: dict[str, tuple[str, list[str]]] = {}
        # Messages that were given a schedule anew.
        self.anew: set[str] = set()
        # Notices by their ids, and messages whose notice an operator did away with.
        self.notices: dict[str, str] = {}
        self.untold: set[str] = set()
        self._told = told

    def record(self, event, id, fields, *, level="info"):
        self.events[event] += 1
        self._told(event, id, fields)
        if event == "fault":
            self.faults.append(dict(fields))
        if event == "failed" and fields["fate"] == "dropped":
            self.dropped.update((id, recipient) for recipient in fields["recipients"])
        if event == "expired":
            self.dropped.update((id, recipient) for recipient in fields["recipients"])
        if event == "spooled" and fields["via"] == "archive":
            self.copies.add(fields["entry"])
        if event in ("handed_over", "delivered"):
            self.arrived.update((id, recipient) for recipient in fields["recipients"])
        if event == "bounced":
            self.notices[fields["notice"]] = id
        if "asked_by" in fields and "entry" in fields:
            self._commanded(event, id, fields)

    def _commanded(self, event, id, fields):
        if fields["entry"] in self.copies:
            if event in ("deleted", "failed"):
                self.unarchived.add(id)
            return
        if event == "deleted":
            self.deleted.update((id, recipient) for recipient in fields["recipients"])
        if event == "held" and "not_written_yet" not in fields:
            self.held[fields["entry"]] = id, fields["recipients"]
        if event in ("released", "deleted"):
            self.held.pop(fields["entry"], None)
        if event in ("deleted", "failed", "held") and id in self.notices:
            self.untold.add(self.notices[id])
        if event in ("released", "retries_reset", "failed"):
            self.anew.add(id)


@dataclass
class Arrival:
    """``confirmed_at``: when the primary's 250 came to a living gateway."""

    key: str
    recipient: str
    confirmed_at: float | None = None


class World:
    def __init__(self, seed, settings, inside=Inside):
        self.seed = seed
        self.chance = random.Random(seed)
        # Of its own, so that how a stranger comes to us changes nothing else.
        self.manners = random.Random(f"manners {seed}")
        self.time = Time()
        self.network = Network(self.time, self.chance)
        self.network.passed = self._passed
        self.settings = settings
        self.books = Books(self._heard)
        self.spool = SimulatedSpool(self.chance)
        self.primaries = {name: Primary(self, name) for name in PRIMARIES}
        self.primaries["boxes"].lmtp = True
        self.primaries["two"].dsn = True
        self.network.hosts = {(ip, 25): self.primaries[name] for name, ip in PRIMARIES.items()}
        self.letters: dict[str, bytes] = {}
        self.senders: dict[str, str] = {}
        self.parameters: dict[str, str] = {}
        self.resolver = SimulatedResolver(self.chance)
        self.archive = FakeArchive()
        self.other_relay = PRIMARIES["other"]
        self.operator = Operator(self, settings, DOMAINS)
        self.pauses: tuple[Pause, ...] = ()
        # When each was promised, by its id; and how often the wall clock was put off.
        self.promised_at: dict[str, float] = {}
        self.jumps = 0
        self.promised: dict[tuple[str, str], str] = {}
        self.outgoing: set[str] = set()
        self.asked: dict[tuple[str, str], str] = {}
        self.arrivals: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
        self.resurrected: Counter[tuple[str, str]] = Counter()
        self.notices: dict[str, list[bytes]] = defaultdict(list)
        self.wrong: list[str] = []
        self._made = inside
        self._state: Any = None
        self.begin()

    # --- the gateway --------------------------------------------------------------------------------------------------

    def begin(self):
        """A process starts with what is on the disk."""
        self.life = life = Life(self.time, self.network, OURS)
        self.spool.begin(life)
        self._state = self._state or FakeStateStore(life)
        self._state._clock = life
        chance = SimulatedChance(self.chance)
        contents = FakeContents()
        tools = Tools(
            self.settings,
            life,
            self.resolver,
            self._state,
            None,
            FakeOffload(),
            contents,
            None,  # type: ignore[arg-type]
        )
        transmitter = SmtpTransmitter(life, life, "mx.gateway.example", "")
        pauses = Pauses(life, self.books, self._keep, self.pauses)
        outside = Surroundings(
            life, chance, self.books, self.spool, FakeBodies(), transmitter, tools, pauses, archive=self.archive
        )
        self.inside = self._made(outside)
        self.spool.written_late = self.inside.deliveries.deposited
        self.factory = SmtpServerFactory(self.inside.reception, life, chance, self.settings)
        self.operations = Operations(
            self.spool,
            self.inside.deliveries,
            self.books,
            life,
            self.settings,
            nouns={"spool": PauseOperations(pauses, life, lambda: self.settings)},
            paused=self.inside.is_paused,
            chance=chance,
            notices=self.inside.deliveries.notices,
        )
        self.inside.start()

    async def _keep(self, pauses):
        self.pauses = tuple(pauses)

    def crash(self):
        """The power goes. What was confirmed to us and is not on the disk yet will be sent again: the window is the
        last second, or as long as the disk failed."""
        for entry in self.spool.on_disk():
            for recipient in entry.recipients:
                if recipient.status is Status.PENDING:
                    self._resurrect(entry.message_id, str(recipient.address))
        self.network.kill(self.life)
        self.begin()

    def _resurrect(self, id, recipient):
        for (key, to), told in self.promised.items():
            if told == id and to == recipient and any(map(self._unwritten, self.arrivals[key, to])):
                self.resurrected[key, to] += 1

    def _unwritten(self, arrival):
        since = arrival.confirmed_at
        return since is not None and (self.time.at - since <= 1.0 or self.spool.failing_since <= since)

    def restart(self):
        """SIGTERM, and a new process within ten seconds."""
        self.inside.hurry()
        life, inside = self.life, self.inside
        self.factory.drain(3.0)
        self.time.later(4.5, lambda: inside.stop(5.0) if life.alive else None)
        self.time.later(10.0, lambda: self.crash() if self.life is life else None)

    def visit(self, visit: Visit):
        """A stranger connects."""
        ways = {"front": FRONT, "proxied": PROXY}
        peer = IPv4Address("TCP", ways.get(visit.manner, visit.stranger.ip), 4000)
        network, life = self.network, self.life
        factory: Any = HAProxyWrappingFactory(self.factory) if visit.manner == "proxied" else self.factory  # type: ignore[no-untyped-call]
        ours = End(network, life, IPv4Address("TCP", OURS, 25), peer)
        theirs = End(network, None, peer, IPv4Address("TCP", OURS, 25))
        network.join(ours, factory.buildProtocol(peer), theirs, visit)

    # --- the books ----------------------------------------------------------------------------------------------------

    def letter(self, visit):
        lines = [
            f"X-Key: {visit.key}",
            f"From: <{visit.stranger.sender or 'nobody@stranger.example'}>",
            "",
            ".dots",
            ".",
            "end",
        ]
        lines += ["x" * self.chance.randrange(70)] * self.chance.choice((0, 1, 40))
        octets = "".join(f"{line}\r\n" for line in lines).encode()
        self.letters[visit.key] = octets
        self.senders[visit.key] = visit.stranger.sender
        self.parameters[visit.key] = visit.stranger.parameters
        return octets.replace(b"\r\n.", b"\r\n..")

    def told(self, visit, code, line):
        if code == 250:
            if any(recipient.endswith(AWAY) for recipient in visit.accepted):
                self.outgoing.add(visit.key)
            self.promised_at[line.split()[-1]] = self.time.at
            for recipient in visit.accepted:
                self.promised[visit.key, recipient] = line.split()[-1]
                self.asked[line.split()[-1], recipient] = visit.stranger.parameters

    def arrived(self, host, sender, recipient, octets):
        if host.name not in PLACES[recipient.rpartition("@")[2]]:
            self.wrong.append(f"mail for {recipient} came to {host.name}")
        why_not = self.operator.forbids(recipient.rpartition("@")[2])
        if why_not:
            self.wrong.append(f"mail for {recipient} came, of which nothing may: {why_not}")
        if b"multipart/report" in octets:
            if sender:
                self.wrong.append("a notice with a sender")
            self.notices[recipient].append(octets)
            return Arrival("", recipient)
        key = octets.partition(b"X-Key: ")[2].partition(b"\r\n")[0].decode()
        if not octets.endswith(self.letters.get(key, b"?")):
            self.wrong.append(f"{key} for {recipient} was altered")
        arrival = Arrival(key, recipient)
        id = self.promised.get((key, recipient))
        if id and any(id == held and recipient in kept for held, kept in self.books.held.values()):
            self.wrong.append(f"{key} came to {recipient} although it is held")
        self.arrivals[key, recipient].append(arrival)
        return arrival

    def _passed(self, end, octets):
        for arrival in getattr(end, "awaited", ()):
            arrival.confirmed_at = self.time.at
        end.awaited = ()

    def _heard(self, event, id, fields):
        """The journal."""
        self.operator.heard(event, fields)
        if event == "held" and fields["cause"] == EXHAUSTED and id in self.promised_at and id not in self.books.anew:
            age = self.time.at - self.promised_at[id]
            if age < BACKUP_SECONDS - 1.0 and not self.jumps:
                self.wrong.append(f"{id} was given up after {age:.0f} s, long before its list ended")

    # --- what happens -------------------------------------------------------------------------------------------------

    def live(self, days=1.0, messages=25):
        chance, end = self.chance, days * DAY
        # Spread over the day, or in a rush of some hours.
        first, last = chance.choice(((0.0, end), (0.0, end), (end / 4, end / 4 + 3 * HOUR)))
        for serial in range(messages):
            sender = chance.choice(
                (f"s{serial}@sender.example", f"s{serial}@sender.example", f"s{serial}@else.example", "")
            )
            names = [
                chance.choice((*NAMES, GONE + "eve")) + str(serial) for _ in range(chance.choice((1, 1, 2, 3)))
            ]
            inward = chance.random() < 0.8
            domains = (
                DOMAINS if inward else ("far.example", "else.example", "null.example", "nowhere.example", "a.example")
            )
            domain = chance.choice(domains)
            recipients = {f"{name}@{chance.choice((domain, domain, chance.choice(domains)))}" for name in names}
            parameters = chance.choice(("", "", "", " NOTIFY=NEVER", " NOTIFY=SUCCESS,FAILURE", " NOTIFY=DELAY"))
            ip = STRANGER if inward else OUR_PRIMARY
            stranger = Stranger(self, serial, sender, sorted(recipients), parameters, ip)
            self.time.later(chance.uniform(first, last), stranger.go)
        for serial in range(messages, messages + EARLY_ONES):
            hasty = Stranger(self, serial, f"s{serial}@else.example", [f"ann{serial}@a.example"], "", EARLY, hasty=True)
            self.time.later(self.manners.uniform(first, last), hasty.go)
        for primary in self.primaries.values():
            self._moods(primary, end)
        for _ in range(chance.randrange(4)):
            self.time.later(chance.uniform(0, end), chance.choice((self.crash, self.crash, self.restart)))
        for _ in range(chance.choice((0, 1, 2))):
            # At any end of a wait, on the network or at a write, wherever the gateway is then.
            self.time.after(chance.randrange(1, MOMENTS), self.crash)
        for hour in range(int(end // HOUR)):
            self.time.later(hour * HOUR, self._measure)
        for _ in range(chance.randrange(3)):
            at = chance.uniform(0, end)
            self.time.later(
                at, self._disk, chance.choice((StorageFull("no room on the disk"), Unavailable("it fails")))
            )
            self.time.later(at + chance.choice((1, 60, HOUR)), self._disk, None)
        for _ in range(chance.randrange(3)):
            at = chance.uniform(0, end)
            self.time.later(at, self._names, chance.choice((0.1, 0.5, 1.0)))
            self.time.later(at + chance.choice((60, HOUR)), self._names, 0.0)
        for _ in range(chance.randrange(2)):
            self.time.later(chance.uniform(0, end), self._jump, chance.choice((-HOUR, HOUR, -DAY, DAY)))
        self.operator.live(end)
        self.time.run(end)
        self._heal()
        # No list waits longer than a day once a host is there, and no throttle than an hour.
        self.time.run(end + DAY + 3 * HOUR)
        self.wrong += [f"still active a day later: {e}" for e in self.spool.entries() if e.state is State.ACTIVE]
        self.time.run(end + 8 * DAY)
        self._at_rest()

    def _measure(self):
        """Nothing grows beyond what the settings allow, however bad the day is."""
        status = self.inside.deliveries.status()
        limits = self.settings.delivery
        for host, facts in status["hosts"].items():
            if facts["busy"] + facts["opening"] > limits.max_connections_per_host:
                self.wrong.append(f"{facts} connections to {host}")
        wires = self.network.open_of(self.life)
        if wires > limits.max_connections + len(self.factory.connections):
            self.wrong.append(f"{wires} wires are open")
        self._count_timers(wires)

    def _count_timers(self, wires):
        timers, entries = self.time.timers_of(self.life), len(self.spool.entries())
        if timers > TIMERS + TIMERS_EACH * (entries + wires):
            self.wrong.append(f"{timers} timers for {entries} entries and {wires} wires")

    def _at_rest(self):
        """What was opened for mail that is gone is gone as well."""
        if self.factory.connections or self.network.open_of(self.life):
            self.wrong.append(f"{self.network.open_of(self.life)} wires are left open")
        queues = self.inside.deliveries.status()["queues"]
        if queues and not any(entry.state is State.ACTIVE for entry in self.spool.entries()):
            self.wrong.append(f"queues without entries: {queues}")
        self._count_timers(0)

    def _moods(self, primary, end):
        at = self.chance.expovariate(1 / (4 * HOUR))
        while at < end:
            self.time.later(at, self._mood, primary)
            at += self.chance.expovariate(1 / (4 * HOUR))

    def _mood(self, primary):
        primary.reachable = self.chance.choice(("up", "up", "up", "down", "silent"))
        primary.trouble = self.chance.choice((0.0, 0.0, 0.02, 0.2))
        primary.mixed = self.chance.choice((0.0, 0.3, 0.6)) if primary.lmtp else 0.0
        primary.greylists = self.chance.random() < 0.2
        primary.refuses_us = self.chance.random() < 0.1

    def _disk(self, failure):
        self.spool.failure = failure
        if failure is not None:
            self.spool.failing_since = min(self.spool.failing_since, self.time.at)

    def _names(self, trouble):
        self.resolver.trouble = trouble

    def _jump(self, seconds):
        self.jumps += 1
        self.time.jumped += seconds

    def _heal(self):
        self.operator.heal()
        self.spool.failure = None
        self.resolver.trouble = 0.0
        for primary in self.primaries.values():
            primary.reachable, primary.trouble, primary.greylists, primary.refuses_us = "up", 0.0, False, False
            primary.mixed = 0.0

    # --- what must be true --------------------------------------------------------------------------------------------

    def verdict(self):
        """Everything that is wrong, in words; empty when the world is in order."""
        wrong = [*self.wrong, *(f"fault: {fault}" for fault in self.books.faults)]
        kept = {
            (entry.message_id, str(recipient.address))
            for entry in self.spool.entries()
            if entry.state is not State.ACTIVE
            for recipient in entry.pending
        }
        wrong += [f"still active: {e}" for e in self.spool.entries() if e.state is State.ACTIVE]
        for (key, recipient), id in self.promised.items():
            sender = self.senders[key]
            if self.arrivals.get((key, recipient)) or (id, recipient) in kept or self._dropped(id, recipient, sender):
                continue
            gone = (id, recipient) in self.books.deleted or id in self.books.untold
            if not gone and not self._told(recipient, sender):
                wrong.append(f"lost: {key} for {recipient} from <{sender}>, promised as {id}")
        for (key, recipient), arrivals in self.arrivals.items():
            unconfirmed = sum(arrival.confirmed_at is None for arrival in arrivals)
            explained = unconfirmed + self.resurrected[key, recipient]
            if len(arrivals) - 1 > explained:
                wrong.append(f"{key} came {len(arrivals)} times to {recipient}, {explained} explained")
        for (key, recipient), id in self.promised.items():
            arrived = self.arrivals.get((key, recipient))
            if (id, recipient) in self.books.arrived and not arrived:
                wrong.append(f"the log says that {key} came to {recipient}, and it did not")
        wrong += [f"the schedule of {id} began anew" for id in self.spool.anew - self.books.anew]
        copies = self.archive.kept.values()
        archived = {octets.partition(b"X-Key: ")[2].partition(b"\r\n")[0].decode() for octets in copies}
        stopped = {entry.message_id for entry in self.spool.entries() if entry.via == "archive"}
        gone = {key for (key, to), id in self.promised.items() if id in stopped | self.books.unarchived}
        wrong += [f"{key} is in no archive" for key in self.outgoing - archived - gone]
        return wrong + list(self._wrong_notices())

    def _wrong_notices(self):
        """Those that nobody may get, did not want, or got already."""
        seen: dict[tuple[str, str, str], str] = {}
        for to, notices in self.notices.items():
            if not to.endswith(("@sender.example", "@else.example")):
                yield f"a notice to {to}"
            for octets in notices:
                text = octets.decode()
                key = field_of(text, "X-Key")
                for group in text.split("\r\n\r\n"):
                    recipient = field_of(group, "Final-Recipient").removeprefix("rfc822; ")
                    if not recipient:
                        continue
                    id, action = self.promised.get((key, recipient), ""), field_of(group, "Action")
                    wanted = self.parameters.get(key, "")
                    if action not in WANTED[wanted]:
                        yield f"{to} was told that {recipient} {action}, who said{wanted}"
                    if recipient.startswith(GONE) and recipient.endswith(VERIFIED):
                        yield f"{to} was told of {recipient}, who was never there and was never said to be"
                    if recipient.endswith(SILENT):
                        yield f"{to} was told of {recipient}, and nobody knows whether it was he who sent it"
                    if self.senders.get(key) != to:
                        yield f"{to} was told of {key}, which {self.senders.get(key)} sent"
                    notice = field_of(text, "Message-ID")
                    if seen.setdefault((key, recipient, action), notice) != notice and id not in self.books.anew:
                        yield f"{to} was told twice that {recipient} {action}: {key}"

    def _dropped(self, id, recipient, sender):
        """Nobody is told of what has the null sender, or of a failure that nobody wants to hear of."""
        unwanted = not sender or self.asked.get((id, recipient), "FAILURE") in (" NOTIFY=NEVER", " NOTIFY=DELAY")
        return unwanted and (id, recipient) in self.books.dropped

    def _told(self, recipient, sender):
        return any(f"; {recipient}\r\n".encode() in notice for notice in self.notices.get(sender, ()))
