"""The loop: due, attempted, settled, recorded, acted upon; with hosts and a spool of the tests' own."""

from dataclasses import replace

import pytest
from delivery_fakes import (
    ANN,
    BOB,
    DOMAIN,
    FIRST,
    NO_ROOM,
    OK,
    REFUSED,
    SECOND,
    FakeChance,
    FakeClock,
    FakeRoutes,
    FakeSpool,
    FakeTransmitter,
    domain,
    entry,
    parcel,
    route,
    run,
    settings,
)
from fakes.archive import FakeArchive
from fakes.journal import FakeJournal
from fakes.state import FakeStateStore
from twisted.internet.defer import Deferred

from inboundmx.delivery.courier import Courier
from inboundmx.delivery.service import DeliveryService
from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Phase, State, Status
from inboundmx.model.reply import Reply
from inboundmx.model.settings import BACKUP_RETRY, DomainSettings
from inboundmx.ports import Damaged

GREYLISTED = Reply(450, "4.2.0", "later")
UNKNOWN = Reply(550, "5.1.1", "nobody of that name")
BACKUP = domain(mode="backup", retry=BACKUP_RETRY, when_exhausted="hold")
HOME = DomainSettings("b.example", primary=(SECOND,), priority=7)


class World:
    def __init__(self, *domains, **delivery):
        self.clock = FakeClock()
        self.start = self.clock.now()
        self.transmitter = FakeTransmitter(self.clock)
        self.journal = FakeJournal()
        self.spool = FakeSpool()
        self.settings = settings(*(domains or (domain(),)), **delivery)
        self.state = FakeStateStore(self.clock)
        self.routes = FakeRoutes()
        self.archive = FakeArchive()
        self.paused = set()
        self.begin()

    def begin(self):
        """A process."""
        self.courier = Courier(
            self.transmitter, lambda: self.settings, self.clock, FakeChance(), self.journal, self.state
        )
        self.service = DeliveryService(
            self.spool, self.courier, self.routes, self.archive, lambda: self.settings, self.clock, FakeChance(),
            self.journal, self.paused.__contains__,
        )  # fmt: skip

    def deposit(self, *entries):
        self.spool.put(*entries)
        self.service.deposited(entries)

    def answering(self, reply, **how):
        self.transmitter.automatic = lambda transmission: transmission.answer(reply, **how)

    def elapsed(self):
        return self.clock.now() - self.start

    def row(self, id="entry1"):
        return self.spool.rows[id]


@pytest.fixture
def world():
    return World()


def test_what_is_deposited_is_delivered_and_forgotten(world):
    world.answering(OK)
    world.deposit(entry("entry1"), entry("entry2"))
    assert world.spool.removed == ["entry1", "entry2"]
    assert not world.spool.changes
    assert world.journal.named("delivered") == [("delivered", "m-entry1"), ("delivered", "m-entry2")]
    assert world.transmitter.last.seconds == (60.0, 600.0)
    assert not world.transmitter.last.parcel.all_or_nothing


def test_start_adopts_what_the_spool_holds_the_most_urgent_first(world):
    world.spool.put(entry("old", at=world.start - 9), entry("late"), entry("urgent", priority=9))
    world.spool.put(entry("held", state=State.HELD, next_attempt_at=None))
    world.answering(OK)
    world.service.start()
    assert world.spool.removed == ["urgent", "old", "late"]


def test_every_recipient_is_settled_alone_and_the_rest_tried_again(world):
    world.deposit(entry("entry1", ANN, BOB))
    world.transmitter.last.answer(OK, GREYLISTED)
    assert [r.status for r in world.row().recipients] == [Status.DELIVERED, Status.PENDING]
    assert world.journal.named("delivered", "deferred") == [("delivered", "m-entry1"), ("deferred", "m-entry1")]
    world.clock.advance(15 * 60 * 1.01 + 1)
    assert world.transmitter.last.parcel.recipients == (BOB,)
    world.transmitter.last.answer(OK)
    assert not world.spool.rows


