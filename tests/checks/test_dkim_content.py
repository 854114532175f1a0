"""Canonical forms: as another implementation has them, in any pieces, in steps that stay small."""

from __future__ import annotations

import hashlib

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.checks import dkim_content
from inboundmx.checks.dkim_content import PIECE, BodyForm, BodyHash, body_hashes

PARTS = st.sampled_from([b" ", b"\t", b"  \t", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"a", b"word", b"."])
BODIES = st.lists(PARTS, max_size=40).map(lambda parts: b"".join(parts) + b"\r\n")


def hashed(octets: bytes) -> BodyHash:
    return BodyHash(hashlib.sha256(octets).digest(), len(octets))


@settings(max_examples=200)
@given(BODIES, st.integers(2, 9))
def test_any_pieces_make_what_another_implementation_makes(body: bytes, piece: int) -> None:
    relaxed, simple = BodyForm("relaxed", None), BodyForm("simple", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dkim_content, "PIECE", piece)
        made = body_hashes(b"H: v\r\n\r\n" + body, 8, [relaxed, simple])

    assert made[relaxed] == hashed(Relaxed.canonicalize_body(body))
    assert made[simple] == hashed(Simple.canonicalize_body(body))


@pytest.mark.parametrize(
    ("body", "relaxed", "simple"),
    [
        (b"", b"", b"\r\n"),
        (b"\r\n", b"", b"\r\n"),
        (b" \t\r\n\r\n", b"", b" \t\r\n"),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a \t", b"a\r\n", b"a \t\r\n"),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n", b" C \r\nD \t E\r\n"),
    ],
)
def test_examples_of_rfc_6376(body: bytes, relaxed: bytes, simple: bytes) -> None:
    made = body_hashes(body, 0, [BodyForm("relaxed", None), BodyForm("simple", None)])
    assert list(made.values()) == [hashed(relaxed), hashed(simple)]


@pytest.mark.parametrize("length", [0, 1, 3, 7, 8, 9])
def test_a_length_limits_what_is_hashed_not_what_is_counted(length: int) -> None:
    made = body_hashes(b"a  b\r\nc\r\n", 0, [BodyForm("relaxed", length)])
    assert made == {BodyForm("relaxed", length): BodyHash(hashlib.sha256(b"a b\r\nc\r\n"[:length]).digest(), 8)}


@pytest.mark.parametrize(
    "body",
    [b" " * 2**20, b"\t \r\n" * 2**18, b"\r\n" * 2**19, b"\r" * 2**20, b"\n" * 2**20, (b" " * 990 + b"\r\n") * 1000],
    ids=["spaces", "blank lines", "empty lines", "CR", "LF", "long blank lines"],
)
def test_a_megabyte_is_worked_through_in_small_steps(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is given more than a piece and a little that was carried, so the cost of all grows with the length."""
    given_octets: list[int] = []
    reduce = dkim_content._reduced
    ends = dkim_content._line_ends
    monkeypatch.setattr(dkim_content, "_reduced", lambda text: given_octets.append(len(text)) or reduce(text))
    monkeypatch.setattr(
        dkim_content, "_line_ends", lambda text, start: given_octets.append(len(text)) or ends(text, start)
    )

    for piece in dkim_content._canonical(body + b"end\r\n", 0, True):
        assert len(piece) <= PIECE + 2

    assert max(given_octets) <= PIECE + 2
    assert sum(given_octets) <= 2.1 * len(body)
