"""Many lives of a gateway with hosts that answer anything, a disk that fails and processes that are killed.

After each: every recipient of every message has it, or is kept, or its sender was told, or it was dropped on record.
"""

import random

import pytest
from delivery_fakes import (
    DOMAIN,
    FIRST,
    NO_ROOM,
    OK,
    REFUSED,
    SECOND,
    SENDER,
    FakeChance,
    FakeClock,
    FakeRoutes,
    FakeSpool,
    FakeTransmitter,
    domain,
    entry,
    settings,
)
from fakes.archive import FakeArchive
from fakes.journal import FakeJournal
from fakes.state import FakeStateStore

from inboundmx.delivery.courier import Courier
from inboundmx.delivery.service import DeliveryService
from inboundmx.model.address import Address
from inboundmx.model.custody import Phase, State
from inboundmx.model.reply import Reply
from inboundmx.ports import Refused

LATER, NO, POLICY = Reply(450, "4.2.0", "later"), Reply(550, "5.1.1", "no"), Reply(550, "5.7.1", "policy")
CLOSING = Reply(421, "4.3.2", "closing")
LOST = Reply(451, "4.4.2", "lost")
BANNERS = [REFUSED, Refused("rejects_us", "greeting", Reply(554, "5.7.1", "go"), "no"), "silent", "up", "up", "up"]


class Life:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.clock = FakeClock()
        self.spool = FakeSpool()
        self.journal = FakeJournal()
        self.chance = FakeChance()
        self.chance.uniform = self.random.uniform
        self.settings = settings(domain(primary=(FIRST, SECOND)))
        self.got: dict[tuple[str, Address], int] = {}
        self.uncertain: set[tuple[str, Address]] = set()
        self.messages: dict[str, tuple[Address, ...]] = {}
        self.begin()

    def begin(self):
        """A process starts, with what is on the disk."""
        self.transmitter = FakeTransmitter(self.clock)
        self.transmitter.automatic = self.remember
        self.open: list = []
        self.courier = Courier(
            self.transmitter, lambda: self.settings, self.clock, self.chance, self.journal, FakeStateStore(self.clock)
        )
        self.service = DeliveryService(
            self.spool, self.courier, FakeRoutes(), FakeArchive(), lambda: self.settings, self.clock, self.chance,
            self.journal,
        )  # fmt: skip
        self.service.start()

    def kill(self):
        """What it was sending may have arrived, and nobody will ever hear."""
        for sent in self.open:
            if not sent.done.called and self.random.random() < 0.5:
                self.arrived(sent, sent.parcel.recipients)
                self.unclear(sent)
        # What was decided and could not be written is not known any more, and is done again.
        for id in self.service._running:
            self.uncertain.update((f"m-{id}", to) for to in self.messages.get(f"m-{id}", ()))
        # The dead process neither hears the clock nor reaches the disk.
        now, rows, contents = self.clock.now(), self.spool.rows, self.spool.contents
        self.clock, self.spool = FakeClock(), FakeSpool()
        self.clock.offset = now
        self.spool.rows, self.spool.contents = dict(rows), dict(contents)
        self.begin()

    def remember(self, sent):
        self.open.append(sent)

    def arrived(self, sent, recipients):
        for recipient in recipients:
            key = (sent.parcel.message_id, recipient)
            self.got[key] = self.got.get(key, 0) + 1

    def unclear(self, sent):
        self.uncertain.update((sent.parcel.message_id, recipient) for recipient in sent.parcel.recipients)

    def answer(self, sent):
        choice = self.random.random()
        recipients = sent.parcel.recipients
        if choice < 0.15:
            sent.lose(self.random.choice([Phase.MAIL, Phase.DATA]), reply=self.random.choice([LOST, CLOSING]))
        elif choice < 0.25:
            if self.random.random() < 0.5:
                self.arrived(sent, recipients)
            self.unclear(sent)
            sent.dot_sent = True
            sent.lose(Phase.DOT, dot_sent=True)
        elif choice < 0.3:
            sent.answer(LATER, phase=Phase.MAIL, trouble="rejects_us", dot_sent=False, keep=False)
        else:
            replies = [self.random.choice([OK, OK, LATER, NO, POLICY]) for _ in recipients]
            self.arrived(sent, [to for to, reply in zip(recipients, replies, strict=True) if reply is OK])
            sent.answer(*replies)

    def deposit(self):
        number = len(self.messages)
        recipients = tuple(Address(f"r{n}", DOMAIN) for n in range(self.random.randint(1, 3)))
        kept = entry(
            f"e{number}",
            *recipients,
            at=self.clock.now(),
            priority=self.random.randint(1, 10),
            may_notify=self.random.random() < 0.5,
            sender=self.random.choice([SENDER, SENDER, None]),
        )
        self.messages[kept.message_id] = recipients
        self.spool.put(kept)
        self.service.deposited([kept])

    def step(self):
        kind = self.random.random()
        if kind < 0.3:
            self.deposit()
        elif kind < 0.75 and self.open:
            sent = self.open.pop(self.random.randrange(len(self.open)))
            if not sent.done.called:
                self.answer(sent)
        elif kind < 0.85:
            self.transmitter.hosts[self.random.choice([FIRST, SECOND])] = self.random.choice(BANNERS)
        elif kind < 0.9:
            self.spool.trouble = self.random.choice([NO_ROOM, None])
        elif kind < 0.92:
            self.kill()
        elif kind < 0.94:
            self.service.force(list(self.spool.rows))
        else:
            self.clock.advance(self.random.choice([0.1, 5, 40, 700, 4000]))

    def end(self):
        """Everything is well again, and time enough passes."""
        self.spool.trouble = None
        self.transmitter.hosts.clear()

        def good(sent):
            self.arrived(sent, sent.parcel.recipients)
            sent.answer(OK)

        for sent in self.open:
            if not sent.done.called:
                good(sent)
        self.transmitter.automatic = good
        self.clock.advance(6 * 3600)


@pytest.mark.parametrize("seed", range(60))
def test_nobody_is_lost(seed):
    life = Life(seed)
    for _ in range(120):
        life.step()
    life.end()
    rows = life.spool.rows.values()
    assert not [row for row in rows if row.state is State.ACTIVE]
    held = {(row.message_id, r.address) for row in rows for r in row.pending}
    told = set()
    for event, id, fields, _ in life.journal.events:
        if event == "failed":
            told.update((id, to) for to in life.messages.get(id, ()) if str(to) in fields["recipients"])
    for id, recipients in life.messages.items():
        for to in recipients:
            key = (id, to)
            assert life.got.get(key) or key in held or key in told, key
            if key not in life.uncertain:
                assert life.got.get(key, 0) <= 1, f"{key} was delivered twice without need"
    assert not life.journal.named("fault")
