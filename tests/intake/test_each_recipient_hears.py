"""PRDR: each recipient hears his own verdict; without it, one answer holds for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from gate import ANN, BOB, EVE, HOST, MAIL, SENDER, SPAM, Gate, body, check, domain, settings
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.intake.acceptance import in_one
from inboundmx.model.address import Address
from inboundmx.model.custody import Handover, State
from inboundmx.model.envelope import Envelope
from inboundmx.model.reply import Replies, Reply
from inboundmx.model.settings import RecipientsSettings

IVY = Address("ivy", "c.example")
REFUSES = RecipientsSettings("refuses", (str(ANN),), weights={("pills", "match"): "reject"})
DEFERS = RecipientsSettings("defers", (str(BOB),), weights={("pills", "match"): "defer"})
MARKS = RecipientsSettings("marks", (str(IVY),), weights={("pills", "match"): 12.0})


def gate(**more: Any) -> Gate:
    domains = (domain("a.example", **more), domain("c.example", **more))
    return Gate(settings(check("pills", "pills", 3.0), domains=domains, recipients=(REFUSES, DEFERS, MARKS)))


def send(gate: Gate, *recipients: Address, content: bytes = SPAM, prdr: bool = True) -> Any:
    assert gate.ask(gate.conversation.mail(Envelope(SENDER), prdr=prdr)).code == 250
    for recipient in recipients:
        assert gate.ask(gate.conversation.recipient(recipient)).code == 250
    gate.conversation.draft()
    return gate.ask(gate.conversation.content(body(content)))


def codes(said: Any) -> list[int]:
    return [reply.code for reply in (*said.each, said.last)] if isinstance(said, Replies) else [said.code]


def told(gate: Gate) -> dict[str, tuple[str, ...]]:
    return {event: tuple(fields["recipients"]) for event, _, fields in gate.journal.events}


def test_each_hears_his_own_and_the_rest_is_handed_over_at_once() -> None:
    made = gate()
    said = send(made, EVE, ANN, BOB)
    assert codes(said) == [250, 554, 451, 250]
    (parcel,) = made.courier.parcels
    assert parcel.recipients == (EVE,)
    assert b"for <eve@c.example>" in parcel.content.prefix and b"pills=match(3)" in parcel.content.prefix
    assert made.spool.entries() == ()
    assert {reply.text.split()[-1] for reply in (*said.each, said.last)} == {parcel.message_id}
    events = [(event, fields["recipients"]) for event, _, fields in made.journal.events]
    assert events == [("handed_over", [str(EVE)]), ("refused", [str(ANN)]), ("refused", [str(BOB)])]


def test_several_lots_that_are_taken_go_by_the_disk() -> None:
    made = gate()
    assert codes(send(made, IVY, ANN, EVE)) == [250, 554, 250, 250]
    assert made.courier.parcels == []
    assert [e.state for e in made.spool.entries()] == [State.ACTIVE, State.ACTIVE]
    assert {r.address for e in made.spool.entries() for r in e.recipients} == {IVY, EVE}
    assert len({e.body_id for e in made.spool.entries()}) == 1


def test_where_all_are_alike_one_answer_is_enough() -> None:
    made = gate()
    assert codes(send(made, EVE, ANN, BOB, content=MAIL)) == [250]
    made.conversation.reset()
    assert codes(send(made, ANN, ANN)) == [554]
    made.conversation.reset()
    assert codes(send(made, EVE)) == [250]


def test_who_is_named_twice_is_answered_twice() -> None:
    made = gate()
    assert codes(send(made, ANN, EVE, ANN)) == [554, 250, 554, 250]
    assert made.courier.parcels[0].recipients == (EVE,)


def test_nobody_taken_is_never_a_message_taken() -> None:
    made = gate()
    assert codes(send(made, ANN, BOB)) == [554, 451, 451]
    assert (made.courier.parcels, made.spool.entries()) == ([], ())


@pytest.mark.parametrize(("code", "enhanced"), [(550, "5.1.1"), (451, "4.3.0")])
def test_the_primary_s_refusal_is_that_of_those_who_were_taken(code: int, enhanced: str) -> None:
    made = gate(tempfail="pass")
    kind = "refused" if code == 550 else "deferred"
    made.courier.handover = Handover(kind, HOST, Reply(code, enhanced, "no"))
    assert codes(send(made, EVE, ANN)) == ([550, 554, 550] if code == 550 else [451, 554, 451])


def test_a_disk_that_is_full_says_so_to_whom_it_concerns() -> None:
    from inboundmx.ports import StorageFull

    made = gate()
    made.spool.failure = StorageFull("full")
    assert codes(send(made, IVY, ANN, EVE)) == [452, 554, 452, 452]


def test_without_it_any_deferral_is_everybodys_and_the_refused_are_quarantined() -> None:
    made = gate()
    assert codes(send(made, EVE, BOB, prdr=False)) == [451]
    assert (made.courier.parcels, made.spool.entries()) == ([], ()), "nothing was handed over"
    made.conversation.reset()
    assert codes(send(made, EVE, ANN, prdr=False)) == [250]
    states = {r.address: e.state for e in made.spool.entries() for r in e.recipients}
    assert states == {EVE: State.ACTIVE, ANN: State.QUARANTINED}


def test_the_next_transaction_asks_anew() -> None:
    made = gate()
    assert codes(send(made, EVE, ANN)) == [250, 554, 250]
    made.conversation.reset()
    assert codes(send(made, EVE, ANN, prdr=False)) == [250]


REPLIES = st.builds(Reply, st.sampled_from([250, 451, 550]), st.just(""), st.sampled_from(["x", "y"]))


@given(st.lists(REPLIES, min_size=1, max_size=5))
def test_the_last_answer_never_promises_what_nobody_has(each: list[Reply]) -> None:
    said = in_one(tuple(each))
    if isinstance(said, Reply):
        assert set(each) == {said}
        return
    assert said.each == tuple(each) and said.last in each
    assert said.positive == any(reply.positive for reply in each)
    assert said.last.permanent == all(reply.permanent for reply in each)
