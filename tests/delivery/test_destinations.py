"""Where entries go: by routes found anew, to archives, or nowhere for now."""

from dataclasses import replace

import pytest
from delivery_fakes import (
    ANN,
    BOB,
    DOMAIN,
    FIRST,
    OK,
    REFUSED,
    SECOND,
    SENDER,
    domain,
    entry,
    settings,
)
from test_delivery_service import GREYLISTED, UNKNOWN, World
from twisted.internet.defer import Deferred

from inboundmx.delivery.agenda import AT_ONCE
from inboundmx.delivery.service import LOOK_UPS, TURN
from inboundmx.model.address import Address
from inboundmx.model.custody import Host, Route, SpoolRecipient, State, Terms
from inboundmx.model.reply import Reply
from inboundmx.model.settings import (
    ARCHIVING,
    BACKED_UP,
    BACKUP_RETRY,
    OUTGOING,
    DomainSettings,
    PrioritySettings,
    Settings,
)
from inboundmx.ports import Damaged, NoRoute, StorageFull, Unavailable

C = "c.example"
STRANGER = Address("x", C)
MX = Host("198.51.100.9", name="mx.c.example")
OURS = DomainSettings("b.example", primary=(SECOND,))


def leaving(id="out", **more):
    return entry(id, STRANGER, domain=C, via="outbound", **more)


def copy(id="copy", **more):
    return entry(id, ANN, domain="all", via="archive", **more)


@pytest.fixture
def world():
    world = World(domain(), OURS)
    world.routes.ways[C] = Route(C, (MX,), Terms(), "outbound")
    return world


# --- routes ---


def test_the_route_is_found_anew_at_each_attempt(world):
    world.deposit(leaving(priority=8))
    world.transmitter.last.answer(GREYLISTED)
    assert world.transmitter.last.connection.host == MX
    other = Host("198.51.100.10")
    world.routes.ways[C] = Route(C, (other,))
    world.clock.advance(16 * 60)
    assert world.transmitter.last.connection.host == other
    assert world.routes.asked == [(C, "outbound", SENDER, 8)] * 2


def test_nowhere_for_good_settles_all_recipients(world):
    world.routes.ways[C] = NoRoute(Reply(556, "5.1.10", "the domain takes no mail"))
    world.deposit(leaving(may_notify=True, recipients=(SpoolRecipient(STRANGER), SpoolRecipient(Address("y", C)))))
    (notice,) = world.spool.rows.values()
    assert notice.notice
    content = world.spool.contents[notice.id].body.head
    assert content.count(b"556 5.1.10 the domain takes no mail") >= 2
    assert b"Remote-MTA" not in content
    failed = [fields for event, _, fields, _ in world.journal.events if event == "failed"]
    assert [(fields["host"], fields["trouble"]) for fields in failed] == [("", "no_route")] * 2


def test_dns_that_does_not_answer_uses_a_slot(world):
    world.routes.ways[C] = Unavailable("no name server answers")
    world.deposit(leaving())
    kept = world.row("out")
    assert (kept.slots_used, kept.pending[0].last_reply[:9]) == (1, "451 4.4.3")
    world.routes.ways[C] = Route(C, (MX,))
    world.answering(OK)
    world.clock.advance(16 * 60)
    assert world.spool.removed == ["out"]


def test_an_outage_of_our_resolver_for_a_night_bounces_nothing(world):
    world.routes.ways[C] = Unavailable("no name server answers")
    world.deposit(leaving(may_notify=True))
    world.clock.advance(8 * 3600)
    assert world.row("out").state is State.ACTIVE
    assert world.journal.named("failed") == []
    # And so it does not go on for five days where the domain's own name servers are gone.
    world.clock.advance(8 * 3600)
    assert world.journal.named("failed") == [("failed", "m-out")]


def test_what_we_are_not_backup_of_any_more_waits_its_list_out_and_goes_nowhere_else(world):
    world.routes.ways[C] = NoRoute(Reply(550, "5.7.1", "relaying denied"))
    world.deposit(entry("kept", STRANGER, domain=C, via="backup", may_notify=True))
    world.clock.advance(20 * 3600)
    kept = world.row("kept")
    assert (kept.state, kept.slots_used, kept.pending[0].last_reply[:9]) == (State.ACTIVE, 4, "451 4.4.4")
    world.clock.advance(5 * 3600)
    assert (world.row("kept").state, world.row("kept").cause) == (State.HELD, "exhausted")
    assert MX not in [sent.connection.host for sent in world.transmitter.sent]
    assert not world.journal.named("failed", "bounced")


