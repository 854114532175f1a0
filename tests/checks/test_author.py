"""Whom a message is from, in every way it can be written: the domains, and when nobody can be sure of them."""

from __future__ import annotations

from email.utils import parseaddr

import pytest
from fakes.pace import cpu, pace
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.checks.author import DOMAINS_LIMIT, FIELD_LIMIT, authors
from inboundmx.model.message import Body, Message


def message(*lines: str) -> Message:
    octets = "".join(f"{line}\r\n" for line in (*lines, "", "From: body@body.example")).encode("utf-8", "replace")
    return Message("m", Body(len(octets), octets, None, b""))


NO_LIST = "From is no list of mailboxes"
ENCODED = "an encoded word holds another address"
NO_FIELD = "a line of the header section is no field"
TWO = "more than one From"


@pytest.mark.parametrize(
    ("text", "domains", "flaw", "mailbox"),
    [
        ("ann@a.example", "a.example", "", "ann@a.example"),
        ("<ann@a.example>", "a.example", "", "ann@a.example"),
        ("Ann Example <ann@A.Example> ", "a.example", "", "ann@a.example"),
        ('"Example, Ann" <ann@a.example>', "a.example", "", "ann@a.example"),
        ('"A \\" B" <"ann bell"@a.example>', "a.example", "", '"ann bell"@a.example'),
        ("Ann\r\n <ann@a.example>", "a.example", "", "ann@a.example"),
        ("\r\n ann@a.example", "a.example", "", "ann@a.example"),
        ("=?utf-8?q?J=C3=BCrgen?= <j@a.example>", "a.example", "", "j@a.example"),
        ("ann@bücher.example", "xn--bcher-kva.example", "", "ann@xn--bcher-kva.example"),
        ("ann@a_b.example", "a_b.example", "", "ann@a_b.example"),
        ("ann@localhost", "localhost", "", "ann@localhost"),
        # Comments are nobody's address.
        ("ann@a.example (Ann (the one))", "a.example", "", None),
        ("ann@a.example (eve@b.example)", "a.example", "", None),
        ("ann@a.example (\"eve@b.example)", "a.example", "", None),
        ("(eve@b.example) ann@(x)a.example", "a.example", "", None),
        ("ann@a.example (open", "a.example", NO_LIST, None),
        ('ann@a.example (")" <eve@b.example>)', "a.example b.example", NO_LIST, None),
        # A quoted name is a name, whatever it holds.
        ('"eve@b.example" <ann@a.example>', "a.example", "", "ann@a.example"),
        ('"eve@b.example, <eve@b.example>" <ann@a.example>', "a.example", "", "ann@a.example"),
        # Without quotes it is an address for some.
        ("eve@b.example <ann@a.example>", "a.example b.example", "", None),
        ("ann@a.example <ann@a.example>", "a.example", "", "ann@a.example"),
        ("Tom @ Work <tom@a.example>", "a.example", "", "tom@a.example"),
        # Several.
        ("ann@a.example, eve@b.example", "a.example b.example", "", None),
        ("a@b.example, <c@d.example>", "b.example d.example", "", None),
        ("ann@a.example, bob@a.example", "a.example", "", None),
        ("ann@a.example,", "a.example", NO_LIST, None),
        ("ann@a.example; eve@b.example", "a.example b.example", NO_LIST, None),
        (", ".join(f"x@d{n}.example" for n in range(9)), " ".join(f"d{n}.example" for n in range(5)),
         "too many authors", None),
        # Groups.
        ("All: ann@a.example, eve@b.example;", "a.example b.example", NO_LIST, None),
        ("nobody:;", "", NO_LIST, None),
        # Encoded words.
        ("=?utf-8?q?eve=40b.example?= <ann@a.example>", "a.example", ENCODED, None),
        ("=?utf-8?b?PGV2ZUBiLmV4YW1wbGU+?= <ann@a.example>", "a.example", ENCODED, None),
        ('"=?utf-8?q?eve=40b.example?=" <ann@a.example>', "a.example", ENCODED, None),
        ("=?utf-8?q?ann=40a.example?= <ann@a.example>", "a.example", "", "ann@a.example"),
        ("=?utf-8?b?ZXZlQGIuZXhhbXBsZQ==?=", "b.example", NO_LIST, None),
        # What is no address, or more than one for readers that are less strict.
        ("", "", "From is empty", None),
        (" ", "", "From is empty", None),
        ("Ann", "", NO_LIST, None),
        ("<>", "", NO_LIST, None),
        ("ann@[192.0.2.1]", "", NO_LIST, None),
        ("<@b.example:ann@a.example>", "b.example a.example", NO_LIST, None),
        ("<ann@a.example> <eve@b.example>", "a.example b.example", NO_LIST, None),
        ("<ann@a.example>eve@b.example", "a.example b.example", NO_LIST, None),
        ("<<ann@a.example>>", "a.example", NO_LIST, None),
        ("ann@a.example@b.example", "a.example b.example", NO_LIST, None),
        ("ann@ a.example", "a.example", NO_LIST, None),
        ("ann@a.example.", "a.example", NO_LIST, None),
        ("ann@a..example", "", NO_LIST, None),
        ('"ann@a.example', "a.example", NO_LIST, None),
        ("ann@a.example\x00", "a.example", NO_LIST, None),
        ("ann@a.example\x00.b.example", "a.example", NO_LIST, None),
        ("eve@b.example\x00 <ann@a.example>", "b.example a.example", NO_LIST, None),
        ("ann@a\x0b.example", "", NO_LIST, None),
        ("x" * FIELD_LIMIT + " <ann@a.example>", "a.example", "From is too long", None),
    ],
)  # fmt: skip
def test_the_only_from(text: str, domains: str, flaw: str, mailbox: str | None) -> None:
    found = authors(message("Subject: x", f"From: {text}"))
    assert (" ".join(found.domains), found.flaw) == (domains, flaw)
    assert (None if found.mailbox is None else str(found.mailbox)) == mailbox


