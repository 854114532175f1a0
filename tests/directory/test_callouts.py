"""Asking primaries who exists: what is asked of whom, how often, and what is believed. Real are the courier, its pools
and breakers; hosts behave as the test says."""

import pytest
from fakes.chance import FakeChance
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from fakes.routes import FakeRoutes
from fakes.smtp_wire import parcel
from fakes.state import FakeStateStore
from fakes.transmitter import FakeTransmitter, Manner

from inboundmx.delivery.asking import AT_ONCE, Asking
from inboundmx.delivery.courier import Courier
from inboundmx.directory.callouts import QUESTIONS, RANDOM_LETTERS, Callouts
from inboundmx.directory.directory import RecipientDirectory
from inboundmx.directory.learning import Learning
from inboundmx.directory.memory import MINUTE, Memory
from inboundmx.model.address import Address
from inboundmx.model.custody import Host, Phase, Route
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly

FIRST, SECOND = Host("192.0.2.10"), Host("192.0.2.11")
ANN, BOB, EVE = (Address(name, "a.example") for name in ("ann", "bob", "eve"))
NOBODY = Reply(550, "5.1.1", "no such user")
LATER = Reply(450, "4.2.0", "greylisted")


class Noted(dict):
    def noted(self, service, well, detail):
        self[service] = well, detail


class Everybody(dict):
    """Recipients of a host that knows ``known`` and nobody else."""

    def __init__(self, *known, others=NOBODY):
        self.known, self.others = known, others

    def get(self, address, default):
        known = address in self.known or address.local == "postmaster"
        return super().get(address, default if known else self.others)


class Nobody(dict):
    """Recipients of a host that denies whomever it hears of."""

    def __init__(self, no):
        self.no = no

    def get(self, address, default):
        return self.no


class World:
    def __init__(self, sources=("learned", "callout"), hosts=(FIRST,), latency=0.01, lists=None):
        self.domain = DomainSettings("a.example", primary=hosts, recipients=sources)
        self.settings = Settings(domains={"a.example": self.domain})
        self.clock, self.journal, self.health = FakeClock(), FakeJournal(), Noted()
        self.manners = {host: Manner(recipients=Everybody(ANN, BOB)) for host in hosts}
        self.manner = self.manners[hosts[0]]
        self.transmitter = FakeTransmitter(self.clock, self.manners, latency)
        self.state = FakeStateStore(self.clock)
        chance = FakeChance()
        self.courier = Courier(self.transmitter, lambda: self.settings, self.clock, chance, self.journal, self.state)
        self.memory = Memory(self.state, self.clock)
        self.courier.answered = Learning(self.memory, lambda: self.settings).heard
        self.callouts = Callouts(
            Asking(self.courier), FakeRoutes(), self.memory, self.clock, chance, self.journal, self.health
        )
        self.directory = RecipientDirectory(self.memory, self.callouts, lists, self.clock)

    def begin(self, address=ANN):
        """What comes of a question, and the Deferred that may be cancelled."""
        came = []
        waiting = promptly(self.directory.who(address, self.domain), came.append, came.append)
        return came, waiting

    def who(self, address=ANN, seconds=5.0):
        came, _ = self.begin(address)
        self.clock.advance(seconds)
        return came[0].word if came else None

    def asked(self):
        """Whom the primary was asked about for somebody's sake."""
        mine = ("postmaster", RANDOM_LETTERS)
        return [each for each in self.manner.questions if each.local not in mine and len(each.local) not in mine]

    def strangers(self):
        return sum(len(each.local) == RANDOM_LETTERS for each in self.manner.questions)

    def postmasters(self):
        return sum(each.local == "postmaster" for each in self.manner.questions)

    def deliver(self, *to, host=FIRST):
        came = []
        sent = parcel(*to, all_or_nothing=len(to) > 1)
        promptly(self.courier.hand_over(sent, Route("a.example", (host,))), came.append, came.append)
        self.clock.advance(5.0)
        return came[0]


@pytest.fixture
def world():
    return World()


def test_the_primary_is_asked_and_its_answers_are_remembered(world):
    assert (world.who(ANN), world.who(EVE)) == ("exists", "unknown")
    assert (world.who(ANN), world.who(EVE)) == ("exists", "unknown")
    assert world.asked() == [ANN, EVE]
    assert world.manner.taken == []


def test_a_yes_is_asked_anew_after_days_and_a_no_after_ten_minutes(world):
    world.who(ANN)
    world.who(EVE)
    world.clock.advance(10 * MINUTE)
    world.who(ANN)
    world.who(EVE)
    assert world.asked() == [ANN, EVE, EVE]
    world.clock.advance(7 * 86400.0)
    world.who(ANN)
    assert world.asked() == [ANN, EVE, EVE, ANN]