@pytest.mark.parametrize("many", [1, 30])
def test_a_primary_down_is_tried_exactly_by_the_list_with_one_connect_a_slot(many):
    world = World(BACKUP)
    world.transmitter.hosts[FIRST] = REFUSED
    attempts = {}
    world.journal.record = lambda event, id, fields, level="info": (
        attempts.setdefault(id, []).append(world.elapsed()) if event in ("deferred", "held") else None
    )
    world.deposit(*(entry(f"e{n}") for n in range(many)))
    world.clock.advance(48 * 3600)
    assert len(attempts) == many
    for times in attempts.values():
        assert times == pytest.approx([0, 600, 1200, 1800, 1470 * 60], rel=0.01, abs=1)
        assert all(real >= exact - 1e-6 for real, exact in zip(times, [0, 600, 1200, 1800, 88200], strict=True))
    assert {row.cause for row in world.spool.rows.values()} == {"exhausted"}
    assert {row.state for row in world.spool.rows.values()} == {State.HELD}
    probes = 48 * 3600 / 30
    assert len(world.transmitter.asked) <= probes + 10


def test_nothing_but_a_probe_is_sent_to_a_host_that_is_down(world):
    world.transmitter.hosts[FIRST] = REFUSED
    world.deposit(entry("entry1"))
    assert len(world.transmitter.asked) == 1
    assert run(world.courier.hand_over(parcel(), route()))[0][0].kind == "postponed"
    assert len(world.transmitter.asked) == 1
    world.clock.advance(29.9)
    assert len(world.transmitter.asked) == 1
    world.clock.advance(0.5)
    assert [seconds for _, seconds, _, _ in world.transmitter.asked[1:]] == [300.0]


def test_a_primary_that_comes_back_gets_what_waits_at_once_and_no_slot_is_used():
    world = World(BACKUP)
    world.transmitter.hosts[FIRST] = REFUSED
    world.deposit(entry("entry1"), entry("entry2", priority=9))
    world.clock.advance(100)
    world.transmitter.hosts[FIRST] = "up"
    world.clock.advance(31)
    assert [sent.parcel.message_id for sent in world.transmitter.sent] == ["m-entry2"]
    world.transmitter.last.answer(GREYLISTED, phase=Phase.RECIPIENT)
    kept = world.row("entry2")
    assert (kept.slots_used, kept.attempts) == (1, 2)
    assert kept.next_attempt_at == pytest.approx(world.start + 600, abs=6)
    assert world.journal.named("host_down", "host_up") == [("host_down", ""), ("host_up", "")]


@pytest.mark.parametrize("seconds", range(0, 70, 6))
def test_a_primary_that_did_not_even_take_connections_is_found_within_a_minute_too(seconds):
    world = World(BACKUP)
    world.transmitter.hosts[FIRST] = "silent"
    world.deposit(entry("entry1"))
    world.clock.advance(3600 + seconds)
    world.transmitter.hosts[FIRST] = "up"
    world.answering(OK)
    world.clock.advance(60)
    assert world.spool.removed == ["entry1"]


def test_what_comes_back_is_begun_slowly_and_never_takes_all_connections():
    world = World(BACKUP)
    world.transmitter.hosts[FIRST] = REFUSED
    world.deposit(*(entry(f"e{n:03}") for n in range(200)))
    world.transmitter.hosts[FIRST] = "up"
    world.clock.advance(31)
    rounds = []
    while pending := [sent for sent in world.transmitter.sent if not sent.done.called]:
        rounds.append(len(pending))
        for sent in pending:
            sent.answer(OK)
        world.clock.advance(0.025)
    assert rounds[:4] == [1, 2, 4, 8]
    assert max(rounds) == 10
    assert not world.spool.rows
    assert len(world.transmitter.live()) <= 10


def test_a_dead_destination_delays_no_other():
    world = World(domain(), HOME)
    world.transmitter.hosts[FIRST] = "silent"
    world.deposit(*(entry(f"dead{n}") for n in range(300)))
    world.answering(OK)
    world.deposit(entry("alive", Address("x", "b.example"), domain="b.example"))
    assert world.spool.removed == ["alive"]


