"""DMARC records as text, and where names belong by the records above them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.checks.dmarc_record import Place, Record, place, record_of, walk


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v=DMARC1; p=reject", Record(True, "reject")),
        ("v=DMARC1;p=REJECT;", Record(True, "reject")),
        ("V = DMARC1 ; P = None", Record(True, "none")),
        ("v=DMARC1; p=quarantine; sp=none; np=reject", Record(True, "quarantine", "none", "reject")),
        ("v=DMARC1; p=none; adkim=s; aspf=S; psd=n; t=y",
         Record(True, "none", strict_dkim=True, strict_spf=True, suffix="n", testing=True)),
        ("v=DMARC1; p=none; adkim=x; aspf=; psd=maybe; t=1; pct=0; fo=1; x", Record(True, "none")),
        ("v=DMARC1; p=none; p=reject", Record(True, "none")),
        ("v=DMARC1; p=none; psd=u", Record(True, "none")),
        ("v=DMARC1; p=reject; pct=0", Record(True, "reject")),
        # What cannot be gone by, and what is meant as a wish for reports alone.
        ("v=DMARC1", Record(False, "none")),
        ("v=DMARC1; p=deny", Record(False, "none")),
        ("v=DMARC1; p=reject; sp=deny", Record(False, "none")),
        ("v=DMARC1; p=reject; np=deny", Record(False, "none")),
        ("v=DMARC1; psd=y", Record(False, "none", suffix="y")),
        ("v=DMARC1; rua=mailto:r@a.example", Record(True, "none")),
        ("v=DMARC1; p=deny; rua=https://a.example, mailto:r@a.example!10m", Record(True, "none")),
        ("v=DMARC1; p=deny; rua=mailto:nobody", Record(False, "none")),
        ("v=DMARC1; p=reject; sp=x; rua=mailto:r@a.example", Record(True, "none")),
        ("v=DMARC1; p=reject; " + "x" * 5000, Record(False)),
        # What is no record.
        ("v=DMARC2; p=reject", None),
        ("v=dmarc1; p=reject", None),
        ("v=DMARC10; p=reject", None),
        ("p=reject; v=DMARC1", None),
        (" v=DMARC1; p=reject", None),
        ("v=spf1 -all", None),
        ("", None),
    ],
)  # fmt: skip
def test_records(text: str, expected: Record | None) -> None:
    assert record_of([text.encode()]) == expected
    assert record_of([b"other text", text.encode()]) == expected


def test_two_records_are_as_good_as_none() -> None:
    assert record_of([b"v=DMARC1; p=none", b"v=DMARC1; p=reject"]) is None
    assert record_of([b"v=DMARC1; p=none", b"v=spf1"]) == Record(True, "none")
    assert record_of([]) is None


PARTS = st.sampled_from([b"v=DMARC1", b";", b"p=", b"reject", b"sp=none", b"\xff", b"\x00", b"=", b" ", b"rua="])


@given(st.lists(PARTS))
def test_no_text_is_too_odd(parts: list[bytes]) -> None:
    record = record_of([b"".join(parts)])
    assert record is None or record.policy in ("none", "reject", "")


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("example", ["example"]),
        ("a.example", ["a.example", "example"]),
        ("a.b.c.d.e.f.example", [".".join("abcdef"[at:]) + ".example" for at in range(6)] + ["example"]),
        ("1.a.b.c.d.e.f.example",
         ["1.a.b.c.d.e.f.example", *(".".join("abcdef"[at:]) + ".example" for at in range(6)), "example"]),
        ("x." * 60 + "a.b.c.d.e.f.example",
         ["x." * 60 + "a.b.c.d.e.f.example", *(".".join("abcdef"[at:]) + ".example" for at in range(6)), "example"]),
    ],
)  # fmt: skip
def test_the_walk_is_eight_names_at_most(domain: str, names: list[str]) -> None:
    assert list(walk(domain)) == names
    assert len(names) <= 8


REJECT, NONE = Record(True, "reject"), Record(True, "none")
SUFFIX, OWN = Record(True, "none", suffix="y"), Record(True, "quarantine", suffix="n")


@pytest.mark.parametrize(
    ("domain", "records", "organization", "source"),
    [
        ("a.example", {}, "a.example", None),
        ("a.example", {"a.example": REJECT}, "a.example", "a.example"),
        ("m.a.example", {"a.example": REJECT}, "a.example", "a.example"),
        ("m.a.example", {"m.a.example": NONE, "a.example": REJECT}, "a.example", "m.a.example"),
        # One between the author and the organization holds for nobody below it.
        ("x.m.a.example", {"m.a.example": NONE, "a.example": REJECT}, "a.example", "a.example"),
        # psd=n: this is the organization, whatever stands above.
        ("x.m.a.example", {"m.a.example": OWN, "a.example": REJECT}, "m.a.example", "m.a.example"),
        ("m.a.example", {"m.a.example": OWN, "a.example": REJECT}, "m.a.example", "m.a.example"),
        # psd=y: what stands right below it, with a record or without.
        ("m.a.bank.example", {"a.bank.example": REJECT, "bank.example": SUFFIX}, "a.bank.example", "a.bank.example"),
        ("m.a.bank.example", {"bank.example": SUFFIX}, "a.bank.example", "bank.example"),
        ("x.a.bank.example", {"x.a.bank.example": NONE, "bank.example": SUFFIX}, "a.bank.example", "x.a.bank.example"),
        ("a.bank.example", {"bank.example": SUFFIX, "example": REJECT}, "a.bank.example", "bank.example"),
        ("x." * 60 + "bank.example", {"bank.example": SUFFIX}, "x.bank.example", "bank.example"),
        # A suffix that sends mail itself.
        ("bank.example", {"bank.example": SUFFIX}, "bank.example", "bank.example"),
        ("bank.example", {"bank.example": SUFFIX, "example": REJECT}, "example", "bank.example"),
        ("x." * 60 + "a.example", {"a.example": REJECT}, "a.example", "a.example"),
    ],
)
def test_where_a_name_belongs(domain: str, records: dict[str, Record], organization: str, source: str | None) -> None:
    found = place(domain, records.get)
    assert found == Place(organization, source, records.get(source or ""))


def test_no_more_is_looked_at_than_decides() -> None:
    asked: list[str] = []
    records = {"m.a.example": OWN}
    place("x.m.a.example", lambda name: asked.append(name) or records.get(name))  # type: ignore[func-returns-value]
    assert asked == ["x.m.a.example", "m.a.example"]