def test_who_was_made_meanwhile_exists(world):
    assert world.who(EVE) == "unknown"
    world.manner.recipients = Everybody(ANN, EVE)
    assert world.who(EVE) == "unknown"
    world.clock.advance(10 * MINUTE)
    assert world.who(EVE) == "exists"


@pytest.mark.parametrize(
    "reply", [LATER, Reply(550, "5.7.1", "policy"), Reply(552, "5.2.2", "full"), Reply(550, "5.1.8", "your domain")]
)
def test_what_is_no_word_about_the_mailbox_is_remembered_by_nobody(world, reply):
    world.manner.recipients[ANN] = reply
    assert world.who(ANN) == "undetermined"
    assert world.who(ANN) == "undetermined"
    assert world.asked() == [ANN, ANN]


@pytest.mark.parametrize("reply", [Reply(550, "5.7.1", "no"), Reply(550, "", "no"), LATER])
def test_a_primary_that_refuses_null_senders_says_nothing_about_recipients(world, reply):
    world.manner.replies[Phase.MAIL] = reply
    assert world.who(ANN) == "undetermined"


def test_silence_is_no_answer(world):
    world.manner.silent_at = Phase.RECIPIENT
    assert world.who(ANN, 9.0) is None
    came, _ = world.begin(BOB)
    world.clock.advance(11.0)
    assert came[0].word == "undetermined"


def test_a_question_is_asked_once_however_many_want_to_know(world):
    world.who(BOB)
    waiting = [world.begin(ANN)[0] for _ in range(30)]
    world.clock.advance(5.0)
    assert {came[0].word for came in waiting} == {"exists"}
    assert world.asked() == [BOB, ANN]


def test_who_hangs_up_takes_no_answer_from_the_others(world):
    world.who(BOB)
    _, gone = world.begin(ANN)
    came, _ = world.begin(ANN)
    gone.cancel()
    world.clock.advance(5.0)
    assert came[0].word == "exists"


def test_an_answer_nobody_waits_for_is_remembered(world):
    world.who(BOB)
    _, gone = world.begin(ANN)
    gone.cancel()
    world.clock.advance(5.0)
    assert world.who(ANN, 0.0) == "exists"
    assert world.asked() == [BOB, ANN]


def test_few_questions_at_a_time_over_kept_connections(world):
    world.who(BOB)
    for number in range(100):
        world.begin(Address(f"user{number}", "a.example"))
    assert len(world.transmitter.connections) <= AT_ONCE
    world.clock.advance(5.0)
    assert len(world.asked()) == 101
    assert len(world.transmitter.connections) <= AT_ONCE