def test_what_we_are_backup_of_again_is_delivered(world):
    world.routes.ways[C] = NoRoute(Reply(550, "5.7.1", "relaying denied"))
    world.deposit(entry("kept", STRANGER, domain=C, via="backup"))
    world.routes.ways[C] = Route(C, (MX,), Terms(), "backup")
    world.answering(OK)
    world.clock.advance(11 * 60)
    assert world.spool.removed == ["kept"]


def test_a_section_without_a_primary_keeps_its_mail():
    world = World(domain(primary=()))
    world.deposit(entry())
    assert (world.row().state, world.row().cause) == (State.HELD, "no route")


def test_so_many_routes_are_looked_for_at_once(world):
    world.routes.held = Deferred()
    world.deposit(*(leaving(f"e{n}") for n in range(5)))
    for n in range(LOOK_UPS + 20):
        there = entry(f"o{n}", Address("x", f"d{n}.example"), domain=f"d{n}.example", via="outbound")
        world.deposit(there)
        world.clock.advance(0.01)
    assert len(world.routes.asked) == LOOK_UPS
    # What needs no look-up goes on.
    held, world.routes.held = world.routes.held, None
    world.answering(OK)
    world.deposit(entry())
    assert world.spool.removed == ["entry1"]
    for way in (f"d{n}.example" for n in range(LOOK_UPS + 20)):
        world.routes.ways[way] = Route(way, (MX,))
    held.callback(None)
    world.clock.advance(1)
    assert not world.spool.rows


def test_a_stop_ends_a_look_up(world):
    world.routes.held = Deferred()
    before = leaving()
    world.deposit(before)
    over = []
    world.service.stop().addCallback(over.append)
    world.clock.advance(5.1)
    assert over and world.row("out") == before


def test_what_is_looked_up_after_the_stop_is_not_sent(world):
    world.routes.held = held = Deferred()
    world.deposit(leaving())
    over = []
    world.service.stop().addCallback(over.append)
    held.callback(None)
    assert over and not world.transmitter.asked
    assert world.row("out").attempts == 0


# --- who is back ---


def test_strangers_hosts_are_not_probed_but_knocked_at_when_something_is_due(world):
    world.transmitter.hosts[MX] = REFUSED
    world.deposit(leaving())
    world.clock.advance(14 * 60)
    assert len(world.transmitter.asked) == 1
    world.clock.advance(120)
    assert len(world.transmitter.asked) == 2


@pytest.mark.parametrize("via", ["outbound", "backup"])
def test_a_host_that_is_back_brings_forward_every_destination_it_was_last_the_route_of(world, via):
    gateway, names = FIRST, ("d.example", "e.example", "f.example")
    world.transmitter.hosts[gateway] = REFUSED
    for name in names:
        world.routes.ways[name] = Route(name, (MX,), fallback=Route(name, (gateway,)))
    world.transmitter.hosts[MX] = REFUSED
    world.deposit(*(entry(name, Address("x", name), domain=name, via=via) for name in names))
    world.deposit(entry())
    world.clock.advance(60)
    assert not world.transmitter.sent
    world.transmitter.hosts[gateway] = "up"
    world.answering(OK)
    world.clock.advance(31)
    assert sorted(world.spool.removed) == ["d.example", "e.example", "entry1", "f.example"]


def test_a_gateway_that_is_back_brings_forward_thousands_of_destinations_in_parts(world):
    many = 3 * TURN
    world.transmitter.hosts[FIRST] = REFUSED
    for n in range(many):
        name = f"d{n}.example"
        world.routes.ways[name] = Route(name, (FIRST,))
        world.deposit(entry(name, Address("x", name), domain=name, via="outbound"))
        world.clock.advance(0.01)
    assert {row.slots_used for row in world.spool.rows.values()} == {1}
    world.transmitter.hosts.clear()
    world.answering(OK)
    world.clock.advance(60)
    assert not world.spool.rows


