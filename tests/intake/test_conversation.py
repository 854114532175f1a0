"""What a stranger hears before the final dot, and what is remembered of it."""

from __future__ import annotations

from typing import ClassVar

import gate as gate_parts
import pytest
from gate import ANN, EVE, MAIL, SENDER, SESSION, Gate, body, check, domain, settings

from inboundmx.checks.api import Case
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.reply import Reply
from inboundmx.model.settings import CheckSettings, DomainSettings, SmtpSettings


def test_the_greeting_names_the_gateway():
    assert Gate(settings()).ask(Gate(settings()).conversation.connected()) == Reply(
        220, "", "mx.example.net ESMTP inboundmx"
    )


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        (ANN, 250),
        (Address("anybody", "c.example"), 250),
        (Address("postmaster", ""), 250),
        (Address("ann", "b.example"), 550),
        (Address("ann", "sub.a.example"), 550),
        (Address("ann", "[192.0.2.1]"), 553),
        (Address("ann%b.example", "a.example"), 550),
        (Address('"ann@b.example"', "a.example"), 550),
        (Address("b.example!ann", "a.example"), 550),
    ],
)
def test_recipients_of_our_domains_alone_are_taken(recipient, code):
    gate = Gate(settings())
    gate.ask(gate.conversation.mail(Envelope(SENDER)))
    reply = gate.ask(gate.conversation.recipient(recipient))
    assert reply.code == code
    if code >= 500:
        event, id, fields = gate.journal.events[-1]
        assert (event, fields["recipient"]) == ("refused", str(recipient))
        assert reply.text.split()[-1] == id


def test_bare_postmaster_becomes_an_address_that_can_be_delivered():
    gate = Gate(settings())
    gate.send(MAIL, Address("Postmaster", ""))
    assert gate.courier.parcels[0].recipients == (Address("postmaster", "a.example"),)


def test_a_recipient_given_twice_is_sent_to_once():
    gate = Gate(settings())
    gate.send(MAIL, ANN, ANN)
    assert gate.courier.parcels[0].recipients == (ANN,)


@pytest.mark.parametrize(
    ("free", "size", "code"), [(2**20, None, 250), (2**20 - 1, None, 452), (2**21, 2**20 + 1, 452)]
)
def test_a_disk_that_is_nearly_full_says_so_at_mail(free, size, code):
    gate = Gate(settings())
    gate.spool.free = free
    assert gate.ask(gate.conversation.mail(Envelope(SENDER, (), size))).code == code


def test_each_transaction_has_an_id_of_its_own_and_the_session_one_for_the_rest():
    gate = Gate(settings())
    outside = gate.conversation.refused("helo", Reply(501, "5.5.4", "what"))
    assert outside.text == f"what {SESSION.id}"
    first = gate.send(MAIL, ANN).text.split()[-1]
    gate.conversation.reset()
    second = gate.send(MAIL, ANN).text.split()[-1]
    assert len({SESSION.id, first, second}) == 3
    gate.conversation.reset()
    assert gate.conversation.refused("noop", Reply(500, "5.5.1", "no")).text.endswith(SESSION.id)


def test_a_message_that_goes_in_circles_is_refused():
    gate = Gate(settings(smtp=SmtpSettings(max_hop_count=3)))
    hop = b"Received: from a by b; Sat, 1 Jan 2028 00:00:00 +0000\r\n"
    assert gate.send(hop * 3 + MAIL, ANN).code == 250
    gate.conversation.reset()
    reply = gate.send(hop * 4 + MAIL, ANN)
    assert (reply.code, reply.enhanced) == (554, "5.4.6")
    assert len(gate.courier.parcels) == 1


def test_a_header_section_without_end_is_refused():
    gate = Gate(settings())
    reply = gate.send(b"X-Long: " + b"a" * 300_000 + b"\r\n\r\nbody\r\n", ANN)
    assert (reply.code, reply.enhanced) == (554, "5.6.0")


@pytest.mark.parametrize(("lines", "code"), [(9_000, 250), (10_001, 554)])
def test_a_header_section_of_very_many_lines_is_refused(lines, code):
    gate = Gate(settings())
    assert gate.send(b"X: y\r\n" * lines + b"\r\nbody\r\n", ANN).code == code


def test_a_draft_that_nobody_took_over_is_discarded():
    gate = Gate(settings())
    gate.envelope(ANN)
    gate.conversation.draft()
    gate.conversation.closed("lost")
    assert gate.drafts[0].discarded


