"""What the spool is given of a message: ways, wishes, priorities, copies for archives."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from gate import ANN, BOB, EVE, HOST, MAIL, SENDER, SESSION, SPAM, Gate, body, check, domain, settings
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.custody import Client, DeliveryAttempt, Handover, Host, Phase, SpoolRecipient, State
from inboundmx.model.envelope import Envelope
from inboundmx.model.identity import make_id
from inboundmx.model.message import Body, Message
from inboundmx.model.reply import Reply
from inboundmx.model.settings import (
    ARCHIVING,
    OUTGOING,
    ArchiveSettings,
    BlockingSettings,
    DomainSettings,
    LevelSettings,
    PrioritySettings,
    RelaySettings,
)
from inboundmx.model.verdict import Action, Level
from inboundmx.policy.stamping import received

FAR = Address("far", "far.example")
DOWN = Handover("postponed", detail="down")
TRUSTED = replace(SESSION, peer_ip="192.0.2.50", reverse_name="out.a.example")
NO_USER = Reply(550, "5.1.1", "no such user")
RELAY = RelaySettings((ip_network("192.0.2.50"),))


def acting(*actions: Action) -> tuple[LevelSettings, ...]:
    return (LevelSettings(Level.NONE), LevelSettings(Level.LOW, 10.0, actions))


def send(
    gate: Gate,
    *recipients: Address,
    content: bytes = MAIL,
    sender: Address | None = SENDER,
    ret: str = "",
    envid: str = "",
    dsn: dict[Address, tuple[str, str]] | None = None,
    utf8: bool = False,
) -> Reply:
    assert gate.ask(gate.conversation.mail(Envelope(sender, utf8=utf8, ret=ret, envid=envid))).code == 250
    for recipient in recipients:
        notify, original = (dsn or {}).get(recipient, ("", ""))
        assert gate.ask(gate.conversation.recipient(recipient, notify, original)).code == 250
    gate.conversation.draft()
    reply = gate.ask(gate.conversation.content(body(content)))
    assert isinstance(reply, Reply)
    return reply


# --- what the sender asked for (RFC 3461) -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notify", "through"),
    [("", True), ("NEVER", True), ("FAILURE,DELAY", True), ("SUCCESS", False), ("failure,success", False)],
)
def test_who_asks_to_be_told_of_success_is_promised_first(notify: str, through: bool):
    gate = Gate(settings(domains=(domain("a.example", bounce="always"),)))
    assert send(gate, ANN, BOB, dsn={BOB: (notify, "rfc822;bob@old.example")}).code == 250
    assert len(gate.courier.parcels) == (1 if through else 0)
    assert len(gate.spool.entries()) == (0 if through else 1)


@pytest.mark.parametrize(
    ("notify", "left"),
    [("SUCCESS", "NEVER"), ("SUCCESS,FAILURE", "FAILURE"), ("DELAY,SUCCESS,FAILURE", "DELAY,FAILURE")],
)
def test_who_may_be_forged_is_not_told_of_success_by_the_primary_either(notify: str, left: str):
    gate = Gate(settings())
    send(gate, ANN, BOB, dsn={BOB: (notify, "rfc822;bob@old.example")})
    # And as nobody has to be told, the primary is asked while the stranger waits: it may know no such recipient.
    (parcel,) = gate.courier.parcels
    assert parcel.dsn == (("", ""), (left, "rfc822;bob@old.example"))
    assert not gate.spool.entries()


def test_who_may_be_forged_is_not_told_of_success_later():
    gate = Gate(settings())
    gate.courier.handover = DOWN
    send(gate, ANN, dsn={ANN: ("SUCCESS,DELAY", "")})
    assert gate.spool.entries()[0].recipients == (SpoolRecipient(ANN, notify="DELAY"),)


def test_a_primary_is_told_what_the_sender_asked_for():
    gate = Gate(settings())
    send(gate, ANN, BOB, ret="HDRS", envid="QQ314159", dsn={BOB: ("NEVER", "rfc822;bob@old.example")})
    (parcel,) = gate.courier.parcels
    assert (parcel.ret, parcel.envid) == ("HDRS", "QQ314159")
    assert parcel.dsn == (("", ""), ("NEVER", "rfc822;bob@old.example"))
    send_plain = Gate(settings())
    send(send_plain, ANN)
    assert send_plain.courier.parcels[0].dsn == ()


def test_the_spool_keeps_what_the_sender_asked_for():
    gate = Gate(settings(relay=RELAY), TRUSTED)
    send(gate, FAR, ANN, ret="FULL", envid="e1", dsn={FAR: ("SUCCESS,FAILURE", "rfc822;far@old.example")})
    far, ann = gate.spool.entries()
    assert {(e.ret, e.envid, e.peer_ip, e.peer_name, e.hello) for e in (far, ann)} == {
        ("FULL", "e1", "192.0.2.50", "out.a.example", "client.b.example")
    }
    assert far.recipients == (SpoolRecipient(FAR, notify="SUCCESS,FAILURE", original="rfc822;far@old.example"),)
    assert ann.recipients == (SpoolRecipient(ANN),)


def test_a_recipient_named_once_more_has_its_last_wish():
    gate = Gate(settings())
    gate.ask(gate.conversation.mail(Envelope(SENDER)))
    for notify in ("SUCCESS", ""):
        gate.ask(gate.conversation.recipient(ANN, notify))
    gate.ask(gate.conversation.content(body(MAIL)))
    assert gate.courier.parcels[0].dsn == ()


def test_one_message_s_wishes_are_not_the_next_one_s():
    gate = Gate(settings())
    send(gate, ANN, dsn={ANN: ("NEVER", "")}, ret="HDRS", envid="first")
    gate.conversation.reset()
    send(gate, BOB)
    assert [(p.ret, p.envid, p.dsn) for p in gate.courier.parcels] == [
        ("HDRS", "first", (("NEVER", ""),)),
        ("", "", ()),
    ]


@pytest.mark.parametrize(
    ("facts", "client"),
    [("none", None), ("xclient", Client("192.0.2.50", "out.a.example", "client.b.example"))],
)
def test_a_primary_that_trusts_us_is_told_who_the_client_is(facts: Any, client: Client | None):
    gate = Gate(settings(domains=(domain("a.example", client_facts=facts),)), TRUSTED)
    send(gate, ANN)
    assert gate.courier.parcels[0].client == client
    assert gate.courier.routes[0].terms.client_facts == facts


# --- redirected -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "via", "found"),
    [
        ("eve@c.example", "", "c.example"),
        ("x@off.example", "", "off.example"),
        ("far@far.example", "outbound", "far.example"),
    ],
)
def test_mail_may_be_sent_elsewhere_even_to_where_no_stranger_gets(target: str, via: str, found: str):
    strict = domain("a.example", levels=acting(Action("redirect", target)))
    off = domain("off.example", enabled=False)
    gate = Gate(settings(check("pills", "pills", 10.0), domains=(strict, domain("c.example"), off)))
    assert send(gate, ANN, content=SPAM, dsn={ANN: ("NEVER", "rfc822;ann@old.example")}).code == 250
    (entry,) = gate.spool.entries()
    assert (entry.via, entry.domain, entry.state) == (via, found, State.ACTIVE)
    assert [(str(r.address), r.notify, r.original) for r in entry.recipients] == [
        (target, "NEVER", "rfc822;ann@old.example")
    ]


def test_no_notice_names_the_address_that_mail_was_redirected_to():
    """It is the recipient's business where his mail goes: the sender wrote to another address."""
    aside = (LevelSettings(Level.NONE, action=(Action("redirect", "eve@c.example"),)),)
    gate = Gate(settings(domains=(domain("a.example", bounce="always", levels=aside), domain("c.example"))))
    assert send(gate, ANN, dsn={ANN: ("SUCCESS,FAILURE", "")}).code == 250
    (entry,) = gate.spool.entries()
    assert entry.may_notify is False
    assert [(r.address, r.notify) for r in entry.recipients] == [(EVE, "FAILURE")]


