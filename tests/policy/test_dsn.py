"""What a sender asked to be told, and the names he gave: tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.policy.dsn import (
    decoded,
    hears_of_delay,
    hears_of_failure,
    hears_of_success,
    original_recipient,
    typed,
    written,
)


@pytest.mark.parametrize(
    ("notify", "failure", "delay", "success"),
    [
        ("", True, True, False),
        ("NEVER", False, False, False),
        ("FAILURE", True, False, False),
        ("DELAY", False, True, False),
        ("SUCCESS", False, False, True),
        ("SUCCESS,FAILURE", True, False, True),
        ("FAILURE,DELAY,SUCCESS", True, True, True),
    ],
)
def test_who_hears_of_what(notify: str, failure: bool, delay: bool, success: bool) -> None:
    assert (hears_of_failure(notify), hears_of_delay(notify), hears_of_success(notify)) == (failure, delay, success)


@pytest.mark.parametrize(
    ("xtext", "text"),
    [
        ("", ""),
        ("QQ314159", "QQ314159"),
        ("a+2Bb+3Dc+20d", "a+b=c d"),
        ("a+2b", "a+"),
        ("+2B2B", "+2B"),
        ("a+zz+", "a+zz+"),
    ],
)
def test_xtext(xtext: str, text: str) -> None:
    assert decoded(xtext) == text


@pytest.mark.parametrize(
    ("original", "kind", "text"),
    [
        ("", "", ""),
        ("nobody", "", ""),
        ("rfc822;Ann+2Bx@a.example", "rfc822", "Ann+x@a.example"),
        ("rfc822;a;b", "rfc822", "a;b"),
        (r"rfc822;a\x{FC}", "rfc822", r"a\x{FC}"),
        (r"utf-8;gr\x{FC}n\x{2B}x", "utf-8", "grün+x"),
        (r"UTF-8;\x{1F600}+2B", "UTF-8", "\U0001f600+2B"),
        (r"utf-8;\x{110000}", "utf-8", "?"),
    ],
)
def test_original_recipients(original: str, kind: str, text: str) -> None:
    assert original_recipient(original) == (kind, text)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_what_is_written_in_ascii_reads_as_it_was(local: str) -> None:
    shown = written(Address(local, "a.example"), utf8=False)
    assert shown.isascii()
    kind, _, rest = shown.partition("; ")
    if kind == "utf-8":
        assert original_recipient(f"{kind};{rest}") == (kind, f"{local}@a.example")
    else:
        assert rest == f"{local}@a.example"


def test_where_the_reader_takes_utf8_an_address_is_written_as_it_is() -> None:
    assert typed("rfc822", "grün@a.example", utf8=True) == "utf-8; grün@a.example"
    assert typed("x400", "/C=us/", utf8=True) == "x400; /C=us/"