def test_no_answer_to_the_dot_is_left_alone_for_ten_minutes_even_when_the_primary_comes_back(world):
    world.settings = settings(domain(retry=replace(BACKUP_RETRY, waits=(60.0,) * 9)))
    world.deposit(entry("entry1"))
    world.transmitter.hosts[FIRST] = REFUSED
    world.transmitter.last.dot_sent = True
    world.transmitter.last.lose(phase=Phase.DOT, dot_sent=True)
    world.deposit(entry("entry2", at=world.clock.now()))
    world.transmitter.hosts[FIRST] = "up"
    world.clock.advance(500)
    assert "m-entry1" not in [sent.parcel.message_id for sent in world.transmitter.sent[1:]]
    for sent in world.transmitter.sent[1:]:
        sent.answer(OK)
    world.clock.advance(101)
    assert world.transmitter.last.parcel.message_id == "m-entry1"


# --- claimed by a transmission that still waits ---


def uncertain(reply, trouble=""):
    replies = ((ANN, reply),)
    return DeliveryAttempt(FIRST, 1_800_000_000.0, 1_800_000_100.0, Phase.DOT, replies, "", trouble, True)


def claim(world, **more):
    late = Deferred()
    kept = entry("entry1", next_attempt_at=world.start + 600, **more)
    world.spool.put(kept)
    world.service.claimed(kept, late)
    return late


def test_a_late_yes_settles_the_claimed(world):
    late = claim(world)
    world.clock.advance(3000)
    assert not world.transmitter.sent
    late.callback(uncertain(OK))
    assert world.spool.removed == ["entry1"]
    assert world.journal.named("delivered") == [("delivered", "m-entry1")]


def test_a_late_yes_counts_although_the_section_is_gone(world):
    late = claim(world)
    world.settings = settings(HOME)
    late.callback(uncertain(OK))
    assert world.spool.removed == ["entry1"]
    late = claim(world)
    late.callback(uncertain(GREYLISTED))
    assert (world.row().state, world.row().cause) == (State.HELD, "no route")


def test_a_late_no_is_a_failure(world):
    claim(world).callback(uncertain(UNKNOWN))
    assert (world.row().state, world.row().cause) == (State.HELD, "undeliverable")


def test_a_claimed_one_is_settled_recipient_by_recipient(world):
    late = Deferred()
    kept = entry("entry1", ANN, BOB, next_attempt_at=world.start + 600)
    world.spool.put(kept)
    world.service.claimed(kept, late)
    late.callback(replace(uncertain(OK), replies=((ANN, OK), (BOB, GREYLISTED))))
    assert [r.status for r in world.row().recipients] == [Status.DELIVERED, Status.PENDING]
    assert world.row().cause == ""


def test_silence_makes_the_claimed_due_in_ten_minutes(world):
    late = claim(world)
    late.callback(uncertain(Reply(451, "4.4.2", "lost"), "lost"))
    assert not world.transmitter.sent
    assert world.row().next_attempt_at >= world.start + 600
    world.answering(OK)
    world.clock.advance(599)
    assert not world.transmitter.sent
    world.clock.advance(16 * 60)
    assert world.spool.removed == ["entry1"]


# --- failures ---


def test_a_failure_nobody_may_be_told_of_is_held(world):
    world.answering(UNKNOWN, phase=Phase.RECIPIENT)
    world.deposit(entry("entry1", ANN, BOB))
    kept = world.row()
    assert (kept.state, kept.cause) == (State.HELD, "undeliverable")
    assert kept.expires_at == world.start + 30 * 86400
    assert world.journal.named("held") == [("held", "m-entry1")]
    (why,) = [f["reason"] for e, _, f, _ in world.journal.events if e == "held"]
    assert why == "the sender may not be sent a notice"


def test_one_failure_among_others_that_wait_gets_an_entry_of_its_own(world):
    world.deposit(entry("entry1", ANN, BOB))
    world.transmitter.last.answer(UNKNOWN, GREYLISTED)
    assert len(world.spool.changes) == 1
    assert [r.address for r in world.row().recipients] == [BOB]
    (split,) = [row for row in world.spool.rows.values() if row.id != "entry1"]
    assert (split.state, split.cause, split.body_id) == (State.HELD, "undeliverable", "entry1")
    assert [r.address for r in split.pending] == [ANN]