def test_mail_that_some_refuse_is_quarantined_for_them_whatever_their_actions_are():
    for action in (Action("redirect", "far@far.example"), Action("discard"), Action("deliver")):
        pills = check("pills", "pills", 40.0, counts_for=frozenset({"filtering", "blocking"}))
        lenient = domain("c.example", levels=acting(), blocking=BlockingSettings(100.0))
        gate = Gate(settings(pills, domains=(domain("a.example", levels=acting(action)), lenient)))
        assert send(gate, ANN, EVE, content=SPAM).code == 250
        assert [(e.domain, e.state, [r.address for r in e.recipients]) for e in gate.spool.entries()] == [
            ("a.example", State.QUARANTINED, [ANN]),
            ("c.example", State.ACTIVE, [EVE]),
        ]


# --- outgoing mail is judged by its own measure -----------------------------------------------------------------------


def test_mail_that_leaves_us_has_a_threshold_and_levels_of_its_own():
    pills = check("pills", "pills", 20.0, counts_for=frozenset({"filtering", "blocking"}))
    outgoing = replace(OUTGOING, blocking=BlockingSettings(10.0, 20.0), levels=acting(Action("hold")))
    incoming = domain("a.example", blocking=BlockingSettings(21.0, 1.0), levels=acting(Action("tag", "SPAM")))

    def heard(recipient: Address, weight: float) -> int:
        gate = Gate(settings(replace(pills, weights=pills.weights | {"match": weight}), domains=(incoming,),
                             relay=RELAY, outgoing=outgoing), TRUSTED)  # fmt: skip
        code = send(gate, recipient, content=SPAM).code
        states.extend(entry.state for entry in gate.spool.entries())
        return code

    states: list[State] = []
    assert (heard(FAR, 20.0), heard(ANN, 20.0)) == (554, 250)
    assert (heard(FAR, 19.0), heard(ANN, 21.0)) == (250, 554)
    assert states == [State.HELD]


