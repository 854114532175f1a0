"""Who is taken at RCPT: ours, those whose backup we are, and for clients that may relay, anybody."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import gate as gate_parts
import pytest
from gate import ANN, EVE, HOST, MAIL, SENDER, SESSION, Gate, body, check, domain, settings
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from inboundmx.model.address import Address
from inboundmx.model.custody import Route, State
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import OUTGOING, BackupSettings, CheckSettings, RelaySettings, Settings
from inboundmx.ports import NoRoute, Unavailable

FAR = Address("far", "far.example")
BACKED = Address("ann", "backed.example")
TRUSTED = replace(SESSION, peer_ip="192.0.2.50")
RELAY = RelaySettings((ip_network("192.0.2.48/29"),))
BACKUP = BackupSettings((ip_network("203.0.113.0/24"),))
PRIMARY = Route("backed.example", (HOST,), via="backup")
DENIED = "550 5.7.1 relaying denied: no such domain here"


def answer(gate: Gate, recipient: Address, sender: Address | None = SENDER) -> Reply:
    """What RCPT hears, or MAIL when that is refused, without the id."""
    reply = gate.ask(gate.conversation.mail(Envelope(sender)))
    if reply.positive:
        reply = gate.ask(gate.conversation.recipient(recipient))
    assert isinstance(reply, Reply)
    text, _, id = reply.text.rpartition(" ")
    return replace(reply, text=text) if id == gate.journal.events[-1][1] else reply


# --- relay ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "session",
    [
        TRUSTED,
        replace(TRUSTED, peer_ip="::ffff:192.0.2.50"),
        replace(SESSION, authenticated_as="ann"),
        replace(SESSION, peer_ip="", authenticated_as="ann"),
    ],
)
def test_who_may_relay_sends_to_anybody(session: Session):
    gate = Gate(settings(relay=RELAY, outgoing=replace(OUTGOING, handover="cut-through")), session)
    assert gate.send(MAIL, FAR).code == 250
    (entry,) = gate.spool.entries()
    assert (entry.via, entry.domain, entry.state) == ("outbound", "far.example", State.ACTIVE)
    assert gate.courier.parcels == []
    [(event, _, fields)] = gate.journal.events
    assert (event, fields["via"]) == ("spooled", "outbound") and "reason" not in fields
    assert fields["relay"] == f"granted to {session.authenticated_as or 'its address'}"


@pytest.mark.parametrize(
    "session",
    [
        SESSION,
        replace(SESSION, hello="[192.0.2.50]", reverse_name="mail.a.example", tls="TLSv1.3", local_ip="192.0.2.50"),
        replace(SESSION, peer_ip="::192.0.2.50"),
        replace(SESSION, peer_ip="192.0.2.47"),
        replace(SESSION, peer_ip=""),
    ],
)
@pytest.mark.parametrize("sender", [SENDER, ANN, Address("postmaster", "mx.example.net"), None])
def test_nobody_else_does(session: Session, sender: Address | None):
    gate = Gate(settings(relay=RELAY), session)
    assert str(answer(gate, FAR, sender)) == DENIED


def test_received_fields_of_a_trusted_address_grant_nothing():
    gate = Gate(settings(relay=RELAY))
    forged = b"Received: from [192.0.2.50] ([192.0.2.50]) by mx.example.net with ESMTPA id x; now\r\n"
    assert gate.send(forged + MAIL, ANN).code == 250
    gate.conversation.reset()
    assert str(answer(gate, FAR)) == DENIED


def test_relay_begins_with_authentication():
    gate = Gate(settings())
    assert str(answer(gate, FAR)) == DENIED
    gate.conversation.reset()
    gate.ask(gate.conversation.hello(replace(SESSION, authenticated_as="ann")))
    assert answer(gate, FAR).code == 250


@pytest.mark.parametrize("session", [SESSION, TRUSTED])
@pytest.mark.parametrize(
    "recipient",
    [
        Address("far%else.example", "far.example"),
        Address("else.example!far", "far.example"),
        Address('"far@else.example"', "far.example"),
        Address("far%else.example", "a.example"),
        Address("far", "[198.51.100.1]"),
        Address("far", "[IPv6:2001:db8::1]"),
        Address("far", "198.51.100.1"),
        Address("far", ""),
    ],
)
def test_routes_inside_an_address_and_literals_are_for_nobody(session: Session, recipient: Address):
    gate = Gate(settings(relay=RELAY, backup=BACKUP), session)
    gate.routes.found[recipient.domain] = PRIMARY
    assert answer(gate, recipient).permanent
    assert gate.routes.asked == []


@pytest.mark.parametrize("local", ["ann%else.example", "else.example!ann", '"ann@else.example"'])
def test_a_recipient_who_was_taken_opens_the_door_to_no_other(local: str):
    gate = Gate(settings(relay=RELAY), TRUSTED)
    gate.envelope(ANN, FAR)
    for name in ("a.example", "far.example"):
        assert gate.ask(gate.conversation.recipient(Address(local, name))).code == 550


def test_mail_for_a_domain_of_ours_does_not_leave_us():
    gate = Gate(settings(relay=RELAY), TRUSTED)
    assert gate.send(MAIL, ANN).code == 250
    assert gate.courier.parcels[0].recipients == (ANN,)


def test_one_message_for_several_ways_is_one_body():
    gate = Gate(settings(relay=RELAY), TRUSTED)
    nearby = Address("near", "far.example")
    assert gate.send(MAIL, FAR, ANN, Address("x", "third.example"), nearby).code == 250
    (change,) = gate.spool.commits
    entries = [deposit.entry for deposit in change.add]
    assert [(e.via, e.domain, [r.address for r in e.recipients]) for e in entries] == [
        ("outbound", "far.example", [FAR, nearby]),
        ("", "a.example", [ANN]),
        ("outbound", "third.example", [Address("x", "third.example")]),
    ]
    assert {e.body_id for e in entries} == {entries[0].id}
    assert [f["via"] for _, _, f in gate.journal.events] == ["outbound", "", "outbound"]


def test_a_domain_that_is_switched_off_is_refused_in_the_same_words_to_all():
    off = (domain("a.example", enabled=False), domain("c.example"))
    for given_settings, session in (
        (settings(domains=off), SESSION),
        (settings(domains=off, relay=RELAY), TRUSTED),
        (settings(domains=off, backup=BACKUP), SESSION),
    ):
        gate = Gate(given_settings, session)
        gate.routes.found["a.example"] = PRIMARY
        assert str(answer(gate, ANN)) == DENIED


# --- checks judge strangers -------------------------------------------------------------------------------------------


class Suspicious:
    """A check of any stage that speaks against everybody."""

    kind = "greylist"
    outcomes = frozenset({"new"})
    after = frozenset[str]()
    dear = False
    again = None
    about = "other"
    client = ""
    most_points = 0.0

    def __init__(self, options: Any) -> None:
        self.stage = options["stage"]

    @classmethod
    def words(cls, options: object) -> frozenset[str]:
        return cls.outcomes

    async def examine(self, case: object) -> Any:
        return Finding("new")


def suspicious(monkeypatch: pytest.MonkeyPatch, stage: Any, session: Session) -> Gate:
    monkeypatch.setitem(gate_parts.KINDS, "greylist", Suspicious)
    against = CheckSettings("against", "greylist", weights={"new": "reject"}, options={"stage": stage})
    return Gate(settings(against, relay=RELAY), session)


@pytest.mark.parametrize("number", range(4))
def test_checks_before_the_message_are_not_run_for_who_may_relay(number: int, monkeypatch: pytest.MonkeyPatch):
    def heard(session: Session) -> list[int]:
        gate = suspicious(monkeypatch, Stage(number), session)
        said = [gate.ask(gate.conversation.connected()), gate.ask(gate.conversation.hello(session))]
        said.append(gate.ask(gate.conversation.mail(Envelope(SENDER))))
        if said[-1].positive:
            said.append(gate.ask(gate.conversation.recipient(ANN)))
        return [reply.code for reply in said]

    assert heard(TRUSTED) == [220, 250, 250, 250]
    assert max(heard(SESSION)) >= 550


def test_who_is_refused_at_once_is_told_of_as_he_heard_it(monkeypatch: pytest.MonkeyPatch):
    """RFC 5321 3.1: a greeting that refuses is 554 or 421, whatever the same check would say later."""
    gate = suspicious(monkeypatch, Stage.CONNECT, SESSION)
    reply = gate.ask(gate.conversation.connected())
    assert (reply.code, reply.then_close) == (554, True)
    (told,) = (fields for event, _, fields in gate.journal.events if event == "refused")
    assert told["reply"] == "554 5.7.1 mail refused by check against"


def test_checks_of_the_message_are_run_for_everybody():
    gate = Gate(settings(check("pills", "pills", "reject"), relay=RELAY), TRUSTED)
    assert gate.send(MAIL.replace(b"hello", b"pills"), FAR).code == 554
    assert gate.spool.entries() == ()


def test_what_was_seen_of_an_address_is_not_held_against_who_then_authenticates(monkeypatch: pytest.MonkeyPatch):
    gate = suspicious(monkeypatch, Stage.CONNECT, SESSION)
    gate.ask(gate.conversation.connected())
    assert answer(gate, ANN).code >= 500
    gate.conversation.reset()
    gate.ask(gate.conversation.hello(replace(SESSION, authenticated_as="ann")))
    assert gate.send(MAIL, FAR).code == 250


# --- backup by MX -----------------------------------------------------------------------------------------------------


def test_the_backup_of_a_domain_takes_its_mail():
    gate = Gate(settings(backup=BACKUP))
    gate.routes.found["backed.example"] = PRIMARY
    assert gate.send(MAIL, BACKED).code == 250
    assert gate.courier.routes == [PRIMARY]
    assert gate.routes.asked == [("backup", "backed.example")] * 2, "where it goes is looked up at each attempt"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (NoRoute(Reply(556, "5.1.10", "the domain of this address takes no mail")), DENIED),
        (NoRoute(Reply(550, "5.1.2", "no such domain")), DENIED),
        (None, DENIED),
        (Unavailable("SERVFAIL"), "451 4.4.3 the domain cannot be looked up now, try again later"),
    ],
)
def test_whoever_is_not_ours_hears_the_same_and_trouble_is_never_a_refusal(found: Any, said: str):
    gate = Gate(settings(backup=BACKUP))
    gate.routes.found["backed.example"] = found
    assert str(answer(gate, BACKED)) == said


def test_without_backup_primaries_nothing_is_looked_up():
    gate = Gate(settings())
    gate.routes.found["backed.example"] = PRIMARY
    assert str(answer(gate, BACKED)) == DENIED
    assert gate.routes.asked == []


def test_the_recipient_waits_for_the_dns():
    gate = Gate(settings(backup=BACKUP))
    gate.routes.found["backed.example"] = found = Deferred()
    gate.ask(gate.conversation.mail(Envelope(SENDER)))
    waiting = gate.ask(gate.conversation.recipient(BACKED))
    assert isinstance(waiting, Deferred)
    found.callback(PRIMARY)
    gate.routes.found["backed.example"] = PRIMARY
    assert gate.ask(gate.conversation.recipient(Address("bob", "backed.example"))).code == 250
    assert len(gate.routes.asked) == 1, "what was found holds for the transaction"


@pytest.mark.parametrize(
    ("found", "reason"),
    [(Unavailable("SERVFAIL"), "SERVFAIL"), (NoRoute(Reply(550, "5.4.4", "gone")), "550 5.4.4 gone")],
)
def test_what_was_accepted_is_kept_when_its_route_is_gone_at_the_dot(found: Exception, reason: str):
    gate = Gate(settings(backup=BACKUP))
    gate.routes.found["backed.example"] = PRIMARY
    gate.envelope(BACKED)
    gate.routes.found["backed.example"] = found

    assert gate.ask(gate.conversation.content(body(MAIL))).code == 250
    (entry,) = gate.spool.entries()
    assert (entry.via, entry.state, entry.next_attempt_at) == ("backup", State.ACTIVE, gate.clock.at)
    assert gate.journal.events[-1][2]["reason"] == reason


# --- what a host that is down could not take --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipient", "size", "utf8", "said"),
    [
        (ANN, None, False, 250),
        (ANN, 1000, False, 250),
        (ANN, 1001, False, 552),
        (ANN, None, True, 553),
        (BACKED, 1001, False, 552),
        (EVE, 1001, True, 250),
    ],
)
def test_what_cannot_be_delivered_is_not_accepted(recipient: Address, size: int | None, utf8: bool, said: int):
    gate = Gate(settings(backup=BACKUP))
    gate.routes.found["backed.example"] = PRIMARY
    gate.courier.limits = {"a.example": 1000, "backed.example": 1000}
    gate.ask(gate.conversation.mail(Envelope(SENDER, (), size, utf8=utf8)))
    reply = gate.ask(gate.conversation.recipient(recipient))
    assert reply.code == said
    if said != 250:
        assert reply.text.split()[-1] == gate.journal.events[-1][1]


def test_mail_that_leaves_us_is_asked_about_by_nobody():
    gate = Gate(settings(relay=RELAY), TRUSTED)
    gate.courier.limits = {"far.example": 1}
    assert gate.send(MAIL, FAR).code == 250
    assert gate.courier.asked == [] and gate.routes.asked == []


# --- the open relay nobody configured ---------------------------------------------------------------------------------

NAMES = [
    "a.example",
    "sub.a.example",
    "c.example",
    "far.example",
    "far.example.a.example",
    "xa.example",
    "mx.example.net",
]
LOCALS = ["ann", "postmaster", "ann%far.example", "far.example!ann", '"ann@far.example"', "|sh", "@far.example:ann"]
STRANGERS = ["198.51.100.7", "2001:db8::7", "::ffff:198.51.100.7", "127.0.0.1", "::1", "", "192.0.2.1"]
addresses = st.builds(
    Address,
    st.sampled_from(LOCALS),
    st.sampled_from([*NAMES, "", "[192.0.2.1]", "[IPv6:::1]", "192.0.2.1", "localhost"]),
)
sections = st.lists(
    st.builds(domain, st.sampled_from(NAMES[:3]), enabled=st.booleans(), subdomains=st.booleans()),
    max_size=3,
    unique_by=lambda each: each.name,
)
found = st.sampled_from([None, Unavailable("SERVFAIL"), NoRoute(Reply(550, "5.1.2", "no such domain"))])
strangers = st.builds(
    replace,
    st.just(SESSION),
    peer_ip=st.sampled_from(STRANGERS),
    hello=st.sampled_from(["mx.example.net", "a.example", "[192.0.2.50]", "localhost"]),
    local_ip=st.sampled_from(STRANGERS),
    tls=st.sampled_from(["", "TLSv1.3"]),
    reverse_name=st.sampled_from(["", "mail.a.example"]),
)


def named(address: Address, given_sections: list[Any]) -> bool:
    """Whether a section that is switched on names the domain, or the nearest name above it that takes its subdomains:
    written down anew, to be compared."""
    by_name = {each.name: each for each in given_sections}
    if address.domain in by_name:
        return by_name[address.domain].enabled
    labels = address.domain.split(".")
    above = (by_name.get(".".join(labels[number:])) for number in range(1, len(labels)))
    nearest = next((each for each in above if each is not None and each.subdomains), None)
    return nearest is not None and nearest.enabled


@how(max_examples=150, deadline=None)
@given(st.lists(addresses, min_size=1, max_size=4), sections, st.data(), strangers, st.booleans())
def test_without_a_grant_a_match_or_a_section_nobody_is_taken(
    recipients: list[Address], given_sections: list[Any], data: st.DataObject, stranger: Session, backs_up: bool
) -> None:
    ours: Settings = replace(
        settings(relay=RELAY, backup=BACKUP if backs_up else BackupSettings()),
        domains={each.name: each for each in given_sections},
    )
    gate = Gate(ours, stranger)
    gate.ask(gate.conversation.hello(stranger))
    sender = data.draw(st.sampled_from([None, SENDER, ANN, Address("postmaster", "mx.example.net")]))
    gate.ask(gate.conversation.mail(Envelope(sender)))
    for recipient in recipients:
        gate.routes.found[recipient.domain] = data.draw(found)
        reply = gate.ask(gate.conversation.recipient(recipient))
        routed = any(sign in recipient.local for sign in "@%!")
        bare = recipient.local == "postmaster" and not recipient.domain and any(s.enabled for s in given_sections)
        assert reply.code != 250 or bare or (named(recipient, given_sections) and not routed)
        assert reply.code in (250, 550, 553) or (backs_up and reply.code == 451)