def test_a_notice_and_the_end_of_its_entry_are_one_commit(world):
    world.settings = settings(domain(), HOME)
    world.deposit(entry("entry1", may_notify=True))
    world.transmitter.automatic = lambda transmission: None
    world.transmitter.last.answer(UNKNOWN, phase=Phase.RECIPIENT)
    change = world.spool.changes[0]
    assert change.remove == ("entry1",)
    notice = change.add[0].entry
    assert (notice.notice, notice.sender, notice.domain, notice.priority) == (True, None, "b.example", 7)
    sent = world.transmitter.last.parcel
    assert (sent.sender, [str(r) for r in sent.recipients]) == (None, ["s@b.example"])
    assert b"550 5.1.1 nobody of that name" in sent.content.body.head
    assert world.journal.named("failed", "bounced") == [("failed", "m-entry1"), ("bounced", "m-entry1")]


def test_a_notice_to_a_stranger_leaves_us_as_other_mail_does(world):
    world.answering(UNKNOWN, phase=Phase.RECIPIENT)
    world.deposit(entry("entry1", may_notify=True))
    notice = world.spool.changes[0].add[0].entry
    assert (notice.notice, notice.state, notice.domain, notice.via) == (True, State.ACTIVE, "b.example", "outbound")


def asking(id, notify, **more):
    made = entry(id, **more)
    return replace(made, recipients=tuple(replace(r, notify=notify) for r in made.recipients))


def test_a_notice_of_success_and_the_end_of_its_entry_are_one_commit(world):
    world.settings = settings(domain(), HOME)
    world.deposit(asking("entry1", "SUCCESS", may_notify=True))
    world.answering(OK)
    world.transmitter.sent[0].answer(OK)
    change = world.spool.changes[0]
    assert change.remove == ("entry1",)
    assert b"Action: relayed" in change.add[0].content.body.head
    assert not world.spool.rows
    assert world.journal.named("success_notified") == [("success_notified", "m-entry1")]


def test_what_was_delivered_is_not_parked_because_its_notice_cannot_be_written(world):
    world.deposit(asking("entry1", "SUCCESS", may_notify=True))
    world.spool.damaged = Damaged("hash")
    world.transmitter.last.answer(OK)
    assert (world.spool.removed, list(world.spool.changes)) == (["entry1"], [])
    assert [f["untold"] for e, _, f, _ in world.journal.events if e == "delivered"] == [["ann@a.example"]]


def test_beyond_the_notices_of_an_hour_mail_is_held_instead():
    world = World(domain(), HOME, notices_per_hour=2)
    world.answering(UNKNOWN, phase=Phase.RECIPIENT)
    for number in range(5):
        sender = Address(f"s{number}", "b.example")
        world.deposit(entry(f"entry{number}", may_notify=True, sender=sender))
    assert len(world.journal.named("bounced")) == 2
    held = [row for row in world.spool.rows.values() if row.state is State.HELD]
    assert [row.cause for row in held] == ["undeliverable"] * 3
    assert len(world.journal.named("notice_throttled")) == 1
    # That is told once an hour, and why of every message.
    told = [f["reason"] for e, _, f, _ in world.journal.events if e == "held"]
    assert told == ["no room for a notice in this hour"] * 3


def test_a_notice_that_fails_is_dropped_with_a_record(world):
    world.answering(UNKNOWN, phase=Phase.RECIPIENT)
    world.deposit(entry("entry1", sender=None, notice=True))
    assert not world.spool.rows
    assert [(e, f["fate"]) for e, _, f, _ in world.journal.events if e == "failed"] == [("failed", "dropped")]


def test_the_sender_is_told_of_a_delay_once():
    world = World(domain(), HOME, delay_notice=3600.0)
    world.transmitter.hosts[FIRST] = REFUSED
    world.answering(OK)
    world.deposit(entry("entry1", may_notify=True))
    world.clock.advance(40 * 3600)
    notices = [sent.parcel for sent in world.transmitter.sent]
    assert len(notices) == 1
    assert b"Action: delayed" in notices[0].content.body.head
    assert world.row().delay_notified
    assert world.journal.named("delay_notified") == [("delay_notified", "m-entry1")]


