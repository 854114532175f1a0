"""Rows of a list: JSON with every key, where mail goes in words, and never much at once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fakes.disk import NOW, Lines, TestClock, a_deposit
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.app import finding
from inboundmx.app.listing import Listing, route_of
from inboundmx.app.operations import Operations
from inboundmx.model.address import Address
from inboundmx.model.custody import Host, SpoolEntry, SpoolRecipient, State, Status
from inboundmx.model.settings import ArchiveSettings, BackupSettings, DomainSettings, OutboundSettings, Settings

ENTRY = a_deposit("entry0000001").entry
HERE = DomainSettings("here.example", primary=(Host("192.0.2.1"), Host("2001:db8::1", 2525)))
SETTINGS = Settings(domains={"here.example": HERE})

texts = st.text(max_size=20)
addresses = st.builds(Address, st.text(min_size=1, max_size=20), texts)


@given(
    st.builds(
        replace,
        st.just(ENTRY),
        sender=st.none() | addresses,
        recipients=st.lists(
            st.builds(SpoolRecipient, addresses, st.sampled_from(Status), st.integers(0, 99), texts), max_size=3
        ).map(tuple),
        domain=texts,
        state=st.sampled_from(State),
        next_attempt_at=st.none() | st.floats(0, 4e9),
        received_at=st.floats(0, 4e9),
    )
)
def test_a_row_is_one_line_of_json_and_says_what_the_entry_does(entry: SpoolEntry) -> None:
    text = Listing(SETTINGS, NOW).row(entry)
    assert text.isascii() and text.isprintable()
    assert json.loads(text) == {
        "id": entry.id,
        "sender": None if entry.sender is None else str(entry.sender),
        "recipients": [
            {
                "address": str(recipient.address),
                "status": recipient.status,
                "attempts": recipient.attempts,
                "last_reply": recipient.last_reply or None,
            }
            for recipient in entry.recipients
        ],
        "size": entry.size,
        "state": entry.state,
        "priority": entry.priority,
        "attempts": entry.attempts,
        "next_attempt_at": entry.next_attempt_at,
        "age_seconds": max(0.0, round(NOW - entry.received_at, 3)),
        "domain": entry.domain or None,
        "route": "192.0.2.1:25 [2001:db8::1]:2525" if entry.domain == "here.example" else None,
    }


def test_columns_say_what_a_table_shows() -> None:
    bob, carl = (Address(name, "here.example") for name in ("bob", "carl"))
    many = (SpoolRecipient(bob, Status.DELIVERED), SpoolRecipient(carl), SpoolRecipient(bob, Status.FAILED))
    entries = [
        replace(ENTRY, received_at=NOW - 9.9, next_attempt_at=NOW + 9.9, attempts=3),
        replace(ENTRY, received_at=NOW + 5, next_attempt_at=NOW, sender=None, recipients=many, state=State.HELD),
        replace(ENTRY, received_at=NOW, next_attempt_at=None, recipients=many[:1], domain="gone.example"),
    ]
    assert json.loads(Listing(SETTINGS, NOW).columns(entries)) == {
        "id": [ENTRY.id] * 3,
        "state": ["active", "held", "active"],
        "age": [9, 0, 0],
        "size": [ENTRY.size] * 3,
        "attempts": [3, 0, 0],
        "due": [9, -1, None],
        "domain": ["here.example", "here.example", "gone.example"],
        "sender": ["alice@sender.example", "", "alice@sender.example"],
        "recipient": ["bob@here.example", "carl@here.example", "bob@here.example"],
        "recipients": [1, 3, 1],
        "delivered": [0, 1, 1],
    }


def test_columns_come_many_at_a_time_and_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "SORTED", 700)
    desk = Operations(Many(2500), None, Lines(), TestClock(), SETTINGS)  # type: ignore[arg-type]
    asked = desk.perform("spool.list", {"columns": True, "limit": 1500}, "ann")
    with pytest.raises(StopIteration) as done:
        asked.send(None)
    made = list(done.value.value)
    parts = [json.loads(part)["id"] for part in made if part is not None]
    assert [len(part) for part in parts] == [finding.TURN, 500]
    # Sorted in parts, too: a turn before each but the first.
    assert made[:4] == [None, None, None, made[3]]
    assert [id for part in parts for id in part] == [f"entry{number:07}" for number in range(2499, 999, -1)]


def relay(name: str, **facts: Any) -> OutboundSettings:
    return replace(OutboundSettings(name, server=(Host("relay.example"),)), **facts)


@pytest.mark.parametrize(
    ("domain", "via", "settings", "told"),
    [
        ("here.example", "", SETTINGS, "192.0.2.1:25 [2001:db8::1]:2525"),
        ("gone.example", "", SETTINGS, None),
        ("empty.example", "", Settings(domains={"empty.example": DomainSettings("empty.example")}), None),
        ("here.example", "outbound", SETTINGS, "direct"),
        ("far.example", "outbound", Settings(outbound=(relay("one"), relay("two"))), "one two"),
        ("far.example", "outbound", Settings(outbound=(relay("one", exclusive=False),)), "direct one"),
        ("far.example", "outbound", Settings(outbound=(relay("one", enabled=False),)), "direct"),
        ("far.example", "backup", SETTINGS, None),
        ("far.example", "backup", Settings(backup=BackupSettings((Any,))), "mx"),  # type: ignore[arg-type]
        ("copies", "archive", Settings(archives=(ArchiveSettings("copies"),)), "archive copies"),
        ("copies", "archive", SETTINGS, None),
    ],
)
def test_where_mail_goes_is_told_in_words(domain: str, via: str, settings: Settings, told: str | None) -> None:
    assert route_of(settings, domain, via, None, 5) == told
    assert json.loads(Listing(settings, NOW).row(replace(ENTRY, domain=domain, via=via)))["route"] == told


def test_the_gateway_that_a_sender_s_domain_names_is_told_of_its_mail_alone() -> None:
    named = replace(HERE, outbound="one")
    listing = Listing(
        Settings(domains={"here.example": named}, outbound=(relay("one", mode="domains"), relay("two"))), NOW
    )
    ours = replace(ENTRY, via="outbound", sender=Address("a", "here.example"))
    assert [json.loads(listing.row(e))["route"] for e in (ours, replace(ours, sender=None))] == ["one", "two"]


class Many:
    """A spool as far as a list is concerned."""

    def __init__(self, count: int) -> None:
        self._entries = [replace(ENTRY, id=f"entry{n:07}", received_at=NOW - n) for n in range(count)]

    def entries(self) -> list[SpoolEntry]:
        return self._entries


@pytest.mark.parametrize("arguments", [{}, {"recipient": "nobody@here.example"}])
def test_however_many_there_are_others_have_their_turn(arguments: dict[str, Any]) -> None:
    """Nothing is made before it is asked for, and whether or not entries are meant, few are looked at in one turn."""
    desk = Operations(Many(2500), None, Lines(), TestClock(), SETTINGS)  # type: ignore[arg-type]
    asked = desk.perform("spool.list", arguments, "ann")
    with pytest.raises(StopIteration) as done:
        asked.send(None)
    made = [row is not None for row in done.value.value]
    turns = [len(turn) for turn in "".join("r" if row else "." for row in made).split(".")]
    assert turns == ([0, 0, 0, 0] if arguments else [finding.TURN, finding.TURN, 500, 0])
