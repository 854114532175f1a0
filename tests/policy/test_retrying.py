"""When a message is tried again, when that ends, and what becomes of each recipient: tables and properties."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Host, Phase, SpoolEntry, SpoolRecipient, State, Status
from inboundmx.model.reply import Reply
from inboundmx.model.settings import (
    BACKED_UP,
    BACKUP_RETRY,
    DAY,
    FORWARD_RETRY,
    MINUTE,
    OUTGOING,
    DeliverySettings,
    DomainSettings,
    Retry,
)
from inboundmx.policy.retrying import due_in, give_up, offset, park, settle, unanswered, wait_before

START = 1_800_000_000.0
ANN, BOB, EVE = (Address(name, "a.example") for name in ("ann", "bob", "eve"))
OK, LATER, NO = Reply(250, "2.0.0", "ok"), Reply(450, "4.2.0", "later"), Reply(550, "5.1.1", "unknown")
BACKUP = DomainSettings("a.example", mode="backup", retry=BACKUP_RETRY, when_exhausted="hold")
FORWARD = DomainSettings("a.example")
DELIVERY = DeliverySettings()


def entry(*recipients, **more):
    values = {"sender": Address("s", "b.example"), "next_attempt_at": START, **more}
    return SpoolEntry(
        id="e",
        message_id="m",
        body_id="e",
        received_at=START,
        recipients=tuple(SpoolRecipient(r) for r in recipients or (ANN,)),
        size=10,
        domain="a.example",
        **values,
    )


def attempt(replies, at=START, trouble="", dot_sent=True, lasted=0.0):
    phase = Phase.DOT if dot_sent else Phase.RECIPIENT
    return DeliveryAttempt(Host("192.0.2.1"), at, at + lasted, phase, tuple(replies.items()), "", trouble, dot_sent)


def settled(before, replies, at=START, domain=FORWARD, slot=True, jitter=0.0, delivery=DELIVERY, **how):
    made = attempt(replies, at, **how)
    return settle(before, made, made.ended_at, domain, delivery, slot=slot, jitter=jitter)


def instants(domain, jitter=0.0, limit=100, jump=lambda turn: 0.0, lasted=0.0):
    """Seconds after reception of each attempt of a message that is always deferred, and how it ends."""
    kept, at, times = entry(), START, []
    for turn in range(limit):
        times.append(at - START)
        done = settled(kept, {ANN: LATER}, at, domain, jitter=jitter, dot_sent=False, lasted=lasted)
        if done.entry is None or done.entry.state is not State.ACTIVE:
            return times, done
        now = at + lasted + jump(turn)
        at = now + due_in(done.entry, at + lasted, domain)
        kept = done.entry
    return times, None


def test_the_backup_list_is_kept_exactly_and_ends_held():
    times, end = instants(BACKUP)
    assert times == [0, 600, 1200, 1800, 1470 * 60]
    assert (end.entry.state, end.entry.cause) == (State.HELD, "exhausted")
    assert end.entry.expires_at == START + 1470 * 60 + DELIVERY.undeliverable_retention
    assert end.entry.pending
    assert end.exhausted


def test_the_forward_list_repeats_its_last_wait_until_the_lifetime():
    times, end = instants(FORWARD)
    minutes = [int(t / 60) for t in times]
    assert minutes[:8] == [0, 15, 45, 105, 195, 435, 675, 915]
    assert all(b - a == 240 for a, b in itertools.pairwise(minutes[4:]))
    assert 5 * DAY - 240 * MINUTE < times[-1] <= 5 * DAY
    assert end.entry.cause == "undeliverable"  # no notice may be sent


@given(st.floats(0, 1), st.sampled_from([BACKUP, FORWARD]))
def test_jitter_only_makes_later_and_by_one_percent_at_most(jitter, domain):
    exact, _ = instants(domain)
    jittered, _ = instants(domain, jitter)
    assert len(exact) == len(jittered)
    for planned, real in zip(exact, jittered, strict=True):
        assert planned - 1e-3 <= real <= planned * 1.01 + 1e-3


def test_slow_attempts_do_not_stretch_the_list():
    assert instants(BACKUP, lasted=290.0)[0] == [0, 600, 1200, 1800, 1470 * 60]


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 86400.0, -86400.0, 10 * 365 * 86400.0])
def test_a_wall_clock_that_jumps_ends_nothing_early(jump):
    """The wait itself is by a clock that does not jump; so only what is computed from the wall clock can be off."""
    kept, real, wall, times = entry(), 0.0, START, []
    while True:
        times.append(real)
        if len(times) == 2:
            wall += jump
        done = settled(kept, {ANN: LATER}, wall, BACKUP, dot_sent=False)
        if done.entry.state is not State.ACTIVE:
            break
        kept = done.entry
        wait = due_in(kept, wall, BACKUP)
        real += wait
        wall += wait
    assert times == [0, 600, 1200, 1800, 1470 * 60]


def test_a_gateway_that_was_stopped_does_not_use_its_slots_up_in_a_heap():
    stopped = entry(slots_used=1, next_attempt_at=START + 600)
    done = settled(stopped, {ANN: LATER}, START + 2 * DAY, BACKUP, dot_sent=False)
    assert done.entry.next_attempt_at == START + 2 * DAY + 600


def test_an_attempt_because_the_primary_came_back_uses_no_slot_and_moves_none():
    waiting = entry(slots_used=4, attempts=7, next_attempt_at=START + DAY)
    done = settled(waiting, {ANN: LATER}, START + 50, BACKUP, slot=False, dot_sent=False)
    assert (done.entry.slots_used, done.entry.attempts, done.entry.next_attempt_at) == (4, 8, START + DAY)


def test_a_forced_attempt_uses_no_slot_and_waits_as_before_it():
    forced = entry(slots_used=3, next_attempt_at=START + 100)
    done = settled(forced, {ANN: LATER}, START + 100, BACKUP, slot=False, dot_sent=False)
    assert (done.entry.slots_used, done.entry.next_attempt_at) == (3, START + 700)


@pytest.mark.parametrize("slot", [True, False])
def test_no_answer_to_the_dot_is_not_tried_again_for_ten_minutes(slot):
    quick = replace(FORWARD, retry=Retry((60.0,), True))
    done = settled(entry(), {ANN: Reply(451, "4.4.2", "lost")}, domain=quick, trouble="lost", lasted=5.0, slot=slot)
    assert done.entry.next_attempt_at == START + 5 + 600
    assert done.entry.cause == "unanswered"
    after = settled(done.entry, {ANN: LATER}, START + 605, quick, dot_sent=False)
    assert after.entry.cause == ""


def test_a_refusal_of_us_at_the_dot_is_an_answer():
    assert not unanswered(attempt({ANN: LATER}, trouble="rejects_us"))


# replies, may notify, null sender -> delivered, failed, fate, state and cause of what stays, recipients split off
FATES = [
    ({ANN: OK, BOB: OK}, True, False, "ann bob", "", "", None, ""),
    ({ANN: OK, BOB: LATER}, True, False, "ann", "", "", ("active", ""), ""),
    ({ANN: OK, BOB: NO}, True, False, "ann", "bob", "notify", None, ""),
    ({ANN: OK, BOB: NO}, False, False, "ann", "bob", "held", ("held", "undeliverable"), ""),
    ({ANN: OK, BOB: NO}, True, True, "ann", "bob", "dropped", None, ""),
    ({ANN: LATER, BOB: NO}, True, False, "", "bob", "notify", ("active", ""), ""),
    ({ANN: LATER, BOB: NO}, False, False, "", "bob", "held", ("active", ""), "bob"),
    ({ANN: LATER, BOB: NO}, False, True, "", "bob", "dropped", ("active", ""), ""),
    ({ANN: NO, BOB: NO}, False, False, "", "ann bob", "held", ("held", "undeliverable"), ""),
]


@pytest.mark.parametrize(("replies", "may_notify", "null", "delivered", "failed", "fate", "stays", "split"), FATES)
def test_recipients_are_settled_each_alone(replies, may_notify, null, delivered, failed, fate, stays, split):
    before = entry(ANN, BOB, may_notify=may_notify)
    done = settled(replace(before, sender=None) if null else before, replies)
    assert " ".join(a.local for a in done.delivered) == delivered
    assert " ".join(r.address.local for r in done.failed) == failed
    assert done.fate == fate
    assert (None if done.entry is None else (done.entry.state.value, done.entry.cause)) == stays
    assert " ".join(r.address.local for r in (done.split.recipients if done.split else ())) == split
    if done.split is not None:
        assert (done.split.id, done.split.state, done.split.cause) == ("", State.HELD, "undeliverable")
        assert done.split.body_id == before.body_id
        assert done.split.next_attempt_at is None


@pytest.mark.parametrize("may_notify", [True, False])
def test_whom_nobody_could_be_asked_about_is_quarantined_and_nobody_is_told(may_notify):
    before = replace(entry(ANN, BOB, may_notify=may_notify), unverified=True)
    done = settled(before, {ANN: OK, BOB: NO})
    assert (done.fate, done.entry.state, done.entry.cause) == ("held", State.QUARANTINED, "unverified recipient")
    assert [r.address for r in done.entry.pending] == [BOB]
    assert done.entry.expires_at == START + DELIVERY.undeliverable_retention
    apart = settled(before, {ANN: LATER, BOB: NO})
    assert (apart.entry.state, apart.split.state) == (State.ACTIVE, State.QUARANTINED)
    assert apart.entry.unverified and apart.split.unverified
    assert settled(before, {ANN: OK, BOB: OK}).entry is None


def test_whom_nobody_could_be_asked_about_in_time_is_quarantined_too():
    last = replace(entry(slots_used=5, may_notify=True), unverified=True)
    over = replace(FORWARD, retry=Retry((60.0,), False))
    done = settled(last, {ANN: LATER}, domain=over, dot_sent=False)
    assert (done.exhausted, done.fate, done.entry.state) == (True, "held", State.QUARANTINED)


def test_what_is_held_can_be_released():
    done = settled(entry(ANN, BOB), {ANN: OK, BOB: NO})
    assert [r.address for r in done.entry.pending] == [BOB]
    assert done.entry.recipients[1].last_reply == "550 5.1.1 unknown"
    assert done.entry.expires_at == START + DELIVERY.undeliverable_retention
    assert done.entry.next_attempt_at is None


def test_a_host_that_refuses_us_fails_nobody():
    done = settled(entry(), {ANN: Reply(550, "5.7.1", "we know you")}, trouble="rejects_us", dot_sent=False)
    assert done.entry.pending
    assert not done.failed


def test_an_exhausted_list_bounces_or_holds():
    once = replace(FORWARD, retry=Retry((60.0,)))
    used = entry(slots_used=1, may_notify=True, next_attempt_at=START)
    bounced = settled(used, {ANN: LATER}, domain=once, dot_sent=False)
    assert (bounced.entry, bounced.fate, bounced.exhausted) == (None, "notify", True)
    assert bounced.failed[0].status is Status.FAILED
    held = settled(used, {ANN: LATER}, domain=replace(once, when_exhausted="hold"), dot_sent=False)
    assert (held.entry.state, held.entry.cause, held.fate) == (State.HELD, "exhausted", "")


def test_a_list_without_waits_is_tried_once():
    assert wait_before(1, Retry(()), DAY) is None
    assert settled(entry(), {ANN: LATER}, domain=replace(FORWARD, retry=Retry(())), dot_sent=False).exhausted


@pytest.mark.parametrize(
    ("age", "may_notify", "told", "notice", "expected"),
    [
        (3.9, True, False, 4.0, False),
        (4.1, True, False, 4.0, True),
        (4.1, True, True, 4.0, False),
        (4.1, False, False, 4.0, False),
        (4.1, True, False, 0.0, False),
    ],
)
def test_the_sender_is_told_once_that_it_is_late(age, may_notify, told, notice, expected):
    at = START + age * 3600
    before = entry(may_notify=may_notify, delay_notified=told, next_attempt_at=at, slots_used=4)
    delivery = DeliverySettings(delay_notice=notice * 3600)
    done = settled(before, {ANN: LATER}, at, delivery=delivery, dot_sent=False)
    assert done.delayed is expected
    assert done.entry.delay_notified is (told or expected)


def test_what_is_parked_stays_until_somebody_decides():
    parked = park(entry(), "damaged", START, DELIVERY)
    assert (parked.state, parked.cause, parked.expires_at, parked.next_attempt_at) == (
        State.HELD,
        "damaged",
        None,
        None,
    )


def test_due_in_never_strands_mail_when_the_clock_was_wrong():
    assert due_in(entry(next_attempt_at=START + 10**9), START, BACKUP) == pytest.approx(1440 * 60 * 1.01)
    assert due_in(entry(next_attempt_at=START - 5), START, BACKUP) == 0
    assert due_in(entry(next_attempt_at=START + 5), START, BACKUP) == 5


@given(st.integers(0, 40))
def test_offsets_add_the_waits_up(slot):
    assert offset(slot + 1, FORWARD_RETRY) - offset(slot, FORWARD_RETRY) == wait_before(slot + 1, FORWARD_RETRY, 1e9)


answers = st.sampled_from([OK, LATER, NO])


@given(
    st.lists(st.tuples(answers, st.sampled_from(["", "NEVER", "SUCCESS,FAILURE"])), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 6),
    st.sampled_from(["", "lost", "timeout", "rejects_us"]),
    st.booleans(),
    st.sampled_from([BACKUP, FORWARD, replace(FORWARD, retry=Retry((5.0,)))]),
)
def test_nobody_is_lost_or_counted_twice(replies, may_notify, null, slot, used, trouble, dot_sent, domain):
    people = [Address(f"r{n}", "a.example") for n in range(len(replies))]
    before = entry(*people, may_notify=may_notify, slots_used=used)
    before = replace(before, sender=None) if null else before
    wishes = tuple(replace(r, notify=wish) for r, (_, wish) in zip(before.recipients, replies, strict=True))
    before = replace(before, recipients=wishes)
    answers = dict(zip(people, [reply for reply, _ in replies], strict=True))
    done = settled(before, answers, domain=domain, slot=slot, trouble=trouble, dot_sent=dot_sent)
    waiting = [r.address for kept in (done.entry, done.split) if kept is not None for r in kept.pending]
    gone = [r.address for r in (done.failed if done.fate in ("notify", "dropped") else done.unasked)]
    assert {r.address for r in (*done.confirmed, *done.unconfirmed)} <= {*done.delivered}
    assert sorted([*done.delivered, *gone, *waiting], key=str) == sorted(people, key=str)
    assert bool(done.fate) == bool(done.failed)
    if done.entry is not None:
        assert (done.entry.next_attempt_at is not None) == (done.entry.state is State.ACTIVE)
        assert done.entry.slots_used == used + slot
        if done.entry.state is State.ACTIVE:
            assert done.entry.pending
            assert done.entry.next_attempt_at >= START


NAMED = replace(FORWARD, primary=(Host("mail.a.example"),))


OUT = replace(OUTGOING, name="a.example")
NOBODY, RELAY = Host("", 0), Host("relay.example")
# Of 15/30/60/90/240* the slots are 0, 15, 45, 105, 195 and 435 minutes after the first attempt.
EARLY, LATE = 4, 5


def nameless(domain, host=NOBODY, slots=LATE, before=1, via=""):
    """What is left of an entry whose next attempt finds no name answered."""
    kept = entry(slots_used=slots, dns_errors=before, may_notify=True, via=via)
    made = replace(attempt({ANN: LATER}, trouble="dns", dot_sent=False), host=host)
    return settle(kept, made, START, domain, DELIVERY, slot=True, jitter=0.0).entry


@pytest.mark.parametrize(
    ("domain", "via", "host", "ends"),
    [
        (NAMED, "", Host("mail.a.example"), True),
        (OUT, "outbound", NOBODY, True),
        # A gateway of ours: that it is not found is no word about the domain.
        (OUT, "outbound", RELAY, False),
        (replace(FORWARD, primary=(Host("mail.a.example"), Host("192.0.2.1"))), "", Host("mail.a.example"), False),
        (replace(FORWARD, primary=(Host("2001:db8::1"),)), "", Host("2001:db8::1"), False),
        (replace(BACKED_UP, name="a.example", retry=FORWARD_RETRY), "backup", NOBODY, False),
        (replace(NAMED, mode="backup"), "", Host("mail.a.example"), False),
    ],
)
def test_what_cannot_be_looked_up_for_long_is_given_up_unless_an_address_is_known_or_we_are_backup(
    domain, via, host, ends
):
    assert (nameless(domain, host, via=via) is None) is ends
    early = nameless(domain, host, EARLY, via=via)
    assert (early.state, early.dns_errors) == (State.ACTIVE, 1)


def test_no_answer_counts_from_some_hours_on():
    assert nameless(OUT, before=0, via="outbound").dns_errors == 1


def test_backup_keeps_its_list_without_dns():
    """10/10/10/1440 whole, then held and not returned."""
    kept, times, at = entry(via="backup", may_notify=True), [], START
    domain = replace(BACKED_UP, name="a.example")
    while kept.state is State.ACTIVE:
        times.append(at - START)
        made = replace(attempt({ANN: LATER}, at, "dns", dot_sent=False), host=NOBODY)
        kept = settle(kept, made, at, domain, DELIVERY, slot=True, jitter=0.0).entry
        at = kept.next_attempt_at
    assert times == [minutes * MINUTE for minutes in (0, 10, 20, 30, 1470)]
    assert (kept.state, kept.cause) == (State.HELD, "exhausted")


def test_other_trouble_is_no_error_of_dns():
    done = settled(entry(dns_errors=1), {ANN: LATER}, domain=NAMED, trouble="refused", dot_sent=False)
    assert done.entry.state is State.ACTIVE
    assert done.entry.dns_errors == 1


@pytest.mark.parametrize(
    ("facts", "fate"),
    [
        ({"may_notify": True}, "notify"),
        ({"may_notify": False}, "held"),
        ({"sender": None}, "dropped"),
        ({"may_notify": True, "notice": True}, "dropped"),
    ],
)
def test_giving_up_now_is_the_end_of_the_list(facts, fate):
    before = entry(ANN, BOB, **facts)
    done = replace(before.recipients[1], status=Status.DELIVERED)
    before = replace(before, recipients=(before.recipients[0], done))
    now = give_up(before, START, DELIVERY)
    exhausted = settled(before, {ANN: LATER}, domain=replace(FORWARD, retry=Retry(())), dot_sent=False)
    assert (now.fate, now.split) == (fate, None) and exhausted.fate == fate
    assert [r.address for r in now.failed] == [r.address for r in exhausted.failed] == [ANN]
    assert (now.entry is None) == (exhausted.entry is None) == (fate != "held")
    if now.entry is not None and exhausted.entry is not None:
        assert (now.entry.state, now.entry.cause) == (exhausted.entry.state, exhausted.entry.cause)
        assert now.entry.expires_at == START + DELIVERY.undeliverable_retention
        assert now.entry.pending and now.entry.recipients[-1].address == ANN


# --- what was asked for by RFC 3461 ---


def asking(*wishes, **more):
    """An entry for ann, bob and eve, as many as there are wishes."""
    people = (ANN, BOB, EVE)[: len(wishes)]
    recipients = tuple(SpoolRecipient(a, notify=wish) for a, wish in zip(people, wishes, strict=True))
    return replace(entry(*people, **{"may_notify": True, **more}), recipients=recipients)


# NOTIFY of ann and bob, may notify -> fate, owed, dropped for want of anybody who asked, kept and in which state
FAILURES = [
    ("", "", True, "notify", "ann bob", "", None),
    ("NEVER", "", True, "notify", "bob", "ann", None),
    ("NEVER", "NEVER", True, "dropped", "", "ann bob", None),
    ("NEVER", "NEVER", False, "dropped", "", "ann bob", None),
    ("SUCCESS", "DELAY", True, "dropped", "", "ann bob", None),
    ("SUCCESS,FAILURE", "FAILURE", True, "notify", "ann bob", "", None),
    ("NEVER", "FAILURE", False, "held", "bob", "ann", "bob"),
    ("NEVER", "", False, "held", "bob", "ann", "bob"),
]


@pytest.mark.parametrize(("ann", "bob", "may_notify", "fate", "owed", "unasked", "kept"), FAILURES)
def test_whom_the_sender_wants_to_hear_of(ann, bob, may_notify, fate, owed, unasked, kept):
    before = asking(ann, bob, may_notify=may_notify)
    for done in (
        settled(before, {ANN: NO, BOB: NO}),
        settled(before, {ANN: LATER, BOB: LATER}, domain=replace(FORWARD, retry=Retry(())), dot_sent=False),
        give_up(before, START, DELIVERY),
    ):
        assert (done.fate, " ".join(r.address.local for r in done.owed)) == (fate, owed)
        assert " ".join(r.address.local for r in done.unasked) == unasked
        assert len(done.failed) == 2
        assert (" ".join(r.address.local for r in done.entry.pending) if done.entry else None) == kept
        if done.entry is not None:
            assert (done.entry.state, done.entry.cause) == (State.HELD, "undeliverable")


def test_one_that_is_dropped_does_not_wait_with_the_others():
    done = settled(asking("NEVER", "", "", may_notify=False), {ANN: NO, BOB: NO, EVE: LATER})
    assert [r.address for r in done.split.recipients] == [BOB]
    assert [r.address for r in done.entry.pending] == [EVE]
    assert [r.address for r in done.unasked] == [ANN]


def test_what_was_asked_stays_with_the_recipient():
    before = entry()
    before = replace(before, recipients=(SpoolRecipient(ANN, notify="DELAY", original="rfc822;a@b.example"),))
    (kept,) = settled(before, {ANN: LATER}, dot_sent=False).entry.recipients
    assert (kept.notify, kept.original, kept.last_reply) == ("DELAY", "rfc822;a@b.example", "450 4.2.0 later")


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        (("", ""), True),
        (("FAILURE", "DELAY"), True),
        (("FAILURE", "NEVER"), False),
        (("FAILURE,SUCCESS", ""), True),
        (("NEVER",), False),
    ],
)
def test_a_delay_is_told_only_where_somebody_hears_of_it(wishes, told):
    at = START + 5 * 3600
    before = asking(*wishes, next_attempt_at=at, slots_used=4)
    done = settled(before, dict.fromkeys([r.address for r in before.recipients], LATER), at, dot_sent=False)
    assert done.delayed is done.entry.delay_notified is told


@pytest.mark.parametrize(
    ("facts", "dsn", "notices", "confirmed", "unconfirmed"),
    [
        ({}, False, True, "ann eve", ""),
        ({}, True, True, "", ""),
        ({}, False, False, "", "ann eve"),
        ({"may_notify": False}, False, True, "", "ann eve"),
        ({"sender": None}, False, True, "", "ann eve"),
        ({"notice": True}, False, True, "", "ann eve"),
    ],
)
def test_success_is_confirmed_where_no_host_further_on_will(facts, dsn, notices, confirmed, unconfirmed):
    before = asking("SUCCESS", "FAILURE,DELAY", "FAILURE,SUCCESS", **facts)
    for eve in (OK, LATER, NO):
        made = replace(attempt({ANN: OK, BOB: OK, EVE: eve}), dsn=dsn)
        done = settle(before, made, START, FORWARD, DELIVERY, slot=True, jitter=0.0, notices=notices)
        got = {"confirmed": confirmed, "unconfirmed": unconfirmed}
        expected = {key: names if eve is OK else names.replace(" eve", "") for key, names in got.items()}
        assert {key: " ".join(r.address.local for r in getattr(done, key)) for key in got} == expected
        assert all(r.last_reply == "250 2.0.0 ok" for r in done.confirmed)


def test_where_no_notice_may_be_written_now_mail_is_held_and_delays_wait():
    done = settle(
        entry(may_notify=True), attempt({ANN: NO}), START, FORWARD, DELIVERY, slot=True, jitter=0.0, notices=False
    )
    assert (done.fate, done.entry.state, done.entry.cause) == ("held", State.HELD, "undeliverable")
    assert give_up(entry(may_notify=True), START, DELIVERY, notices=False).fate == "held"
    late = entry(may_notify=True, next_attempt_at=START + 5 * 3600, slots_used=4)
    made = attempt({ANN: LATER}, START + 5 * 3600, dot_sent=False)
    done = settle(late, made, made.ended_at, FORWARD, DELIVERY, slot=True, jitter=0.0, notices=False)
    assert not done.delayed
    assert not done.entry.delay_notified
