"""A query: what it cannot hold, and when it holds nothing."""

from __future__ import annotations

from typing import Any

import pytest

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.selecting import selection


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