def test_subdomains_and_all_other_domains_come_back_with_their_primary():
    world = World(domain(subdomains=True))
    world.settings = replace(world.settings, everything=DomainSettings("*", primary=(FIRST,)))
    names = ("a.example", "sub.a.example", "z.example")
    world.transmitter.hosts[FIRST] = REFUSED
    later = {"attempts": 1, "next_attempt_at": world.start + 900}
    world.spool.put(*(entry(name, Address("x", name), domain=name, **later) for name in names))
    world.service.start()
    assert len(world.transmitter.asked) == 1
    world.clock.advance(100)
    world.transmitter.hosts.clear()
    world.answering(OK)
    world.clock.advance(31)
    assert sorted(world.spool.removed) == sorted(names)


def test_what_was_deferred_before_a_restart_is_tried_when_we_start_and_uses_no_slot(world):
    waiting = {"attempts": 4, "slots_used": 4, "next_attempt_at": world.start + 80000}
    world.spool.put(*(entry(f"e{n}", **waiting) for n in range(50)))
    world.answering(OK)
    world.service.start()
    assert len(world.spool.removed) == 50


def test_a_primary_that_is_still_down_at_the_start_is_probed(world):
    waiting = {"attempts": 4, "slots_used": 4, "next_attempt_at": world.start + 80000}
    world.spool.put(*(entry(f"e{n}", **waiting) for n in range(50)))
    world.transmitter.hosts[FIRST] = REFUSED
    world.service.start()
    assert [row.slots_used for row in world.spool.rows.values()] == [4] * 50
    assert len(world.transmitter.asked) == 1
    world.clock.advance(3600)
    world.transmitter.hosts.clear()
    world.answering(OK)
    world.clock.advance(31)
    assert len(world.spool.removed) == 50


def test_strangers_are_not_all_tried_at_the_start(world):
    world.spool.put(*(leaving(f"e{n}", attempts=1, next_attempt_at=world.start + 900) for n in range(9)))
    world.service.start()
    assert not world.routes.asked


def test_a_large_spool_is_adopted_in_parts_and_begun_with_the_most_urgent():
    world = World(max_connections_per_host=1)
    many = 3 * TURN
    world.spool.put(*(entry(f"e{n}", at=world.start - n, priority=9 if n == many - 7 else 5) for n in range(many)))
    world.service.start()
    assert not world.transmitter.asked
    world.deposit(entry("meanwhile", priority=8))
    world.service.changed(["e1"])
    del world.spool.rows["e2"]
    world.clock.advance(0)
    assert [sent.parcel.message_id for sent in world.transmitter.sent] == [f"m-e{many - 7}"]
    world.transmitter.last.answer(OK)
    assert world.transmitter.last.parcel.message_id == "m-meanwhile"


