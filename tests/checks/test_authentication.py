"""Clauses for Authentication-Results, read back by an independent parser."""

from __future__ import annotations

import authres
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.checks.authentication import CLAUSES_LIMIT, clause, joined, pvalue


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a.example", "a.example"),
        ("_spf.a-b.example", "_spf.a-b.example"),
        ("", '""'),
        ("[192.0.2.1]", '"[192.0.2.1]"'),
        ('a";spf=pass', '"a\\";spf=pass"'),
        ("a\\", '"a\\\\"'),
        ("a\r\nX: y", '"a??X: y"'),
        ("é.example\x00", '"?.example?"'),
        ("(comment)", '"(comment)"'),
        ("x" * 300, "x" * 255),
    ],
)
def test_values_are_quoted_where_the_grammar_asks(value: str, written: str) -> None:
    assert pvalue(value) == written


@settings(max_examples=150)
@given(st.text(max_size=300))
def test_a_value_stays_one_value(value: str) -> None:
    text = clause("spf", "fail", (("smtp.mailfrom", value),), "not this one")
    (read,) = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: mx.example; {text}").results
    assert (read.method, read.result) == ("spf", "fail")
    assert [(each.type, each.name) for each in read.properties] == [("smtp", "mailfrom")]


def test_clauses_that_find_no_room_are_left_out_whole() -> None:
    one = clause("dkim", "pass", (("header.d", "x" * 250),))
    text = joined([one] * 9 + ["dkim=none"])
    assert len(text) <= CLAUSES_LIMIT
    assert text.split("; ") == [one] * 3 + ["dkim=none"]
