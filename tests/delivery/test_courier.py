"""Handing over while the stranger waits: which host, what an answer means, and the one clock."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from delivery_fakes import (
    ANN,
    BOB,
    CONTENT,
    DOMAIN,
    FIRST,
    OK,
    REFUSED,
    SECOND,
    SENDER,
    FakeChance,
    FakeClock,
    FakeTransmitter,
    domain,
    entry,
    parcel,
    route,
    run,
    settings,
)
from fakes.journal import FakeJournal
from fakes.state import FakeStateStore

from inboundmx.delivery.answers import passed_on
from inboundmx.delivery.courier import POOLS, TOLD, Courier
from inboundmx.model.custody import Client, Handover, Host, Parcel, Phase, Route, SpoolRecipient, Terms
from inboundmx.model.reply import Reply
from inboundmx.model.settings import BackupSettings, DomainSettings, OutboundSettings
from inboundmx.ports import Refused, Unheard

GREYLISTED = Reply(450, "4.2.0", "later")
UNKNOWN = Reply(550, "5.1.1", "nobody of that name")


class World:
    def __init__(self, *domains, **delivery):
        self.clock = FakeClock()
        self.transmitter = FakeTransmitter(self.clock)
        self.journal = FakeJournal()
        self.back = []
        self.settings = settings(*domains, **delivery)
        self.state = FakeStateStore(self.clock)
        self.begin()

    def begin(self):
        self.courier = Courier(
            self.transmitter, lambda: self.settings, self.clock, FakeChance(), self.journal, self.state,
            self.back.append,
        )

    def hand_over(self, *recipients, hosts=(FIRST,), id="message1"):
        return run(self.courier.hand_over(parcel(*recipients, id=id), route(*hosts)))[0]

    def warm(self, host=FIRST):
        """A kept connection that has carried a message."""
        got = self.hand_over(hosts=(host,))
        self.transmitter.last.answer(OK)
        assert got[0].kind == "delivered"


@pytest.fixture
def world():
    return World()


def test_the_primary_has_it(world):
    got = world.hand_over()
    assert world.transmitter.last.seconds == (10.0, 600.0)
    assert not got
    world.transmitter.last.answer(OK)
    assert (got[0].kind, got[0].host, got[0].reply) == ("delivered", FIRST, OK)


def test_a_kept_connection_is_used_again(world):
    for _ in range(5):
        world.warm()
    assert len(world.transmitter.connections) == 1


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.RECIPIENT, Phase.DATA, Phase.DOT])
def test_a_definite_refusal_never_fails_over(world, phase):
    got = world.hand_over(hosts=(FIRST, SECOND))
    world.transmitter.last.answer(Reply(550, "", "no\nwith lines\x1b[2J"), phase=phase)
    assert got[0].kind == "refused"
    assert got[0].reply.code == 550
    assert got[0].reply.enhanced == ("5.1.1" if phase is Phase.RECIPIENT else "5.0.0")
    assert got[0].reply.text == "no with lines [2J"
    assert len(world.transmitter.asked) == 1


def test_a_live_primary_s_4xx_is_deferred(world):
    got = world.hand_over(hosts=(FIRST, SECOND))
    world.transmitter.last.answer(GREYLISTED, phase=Phase.RECIPIENT)
    assert (got[0].kind, got[0].reply) == ("deferred", GREYLISTED)
    assert len(world.transmitter.asked) == 1


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ((OK, OK), "delivered"),
        ((OK, UNKNOWN), "postponed"),
        ((UNKNOWN, GREYLISTED), "postponed"),
        ((UNKNOWN, UNKNOWN), "refused"),
        ((GREYLISTED, GREYLISTED), "deferred"),
    ],
)
def test_several_recipients(world, replies, kind):
    got = world.hand_over(ANN, BOB)
    assert world.transmitter.last.parcel.all_or_nothing
    world.transmitter.last.answer(*replies, phase=Phase.RECIPIENT)
    assert got[0].kind == kind


def test_lmtp_recipients_answered_differently_at_the_dot_are_settled_from_the_spool(world):
    got = world.hand_over(ANN, BOB)
    world.transmitter.last.answer(OK, GREYLISTED)
    assert got[0].kind == "uncertain"
    assert got[0].late.result.replies == ((ANN, OK), (BOB, GREYLISTED))


def test_the_next_primary_after_a_failed_connect_and_the_first_is_left_alone(world):
    world.transmitter.hosts[FIRST] = REFUSED
    for turn in range(3):
        got = world.hand_over(hosts=(FIRST, SECOND))
        world.transmitter.last.answer(OK)
        assert (got[0].kind, got[0].host) == ("delivered", SECOND), turn
    assert [host for host, *_ in world.transmitter.asked] == [FIRST, SECOND]
    assert world.journal.named("host_down") == [("host_down", "")]


def test_all_primaries_down_postpones_at_once(world):
    world.transmitter.hosts[FIRST] = REFUSED
    assert world.hand_over()[0].kind == "postponed"
    got = world.hand_over()
    assert got[0].kind == "postponed"
    assert "no connection" in got[0].detail
    assert len(world.transmitter.asked) == 1


def test_421_before_the_body_goes_to_the_next_primary(world):
    got = world.hand_over(hosts=(FIRST, SECOND))
    world.transmitter.last.lose(reply=Reply(421, "4.3.2", "closing"))
    assert not got
    world.transmitter.last.answer(OK)
    assert (got[0].kind, got[0].host) == ("delivered", SECOND)


def test_421_at_the_dot_is_the_primary_s_answer(world):
    got = world.hand_over(hosts=(FIRST, SECOND))
    world.transmitter.last.answer(Reply(421, "4.3.2", "closing"), keep=False)
    assert got[0].kind == "deferred"


def test_a_host_that_rejects_us_is_no_answer_to_the_message(world):
    world.transmitter.hosts[FIRST] = Refused("rejects_us", "greeting", Reply(554, "5.7.1", "go away"), "rejected")
    got = world.hand_over(hosts=(FIRST, SECOND))
    assert got[0].kind == "postponed"
    assert [host for host, *_ in world.transmitter.asked] == [FIRST]
    assert ("rejects_us", "error") in [(event, level) for event, _, _, level in world.journal.events]


def test_530_in_mid_session_postpones_and_leaves_the_host_alone(world):
    got = world.hand_over()
    world.transmitter.last.answer(Reply(451, "4.4.0", "530"), phase=Phase.MAIL, trouble="rejects_us", keep=False)
    assert got[0].kind == "postponed"
    assert world.courier.pool(FIRST, Terms()).down


def test_a_stale_connection_is_replaced_by_a_fresh_one(world):
    world.warm()
    got = world.hand_over()
    world.transmitter.last.lose()
    assert not got
    world.transmitter.last.answer(OK)
    assert got[0].kind == "delivered"
    assert len(world.transmitter.connections) == 2


def test_a_fresh_connection_lost_is_not_replaced(world):
    got = world.hand_over(hosts=(FIRST, SECOND))
    world.transmitter.last.lose()
    assert got[0].kind == "postponed"
    assert len(world.transmitter.connections) == 1


def test_lost_after_the_dot_is_uncertain_and_known_at_once(world):
    world.warm()
    got = world.hand_over()
    world.transmitter.last.dot_sent = True
    world.transmitter.last.lose(phase=Phase.DOT, dot_sent=True)
    assert got[0].kind == "uncertain"
    assert got[0].late.result.trouble == "lost"
    assert len(world.transmitter.connections) == 1


def test_the_deadline_before_the_dot_abandons(world):
    got = world.hand_over()
    world.clock.advance(29.9)
    assert not got
    world.clock.advance(0.2)
    assert (got[0].kind, got[0].detail) == ("postponed", "deadline")
    assert not world.transmitter.live()


def test_the_deadline_after_the_dot_leaves_it_claimed_by_a_late_answer(world):
    got = world.hand_over()
    world.transmitter.last.dot_sent = True
    world.clock.advance(30.1)
    assert got[0].kind == "uncertain"
    late = []
    got[0].late.addCallback(late.append)
    assert not late
    world.clock.advance(100)
    world.transmitter.last.answer(OK)
    assert late[0].delivered
    # The connection serves others again.
    world.warm()
    assert len(world.transmitter.connections) == 1


def test_the_deadline_is_the_domain_s():
    world = World(domain(handover_deadline=2.0))
    world.transmitter.hosts[FIRST] = "silent"
    got = world.hand_over()
    world.clock.advance(2.1)
    assert (got[0].kind, got[0].detail) == ("postponed", "deadline")


def test_a_silent_host_costs_five_seconds_and_is_not_thought_down(world):
    world.transmitter.hosts[FIRST] = "silent"
    got = world.hand_over(hosts=(FIRST, SECOND))
    world.clock.advance(4.9)
    assert not world.transmitter.sent
    world.clock.advance(0.2)
    world.transmitter.last.answer(OK)
    assert (got[0].kind, got[0].host) == ("delivered", SECOND)
    assert not world.courier.pool(FIRST, Terms()).down


def test_a_stranger_who_hangs_up_stops_what_is_not_sent(world):
    _, waiting = run(world.courier.hand_over(parcel(), route()))
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert world.transmitter.last.done.called
    assert not world.transmitter.live()


def test_a_stranger_who_hangs_up_after_the_dot_leaves_an_answer_to_be_recorded(world):
    got, waiting = run(world.courier.hand_over(parcel(), route()))
    world.transmitter.last.dot_sent = True
    waiting.cancel()
    assert isinstance(got[0], Unheard)
    answers = []
    got[0].late.addCallback(answers.append)
    world.transmitter.last.answer(OK)
    assert answers[0].delivered
    world.clock.advance(31)
    # The connection serves others again.
    world.warm()


def test_closing_ends_the_waiting(world):
    before, after = world.hand_over(id="one"), world.hand_over(id="two")
    world.transmitter.sent[1].dot_sent = True
    world.courier.close()
    assert (before[0].kind, after[0].kind) == ("postponed", "uncertain")
    assert world.hand_over()[0].kind == "postponed"


def test_twenty_same_refusals_are_ours(world):
    refusal = Reply(550, "5.7.1", "you are listed")
    codes = []
    for _ in range(21):
        got = world.hand_over()
        world.transmitter.last.answer(refusal)
        assert got[0].kind == "refused"
        codes.append(got[0].reply.code)
    # From then on it is said to be temporary, and nothing is taken that would only be refused again.
    assert codes == [550] * 19 + [451] * 2
    assert world.journal.named("rejects_us") == [("rejects_us", "")]
    world.transmitter.hosts[FIRST] = "up"
    world.clock.advance(40)
    world.warm()
    got = world.hand_over()
    world.transmitter.last.answer(refusal)
    assert got[0].kind == "refused"


def test_different_refusals_are_the_messages_own(world):
    for turn in range(60):
        got = world.hand_over()
        world.transmitter.last.answer(Reply(550, f"5.7.{turn % 2}", "no"))
        assert got[0].kind == "refused"


@pytest.mark.parametrize(
    ("reply", "phase", "expected"),
    [
        (Reply(552, "", "full"), Phase.RECIPIENT, "552 5.2.2 full"),
        (Reply(554, "5.7.1", "a\tb\u2028c"), Phase.DOT, "554 5.7.1 a b c"),
        (Reply(550, "", "\x00"), Phase.MAIL, "550 5.0.0 refused by the mail server"),
        (Reply(450, "", "x" * 1000), Phase.DOT, "450 4.0.0 " + "x" * 400),
    ],
)
def test_what_a_stranger_hears(reply, phase, expected):
    assert str(passed_on(reply, phase)) == expected


# --- the fallback ---

RELAY = Host("192.0.2.25", 587)
RELAY_TERMS = Terms("required", "me", "secret")
DIRECT = Route(DOMAIN, (FIRST, SECOND), fallback=Route(DOMAIN, (RELAY,), RELAY_TERMS))
BLOCKED, NO = Reply(554, "5.7.1", "you are listed"), Reply(550, "5.1.1", "nobody of that name")
REJECTED = Refused("rejects_us", "greeting", Reply(554, "5.7.1", "go away"), "rejected")
NO_TLS = Refused("tls", "tls", None, "no encrypted connection")
OURS = Reply(451, "4.7.0", "521 it does not take our mail")


def tried(world):
    return [sent.connection.host for sent in world.transmitter.sent]


def handed(world, **how):
    return run(world.courier.hand_over(parcel(**how), DIRECT))[0]


def attempted(world, **facts):
    async def content():
        return CONTENT

    return run(world.courier.attempt(entry("entry1", **facts), content, DIRECT))[0]


WAYS = pytest.mark.parametrize("way", [handed, attempted])


@WAYS
@pytest.mark.parametrize("how", [REFUSED, REJECTED, NO_TLS])
def test_the_fallback_is_tried_when_no_host_of_the_route_is_there_for_us(world, way, how):
    world.transmitter.hosts = {FIRST: how, SECOND: how}
    got = way(world)
    assert tried(world) == [RELAY]
    world.transmitter.last.answer(OK)
    assert getattr(got[0], "kind", "delivered") == "delivered"
    assert got[0].host == RELAY


@WAYS
@pytest.mark.parametrize(
    ("reply", "phase", "elsewhere"),
    [
        (GREYLISTED, Phase.RECIPIENT, True),
        (BLOCKED, Phase.MAIL, True),
        (BLOCKED, Phase.DOT, True),
        (NO, Phase.RECIPIENT, False),
        (Reply(550, "", "no"), Phase.DOT, False),
    ],
)
def test_what_a_host_answers_to_the_message_and_the_fallback(world, way, reply, phase, elsewhere):
    got = way(world)
    world.transmitter.last.answer(reply, phase=phase)
    assert tried(world) == ([FIRST, RELAY] if elsewhere else [FIRST])
    assert bool(got) is not elsewhere


@WAYS
def test_421_goes_to_the_next_host_and_then_to_the_fallback(world, way):
    way(world)
    for _ in range(2):
        world.transmitter.last.lose(reply=Reply(421, "4.3.2", "closing"))
    assert tried(world) == [FIRST, SECOND, RELAY]


@WAYS
def test_what_may_have_arrived_is_not_sent_another_way(world, way):
    got = way(world)
    world.transmitter.last.dot_sent = True
    world.transmitter.last.lose(phase=Phase.DOT, dot_sent=True)
    assert got and tried(world) == [FIRST]


def test_recipients_answered_differently_are_no_reason_for_the_fallback(world):
    got = attempted(world, recipients=(SpoolRecipient(ANN), SpoolRecipient(BOB)))
    world.transmitter.last.answer(OK, GREYLISTED)
    assert got[0].replies == ((ANN, OK), (BOB, GREYLISTED))
    assert tried(world) == [FIRST]


@pytest.mark.parametrize(
    "way",
    [
        lambda world: run(world.courier.hand_over(parcel(ANN, BOB), DIRECT))[0],
        lambda world: attempted(world, recipients=(SpoolRecipient(ANN), SpoolRecipient(BOB))),
    ],
    ids=["handed", "attempted"],
)
def test_what_lmtp_answered_for_one_is_not_undone_by_a_host_that_then_refuses_us(world, way):
    """Whoever has it must not get it again, by another way or by this one."""
    got = way(world)
    world.transmitter.last.answer(OK, OURS, trouble="rejects_us", keep=False)
    assert tried(world) == [FIRST]
    attempt = got[0].late.result if got[0].__class__ is Handover else got[0]
    assert attempt.replies == ((ANN, OK), (BOB, OURS))


def test_who_takes_mail_for_one_of_two_does_not_refuse_us(world):
    """However often the other is refused with the same 5.7.x: what was taken counts."""
    refusal = Reply(550, "5.7.1", "not for her")
    for _ in range(30):
        got = attempted(world, recipients=(SpoolRecipient(ANN), SpoolRecipient(BOB)))
        world.transmitter.last.answer(refusal, OK)
        assert got[0].replies == ((ANN, refusal), (BOB, OK))
    assert not world.journal.named("rejects_us")


def test_when_the_fallback_is_not_there_either_the_message_waits(world):
    world.transmitter.hosts = dict.fromkeys((FIRST, SECOND, RELAY), REFUSED)
    assert handed(world)[0].kind == "postponed"
    assert attempted(world)[0].trouble == "refused"


def test_what_was_refused_for_our_sake_waits_for_the_fallback(world):
    world.transmitter.hosts = {RELAY: REFUSED}
    got = attempted(world)
    world.transmitter.last.answer(BLOCKED)
    assert (got[0].trouble, [reply.code for _, reply in got[0].replies]) == ("refused", [451])


def known_down(world, *hosts):
    """They were tried just now and were silent."""
    world.transmitter.hosts = dict.fromkeys(hosts, "silent")
    for terms in (Terms(), RELAY_TERMS):
        for host in hosts:
            run(world.courier.attempt(entry(), None, Route(DOMAIN, (host,), terms)))
    world.clock.advance(32)
    world.transmitter.asked.clear()


def test_a_way_with_a_host_that_is_up_is_taken_before_those_that_are_down_are_knocked_at(world):
    known_down(world, FIRST, SECOND)
    got = attempted(world)
    assert tried(world) == [RELAY]
    assert [host for host, *_ in world.transmitter.asked] == [RELAY]
    world.transmitter.last.answer(OK)
    assert got[0].delivered


def test_when_no_way_has_a_host_that_is_up_all_are_knocked_at(world):
    known_down(world, FIRST, SECOND, RELAY)
    got = attempted(world)
    assert [host for host, *_ in world.transmitter.asked] == [FIRST]
    world.clock.advance(100)
    assert {host for host, *_ in world.transmitter.asked} == {FIRST, SECOND, RELAY}
    assert (got[0].host, got[0].trouble) == (RELAY, "timeout")


@pytest.mark.parametrize("trouble", ["timeout", "lost", "garbage"])
@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.RECIPIENT, Phase.DATA])
def test_a_host_that_does_not_finish_is_followed_by_the_next_one(world, trouble, phase):
    got = attempted(world)
    world.transmitter.last.answer(Reply(451, "4.4.2", "own"), phase=phase, trouble=trouble, keep=False)
    world.transmitter.last.answer(OK)
    assert tried(world) == [FIRST, SECOND]
    assert got[0].delivered


def test_the_fallback_follows_a_host_that_does_not_finish(world):
    world.transmitter.hosts = {SECOND: REFUSED}
    got = attempted(world)
    world.transmitter.last.lose()
    world.transmitter.last.answer(OK)
    assert tried(world) == [FIRST, RELAY]
    assert got[0].delivered


def test_an_attempt_ends_after_the_second_host_that_does_not_finish(world):
    got = attempted(world)
    for _ in range(2):
        world.transmitter.last.answer(Reply(451, "4.4.2", "own"), phase=Phase.DATA, trouble="timeout", keep=False)
    assert tried(world) == [FIRST, SECOND]
    assert (got[0].host, got[0].trouble) == (SECOND, "timeout")


@pytest.mark.parametrize("trouble", ["timeout", "lost", "garbage"])
def test_what_may_have_arrived_is_given_to_no_other_host(world, trouble):
    got = attempted(world)
    world.transmitter.last.answer(Reply(451, "4.4.2", "own"), trouble=trouble, keep=False)
    assert tried(world) == [FIRST]
    assert got[0].trouble == trouble


def test_the_fallback_has_no_more_time_than_the_stranger():
    world = World(domain(handover_deadline=8.0))
    world.transmitter.hosts = dict.fromkeys((FIRST, SECOND, RELAY), "silent")
    got = handed(world)
    world.clock.advance(8.1)
    assert (got[0].kind, got[0].detail) == ("postponed", "deadline")
    assert RELAY not in [host for host, *_ in world.transmitter.asked]


# --- what is sent with an entry ---


def test_an_entry_is_sent_with_all_that_was_said_of_it(world):
    said = SpoolRecipient(ANN, notify="SUCCESS,FAILURE", original="rfc822;ann@a.example")
    facts = {"peer_ip": "198.51.100.7", "peer_name": "mx.b.example", "hello": "mail.b.example"}
    attempted(world, recipients=(said, SpoolRecipient(BOB)), ret="HDRS", envid="Q1", eight_bit=True, **facts)
    sent = world.transmitter.last.parcel
    assert sent == Parcel(
        "m-entry1", SENDER, (ANN, BOB), CONTENT, True, ret="HDRS", envid="Q1",
        dsn=(("SUCCESS,FAILURE", "rfc822;ann@a.example"), ("", "")),
    )  # fmt: skip


def test_who_the_client_is_is_told_to_hosts_that_trust_us(world):
    way = Route(DOMAIN, (FIRST,), Terms(client_facts="xclient"))
    facts = {"peer_ip": "198.51.100.7", "peer_name": "mx.b.example", "hello": "mail.b.example"}

    async def content():
        return CONTENT

    run(world.courier.attempt(entry("entry1", **facts), content, way))
    sent = world.transmitter.last.parcel
    assert (sent.client, sent.dsn) == (Client("198.51.100.7", "mx.b.example", "mail.b.example"), ())


# --- what hosts could take ---


def down(world, *hosts, way=None):
    """They were there, and are not any more."""
    for host in hosts:
        world.warm(host)
        world.transmitter.hosts[host] = REFUSED
    for connection in world.transmitter.connections:
        connection.open = False
    world.hand_over(hosts=hosts)


def test_what_no_host_could_take_is_said_only_while_all_are_down(world):
    world.transmitter.extensions = {"SIZE": "1000"}
    way = route(FIRST, SECOND)
    assert world.courier.unable(way, 2000, False) is None
    down(world, FIRST)
    assert world.courier.unable(way, 2000, False) is None
    down(world, SECOND)
    assert str(world.courier.unable(way, 2000, False)).startswith("552 5.3.4 ")
    assert world.courier.unable(way, 1000, False) is None
    assert str(world.courier.unable(way, 0, True)).startswith("553 5.6.7 ")
    world.transmitter.hosts.clear()
    world.clock.advance(31)
    assert world.courier.unable(way, 2000, False) is None


def test_a_fallback_that_is_not_known_to_be_down_may_take_it(world):
    world.transmitter.extensions = {"SIZE": "1000"}
    down(world, FIRST, SECOND)
    assert world.courier.unable(DIRECT, 2000, False) is None


def test_what_hosts_could_take_is_known_after_a_restart(world):
    world.transmitter.extensions = {"SIZE": "1000"}
    world.warm()
    world.transmitter.hosts[FIRST] = REFUSED
    world.begin()
    world.courier.start()
    assert world.courier.unable(route(FIRST), 2000, False) is None
    world.hand_over()
    assert world.courier.unable(route(FIRST), 2000, False).code == 552


def test_nothing_is_kept_of_strangers_hosts(world):
    run(world.courier.hand_over(parcel(), route(Host("198.51.100.9"))))
    assert not world.state.puts


# --- strangers' hosts ---


def test_pools_of_strangers_hosts_do_not_stay(world):
    hosts = [Host(f"198.51.100.{n % 250}", 1000 + n) for n in range(POOLS + 100)]
    for host in hosts:
        run(world.courier.hand_over(parcel(), route(host)))
        world.transmitter.last.answer(OK)
        world.clock.advance(1)
    assert len(world.courier._pools) < POOLS
    assert len(world.courier.status()) <= TOLD
    # What nobody uses costs no timer.
    world.clock.advance(40)
    assert not world.clock.turned.getDelayedCalls()


def test_a_host_the_settings_name_is_not_forgotten_while_it_is_down(world):
    world.transmitter.hosts[FIRST] = REFUSED
    world.hand_over()
    for n in range(POOLS + 10):
        world.courier.pool(Host(f"198.51.100.{n % 250}", 1000 + n), Terms())
    assert len(world.courier._pools) < POOLS
    assert world.courier.pool(FIRST, Terms()).down
    assert world.courier.status()[str(FIRST)]["state"] == "open"


@pytest.mark.parametrize(
    ("host", "settled", "wanted"),
    [
        (FIRST, {}, True),
        (RELAY, {"outbound": (OutboundSettings("relay", server=(RELAY,)),)}, True),
        (RELAY, {"outbound": (OutboundSettings("relay", server=(RELAY,), enabled=False),)}, False),
        (Host("203.0.113.5", name="mx.c.example"), {"backup": BackupSettings((ip_network("203.0.113.0/29"),))}, True),
        (Host("203.0.113.9", name="mx.c.example"), {"backup": BackupSettings((ip_network("203.0.113.0/29"),))}, False),
        (Host("mx.c.example"), {"backup": BackupSettings((ip_network("203.0.113.0/29"),))}, False),
        (RELAY, {"everything": DomainSettings("*", primary=(RELAY,))}, True),
        (FIRST, {"domains": {DOMAIN: DomainSettings(DOMAIN, primary=(FIRST,), enabled=False)}}, False),
    ],
)
def test_only_hosts_the_settings_name_are_probed(world, host, settled, wanted):
    world.settings = replace(world.settings, **settled)
    world.transmitter.hosts[host] = REFUSED
    run(world.courier.hand_over(parcel(), route(host)))
    world.clock.advance(100)
    assert (len(world.transmitter.asked) > 2) is wanted


# --- throttled ---


def test_over_the_limit_nothing_is_handed_over():
    world = World(domain(messages_per_hour=2))
    world.transmitter.automatic = lambda sent: sent.answer(OK)
    kinds = [world.hand_over()[0].kind for _ in range(3)]
    assert kinds == ["delivered", "delivered", "postponed"]
    assert world.hand_over()[0].detail == "throttled"
    assert world.journal.named("throttled") == [("throttled", "")]
    world.clock.advance(3600)
    assert world.hand_over()[0].kind == "delivered"


def test_only_what_is_delivered_counts():
    world = World(domain(messages_per_hour=1))
    world.transmitter.automatic = lambda sent: sent.answer(NO)
    assert [world.hand_over()[0].kind for _ in range(3)] == ["refused"] * 3
    world.transmitter.automatic = lambda sent: sent.answer(OK)
    assert [world.hand_over()[0].kind for _ in range(2)] == ["delivered", "postponed"]


def test_a_domain_we_are_backup_of_by_its_mx_set_has_the_same_courier(world):
    way = Route("c.example", (Host("198.51.100.9"),), via="backup")
    world.transmitter.automatic = lambda sent: sent.answer(OK)
    assert run(world.courier.hand_over(parcel(), way))[0][0].kind == "delivered"
    assert run(world.courier.hand_over(parcel(), replace(way, via="")))[0][0].detail == "no such domain"


def test_the_settings_are_those_of_the_way_the_route_is_of(world):
    """A [domain *] that is switched off, or does something else, says nothing of what we are backup of."""
    everything = DomainSettings("*", enabled=False, messages_per_hour=1, handover_deadline=1.0)
    world.settings = replace(world.settings, everything=everything)
    way = Route("c.example", (Host("198.51.100.9"),), via="backup")
    world.transmitter.automatic = lambda sent: sent.answer(OK)
    assert [run(world.courier.hand_over(parcel(), way))[0][0].kind for _ in range(2)] == ["delivered"] * 2
    world.transmitter.automatic = None
    got = run(world.courier.hand_over(parcel(), way))[0]
    world.clock.advance(2)
    assert not got


def test_no_connection_is_shared_by_hosts_or_terms_that_differ_in_anything(world):
    hosts = [FIRST, replace(FIRST, port=26), replace(FIRST, protocol="lmtp"), replace(FIRST, name="mx.a.example")]
    terms = [
        Terms(),
        Terms("verified"),
        Terms(username="me"),
        Terms(username="me", password="secret"),
        Terms(username="me", password="secret", auth_without_tls=True),
        Terms(sources=("192.0.2.1",)),
        Terms(client_facts="xclient"),
    ]
    pools = {world.courier.pool(host, each) for host in hosts for each in terms}
    assert len(pools) == len(hosts) * len(terms)
    assert {world.courier.pool(replace(host), replace(each)) for host in hosts for each in terms} == pools


# --- other processes --------------------------------------------------------------------------------------------------


def spreading(world):
    told = []
    world.courier.spread = lambda host, refused: told.append((host, refused))
    return told


def test_a_host_that_goes_down_and_comes_back_is_told_to_others(world):
    told = spreading(world)
    world.transmitter.hosts[FIRST] = REFUSED
    world.hand_over()
    assert [host for host, _ in told] == [str(FIRST)]
    assert told[0][1].trouble == "refused"
    world.transmitter.hosts.clear()
    world.clock.advance(31)
    assert told[1:] == [(str(FIRST), None)]


def test_a_host_that_others_find_down_is_left_alone_until_they_say_more(world):
    told = spreading(world)
    world.courier.heard(str(FIRST), REFUSED)
    got = world.hand_over()
    assert got[0].kind == "postponed"
    assert not world.transmitter.connections
    world.courier.heard(str(FIRST), None)
    world.hand_over()
    assert world.transmitter.connections
    assert told == [(str(FIRST), None)]
    assert world.back == [FIRST]


def test_who_is_connected_knows_better(world):
    world.warm()
    world.courier.heard(str(FIRST), REFUSED)
    assert not world.hand_over(), "on its way"