def test_a_large_spool_is_forced_and_changed_in_parts(world):
    many = 3 * TURN
    world.deposit(*(entry(f"e{n}", next_attempt_at=world.start + 900) for n in range(many)))
    world.answering(OK)
    ids = list(world.spool.rows)
    world.service.force(ids[: many // 2])
    assert len(world.spool.removed) < TURN
    world.clock.advance(2)
    assert len(world.spool.removed) == many // 2
    for id in ids[many // 2 :]:
        world.spool.rows[id] = replace(world.spool.rows[id], next_attempt_at=world.clock.now() + 10)
    world.service.changed(ids)
    world.clock.advance(12)
    assert not world.spool.rows


def test_a_stop_ends_the_adoption():
    world = World()
    world.spool.put(*(entry(f"e{n}") for n in range(3 * TURN)))
    world.service.start()
    world.service.stop()
    world.clock.advance(1)
    assert not world.transmitter.asked
    assert not world.clock.turned.getDelayedCalls()


# --- dead destinations ---


def test_two_hundred_dead_destinations_delay_no_other_by_more_than_a_second(world):
    world.deposit(entry("known"))
    world.transmitter.last.answer(OK)
    for n in range(200):
        name = f"dead{n}.example"
        host = Host(f"203.0.113.{n}")
        world.routes.ways[name] = Route(name, (host,))
        world.transmitter.hosts[host] = "silent"
        world.deposit(*(entry(f"{name}-{k}", Address("x", name), domain=name, via="outbound") for k in range(3)))
    # A destination that has answered, at any time; a new one, when the dead are known to be dead.
    late = []
    world.transmitter.automatic = lambda sent: (sent.answer(OK), late.append(world.elapsed()))
    due = [5.0, 9.5, 100.0]
    world.deposit(*(entry(f"good{at}", next_attempt_at=world.start + at) for at in due))
    world.clock.advance(3000)
    assert late == pytest.approx(due, abs=1)
    world.deposit(*(leaving(f"new{n}", at=world.clock.now()) for n in range(3)))
    world.clock.advance(1)
    assert world.spool.removed[-3:] == ["new0", "new1", "new2"]
    opening = len(world.transmitter.asked)
    assert opening > 200


def test_a_wave_of_many_destinations_is_bounded(world):
    for n in range(3 * AT_ONCE):
        name = f"d{n}.example"
        world.routes.ways[name] = Route(name, (Host(f"198.51.{n // 250}.{n % 250}"),))
        world.transmitter.hosts[world.routes.ways[name].hosts[0]] = "silent"
        world.spool.put(entry(name, Address("x", name), domain=name, via="outbound"))
    world.service.start()
    world.clock.advance(20)
    assert len(world.routes.asked) == 2 * AT_ONCE
    assert len(world.transmitter.asked) == 25


# --- archives ---


@pytest.fixture
def archived(world):
    world.settings = replace(world.settings, archiving=ARCHIVING)
    return world


def test_a_copy_is_kept_and_told(archived):
    archived.deposit(copy())
    assert archived.archive.kept.keys() == {"copy"}
    assert archived.spool.removed == ["copy"]
    (told,) = [fields for event, id, fields, _ in archived.journal.events if event == "archived"]
    assert (told["archive"], told["path"]) == ("all", "/archive/m-copy.eml")
    assert not archived.transmitter.asked


def test_a_copy_that_cannot_be_kept_is_tried_by_the_list_and_then_held(archived):
    archived.settings = replace(archived.settings, archiving=replace(ARCHIVING, retry=BACKUP_RETRY))
    archived.archive.trouble = StorageFull("no room")
    archived.deposit(copy(may_notify=True))
    assert archived.row("copy").slots_used == 1
    archived.clock.advance(1471 * 60 * 1.02)
    assert (archived.row("copy").state, archived.row("copy").cause) == (State.HELD, "exhausted")
    assert list(archived.spool.rows) == ["copy"]


def test_a_copy_is_kept_when_there_is_room_again(archived):
    archived.archive.trouble = StorageFull("no room")
    archived.deposit(copy())
    archived.archive.trouble = None
    archived.clock.advance(16 * 60)
    assert archived.spool.removed == ["copy"]


def test_a_damaged_copy_is_parked(archived):
    archived.archive.trouble = Damaged("hash")
    archived.deposit(copy())
    assert (archived.row("copy").state, archived.row("copy").cause) == (State.HELD, "damaged")


def test_a_pause_of_a_domain_of_the_same_name_is_not_the_archive_s(archived):
    archived.paused.add("all")
    archived.deposit(copy())
    assert archived.spool.removed == ["copy"]
    archived.paused.add("")
    archived.deposit(copy("other"))
    assert archived.row("other").attempts == 0


def test_a_stop_does_not_wait_for_a_slow_disk_and_the_copy_stays_due(archived):
    before = copy()
    slow = Deferred()
    archived.archive.keep = lambda entry, content: slow
    archived.deposit(before)
    over = []
    archived.service.stop().addCallback(over.append)
    archived.clock.advance(5.1)
    assert over and archived.row("copy") == before


# --- switched off ---


@pytest.mark.parametrize(
    ("kept", "off"),
    [
        (entry(), {"domains": {DOMAIN: domain(enabled=False)}}),
        (entry("entry1", STRANGER, domain=C), {"everything": DomainSettings("*", primary=(FIRST,), enabled=False)}),
        (leaving("entry1"), {"outgoing": replace(OUTGOING, enabled=False)}),
        (entry("entry1", STRANGER, domain=C, via="backup"), {"backed_up": replace(BACKED_UP, enabled=False)}),
    ],
)
def test_what_is_switched_off_waits_and_uses_no_slot(world, kept, off):
    on = replace(world.settings, everything=DomainSettings("*", primary=(FIRST,)))
    world.settings = replace(on, **off)
    world.answering(OK)
    world.deposit(kept)
    world.clock.advance(7 * 86400)
    assert world.row() == kept
    assert not world.transmitter.asked
    world.settings = on
    world.clock.advance(61)
    assert world.spool.removed == ["entry1"]
    world.clock.advance(61)
    assert not world.clock.turned.getDelayedCalls()


# --- throttled ---


def test_over_the_limit_entries_wait_for_the_next_hour_and_use_no_slot():
    world = World(domain(messages_per_hour=2))
    world.answering(OK)
    world.deposit(*(entry(f"e{n}", at=world.start) for n in range(5)))
    assert world.spool.removed == ["e0", "e1"]
    assert world.service.status()["throttled"] == {DOMAIN: {"limit": "messages_per_hour", "seconds": 3600}}
    world.clock.advance(3599)
    assert {row.slots_used for row in world.spool.rows.values()} == {0}
    assert len(world.spool.removed) == 2
    world.clock.advance(3700)
    assert len(world.spool.removed) == 5
    assert len(world.journal.named("throttled")) == 2


def test_mail_that_leaves_us_is_counted_for_its_sender(world):
    world.settings = replace(world.settings, domains={"b.example": replace(OURS, messages_per_hour=1)})
    world.answering(OK)
    world.deposit(leaving("first"), leaving("second"), leaving("notice", sender=None))
    world.deposit(entry("incoming", Address("z", "b.example"), domain="b.example"))
    assert world.spool.removed == ["first", "notice", "incoming"]


def test_what_was_not_delivered_does_not_count():
    world = World(domain(messages_per_hour=1))
    world.answering(GREYLISTED)
    world.deposit(entry("e1"), entry("e2"))
    world.answering(OK)
    world.clock.advance(16 * 60)
    assert world.spool.removed == ["e1"]


def test_a_slot_that_was_throttled_is_used_by_the_attempt_that_follows():
    world = World(domain(messages_per_hour=1))
    world.answering(OK)
    world.deposit(entry("e1"), entry("e2"))
    world.answering(GREYLISTED)
    world.clock.advance(3601)
    assert (world.row("e2").slots_used, world.row("e2").attempts) == (1, 1)


# --- priorities ---


def test_further_attempts_have_their_own_priority(world):
    world.settings = replace(world.settings, priority=PrioritySettings(second_attempt=3, third_attempt=1))
    world.transmitter.hosts[FIRST] = REFUSED
    world.deposit(entry(priority=7))
    assert world.row().priority == 3
    world.clock.advance(16 * 60)
    assert world.row().priority == 1


# --- those who are refused ---


def test_a_host_that_refuses_all_our_mail_is_trouble_with_us_for_what_is_spooled_as_well(world):
    world.answering(Reply(550, "5.7.1", "you are listed"))
    for n in range(30):
        world.deposit(entry(f"e{n:02}", ANN, BOB))
    held = [row for row in world.spool.rows.values() if row.state is State.HELD]
    waiting = [row for row in world.spool.rows.values() if row.state is State.ACTIVE]
    assert (len(held), len(waiting)) == (19, 11)
    assert {row.pending[0].last_reply[:9] for row in waiting} == {"451 4.7.0"}
    assert world.journal.named("rejects_us") == [("rejects_us", "")]


def test_unknown_recipients_are_not_trouble_with_us(world):
    world.answering(UNKNOWN)
    world.deposit(*(entry(f"e{n}") for n in range(30)))
    assert {row.state for row in world.spool.rows.values()} == {State.HELD}


def test_settings_of_the_way_decide_the_schedule():
    world = World()
    world.settings = Settings(settings().gateway, backed_up=BACKED_UP)
    world.routes.ways[C] = Route(C, (FIRST,))
    world.transmitter.hosts[FIRST] = REFUSED
    world.deposit(entry("entry1", STRANGER, domain=C, via="backup"))
    world.clock.advance(1470 * 60 * 1.02)
    assert (world.row().state, world.row().cause, world.row().slots_used) == (State.HELD, "exhausted", 5)