# --- who may be told --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "session", "bounce", "may"),
    [
        (ANN, TRUSTED, "verified", True),
        (Address("ann", "sub.whole.example"), TRUSTED, "verified", True),
        (ANN, replace(SESSION, authenticated_as="ann"), "verified", True),
        (ANN, TRUSTED, "always", True),
        (ANN, TRUSTED, "never", False),
        (FAR, TRUSTED, "verified", False),
        (FAR, TRUSTED, "always", True),
        (None, TRUSTED, "always", False),
        (ANN, SESSION, "verified", False),
    ],
)
def test_our_own_people_are_told_what_became_of_their_mail(
    sender: Address | None, session: Any, bounce: Any, may: bool
):
    ours = (
        domain("a.example", bounce=bounce, handover="spool"),
        domain("whole.example", subdomains=True),
    )
    everything = DomainSettings("*", primary=(HOST,), handover="spool", bounce=bounce)
    for more in ({}, {"everything": everything}):
        gate = Gate(settings(domains=ours, relay=RELAY, outgoing=replace(OUTGOING, bounce=bounce), **more), session)
        send(gate, ANN, *([FAR] if session is not SESSION else []), sender=sender)
        assert {entry.may_notify for entry in gate.spool.entries()} == {may}


@pytest.mark.parametrize("content", [SPAM, b"Auto-Submitted: auto-generated\r\n" + MAIL])
def test_and_yet_spam_and_programs_are_not_answered(content: bytes):
    low = replace(OUTGOING, levels=acting(Action("deliver")))
    gate = Gate(settings(check("p", "pills", 10.0), relay=RELAY, outgoing=low), TRUSTED)
    send(gate, FAR, sender=ANN, content=content)
    assert [entry.may_notify for entry in gate.spool.entries()] == [False]


# --- priorities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "threshold", "priority"), [(SENDER, 1000, 7), (SENDER, 10, 2), (None, 1000, 9), (None, 10, 2)]
)
def test_a_message_has_the_priority_of_its_kind(sender: Address | None, threshold: int, priority: int):
    rules = PrioritySettings(threshold, over_size=2, null_sender=9)
    gate = Gate(settings(domains=(domain("a.example", handover="spool", priority=7),), priority=rules))
    send(gate, ANN, sender=sender)
    assert [entry.priority for entry in gate.spool.entries()] == [priority]


# --- archives ---------------------------------------------------------------------------------------------------------