@pytest.mark.parametrize(
    ("lines", "domains", "flaw"),
    [
        (["FROM:ann@a.example"], "a.example", ""),
        (["From : ann@a.example"], "a.example", ""),
        (["From\t: ann@a.example"], "a.example", ""),
        (["Sender: ann@a.example"], "", "no From"),
        (["From: ann@a.example", "From: eve@b.example"], "a.example b.example", TWO),
        (["From: ann@a.example", "from : ann@a.example"], "a.example", TWO),
        # Continues the field before it, for everybody who goes by the book.
        (["Subject: x", " From: eve@b.example", "From: ann@a.example"], "a.example", ""),
        # What we see no field in, others may.
        ([" From: eve@b.example", "From: ann@a.example"], "b.example a.example", NO_FIELD),
        (["\x00From: eve@b.example"], "b.example", NO_FIELD),
        (["From\x00: eve@b.example", "From: ann@a.example"], "b.example a.example", NO_FIELD),
        (["From: ann@a.example", "no field", "From: eve@b.example"], "a.example b.example", NO_FIELD),
        (["From: ann@a.example", ": x", "From:", " eve@b.example"], "a.example b.example", NO_FIELD),
        (["From: ann@a.example", "no field", "x From: eve@b.example"], "a.example", NO_FIELD),
        ([], "", NO_FIELD),
    ],
)  # fmt: skip
def test_several_and_hidden_ones(lines: list[str], domains: str, flaw: str) -> None:
    found = authors(message(*lines))
    assert (" ".join(found.domains), found.flaw, found.mailbox is None) == (domains, flaw, bool(flaw) or not domains)


@pytest.mark.parametrize(
    "piece",
    ["(", ")", "<", ">", '"', "\\", '\\"', '"a', ",", ":", ";", "@", " @", "@é", "@a.", "a@b.example,", "=?", "=?q?q?",
     " ", "\r\n ", "\x00", "((a", '"(', "a<", "é"],
)  # fmt: skip
def test_the_work_grows_with_the_length_alone(piece: str) -> None:
    """If it grew with the square, 100 KB would be minutes of work."""
    for size in (100_000, FIELD_LIMIT - 10):
        given = message(f"From: {piece * (size // len(piece.encode()))}")
        assert len(given.fields) <= 2
        assert cpu(lambda given=given: authors(given)) < pace()


PIECES = st.sampled_from(
    ["a@a.example", "b@b.example", "<", ">", '"', "(", ")", ",", ":", ";", "\\", " ", "@", "\x00", "é", "=?utf-8?q?",
     "=40", "?=", "x", ".", "\r\n "]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_reader_sees_an_author_whom_we_do_not(text: str) -> None:
    """What is without a flaw holds whomever the standard library's reader would show, unless a quoted name hid it."""
    found = authors(message(f"From: {text}"))
    assert len(found.domains) <= DOMAINS_LIMIT
    if found.flaw:
        assert found.mailbox is None
        return
    assert found.domains
    shown = parseaddr(text.replace("\r\n", ""))[1].rpartition("@")[2]
    if shown in ("a.example", "b.example") and '"' not in text and "(" not in text:
        assert shown in found.domains
