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
from inboundmx.spool.store import entry_of, facts_of, facts_sum

addresses = st.builds(Address, st.text(min_size=1, max_size=20), st.text(max_size=20))
entries = st.builds(
    replace,
    st.just(a_deposit("0000000000aa").entry),
    sender=st.none() | addresses,
    recipients=st.lists(
        st.builds(SpoolRecipient, addresses, st.sampled_from(Status), st.integers(0, 99), st.text(max_size=30)),
        max_size=3,
    ).map(tuple),
    state=st.sampled_from(State),
    next_attempt_at=st.none() | st.floats(0, 4e9),
    hello=st.text(max_size=30),
    priority=st.integers(1, 10),
    utf8=st.booleans(),
)


def row_of(entry: SpoolEntry) -> list[object]:
    facts = facts_of(entry)
    columns = (entry.id, entry.body_id, entry.state.value, entry.next_attempt_at)
    return [*columns, facts, facts_sum(*columns, facts)]


@given(entries)
@settings(max_examples=100, deadline=None)
def test_an_entry_comes_back_as_it_was(entry: SpoolEntry) -> None:
    assert entry_of(*row_of(entry)) == entry


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