def test_a_copy_for_an_archive_goes_by_the_spool_with_the_same_content():
    telling = replace(ARCHIVING, bounce="always")
    gate = Gate(settings(archives=(ArchiveSettings("books"),), archiving=telling))
    assert send(gate, ANN, BOB).code == 250
    assert gate.courier.parcels == []
    (change,) = gate.spool.commits
    mail, copy = (deposit.entry for deposit in change.add)
    assert (mail.via, mail.domain, copy.via, copy.domain) == ("", "a.example", "archive", "books")
    assert (copy.sender, [r.address for r in copy.recipients]) == (SENDER, [ANN, BOB])
    assert (copy.body_id, copy.message_id, copy.state) == (mail.body_id, mail.message_id, State.ACTIVE)
    assert copy.may_notify is False
    assert change.add[0].content is change.add[1].content
    assert [(name, f["via"], f["domain"]) for name, _, f in gate.journal.events] == [
        ("spooled", "", "a.example"),
        ("spooled", "archive", "books"),
    ]


def test_mail_that_no_archive_takes_is_handed_over_as_ever():
    gate = Gate(settings(archives=(ArchiveSettings("books", "c.example"), ArchiveSettings("off", rule="none"))))
    assert send(gate, ANN).code == 250
    assert len(gate.courier.parcels) == 1


@pytest.mark.parametrize(
    ("action", "state"),
    [("hold", State.HELD), ("quarantine", State.QUARANTINED), ("discard", None), ("deliver", State.ACTIVE)],
)
def test_all_mail_that_was_accepted_is_archived(action: Any, state: State | None):
    level = domain("a.example", levels=acting(Action(action)))
    gate = Gate(settings(check("p", "pills", 10.0), domains=(level,), archives=(ArchiveSettings("books"),)))
    reply = send(gate, ANN, content=SPAM)
    assert reply.code == 250
    entries = gate.spool.entries()
    assert [(e.via, e.state) for e in entries] == [("", state)] * (state is not None) + [("archive", State.ACTIVE)]
    assert entries[0].id == reply.text.split()[-1]
    assert gate.deliveries.entries == list(entries)


def test_mail_that_is_refused_is_not_archived():
    gate = Gate(settings(check("p", "pills", "reject"), archives=(ArchiveSettings("books"),)))
    assert send(gate, ANN, content=SPAM).code == 554
    assert gate.spool.entries() == ()


def test_each_archive_has_the_stamps_that_its_domain_saw():
    archives = (ArchiveSettings("ours", "a.example"), ArchiveSettings("theirs", "c.example"))
    lenient = domain("c.example", weights={("p", "match"): 1.0})
    gate = Gate(settings(check("p", "pills", 12.0), domains=(domain("a.example"), lenient), archives=archives))
    send(gate, ANN, EVE, content=SPAM)
    (change,) = gate.spool.commits
    assert [(d.entry.domain, b"X-Spam-Score: 12\r\n" in d.content.prefix) for d in change.add] == [
        ("a.example", True),
        ("c.example", False),
        ("ours", True),
        ("theirs", False),
    ]


# --- promised or refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"handover": "spool"}])
@pytest.mark.parametrize(("limit", "code"), [(10, 552), (100_000, 250)])
def test_what_can_never_be_delivered_is_not_promised(limit: int, code: int, more: Any):
    gate = Gate(settings(domains=(domain("a.example", **more), domain("c.example"))))
    gate.courier.handover = DOWN
    gate.courier.limits = {"a.example": limit}
    reply = send(gate, ANN)
    assert reply.code == code
    size = gate.courier.asked[-1][1]
    assert size > len(MAIL), "what is written above it is sent as well"
    assert len(gate.spool.entries()) == (code == 250)
    assert gate.journal.names() == [("spooled" if code == 250 else "refused")]


def test_what_one_of_several_could_take_is_promised():
    gate = Gate(settings())
    gate.courier.limits = {"a.example": 10}
    assert send(gate, ANN, EVE).code == 250
    assert len(gate.spool.entries()) == 2
    gate.courier.limits = {"a.example": 10, "c.example": 10}
    gate.conversation.reset()
    assert send(gate, ANN, EVE).code == 552


def test_a_host_that_answers_is_not_told_what_it_could_not_take():
    gate = Gate(settings())
    later = Reply(450, "4.2.0", "greylisted")
    at = gate.clock.at
    attempt = DeliveryAttempt(HOST, at, at, Phase.RECIPIENT, ((ANN, later),))
    gate.courier.limits = {"a.example": 10}
    gate.courier.handover = Handover("deferred", HOST, later, attempt=attempt)
    assert send(gate, ANN).code == 250