def test_a_flood_of_names_is_not_kept_waiting_without_bound(world):
    world.manner.silent_at = Phase.RECIPIENT
    came = [world.begin(Address(f"user{number}", "a.example"))[0] for number in range(QUESTIONS // 2 + 5)]
    assert [words[0].word for words in came if words] == ["undetermined"] * 5
    world.clock.advance(11.0)
    assert {words[0].word for words in came} == {"undetermined"}


def test_slow_primaries_leave_places_for_others():
    slow = tuple(Host(f"192.0.2.{number}") for number in range(100, 105))
    world = World(hosts=(FIRST, *slow))
    domains = [DomainSettings(f"{number}.example", primary=(host,)) for number, host in enumerate(slow)]
    taken = []
    for domain in domains:
        world.manners[domain.primary[0]].silent_at = Phase.RECIPIENT
        begun = 0
        while not (answered := ask(world, Address(f"user{begun}", domain.name), domain)):
            begun += 1
        assert answered[0].word == "undetermined"
        taken.append(begun)
    assert taken[:3] == [QUESTIONS // 2, QUESTIONS // 4, QUESTIONS // 8] and min(taken) > 9
    quick = DomainSettings("quick.example", primary=(FIRST,))
    world.manner.recipients = Everybody(Address("ann", "quick.example"))
    came = ask(world, Address("ann", "quick.example"), quick)
    world.clock.advance(5.0)
    assert came[0].word == "exists"
    # All of them have their places again.
    world.clock.advance(6.0)
    again = [ask(world, Address(f"other{number}", domains[0].name), domains[0]) for number in range(QUESTIONS // 2)]
    assert not any(again)


def ask(world, address, domain):
    came = []
    promptly(world.callouts.ask(address, domain), came.append, came.append)
    return came


def test_a_connection_that_asked_still_takes_mail(world):
    world.who(EVE)
    assert world.deliver(ANN).kind == "delivered"
    assert len(world.transmitter.connections) == 1
    assert [to for _, to, _ in world.manner.taken] == [(ANN,)]


def test_lmtp_is_asked_as_well():
    host = Host("192.0.2.10", 24, "lmtp")
    world = World(hosts=(host,))
    assert (world.who(ANN), world.who(EVE)) == ("exists", "unknown")


def test_the_next_primary_is_asked_where_the_first_is_not_there():
    world = World(hosts=(FIRST, SECOND))
    world.manner.up = False
    assert world.who(ANN) == "exists"
    assert ANN in world.manners[SECOND].questions


# --- a primary that takes anybody -------------------------------------------------------------------------------------


def test_a_primary_that_takes_anybody_is_found_out_and_asked_no_more(world):
    world.manner.recipients = {}
    assert [world.who(EVE), world.who(EVE), world.who(ANN)] == ["unasked"] * 3
    assert (world.asked(), world.strangers()) == ([], 1)
    assert world.journal.named("takes_anybody") == [("takes_anybody", "")]
    assert world.health["recipients of a.example"][0] is False
    # It is looked at again, and may have learned better.
    world.manner.recipients = Everybody(ANN)
    world.clock.advance(86401.0)
    assert world.who(EVE) == "unknown"
    assert world.health["recipients of a.example"] == (True, "")


def test_an_ordinary_primary_hears_of_a_stranger_once_a_day(world):
    for each in (ANN, EVE, BOB):
        world.who(each)
    assert world.strangers() == 1


def test_a_primary_that_puts_a_stranger_off_is_believed_and_asked_again_soon(world):
    world.manner.recipients = Everybody(ANN, BOB, others=LATER)
    assert (world.who(ANN), world.who(BOB)) == ("exists", "exists")
    assert world.strangers() == 1
    world.clock.advance(3601.0)
    assert world.who(EVE) == "undetermined"
    assert world.strangers() == 2


# --- a primary that denies everybody ----------------------------------------------------------------------------------


BARE = Reply(550, "", "this is a bounce of no mail of ours")


def test_a_primary_that_denies_even_postmaster_is_not_believed(world):
    world.manner.recipients = Nobody(BARE)
    assert [world.who(ANN), world.who(EVE), world.who(ANN)] == ["unasked"] * 3
    assert world.postmasters() == 1
    assert world.journal.named("denies_everybody") == [("denies_everybody", "")]
    assert world.health["recipients of a.example"][0] is False
    # Mail itself still teaches, and the primary may think better of it.
    world.manner.recipients = Everybody(ANN, others=BARE)
    world.deliver(ANN)
    assert world.who(ANN) == "exists"
    world.clock.advance(601.0)
    assert world.who(BOB) == "unknown"
    assert world.postmasters() == 2


def test_what_says_that_the_mailbox_is_bad_is_believed_at_once(world):
    world.manner.recipients = Nobody(NOBODY)
    assert [world.who(ANN), world.postmasters()] == ["unknown", 0]


def test_who_said_yes_lately_is_believed(world):
    world.manner.recipients = Everybody(ANN, others=BARE)
    assert world.who(ANN) == "exists"
    world.clock.advance(9 * MINUTE)
    assert world.who(EVE) == "unknown"
    assert world.postmasters() == 0
    world.clock.advance(10 * MINUTE)
    assert world.who(EVE) == "unknown"
    assert world.postmasters() == 1


def test_who_begins_to_refuse_all_questions_is_not_believed_any_more(world):
    world.manner.recipients = Everybody(ANN, others=BARE)
    assert world.who(ANN) == "exists"
    world.clock.advance(11 * MINUTE)
    world.manner.recipients = Nobody(BARE)
    assert [world.who(BOB), world.who(EVE)] == ["unasked"] * 2
    assert world.postmasters() == 1
    assert world.journal.named("denies_everybody") == [("denies_everybody", "")]


def test_postmaster_is_asked_for_once_however_many_are_denied(world):
    world.manner.recipients = Everybody(others=BARE)
    waiting = [world.begin(Address(f"user{number}", "a.example"))[0] for number in range(30)]
    world.clock.advance(5.0)
    assert {came[0].word for came in waiting} == {"unknown"}
    assert world.postmasters() == 1


def test_who_waits_for_word_of_postmaster_hears_when_there_is_none(world):
    world.manner.recipients = Everybody(others=BARE)
    waiting = [world.begin(each)[0] for each in (ANN, EVE)]
    while len(world.asked()) < 2:
        world.clock.advance(0.001)
    world.manner.silent_at = Phase.RECIPIENT
    world.clock.advance(1.0)
    assert waiting == [[], []]
    world.callouts.stop()
    assert [came[0].word for came in waiting] == ["undetermined"] * 2


def test_postmaster_is_asked_for_where_nobody_else_was_known_yet(world):
    world.manner.recipients = Everybody(BOB, others=BARE)
    assert world.who(EVE) == "unknown"
    assert world.who(BOB) == "exists"
    assert world.who(Address("zoe", "a.example")) == "unknown"
    assert world.postmasters() == 1


# --- learning from mail -----------------------------------------------------------------------------------------------


def test_a_delivery_teaches_who_exists(world):
    world.deliver(ANN)
    assert world.who(ANN) == "exists"
    assert world.manner.questions == []


def test_a_refusal_of_mail_teaches_who_does_not(world):
    world.deliver(ANN, EVE)
    assert world.who(EVE) == "unknown"
    assert world.who(ANN) == "exists"
    assert world.asked() == [ANN]


def test_a_mailbox_that_went_is_refused_when_its_primary_says_so(world):
    world.deliver(ANN)
    world.manner.recipients[ANN] = NOBODY
    assert world.who(ANN) == "exists"
    assert world.deliver(ANN).kind == "refused"
    assert world.who(ANN) == "unknown"


def test_where_nobody_wants_to_learn_nothing_is():
    world = World(sources=("callout",))
    world.deliver(ANN)
    world.deliver(EVE)
    assert (world.who(ANN), world.who(EVE)) == ("exists", "unknown")
    assert world.asked() == [ANN, EVE]


def test_what_leaves_by_another_way_teaches_nothing(world):
    world.manners[SECOND] = Manner()
    world.deliver(EVE, host=SECOND)
    assert world.who(EVE) == "unknown"


def test_who_only_learns_takes_whom_it_does_not_know():
    world = World(sources=("learned",))
    assert world.who(EVE) == "unasked"
    world.deliver(EVE)
    assert world.who(EVE) == "unknown"
    assert world.manner.questions == []


# --- while the primary is down ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sources", [("learned", "callout"), ("learned",)])
def test_while_the_primary_is_down(sources):
    world = World(sources=sources)
    world.deliver(ANN)
    world.deliver(EVE)
    world.manner.up = False
    for connection in world.transmitter.connections:
        connection.lose()
    world.deliver(BOB)
    assert world.who(ANN) == "exists"
    assert world.who(EVE) == "unknown"
    assert world.who(BOB) == "unreachable"
    world.clock.advance(10 * MINUTE)
    # What was denied is not promised anything, and not denied for good either.
    assert world.who(EVE) == "undetermined"
    assert world.who(ANN) == "exists"


def test_a_primary_that_cannot_be_reached_is_found_out_by_asking(world):
    world.manner.up = False
    assert world.who(ANN) == "unreachable"


def test_after_a_stop_nobody_is_asked(world):
    world.manner.silent_at = Phase.RECIPIENT
    came, _ = world.begin(ANN)
    world.callouts.stop()
    world.clock.advance(0.1)
    assert came[0].word == "undetermined"
    assert world.who(BOB) == "undetermined"


# --- several sources --------------------------------------------------------------------------------------------------


class Lists(dict):
    async def holds(self, source, address, domain):
        if source not in self:
            raise Unavailable(f"{source} is silent")
        return address in self[source]


@pytest.mark.parametrize(
    ("sources", "address", "word"),
    [
        (("file:/a",), ANN, "exists"),
        (("file:/a",), BOB, "unknown"),
        (("file:/a", "file:/b"), BOB, "exists"),
        (("file:/a", "file:/b"), EVE, "unknown"),
        # Who might have said yes cannot be heard.
        (("file:/a", "http://silent.example/"), EVE, "unreachable"),
        (("http://silent.example/", "file:/a"), EVE, "unreachable"),
        (("http://silent.example/", "file:/a"), ANN, "exists"),
        (("file:/a", "callout"), BOB, "exists"),
        (("file:/a", "callout"), EVE, "unknown"),
        (("learned", "file:/a"), EVE, "unknown"),
    ],
)
def test_what_several_sources_say_together(sources, address, word):
    world = World(sources=sources, lists=Lists({"file:/a": {ANN}, "file:/b": {BOB}}))
    assert world.who(address) == word


def test_whoever_holds_no_list_is_not_there():
    assert World(sources=("file:/a",)).who(ANN) == "unreachable"