def test_damage_is_parked_and_never_delivered(world):
    world.spool.damaged = Damaged("hash")
    world.deposit(entry("entry1"))
    assert (world.row().state, world.row().cause) == (State.HELD, "damaged")
    assert not world.transmitter.sent
    assert [level for event, _, _, level in world.journal.events if event == "held"] == ["error"]
    assert len(world.transmitter.live()) == 1


def test_a_domain_that_is_ours_no_longer_keeps_its_mail(world):
    world.deposit(entry("entry1", domain="gone.example"))
    assert (world.row().state, world.row().cause) == (State.HELD, "no route")
    assert not world.transmitter.asked


def test_a_spool_that_cannot_write_is_asked_again(world):
    world.deposit(entry("entry1"))
    world.spool.trouble = NO_ROOM
    world.transmitter.last.answer(GREYLISTED, phase=Phase.RECIPIENT)
    world.clock.advance(70)
    assert len(world.transmitter.sent) == 1
    world.spool.trouble = None
    world.clock.advance(60)
    assert world.row().attempts == 1
    assert len(world.transmitter.sent) == 1


# --- operators ---


def test_a_forced_entry_is_tried_at_once_and_uses_no_slot(world):
    world.deposit(entry("entry1", next_attempt_at=world.start + 5000, slots_used=2, attempts=2))
    assert not world.transmitter.sent
    world.service.force(["entry1", "unknown"])
    world.transmitter.last.answer(GREYLISTED, phase=Phase.RECIPIENT)
    assert (world.row().slots_used, world.row().attempts) == (2, 3)


def test_what_an_operator_changed_is_seen(world):
    world.deposit(entry("entry1", next_attempt_at=world.start + 5000), entry("entry2", next_attempt_at=world.start + 9))
    del world.spool.rows["entry2"]
    world.spool.put(replace(world.row(), next_attempt_at=world.start + 20))
    world.service.changed(["entry1", "entry2"])
    world.clock.advance(19)
    assert not world.transmitter.sent
    world.clock.advance(2)
    assert [sent.parcel.message_id for sent in world.transmitter.sent] == ["m-entry1"]


def test_what_was_deleted_while_on_its_way_stays_deleted(world):
    world.deposit(entry("entry1"))
    del world.spool.rows["entry1"]
    world.transmitter.last.answer(GREYLISTED, phase=Phase.RECIPIENT)
    assert not world.spool.rows


def test_status_tells_of_hosts_and_queues(world):
    world.deposit(entry("entry1"), entry("entry2", next_attempt_at=world.start + 9))
    told = world.service.status()
    assert told["hosts"][str(FIRST)]["state"] == "closed"
    assert told["hosts"][str(FIRST)]["busy"] == 1
    assert told["queues"][DOMAIN] == {"later": 1, "due": 0, "running": 1}


# --- stopping ---


def stopped(world, seconds=5.0):
    over = []
    world.service.stop(seconds).addCallback(over.append)
    return over


def test_a_stop_with_nothing_to_do_is_over_at_once(world):
    assert stopped(world) == [None]


def test_a_stop_waits_for_what_is_being_sent(world):
    world.deposit(entry("entry1"), entry("entry2", next_attempt_at=world.start + 1))
    over = stopped(world)
    world.clock.advance(2)
    assert not over
    world.transmitter.last.answer(OK)
    assert over
    assert world.spool.removed == ["entry1"]
    assert len(world.transmitter.sent) == 1
    assert not world.transmitter.live()


def test_a_stop_abandons_before_the_dot_and_leaves_the_entry_as_it_was(world):
    before = entry("entry1")
    world.deposit(before)
    over = stopped(world)
    world.clock.advance(5.1)
    assert over
    assert world.row() == before


def test_a_stop_leaves_what_was_sent_whole_for_ten_minutes(world):
    world.deposit(entry("entry1"))
    world.transmitter.last.dot_sent = True
    over = stopped(world)
    world.clock.advance(5.1)
    assert over
    assert (world.row().next_attempt_at, world.row().cause) == (world.clock.now() + 600 - 0.1, "unanswered")
    assert not world.clock.turned.getDelayedCalls()


