"""What becomes of a message: each answer of the primary, each fate, each failure of the disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gate import ANN, BOB, EVE, HOST, MAIL, SPAM, Gate, check, domain, settings
from twisted.internet.defer import Deferred

from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Handover, Phase, State
from inboundmx.model.reply import Reply
from inboundmx.model.settings import LevelSettings, PrioritySettings
from inboundmx.model.verdict import Action, Level
from inboundmx.policy.looping import PASSES
from inboundmx.ports import StorageFull, Unavailable, Unheard

TAKEN = Handover("delivered", HOST, Reply(250, "2.0.0", "taken"))
NO_USER = Handover("refused", HOST, Reply(550, "5.1.1", "no such user"))
LATER = Handover("deferred", HOST, Reply(450, "4.2.0", "greylisted"))
DOWN = Handover("postponed", detail="down")


def levels(*actions: Action, threshold: float = 10.0) -> tuple[LevelSettings, ...]:
    return (LevelSettings(Level.NONE), LevelSettings(Level.LOW, threshold, actions))


@pytest.mark.parametrize(
    ("handover", "tempfail", "code", "event", "stored"),
    [
        (TAKEN, "spool", 250, "handed_over", 0),
        (NO_USER, "spool", 550, "refused", 0),
        (LATER, "spool", 250, "spooled", 1),
        (LATER, "pass", 450, "refused", 0),
        (DOWN, "spool", 250, "spooled", 1),
        (DOWN, "pass", 250, "spooled", 1),
    ],
)
def test_what_an_answer_of_the_primary_means(handover, tempfail, code, event, stored):
    gate = Gate(settings(domains=(domain("a.example", tempfail=tempfail),)))
    gate.courier.handover = handover
    reply = gate.send(MAIL, ANN)
    assert reply.code == code
    assert gate.journal.names() == [event]
    assert reply.text.split()[-1] == gate.journal.events[0][1]
    assert len(gate.spool.entries()) == len(gate.deliveries.entries) == stored


def test_a_primary_that_defers_has_had_its_first_attempt():
    gate = Gate(settings(priority=PrioritySettings(second_attempt=3)))
    at, later = gate.clock.at, Reply(450, "4.2.0", "greylisted")
    attempt = DeliveryAttempt(HOST, at, at, Phase.RECIPIENT, ((ANN, later),))
    gate.courier.handover = Handover("deferred", HOST, later, attempt=attempt)
    assert gate.send(MAIL, ANN).code == 250
    (entry,) = gate.spool.entries()
    assert (entry.attempts, entry.next_attempt_at, entry.priority) == (1, at + 15 * 60, 3)
    assert entry.recipients[0].last_reply == "450 4.2.0 greylisted"


def test_the_refusal_of_the_primary_reaches_the_stranger_with_our_id():
    gate = Gate(settings())
    gate.courier.handover = NO_USER
    reply = gate.send(MAIL, ANN)
    assert (reply.enhanced, reply.text) == ("5.1.1", f"no such user {gate.journal.events[0][1]}")


def test_several_recipients_of_one_domain_are_handed_over_all_or_none():
    gate = Gate(settings())
    gate.send(MAIL, ANN, BOB)
    assert gate.courier.parcels[0].recipients == (ANN, BOB)
    assert gate.courier.parcels[0].all_or_nothing


def test_recipients_with_several_routes_are_promised_in_one_commit():
    gate = Gate(settings())
    assert gate.send(MAIL, ANN, EVE).code == 250
    assert gate.courier.parcels == []
    (change,) = gate.spool.commits
    assert [(d.entry.domain, d.entry.recipients[0].address) for d in change.add] == [
        ("a.example", ANN),
        ("c.example", EVE),
    ]
    assert len({d.entry.body_id for d in change.add}) == 1
    assert len({d.entry.id for d in change.add}) == 2


@pytest.mark.parametrize("more", [{"handover": "spool"}, {"delay": 15.0}])
def test_a_domain_may_ask_for_the_disk_first(more):
    gate = Gate(settings(domains=(domain("a.example", **more),)))
    assert gate.send(MAIL, ANN).code == 250
    assert gate.courier.parcels == []
    (entry,) = gate.spool.entries()
    assert entry.next_attempt_at == gate.clock.at + more.get("delay", 0.0)


def test_no_answer_to_the_final_dot_is_committed_as_claimed():
    gate = Gate(settings())
    late = Deferred()
    gate.courier.handover = Handover("uncertain", HOST, late=late)
    assert gate.send(MAIL, ANN).code == 250
    (entry,) = gate.spool.entries()
    assert (entry.next_attempt_at, entry.cause) == (gate.clock.at + 600, "unanswered")
    assert gate.deliveries.claims == [(entry, late)]
    assert gate.deliveries.entries == []


@pytest.mark.parametrize(
    ("failure", "code", "enhanced"), [(StorageFull("disk"), 452, "4.3.1"), (Unavailable("sync"), 451, "4.3.0")]
)
def test_a_disk_that_fails_is_never_a_permanent_refusal(failure, code, enhanced):
    gate = Gate(settings())
    gate.courier.handover = DOWN
    gate.spool.failure = failure
    reply = gate.send(MAIL, ANN)
    assert (reply.code, reply.enhanced) == (code, enhanced)
    assert gate.deliveries.entries == []


def test_250_waits_for_the_disk():
    gate = Gate(settings())
    gate.courier.handover = DOWN
    gate.spool.automatic = False
    waiting = gate.send(MAIL, ANN)
    assert isinstance(waiting, Deferred)
    assert gate.deliveries.entries == []
    gate.spool.sync()
    assert len(gate.deliveries.entries) == 1


@pytest.mark.parametrize(
    ("reply", "event"),
    [(Reply(250, "2.0.0", "taken"), "handed_over"), (Reply(550, "5.7.1", "no"), "refused")],
)
def test_what_the_primary_said_to_a_message_whose_sender_hung_up_is_recorded(reply, event):
    gate = Gate(settings())
    late, waiting = Deferred(), Deferred(lambda d: d.errback(Unheard(late)))
    gate.courier.handover = waiting
    asked = gate.send(MAIL, ANN)
    asked.addErrback(lambda failure: None)
    asked.cancel()
    assert gate.journal.names() == []
    late.callback(DeliveryAttempt(HOST, 0.0, 1.0, Phase.DOT, ((ANN, reply),), "", "", True))
    ((name, id, fields),) = gate.journal.events
    assert (name, id) == (event, gate.courier.parcels[0].message_id)
    assert (fields["reply"], fields["sender"]) == (str(reply), "s@b.example")


def test_a_stranger_who_hangs_up_does_not_undo_the_promise():
    gate = Gate(settings())
    gate.courier.handover = DOWN
    gate.spool.automatic = False
    waiting = gate.send(MAIL, ANN)
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    gate.spool.sync()
    assert [entry.recipients[0].address for entry in gate.deliveries.entries] == [ANN]


@pytest.mark.parametrize(
    ("action", "state", "event"),
    [("hold", State.HELD, "held"), ("quarantine", State.QUARANTINED, "quarantined"), ("discard", None, "discarded")],
)
def test_a_level_may_keep_mail_back(action, state, event):
    gate = Gate(settings(check("pills", "pills", 10.0), domains=(domain("a.example", levels=levels(Action(action))),)))
    assert gate.send(SPAM, ANN).code == 250
    assert gate.courier.parcels == []
    assert gate.journal.names() == [event]
    entries = gate.spool.entries()
    assert [entry.state for entry in entries] == ([state] if state else [])
    for entry in entries:
        assert entry.next_attempt_at is None
        assert entry.cause == "level low"
        assert entry.expires_at is not None


def test_a_level_may_refuse():
    gate = Gate(settings(check("pills", "pills", 30.0)))
    reply = gate.send(SPAM, ANN)
    assert (reply.code, reply.enhanced) == (550, "5.7.1")
    assert gate.spool.entries() == ()


def test_a_level_may_send_mail_elsewhere():
    gate = Gate(
        settings(
            check("pills", "pills", 10.0),
            domains=(domain("a.example", levels=levels(Action("redirect", "eve@c.example"))), domain("c.example")),
        )
    )
    assert gate.send(SPAM, ANN).code == 250
    (entry,) = gate.spool.entries()
    assert (entry.domain, [r.address for r in entry.recipients], entry.state) == ("c.example", [EVE], State.ACTIVE)


@pytest.mark.parametrize("to", ["eve@c.example", "eve@elsewhere.example"])
def test_mail_that_another_host_sends_back_from_where_it_was_redirected_to_stops(to):
    gate = Gate(
        settings(
            check("pills", "pills", 10.0),
            domains=(domain("a.example", levels=levels(Action("redirect", to))), domain("c.example")),
        )
    )
    sent, passed = SPAM, 0
    while (reply := gate.send(sent, ANN)).code == 250:
        passed += 1
        assert passed <= PASSES + 1, "it goes on for ever"
        content = gate.spool.commits[-1].add[0].content
        hop = b"Received: from mx.example.net by elsewhere.example with ESMTP id x; Sat, 1 Jan 2028 00:00:00 +0000\r\n"
        sent = hop + content.prefix + content.body.head[content.skip :]
        gate.conversation.reset()
    assert (reply.code, reply.enhanced, passed) == (554, "5.4.6", PASSES + 1)
    assert len(gate.spool.entries()) == passed


def test_clean_and_unclean_mail_go_the_same_way_below_the_threshold():
    gate = Gate(settings(check("pills", "pills", 9.99)))
    assert gate.send(SPAM, ANN).code == 250
    assert b"X-Spam-Level: NONE\r\n" in gate.courier.parcels[0].content.prefix
    assert b"X-Spam-Score: 9.99\r\n" in gate.courier.parcels[0].content.prefix


def mixed(action_a: str, action_c: str) -> Gate:
    both = (("a.example", action_a), ("c.example", action_c))
    domains = tuple(domain(name, levels=levels(Action(action))) for name, action in both)
    return Gate(settings(check("pills", "pills", 10.0), domains=domains))


def test_when_all_refuse_the_stranger_hears_it():
    gate = mixed("reject", "reject")
    assert gate.send(SPAM, ANN, EVE).code == 550
    assert gate.spool.entries() == ()


def test_when_some_refuse_it_is_quarantined_for_them():
    gate = mixed("reject", "deliver")
    assert gate.send(SPAM, ANN, EVE).code == 250
    assert {e.domain: e.state for e in gate.spool.entries()} == {
        "a.example": State.QUARANTINED,
        "c.example": State.ACTIVE,
    }


@pytest.mark.parametrize(("action", "event"), [("quarantine", "quarantined"), ("discard", "discarded")])
@pytest.mark.parametrize("strict_first", [True, False])
def test_each_domain_s_part_is_told_with_what_was_decided_for_it(action, event, strict_first):
    strict = domain("a.example", levels=levels(Action(action)))
    lenient = domain("c.example", weights={("pills", "match"): 3.0})
    gate = Gate(settings(check("pills", "pills", 12.0), domains=(strict, lenient)))
    assert gate.send(SPAM, *((ANN, EVE) if strict_first else (EVE, ANN))).code == 250
    told = {
        tuple(f["recipients"]): (name, f["score"], f["spam_level"], f["actions"]) for name, _, f in gate.journal.events
    }
    assert told == {(str(ANN),): (event, 12.0, "low", [action]), (str(EVE),): ("spooled", 3.0, "none", ["deliver"])}


def test_when_any_defers_nothing_is_taken():
    deferring = domain("a.example", weights={("pills", "match"): "defer"})
    gate = Gate(settings(check("pills", "pills", 1.0), domains=(deferring, domain("c.example"))))
    assert gate.send(SPAM, ANN, EVE).code == 451
    assert gate.spool.entries() == ()


@pytest.mark.parametrize(
    ("bounce", "sender", "header", "may"),
    [
        ("always", Address("s", "b.example"), b"", True),
        ("always", None, b"", False),
        ("always", Address("s", "b.example"), b"Auto-Submitted: auto-replied\r\n", False),
        ("always", Address("s", "b.example"), b"Auto-Submitted: no\r\n", True),
        ("always", Address("s", "b.example"), b"Precedence: bulk\r\n", True),
        ("verified", Address("s", "b.example"), b"", False),
        ("never", Address("s", "b.example"), b"", False),
    ],
)
def test_who_may_be_sent_a_notice_is_decided_at_reception(bounce, sender, header, may):
    gate = Gate(settings(domains=(domain("a.example", bounce=bounce),)))
    gate.courier.handover = DOWN
    gate.send(header + MAIL, ANN, sender=sender)
    assert gate.spool.entries()[0].may_notify is may


def test_scored_mail_is_never_answered_with_a_notice():
    low = levels(Action("deliver"))
    gate = Gate(settings(check("p", "pills", 10.0), domains=(domain("a.example", bounce="always", levels=low),)))
    gate.courier.handover = DOWN
    gate.send(SPAM, ANN)
    assert gate.spool.entries()[0].may_notify is False


@pytest.mark.parametrize("handover", ["cut-through", "spool"])
def test_an_attempt_that_is_known_to_find_nobody_is_committed_with_the_entry(handover):
    gate = Gate(settings(domains=(domain("a.example", handover=handover),)))
    gate.courier.handover = DOWN
    gate.deliveries.foresight = lambda entry, route: replace(entry, attempts=1, next_attempt_at=gate.clock.at + 900)
    assert gate.send(MAIL, ANN).code == 250
    (entry,) = gate.spool.entries()
    assert (entry.attempts, entry.next_attempt_at) == (1, gate.clock.at + 900)
    assert (gate.deliveries.followed, gate.deliveries.entries) == ([entry], [])
    assert gate.journal.names() == ["spooled"]


def test_the_quarantine_keeps_mail_as_long_as_the_domain_says():
    ours = domain("a.example", quarantine_retention=60.0)
    gate = Gate(settings(check("words", "pills", "quarantine"), domains=(ours, domain("c.example"))))
    assert gate.send(SPAM, ANN, EVE).code == 250
    entries = gate.spool.entries()
    kept = {entry.domain: (entry.state, entry.cause, entry.expires_at - gate.clock.at) for entry in entries}
    assert kept == {
        "a.example": (State.QUARANTINED, "quarantine by words", 60.0),
        "c.example": (State.QUARANTINED, "quarantine by words", 30 * 86400.0),
    }
    assert gate.courier.parcels == []
