"""A primary's bad days on a virtual clock: what is tried when, how soon all is well again, and who is kept waiting."""

from dataclasses import replace
from itertools import pairwise

import pytest
from delivery_fakes import (
    ANN,
    BOB,
    DOMAIN,
    EVE,
    FIRST,
    FakeChance,
    FakeClock,
    FakeRoutes,
    FakeSpool,
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
from fakes.transmitter import FakeTransmitter, Manner

from inboundmx.delivery.courier import Courier
from inboundmx.delivery.service import DeliveryService
from inboundmx.model.custody import Phase, State
from inboundmx.model.reply import Reply
from inboundmx.model.settings import BACKUP_RETRY

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LIST = [0, 600, 1200, 1800, 88200]
CAP = 20
GREYLISTED = Reply(450, "4.2.0", "greylisted")
UNKNOWN = Reply(550, "5.1.1", "nobody of that name")


class World:
    """``slots``: by entry, when each slot was used up, by the clock that does not jump. ``arrived``: when and what the
    primary took. ``most``: connections at once."""

    def __init__(self, *, up=True, latency=0.05, at=None, **delivery):
        self.clock = FakeClock()
        if at is not None:
            self.clock.offset = at
        self.start = self.clock.now()
        self.primary = Manner(up=up)
        self.latency = latency
        self.journal = FakeJournal()
        self.spool = FakeSpool()
        self.state = FakeStateStore(self.clock)
        section = domain(mode="backup", retry=BACKUP_RETRY, when_exhausted="hold")
        self.settings = settings(section, max_connections_per_host=CAP, **delivery)
        self.slots = {}
        self.arrived = []
        self.most = 0
        commit = self.spool.commit

        def committed(change):
            for row in change.update:
                times = self.slots.setdefault(row.id, [])
                if row.slots_used > len(times):
                    times.append(self.clock.monotonic())
            return commit(change)

        self.spool.commit = committed
        self.begin()

    def begin(self):
        """A process starts with what is on the disk."""
        self.transmitter = FakeTransmitter(self.clock, {FIRST: self.primary}, self.latency)
        chance = FakeChance()
        self.courier = Courier(
            self.transmitter, lambda: self.settings, self.clock, chance, self.journal, self.state
        )
        self.service = DeliveryService(
            self.spool, self.courier, FakeRoutes(), FakeArchive(), lambda: self.settings, self.clock, chance,
            self.journal,
        )  # fmt: skip
        self.service.start()

    def restart(self, seconds=0.0):
        """Stopped for so long."""
        self.service.stop()
        self.clock.advance(10 + seconds)
        self.begin()

    def deposit(self, many, *recipients, **more):
        rows = [entry(f"e{n:04}", *recipients, at=self.clock.now(), **more) for n in range(many)]
        self.spool.put(*rows)
        self.service.deposited(rows)

    def advance(self, seconds, step=0.01):
        """Looks after each step what the primary has to do."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end - 1e-9:
            self.clock.advance(min(step, end - self.clock.monotonic()))
            self.most = max(self.most, len(self.open))
            self.arrived += [self.clock.monotonic()] * (len(self.primary.taken) - len(self.arrived))

    @property
    def open(self):
        return [connection for connection in self.transmitter.connections if connection.open]

    def states(self):
        return {(row.state, row.cause) for row in self.spool.rows.values()}


def test_a_primary_that_is_down_for_two_days_is_tried_by_the_list_and_then_its_mail_is_held():
    world = World(up=False)
    world.deposit(1000)
    world.clock.advance(48 * HOUR)
    assert len(world.slots) == 1000
    for times in world.slots.values():
        assert times == pytest.approx(LIST, rel=0.01, abs=10)
        assert all(real >= exact for real, exact in zip(times, LIST, strict=True))
    assert world.states() == {(State.HELD, "exhausted")}
    # Nobody was told: nobody was verified.
    assert not world.journal.named("bounced", "delay_notified")
    assert len(world.transmitter.dialled) <= 48 * 120 + 20


@pytest.mark.parametrize("minute", [0.4, 1, 9.98, 10.01, 17, 29.99, 30.2, *range(60, 1470, 94), 1469.9])
def test_what_waits_arrives_within_a_minute_of_the_return(minute):
    world = World(up=False)
    world.deposit(120)
    world.clock.advance(minute * MINUTE)
    world.primary.up = True
    world.advance(60)
    assert world.arrived[0] - minute * MINUTE <= 60
    assert len(world.arrived) == 120
    assert world.most <= CAP - 2
    assert not world.spool.rows
    assert not world.journal.named("bounced", "delay_notified")


def test_the_return_is_seen_after_a_restart_in_the_outage():
    world = World(up=False)
    world.deposit(120)
    world.clock.advance(5 * HOUR)
    world.service.stop()
    world.clock.advance(HOUR)
    world.primary.up = True
    world.clock.advance(HOUR)
    world.begin()
    world.advance(60)
    assert len(world.arrived) == 120


def test_a_restart_keeps_the_schedule():
    world = World(up=False)
    world.deposit(20)
    for minute in (5, 15, 25, 400):
        world.clock.advance(minute * MINUTE - world.clock.monotonic())
        world.restart()
    world.clock.advance(30 * HOUR)
    for times in world.slots.values():
        assert times == pytest.approx(LIST, rel=0.01, abs=10)
    assert world.states() == {(State.HELD, "exhausted")}


def test_a_slot_that_passed_while_we_were_stopped_is_used_when_we_start():
    world = World(up=False)
    world.deposit(5)
    world.clock.advance(5 * MINUTE)
    world.restart(3 * HOUR)
    world.clock.advance(30 * HOUR)
    assert {len(times) for times in world.slots.values()} == {5}
    for times in world.slots.values():
        waits = [after - before for before, after in pairwise(times)]
        assert waits[1:] == pytest.approx([600, 600, 86400], rel=0.011)


def test_it_begins_slowly_and_the_urgent_and_the_old_go_first():
    world = World(up=False, latency=1.0)
    rows = [
        entry(f"e{n:03}", at=world.start - n, priority=9 if n < 3 else 5, next_attempt_at=world.start)
        for n in range(100)
    ]
    world.spool.put(*rows)
    world.service.deposited(rows)
    world.clock.advance(10 * MINUTE - 60)
    world.primary.up = True
    order = []
    removed = world.spool.remove_soon
    world.spool.remove_soon = lambda id: (order.append(id), removed(id))
    busy = []
    for _ in range(60):
        world.advance(1, step=1)
        busy.append(sum(not connection.usable for connection in world.open))
    assert order[0] == "e002" and set(order[:3]) == {"e000", "e001", "e002"}
    assert order[3:6] == ["e099", "e098", "e097"]
    growing = [many for many in busy if many]
    assert growing[0] == 1 and all(after <= 2 * before + 1 for before, after in pairwise(growing))
    assert max(busy) <= CAP - 2


def test_live_mail_does_not_wait_for_the_backlog():
    world = World(up=False)
    world.deposit(2000)
    world.clock.advance(5 * MINUTE)
    world.primary.up = True
    while not world.primary.taken:
        world.advance(0.01)
    waited, kinds = [], []
    while world.spool.rows:
        before = world.clock.monotonic()
        got, _ = run(world.courier.hand_over(parcel(id=f"live{len(kinds)}"), route(FIRST)))
        while not got:
            world.advance(0.01)
        waited.append(world.clock.monotonic() - before)
        kinds.append(got[0].kind)
        world.advance(0.05)
    assert len(kinds) > 50 and set(kinds) == {"delivered"}
    # Connecting and transmitting take 50 ms each when nothing else is sent.
    assert max(waited) <= 0.12
    assert world.most <= CAP
    assert len(world.primary.taken) == 2000 + len(kinds)


def test_one_that_drops_after_the_dot_is_not_hammered_and_gets_the_same_message_again():
    world = World()
    world.primary.lost_at = Phase.DOT
    world.deposit(300)
    world.advance(9.9 * MINUTE, step=1)
    assert len(world.primary.taken) == 300
    world.primary.lost_at = None
    world.advance(2 * MINUTE, step=1)
    assert len(world.primary.taken) == 600
    assert not world.spool.rows
    assert len(set(world.primary.taken)) == 1
    first, again = world.arrived[:300], world.arrived[300:]
    assert min(again) - max(first) >= 10 * MINUTE - 61


def test_one_that_greylists_us_gets_all_after_the_first_retry_and_holds_nobody_up():
    world = World()
    world.primary.recipients = {BOB: GREYLISTED}
    world.deposit(200, ANN, BOB)
    world.advance(5 * MINUTE, step=1)
    assert [recipients for _, recipients, _ in world.primary.taken] == [(ANN,)] * 200
    world.primary.recipients = {}
    world.advance(6 * MINUTE, step=1)
    assert [recipients for _, recipients, _ in world.primary.taken[200:]] == [(BOB,)] * 200
    assert not world.spool.rows


def test_one_recipient_of_three_is_refused_and_the_others_have_it_once():
    world = World()
    world.primary.recipients = {BOB: UNKNOWN}
    world.deposit(300, ANN, BOB, EVE)
    world.advance(40 * MINUTE, step=10)
    assert [recipients for _, recipients, _ in world.primary.taken] == [(ANN, EVE)] * 300
    assert {r.address for row in world.spool.rows.values() for r in row.pending} == {BOB}
    assert world.states() == {(State.HELD, "undeliverable")}


@pytest.mark.parametrize("how", ["silent_at", "lost_at"])
@pytest.mark.parametrize("phase", [*(phase for phase in Phase if phase not in (Phase.TLS, Phase.AUTH, Phase.CONNECT))])
def test_whatever_step_hangs_or_breaks_nothing_leaks_and_all_arrives_in_the_end(phase, how):
    world = World()
    setattr(world.primary, how, phase)
    world.deposit(50)
    world.clock.advance(15 * MINUTE)
    assert {row.state for row in world.spool.rows.values()} == {State.ACTIVE}
    setattr(world.primary, how, None)
    world.clock.advance(16 * MINUTE)
    assert not world.spool.rows
    assert len(world.primary.taken) >= 50
    world.clock.advance(2 * MINUTE)
    assert not world.open
    assert not world.clock.turned.getDelayedCalls()
    status = world.service.status()
    assert status["queues"] == {}
    assert {status["hosts"][str(FIRST)][key] for key in ("busy", "opening", "waiting", "backlog_waiting")} == {0}


@pytest.mark.parametrize("at", [None, 2_150_000_000.0])
@pytest.mark.parametrize("jump", [HOUR, -HOUR, DAY, -DAY, 12 * 365 * DAY])
def test_a_clock_that_jumps_ends_nothing_early_and_strands_nothing(jump, at):
    world = World(up=False, at=at)
    world.deposit(3)
    world.clock.advance(100 * MINUTE)
    world.clock.jump(jump)
    world.clock.advance(1300 * MINUTE)
    assert world.states() == {(State.ACTIVE, "")}
    world.clock.advance(2 * DAY)
    for times in world.slots.values():
        assert len(times) == 5
        assert times == pytest.approx(LIST, rel=0.011, abs=10)
    assert world.states() == {(State.HELD, "exhausted")}


@pytest.mark.parametrize("jump", [DAY, -DAY, -12 * 365 * DAY])
def test_a_restart_after_a_jump_strands_nothing(jump):
    world = World(up=False)
    world.deposit(3)
    world.clock.advance(100 * MINUTE)
    world.service.stop()
    world.clock.jump(jump)
    world.begin()
    world.clock.advance(1441 * MINUTE * 1.01)
    assert world.states() == {(State.HELD, "exhausted")}
    assert {len(times) for times in world.slots.values()} == {5}


def test_what_was_exhausted_can_be_released_and_arrives():
    world = World(up=False)
    world.deposit(3)
    world.clock.advance(2 * DAY)
    world.primary.up = True
    world.clock.advance(MINUTE)
    for row in list(world.spool.rows.values()):
        world.spool.rows[row.id] = replace(
            row, state=State.ACTIVE, cause="", next_attempt_at=world.clock.now(), expires_at=None, slots_used=0
        )
    world.service.changed(list(world.spool.rows))
    world.clock.advance(MINUTE)
    assert not world.spool.rows
    assert DOMAIN not in world.service.status()["queues"]


def foreseen(world, id):
    """As intake does it: the entry is committed as the attempt that was foreseen leaves it. False: nothing was."""
    found = world.service.foreseen(entry(id, at=world.clock.now()), route())
    if found is None:
        return False
    row, committed = found
    world.spool.put(row)
    committed()
    return True


def tried_in_earnest(world):
    row = entry("tried", at=world.clock.now())
    world.spool.put(row)
    world.service.deposited([row])


def test_what_comes_just_after_a_primary_was_found_down_is_as_if_it_had_been_tried():
    world = World(up=False, latency=0.0)
    assert not foreseen(world, "none has tried yet")
    tried_in_earnest(world)
    world.clock.advance(0.1)
    tried = world.spool.rows["tried"]
    assert (tried.attempts, tried.slots_used) == (1, 1)
    before, dialled = len(world.spool.changes), len(world.transmitter.dialled)
    assert foreseen(world, "foreseen")
    row = world.spool.rows["foreseen"]
    assert replace(
        row, id=tried.id, message_id=tried.message_id, body_id=tried.body_id, received_at=tried.received_at,
        next_attempt_at=tried.next_attempt_at,
    ) == tried  # fmt: skip
    assert (len(world.spool.changes), len(world.transmitter.dialled)) == (before, dialled)
    assert world.journal.named("deferred") == [("deferred", "m-tried"), ("deferred", "m-foreseen")]
    world.clock.advance(1.0)
    assert not foreseen(world, "a second later it is tried in earnest")
    world.primary.up = True
    world.clock.advance(60.0)
    assert not world.spool.rows, "it is brought forward like all that waits"


def test_nothing_is_foreseen_of_what_would_not_be_tried_or_goes_elsewhere():
    world = World(up=False, latency=0.0)
    tried_in_earnest(world)
    world.clock.advance(0.1)
    now = world.clock.now()
    assert world.service.foreseen(entry("x", at=now), route()) is not None
    for other in (entry("x", at=now, via="backup"), entry("x", at=now, next_attempt_at=now + 5),
                  entry("x", at=now, state=State.HELD, next_attempt_at=None)):  # fmt: skip
        assert world.service.foreseen(other, route()) is None
    assert world.service.foreseen(entry("x", at=now), route(FIRST, replace(FIRST, port=26))) is None
    world.settings = settings(domain(enabled=False))
    assert world.service.foreseen(entry("x", at=now), route()) is None


def test_a_primary_that_comes_back_while_what_was_foreseen_is_written_gets_it_at_once():
    world = World(up=False, latency=0.0)
    tried_in_earnest(world)
    world.clock.advance(0.1)
    row, committed = world.service.foreseen(entry("late", at=world.clock.now()), route())
    world.primary.up = True
    world.clock.advance(60.0)
    assert not world.spool.rows
    world.spool.put(row)
    committed()
    world.clock.advance(1.0)
    assert not world.spool.rows


TOO_BUSY = Reply(421, "4.3.2", "too busy")


def test_a_primary_that_turns_the_first_away_each_time_it_is_probed_has_nothing_of_the_others_written_anew():
    world = World()
    world.primary.replies[Phase.MAIL] = TOO_BUSY
    world.deposit(200)
    world.advance(5)
    told = len(world.journal.named("deferred"))
    connected = len(world.transmitter.connections)
    world.advance(8 * MINUTE, step=0.1)
    connected = len(world.transmitter.connections) - connected
    assert connected > 5
    assert len(world.journal.named("deferred")) - told <= connected
    # Who asks hears.
    world.journal.events.clear()
    asked = sorted(world.spool.rows)[:5]
    world.service.force(asked)
    world.advance(1)
    assert {id for _, id in world.journal.named("deferred")} >= {world.spool.rows[id].message_id for id in asked}
    # And what waits is there as soon as it is taken.
    del world.primary.replies[Phase.MAIL]
    world.advance(40, step=0.1)
    assert not world.spool.rows
    assert len(world.primary.taken) == 200