def test_a_stop_waits_for_late_answers_too(world):
    got, _ = run(world.courier.hand_over(parcel(), route()))
    world.transmitter.last.dot_sent = True
    world.service.hurry()
    (handover,) = got
    assert handover.kind == "uncertain"
    kept = entry("entry1", next_attempt_at=world.start + 600)
    world.spool.put(kept)
    world.service.claimed(kept, handover.late)
    over = stopped(world)
    world.clock.advance(1)
    assert not over
    world.transmitter.last.answer(OK)
    assert over
    assert world.spool.removed == ["entry1"]


def test_a_late_answer_for_what_an_operator_deleted_is_no_trouble(world):
    late = claim(world)
    del world.spool.rows["entry1"]
    over = stopped(world)
    late.callback(uncertain(OK))
    assert over
    assert not world.journal.named("fault")


def test_what_is_set_aside_does_not_start_until_it_has_changed(world):
    world.answering(OK)
    world.spool.put(entry("entry1", next_attempt_at=world.start + 10))
    world.service.start()
    assert world.service.set_aside(["entry1"]) == {"entry1"}
    world.clock.advance(60)
    assert not world.transmitter.sent
    world.service.changed(["entry1"])
    assert world.spool.removed == ["entry1"]


def test_what_is_on_its_way_or_claimed_is_not_set_aside(world):
    world.deposit(entry("entry2"))
    claim(world)
    assert not world.service.set_aside(["entry1", "entry2"])


def test_what_was_due_before_its_time_still_is_after_it_has_changed():
    world = World(max_connections_per_host=1)
    world.deposit(entry("first"))
    waiting = entry("waiting", next_attempt_at=world.start + 600)
    world.deposit(waiting)
    world.service.force(["waiting"])
    assert world.service.set_aside(["waiting"]) == {"waiting"}
    world.spool.put(replace(waiting, priority=9))
    world.service.changed(["waiting"])
    world.answering(OK)
    world.transmitter.last.answer(OK)
    assert world.spool.removed == ["first", "waiting"]


def test_a_pause_freezes_slots_and_what_fell_due_goes_when_it_ends():
    world = World(BACKUP)
    world.transmitter.hosts[FIRST] = REFUSED
    world.deposit(entry("entry1"))
    world.paused.add(DOMAIN)
    world.deposit(entry("entry2"))
    world.service.force(["entry2"])
    world.clock.advance(7 * 86400)
    assert world.row().slots_used == 1 and world.row("entry2").attempts == 0
    del world.transmitter.hosts[FIRST]
    world.answering(GREYLISTED)
    world.paused.clear()
    world.service.resumed("")
    assert (world.row().slots_used, world.row("entry2").slots_used) == (2, 0)
    assert world.row().next_attempt_at == pytest.approx(world.clock.now() + 600, rel=0, abs=7)


# --- what we died of --------------------------------------------------------------------------------------------------


class Hand:
    def __init__(self):
        self.ids = set()
        self.take, self.drop = self.ids.add, self.ids.discard


def test_what_is_being_attempted_is_in_hand(world):
    world.service._hand = hand = Hand()
    world.deposit(entry("entry1"))
    assert hand.ids == {"entry1"}
    world.transmitter.last.answer(GREYLISTED)
    assert hand.ids == set()


def test_what_we_died_of_is_parked_before_anything_is_tried(world):
    world.spool.put(entry("poison"), entry("innocent"), entry("held", state=State.HELD, next_attempt_at=None))
    world.answering(OK)
    world.service.park({"poison", "held", "gone"})
    world.service.start()
    assert world.spool.removed == ["innocent"]
    assert (world.row("poison").state, world.row("poison").cause) == (State.HELD, "crashes")
    assert world.row("poison").expires_at is None
    assert world.journal.named("held") == [("held", "m-poison")]


def test_it_is_not_tried_while_the_disk_takes_its_time(world):
    world.spool.put(entry("poison"), entry("innocent"))
    committed, write = Deferred(), world.spool.commit
    world.spool.commit = lambda change: committed.addCallback(lambda _: write(change))
    world.service.park({"poison"})
    world.service.start()
    assert [sent.parcel.message_id for sent in world.transmitter.sent] == ["m-innocent"]
    committed.callback(None)
    assert world.row("poison").state is State.HELD
    assert len(world.transmitter.sent) == 1
