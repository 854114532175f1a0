"""An entry written down and read again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.disk import a_deposit
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, SpoolRecipient, State, Status
from inboundmx.ports import Damaged
from inboundmx.spool.store import entry_of, facts_of, facts_sum, shared

addresses = st.builds(Address, st.text(min_size=1, max_size=20), st.text(max_size=20))
entries = st.builds(
    replace,
    st.just(a_deposit("0000000000aa").entry),
    sender=st.none() | addresses,
    recipients=st.lists(
        st.builds(
            SpoolRecipient,
            addresses,
            st.sampled_from(Status),
            st.integers(0, 99),
            st.text(max_size=30),
            st.just("") | st.text(max_size=30),
            st.just("") | st.text(max_size=30),
        ),
        max_size=3,
    ).map(tuple),
    state=st.sampled_from(State),
    next_attempt_at=st.none() | st.floats(0, 4e9),
    hello=st.text(max_size=30),
    priority=st.integers(1, 10),
    utf8=st.booleans(),
    unverified=st.booleans(),
    via=st.sampled_from(["", "backup", "outbound", "archive"]),
    peer_name=st.text(max_size=30),
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=st.text(max_size=30),
)


def row_of(entry: SpoolEntry) -> list[object]:
    facts = facts_of(entry)
    columns = (entry.id, entry.body_id, entry.state.value, entry.next_attempt_at)
    return [*columns, facts, facts_sum(*columns, facts)]


@given(entries)
@settings(max_examples=100, deadline=None)
def test_an_entry_comes_back_as_it_was(entry: SpoolEntry) -> None:
    assert entry_of(*row_of(entry)) == entry == shared(entry)


def test_what_is_not_said_takes_no_room() -> None:
    facts = facts_of(a_deposit("0000000000aa").entry)
    assert not any(f'"{name}":' in facts for name in ("via", "peer_name", "ret", "envid"))
    assert '"recipients":[["bob","here.example","pending",0,""]]' in facts


def test_facts_of_the_first_release_are_read() -> None:
    """Written out once, and never to be altered with the code."""
    facts = (
        '{"v":1,"message_id":"told00000001","received_at":1700000000.25,"sender":["alice","sender.example"],'
        '"recipients":[["bob","here.example","failed",2,"550 no"]],"size":21,"domain":"here.example","priority":5,'
        '"cause":"","attempts":2,"slots_used":1,"dns_errors":0,"expires_at":null,"eight_bit":false,"utf8":false,'
        '"may_notify":true,"delay_notified":false,"notice":false,"level":"none","peer_ip":"192.0.2.1","hello":"c"}'
    )
    columns = ("0000000000aa", "0000000000aa", "active", 1_700_000_000.5)
    entry = a_deposit(
        "0000000000aa",
        message_id="told00000001",
        recipients=(SpoolRecipient(Address("bob", "here.example"), Status.FAILED, 2, "550 no"),),
        size=21,
        attempts=2,
        slots_used=1,
        may_notify=True,
        peer_ip="192.0.2.1",
        hello="c",
    ).entry
    assert entry_of(*columns, facts, facts_sum(*columns, facts)) == entry


def test_entries_that_say_the_same_share_it() -> None:
    """What a hundred thousand entries say alike is in memory once."""
    rows = [row_of(a_deposit(f"{n:012}", hello="a.client.example", peer_name="b.client.example").entry) for n in (1, 2)]
    for one, two in (
        [entry_of(*row) for row in rows],
        [shared(replace(entry_of(*row), hello="".join(["a.", "client.example"]))) for row in rows],
    ):
        the_same(one, two)


def the_same(one: SpoolEntry, two: SpoolEntry) -> None:
    assert one.recipients[0] is two.recipients[0]
    for name in ("sender", "domain", "hello", "peer_name", "peer_ip", "level", "cause", "via"):
        assert getattr(one, name) is getattr(two, name), name


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, "0000000000ab"),
        (0, 7),
        (1, "0000000000ab"),
        (2, "held"),
        (3, None),
        (3, 1.0),
        (4, "{}"),
        (4, None),
        (4, b"\xff"),
        (5, 0),
        (5, None),
    ],
)
def test_an_altered_row_is_found_out(column: int, value: object) -> None:
    row = row_of(a_deposit("0000000000aa").entry)
    row[column] = value
    with pytest.raises(Damaged):
        entry_of(*row)


@pytest.mark.parametrize("facts", ["[]", "1", "{", '{"v":2}', '{"v":1}', '{"v":1,"sender":3,"recipients":[]}'])
def test_a_row_that_is_whole_but_says_something_else_is_damaged(facts: str) -> None:
    with pytest.raises(Damaged):
        entry_of("a", "b", "active", None, facts, facts_sum("a", "b", "active", None, facts))
