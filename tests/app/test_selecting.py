"""A query: what it cannot hold, and when it holds nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.selecting import selection
from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, SpoolRecipient


@pytest.mark.parametrize(
    "arguments",
    [
        {"ids": "e1"},
        {"ids": [1]},
        {"ids": [""]},
        {"older": "5m"},
        {"older": True},
        {"since": "2h"},
        {"cause": 5},
        {"state": "lost"},
        {"domain": 5},
        {"sender": ["a"]},
        {"colour": "red"},
        {"domain": "ü..example"},
    ],
)
def test_a_query_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        selection(arguments)


@pytest.mark.parametrize(
    ("arguments", "empty"),
    [
        ({}, True),
        ({"ids": [], "domain": "", "state": "", "dry_run": True}, True),
        ({"ids": ["e1"]}, False),
        ({"sender": "<>"}, False),
        ({"older": 0}, False),
        ({"since": 0.0}, False),
        ({"cause": "spf"}, False),
    ],
)
@pytest.mark.parametrize("quarantined", [False, True])
def test_a_query_for_all_of_the_spool_or_the_quarantine_is_empty(
    arguments: dict[str, Any], empty: bool, quarantined: bool
) -> None:
    assert selection(arguments, quarantined).empty is empty


COPY = SpoolEntry(
    "copy1", "m1", "b1", 1000.0, Address("s", "b.example"), (SpoolRecipient(Address("ann", "a.example")),), 10, "sales",
    via="archive",
)  # fmt: skip
MAIL = replace(COPY, id="mail1", domain="a.example", via="")


@pytest.mark.parametrize(
    ("arguments", "mail", "copy"),
    [
        ({}, True, True),
        ({"state": "active"}, True, True),
        ({"ids": ["m1"]}, True, False),
        ({"ids": ["copy1"]}, False, True),
        ({"domain": "a.example"}, True, False),
        ({"domain": "sales"}, False, True),
        ({"recipient": "ann@a.example"}, True, False),
        ({"sender": "s@b.example"}, True, False),
    ],
)
def test_a_copy_for_an_archive_is_not_meant_by_whose_mail_it_is(
    arguments: dict[str, Any], mail: bool, copy: bool
) -> None:
    query = selection(arguments)
    assert (query.means(MAIL, 2000.0), query.means(COPY, 2000.0)) == (mail, copy)