@pytest.mark.parametrize("action", [Action("hold"), Action("redirect", "eve@c.example")])
def test_what_is_not_for_its_host_needs_no_host(action: Action):
    held = domain("a.example", levels=acting(action))
    gate = Gate(settings(check("p", "pills", 10.0), domains=(held,)))
    gate.courier.limits = {"a.example": 10}
    assert send(gate, ANN, content=SPAM).code == 250


# --- where it goes ----------------------------------------------------------------------------------------------------


def test_each_message_takes_one_turn():
    hosts = (HOST, Host("192.0.2.11"), Host("192.0.2.12"))
    gate = Gate(settings(domains=(replace(domain("a.example", balance="round-robin"), primary=hosts),)))
    for _ in range(3):
        send(gate, ANN, BOB)
        gate.conversation.reset()
    assert {route.hosts[0] for route in gate.courier.routes} == set(hosts)
    assert len(gate.routes.asked) == 3


def test_two_gateways_that_send_mail_to_each_other_stop():
    gate = Gate(settings())
    ours = b""
    for number in range(6):
        message = Message(make_id(1_800_000_000.0 + number, "abc123"), Body(0, b"", None, b""))
        assert send(gate, ANN, content=ours + MAIL).code == 250
        gate.conversation.reset()
        ours += received(message, SESSION, Envelope(SENDER), gate.settings.gateway, 1_800_000_000.0)
        ours += b"Received: from mx.example.net by mx.other.example with ESMTP id x; now\r\n"
    reply = send(gate, ANN, content=ours + MAIL)
    assert (reply.code, reply.enhanced) == (554, "5.4.6")


# --- whatever is answered 250 has a place -----------------------------------------------------------------------------

ADDRESSES = [Address(local, name) for local in ("x", "y") for name in ("a.example", "c.example", "far.example")]


@how(max_examples=150, deadline=None)
@given(
    recipients=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=5),
    actions=st.lists(st.sampled_from(["deliver", "hold", "quarantine", "discard", "reject", "redirect"]), min_size=3),
    thresholds=st.lists(st.sampled_from([5.0, 30.0]), min_size=3, max_size=3),
    came=st.sampled_from(["delivered", "refused", "postponed"]),
    notify=st.sampled_from(["", "NEVER", "SUCCESS"]),
    archived=st.booleans(),
)
def test_every_recipient_of_what_we_take_is_somewhere(
    recipients: list[Address], actions: list[Any], thresholds: list[float], came: str, notify: str, archived: bool
) -> None:
    argument = {"redirect": "elsewhere@third.example"}
    levels = [acting(Action(verb, argument.get(verb, ""))) for verb in actions[:3]]
    blocking = [BlockingSettings(each, each) for each in thresholds]
    pills = check("p", "pills", 10.0, counts_for=frozenset({"filtering", "blocking"}))
    gate = Gate(
        settings(
            pills,
            domains=(
                domain("a.example", levels=levels[0], blocking=blocking[0]),
                domain("c.example", levels=levels[1], blocking=blocking[1]),
            ),
            outgoing=replace(OUTGOING, levels=levels[2], blocking=blocking[2]),
            relay=RELAY,
            archives=(ArchiveSettings("books"),) if archived else (),
        ),
        TRUSTED,
    )
    gate.courier.handover = Handover(came, HOST, {"delivered": Reply(250, "2.0.0", "ok")}.get(came, NO_USER))
    reply = send(gate, *recipients, content=SPAM, dsn=dict.fromkeys(recipients, (notify, "")))
    entries = gate.spool.entries()
    copies = [entry for entry in entries if entry.via == "archive"]
    handed = {each for parcel in gate.courier.parcels for each in parcel.recipients}
    if not reply.positive:
        assert entries == ()
        return
    by_name = dict(zip(("a.example", "c.example", "far.example"), zip(actions, thresholds, strict=False), strict=True))
    kept = {recipient.address for entry in entries if entry.via != "archive" for recipient in entry.recipients}
    for recipient in set(recipients):
        action, threshold = by_name[recipient.domain]
        if threshold > 10 and action == "discard":
            assert recipient not in kept | handed
        elif threshold > 10 and action == "redirect":
            assert Address("elsewhere", "third.example") in kept
        else:
            assert (recipient in kept) != (came == "delivered" and recipient in handed)
    assert len(copies) == archived
    assert all({r.address for r in copy.recipients} == set(recipients) for copy in copies)
    assert not handed or (not archived and notify != "SUCCESS")