def test_a_draft_that_the_spool_took_over_is_left_alone():
    from inboundmx.model.custody import Handover

    gate = Gate(settings())
    gate.courier.handover = Handover("postponed", detail="down")
    assert gate.send(MAIL, ANN).code == 250
    gate.conversation.reset()
    assert not gate.drafts[0].discarded


def test_content_outside_a_transaction_is_a_fault_and_not_mail():
    gate = Gate(settings())
    with pytest.raises(RuntimeError):
        gate.ask(gate.conversation.content(body(MAIL)))


def test_what_is_refused_tells_what_was_seen():
    gate = Gate(settings(check("pills", "pills", "reject")))
    reply = gate.send(MAIL.replace(b"hello", b"pills"), ANN)
    assert (reply.code, reply.enhanced) == (554, "5.7.1")
    event, id, fields = gate.journal.events[-1]
    assert event == "refused"
    assert fields["checks"] == [["pills", "match", "reject", fields["checks"][0][3]]]
    assert fields["sender"] == "s@b.example"
    assert reply.text.split()[-1] == id


class Remembering:
    """A check at RCPT in place of greylisting: what it says of each recipient, in order."""

    kind = "greylist"
    stage = Stage.RECIPIENT
    outcomes = frozenset({"new", "known"})
    after = frozenset[str]()
    dear = False
    again = None
    about = "other"
    client = ""
    most_points = 0.0
    said: ClassVar[list[tuple[Address, str]]] = []

    def __init__(self, options: object) -> None:
        self.left = list(self.said)

    @classmethod
    def words(cls, options: object) -> frozenset[str]:
        return cls.outcomes

    async def examine(self, case: Case) -> Finding:
        recipient, outcome = self.left.pop(0)
        assert case.recipient == recipient
        return Finding(outcome, f"says {outcome}")


def remembering(
    monkeypatch: pytest.MonkeyPatch, said: list[tuple[Address, str]], domains: tuple[DomainSettings, ...] = ()
) -> Gate:
    monkeypatch.setattr(Remembering, "said", said)
    monkeypatch.setitem(gate_parts.KINDS, "greylist", Remembering)
    weights = {"new": "defer", "known": -2.0, "error": 0.0, "timeout": 0.0}
    return Gate(settings(CheckSettings("memory", "greylist", weights=weights, options={}), domains=domains))


def test_what_is_seen_of_one_recipient_is_not_held_against_another(monkeypatch):
    """The first one's domain lets strangers in; the second one's does not, but knows this one."""
    lenient = domain("a.example", weights={("memory", "new"): 3.0})
    gate = remembering(monkeypatch, [(ANN, "new"), (EVE, "known")], domains=(lenient, domain("c.example")))
    gate.envelope(ANN, EVE)


def test_a_recipient_named_again_and_again_weighs_once(monkeypatch):
    gate = remembering(monkeypatch, [(ANN, "known")] * 5)
    gate.send(MAIL, *[ANN] * 5)
    [(event, _, fields)] = gate.journal.events
    assert (event, fields["score"]) == ("handed_over", -2.0)


def test_an_early_refusal_tells_what_the_check_saw(monkeypatch):
    gate = remembering(monkeypatch, [(ANN, "new")])
    gate.envelope()
    assert gate.ask(gate.conversation.recipient(ANN)).code == 451
    [(event, _, fields)] = gate.journal.events
    assert (event, fields["checks"]) == ("refused", [["memory", "new", "defer", "says new"]])


def test_ten_strangers_to_one_domain_weigh_no_more_than_one(monkeypatch):
    people = [Address(f"u{number}", "a.example") for number in range(10)]
    lenient = domain("a.example", weights={("memory", "new"): 3.0})
    gate = remembering(monkeypatch, [(each, "new") for each in people], domains=(lenient,))
    assert gate.send(MAIL, *people).code == 250
    [(event, _, fields)] = gate.journal.events
    assert (event, fields["score"], fields["checks"]) == ("handed_over", 3.0, [["memory", "new", 3.0, "says new"]])


def test_what_is_being_judged_is_in_hand_until_it_is_over():
    class Hand:
        def __init__(self):
            self.ids, self.had = set(), []

        def take(self, id):
            self.ids.add(id)
            self.had.append(id)

        def drop(self, id):
            self.ids.discard(id)

    gate = Gate(settings())
    gate.reception.hand = hand = Hand()
    gate.send(MAIL, ANN)
    assert len(hand.had) == 1
    assert hand.ids == set(hand.had)
    gate.conversation.reset()
    assert hand.ids == set()
