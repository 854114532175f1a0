"""The ARC check: right chains, every way in which one is wrong, and how far trust in a sealer reaches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import authres
import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from fakes.arc_sealing import sealed_by
from fakes.checks import FakeOffload, examined, tools
from fakes.dkim_signing import MAIL, NAMES, ed25519_record, rsa_key, rsa_record
from fakes.resolver import FakeResolver
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.checks.api import Case
from inboundmx.checks.arc import Arc
from inboundmx.checks.arc_chain import SETS, passed
from inboundmx.checks.dmarc import Dmarc
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.message import SMALL_BODY, Body, Field, Message
from inboundmx.model.session import Session
from inboundmx.ports import Unavailable

SESSION = Session("s", "192.0.2.1", 25000, "192.0.2.25", 0.0, "mx.list.example")
RSA = rsa_record(rsa_key())
ONE = sealed_by("list.example", MAIL)
TWO = sealed_by("big.example", ONE, "arc=pass; dmarc=fail header.from=a.example")
SEALERS = ("list.example", "big.example", "evil.example")


def zone(**more: Any) -> dict[str, Any]:
    keys = {f"s._domainkey.{domain}": {"TXT": [RSA]} for domain in SEALERS}
    return keys | {f"s._domainkey.{name.replace('_', '.')}": value for name, value in more.items()}


def case(mail: bytes, *results: CheckResult) -> Case:
    message = Message("id", Body(len(mail), mail, None, b""))
    return Case(SESSION, Envelope(Address("bounces", "list.example")), None, message, results)


def found(mail: bytes, answers: Any = None, *, trusted: tuple[str, ...] = ()) -> Finding:
    return examined(Arc({"trusted": trusted}, tools(zone() if answers is None else answers)), case(mail))


@pytest.mark.parametrize(
    ("mail", "outcome", "clause"),
    [
        (MAIL, "none", "arc=none"),
        (ONE, "pass", "arc=pass (i=1 d=list.example)"),
        (TWO, "pass", "arc=pass (i=2 d=big.example)"),
        (sealed_by("list.example", TWO), "pass", "arc=pass (i=3 d=list.example)"),
    ],
)
def test_right_chains(mail: bytes, outcome: str, clause: str) -> None:
    finding = found(mail)
    assert (finding.outcome, finding.authentication, finding.facts) == (outcome, clause, ())


def test_a_chain_by_another_program_passes_and_ours_passes_there() -> None:
    pem = rsa_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    mail = MAIL
    for domain in (b"list.example", b"big.example"):
        mail = b"Authentication-Results: " + domain + b"; dmarc=pass header.from=a.example\r\n" + mail
        mail = b"".join(dkim.arc_sign(mail, b"s", domain, pem, domain, include_headers=list(NAMES))) + mail
    assert found(mail).outcome == "pass"
    for ours, expected in ((TWO, b"pass"), (TWO.replace(b"Bye", b"Buy"), b"fail")):
        status, _, _ = dkim.arc_verify(ours, dnsfunc=lambda name, timeout=0: RSA.encode())
        assert status == expected
        assert found(ours).outcome == expected.decode()


def altered(before: bytes, after: bytes, mail: bytes = TWO) -> bytes:
    assert before in mail
    return mail.replace(before, after, 1)


@pytest.mark.parametrize(
    ("mail", "reason"),
    [
        (altered(b"Bye", b"Buy"), "the body has been altered"),
        (altered(b"Subject: a", b"Subject: b"), "the header has been altered"),
        (b"Subject: evil\r\n" + TWO, "a second subject is not signed"),
        (b"From: eve@evil.example\r\n" + TWO, "a second from is not signed"),
        (altered(b"\r\n\r\n", b"\r\nno field\r\n\r\n"), "a line of the header section is no field"),
        (altered(b"dmarc=fail", b"dmarc=pass"), "the seal of big.example is wrong"),
        (altered(b"dmarc=pass", b"dmarc=none"), "the seal of big.example is wrong"),
        # Not whole.
        (altered(b"ARC-Authentication-Results: i=1;", b"X-Results: i=1;"), "the sets are not complete"),
        (altered(b"ARC-Seal: i=1;", b"X-Seal: i=1;"), "the sets are not complete"),
        (altered(b"ARC-Message-Signature: i=1;", b"ARC-Message-Signature: i=3;"), "the sets are not complete"),
        (altered(b"ARC-Message-Signature: i=1;", b"ARC-Message-Signature: i=2;"), "two sets are number 2"),
        (altered(b"ARC-Seal: i=1;", b"ARC-Seal: i=0;"), "a set has no number"),
        (altered(b"ARC-Seal: i=1;", b"ARC-Seal: i=51;"), "a set has no number"),
        (altered(b"ARC-Seal: i=1;", b"ARC-Seal: i=one;"), "a set has no number"),
        (altered(b"ARC-Seal: i=1;", b"ARC-Seal: "), "a set has no number"),
        (altered(b"ARC-Seal: i=1;", b"ARC-Seal: i=1; i=1;"), "the field cannot be read"),
        (altered(b"Results: i=1;", b"Results: "), "a set has no number"),
        (altered(b"Results: i=1;", b"Results: x; i=1;"), "a set has no number"),
        (sealed_by("list.example", MAIL, number=2), "the sets are not complete"),
        # Seals.
        (sealed_by("list.example", MAIL, seal={"cv": "pass"}), "cv= of set 1 is wrong"),
        (sealed_by("big.example", ONE, seal={"cv": "none"}), "cv= of set 2 is wrong"),
        (sealed_by("big.example", ONE, seal={"cv": "good"}), "cv= of set 2 is wrong"),
        (sealed_by("big.example", ONE, seal={"cv": None}), "cv= is missing in a seal"),
        (sealed_by("big.example", ONE, seal={"cv": "fail"}), "big.example found it broken"),
        (sealed_by("big.example", sealed_by("list.example", MAIL, seal={"cv": "fail"})),
         "list.example found it broken"),
        (sealed_by("big.example", ONE, seal={"t": "soon"}), "seal 2: t= is no number"),
        (sealed_by("big.example", ONE, seal={"h": "from"}), "a seal names fields"),
        (sealed_by("big.example", ONE, seal={"d": None}), "d= is missing in a seal"),
        (sealed_by("big.example", ONE, seal={"d": "big"}), "seal 2: d= is no domain"),
        (sealed_by("big.example", ONE, seal={"s": "s" * 300}), "seal 2: s= is no selector"),
        (sealed_by("big.example", ONE, seal={"a": "rsa-sha1"}), "seal 2: rsa-sha1 proves nothing any more"),
        (sealed_by("big.example", ONE, seal={"a": "ed25519-sha256"}), "the key is of another kind than the seal"),
        (sealed_by("big.example", ONE, seal={"b": "!"}), "seal 2: b= cannot be read"),
        (sealed_by("big.example", ONE, seal={"b": "AAAA"}), "the seal of big.example is wrong"),
        (sealed_by("big.example", ONE, seal={"d": "evil.example"}), ""),
        # The signature of the message.
        (sealed_by("big.example", ONE, signature={"h": "to:subject"}), "From is not signed"),
        (sealed_by("big.example", ONE, signature={"h": "from:arc-seal"}), "a seal is signed as part of the message"),
        (sealed_by("big.example", ONE, signature={"a": "rsa-sha1"}), "rsa-sha1 proves nothing any more"),
        (sealed_by("big.example", ONE, signature={"bh": "AAAA"}), "the body has been altered"),
        (sealed_by("big.example", ONE, signature={"l": "9999"}), "l= is more than the body"),
        (sealed_by("big.example", ONE, signature={"x": "1"}), "expired"),
        (sealed_by("big.example", ONE, signature={"s": "gone"}), "no key"),
    ],
)  # fmt: skip
def test_wrong_chains(mail: bytes, reason: str) -> None:
    finding = found(mail, trusted=("big.example", "list.example"))
    if not reason:
        assert finding.outcome == "pass", "the message may be signed in another name than it is sealed in"
        return
    assert (finding.outcome, finding.detail, finding.facts) == ("fail", f"fail ({reason})", ())
    (read,) = authres.AuthenticationResultsHeader.parse(
        f"Authentication-Results: mx.example; {finding.authentication}"
    ).results
    assert (read.method, read.result) == ("arc", "fail")


def test_only_the_last_signature_of_the_message_must_hold() -> None:
    """A list alters what it passes on, and seals what it makes of it."""
    listed = altered(b"Bye", b"Bye\r\n-- \r\nthe list", ONE)
    assert found(listed).outcome == "fail"
    assert found(sealed_by("big.example", listed)).outcome == "pass"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, "no key"),
        ({"TXT": ["v=DKIM1; p="]}, "the key is revoked"),
        ({"TXT": [rsa_record(rsa_key(1024))]}, "the seal of list.example is wrong"),
        ({"TXT": [rsa_record(rsa_key(512))]}, "a key of 512 bits proves nothing"),
        ({"TXT": [ed25519_record()]}, "the key is of another kind than the seal"),
        ({"TXT": [rsa_record(rsa_key(), "t=y; ")]}, "the key is for testing"),
    ],
)
def test_keys(answer: Any, reason: str) -> None:
    assert found(TWO, zone(list_example=answer)).detail == f"fail ({reason})"


def test_fifty_sets_are_a_chain_and_fifty_one_are_not() -> None:
    mail = MAIL
    for _ in range(SETS):
        mail = sealed_by("list.example", mail)
    resolver = FakeResolver(zone())
    assert found(mail, resolver).outcome == "pass"
    assert resolver.asked == [("s._domainkey.list.example", "TXT")] * 2, "once for the last set, once for the others"
    resolver = FakeResolver(zone())
    finding = found(sealed_by("list.example", mail), resolver)
    assert (finding.outcome, resolver.asked) == ("fail", [])


def test_a_forged_chain_costs_the_keys_of_its_last_set() -> None:
    mail = MAIL
    for number in range(SETS):
        mail = sealed_by(f"d{number}.example", mail, seal={"b": "AAAA"}, signature={"b": "AAAA"})
    resolver = FakeResolver({f"s._domainkey.d{number}.example": {"TXT": [RSA]} for number in range(SETS)})
    assert found(mail, resolver).outcome == "fail"
    assert resolver.asked == [(f"s._domainkey.d{SETS - 1}.example", "TXT")]


def test_a_large_body_is_hashed_elsewhere() -> None:
    mail = sealed_by("list.example", MAIL + b"line of text\r\n" * 30000)
    given = tools(zone())
    assert isinstance(given.offload, FakeOffload)
    given.contents.files["bodies/1"] = mail  # type: ignore[attr-defined]
    message = Message("id", Body(len(mail), mail[:SMALL_BODY], "bodies/1", b""))
    assert examined(Arc({}, given), replace(case(b""), message=message)).outcome == "pass"
    assert given.offload.runs == 1


# --- trust ------------------------------------------------------------------------------------------------------------

SAW = ("arc_dmarc", "a.example")


@pytest.mark.parametrize(
    ("mail", "trusted", "facts"),
    [
        (ONE, ("list.example",), (("arc_sealer", "list.example"), SAW)),
        (ONE, ("big.example",), ()),
        (ONE, ("example",), ()),
        # Big saw a failure, and passed on the word of a list: both must be trusted.
        (TWO, ("big.example",), ()),
        (TWO, ("list.example",), ()),
        (TWO, ("list.example", "big.example"), (("arc_sealer", "big.example"), SAW)),
        # A stranger in between, or behind.
        (sealed_by("big.example", sealed_by("evil.example", ONE), "arc=pass"), ("list.example", "big.example"), ()),
        (sealed_by("evil.example", ONE), ("list.example",), ()),
        (sealed_by("list.example", MAIL, "dkim=pass header.d=a.example; spf=pass smtp.mailfrom=x@a.example"),
         ("list.example",),
         (("arc_sealer", "list.example"), ("arc_dkim", "a.example"), ("arc_spf", "a.example"))),
    ],
)  # fmt: skip
def test_how_far_trust_reaches(mail: bytes, trusted: tuple[str, ...], facts: Any) -> None:
    finding = found(mail, trusted=trusted)
    assert (finding.outcome, finding.facts) == ("pass", facts)


@pytest.mark.parametrize(
    ("mail", "trusted", "records", "outcome"),
    [
        (ONE, ("list.example",), {}, "fail_none"),
        (ONE, (), {}, "fail_reject"),
        (sealed_by("evil.example", MAIL), ("list.example",), {}, "fail_reject"),
        # Forged in the name of one who is trusted.
        (sealed_by("list.example", MAIL, key=rsa_key(1024)), ("list.example",), {}, "fail_reject"),
        (sealed_by("list.example", MAIL, seal={"b": "AAAA"}), ("list.example",), {}, "fail_reject"),
        (altered(b"Bye", b"Buy", ONE), ("list.example",), {}, "fail_reject"),
        # What it saw was about somebody else.
        (sealed_by("list.example", MAIL, "dmarc=pass header.from=b.example"), ("list.example",), {}, "fail_reject"),
        (sealed_by("list.example", MAIL, "dmarc=fail header.from=a.example"), ("list.example",), {}, "fail_reject"),
        (sealed_by("list.example", MAIL, "dmarc=pass header.from=x.a.example"), ("list.example",), {}, "fail_reject"),
        (sealed_by("list.example", MAIL, "dkim=pass header.d=m.a.example"), ("list.example",), {}, "fail_none"),
        (sealed_by("list.example", MAIL, "dkim=pass header.d=b.example"), ("list.example",), {}, "fail_reject"),
        (sealed_by("list.example", MAIL, "spf=pass smtp.mailfrom=ann@a.example"), ("list.example",), {}, "fail_none"),
        # Two authors: nobody vouches for both.
        (sealed_by("list.example", MAIL.replace(b"From: Ann <ann@a.example>", b"From: x@a.example, y@a.b.example")),
         ("list.example",), {}, "fail_reject"),
        # DNS trouble counts where it might have been an excuse, and is none for strangers.
        (ONE, ("list.example",), {"list_example": Unavailable("silence")}, "temperror"),
        (ONE, (), {"list_example": Unavailable("silence")}, "fail_reject"),
        (TWO, ("big.example",), {"list_example": Unavailable("silence")}, "temperror"),
        (sealed_by("list.example", ONE.replace(b"d=list.example", b"d=evil.example"), seal={"b": "AAAA"}),
         ("list.example",), {"evil_example": Unavailable("silence")}, "fail_reject"),
    ],
)  # fmt: skip
def test_what_follows_for_dmarc(mail: bytes, trusted: tuple[str, ...], records: Any, outcome: str) -> None:
    resolver = FakeResolver(zone(**records) | {"_dmarc.a.example": {"TXT": ["v=DMARC1; p=reject"]}})
    given = tools(resolver)
    try:
        arc = examined(Arc({"trusted": trusted}, given), case(mail))
    except Unavailable:
        arc = Finding("error")
    results = [
        CheckResult(kind, kind, Stage.MESSAGE, finding)
        for kind, finding in (("spf", Finding("none")), ("dkim", Finding("fail")), ("arc", arc))
    ]
    finding = examined(Dmarc({}, given), case(mail, *results))
    assert finding.outcome == outcome
    if outcome == "fail_none":
        assert finding.authentication == "dmarc=fail (p=reject softened by arc of list.example) header.from=a.example"
        assert finding.detail.startswith("fail_none for a.example; softened by arc of list.example: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i=1; x.example; dmarc=pass header.from=a.example", [("dmarc", "a.example")]),
        ("i=1; x.example; DMARC=Pass (p=REJECT sp=NONE dis=NONE) Header.From=A.Example", [("dmarc", "a.example")]),
        ("i=1; x.example 1; dkim=pass header.i=@a.example header.b=QS+O8z2Y;\r\n dkim=pass header.d=b.example",
         [("dkim", "a.example"), ("dkim", "b.example")]),
        ("i=1; x.example; spf=pass (x: domain of y@c.example) smtp.mailfrom=y@a.example; arc=pass",
         [("spf", "a.example")]),
        ("i=1; x.example; dmarc/1 = pass header.from = \"a.example\"", [("dmarc", "a.example")]),
        ("i=1; x.example; none", []),
        ("i=1; dmarc=pass header.from=a.example", []),
        ("i=1; x.example; dmarc=fail header.from=a.example", []),
        ("i=1; x.example; spf=pass smtp.helo=a.example", []),
        # What is in a comment, in quotes or not closed is nobody's word.
        ("i=1; x.example; spf=fail (; dmarc=pass header.from=a.example ) smtp.mailfrom=b.example", []),
        ("i=1; x.example; spf=fail (a (b) ; dmarc=pass header.from=a.example) x.y=z", []),
        ("i=1; x.example; spf=fail (\\); dmarc=pass header.from=a.example) x.y=z", []),
        ('i=1; x.example; spf=fail reason="; dmarc=pass header.from=a.example"', []),
        ('i=1; x.example; dmarc=pass reason="x header.from=a.example"', []),
        ('i=1; x.example; dmarc=pass reason="x header.from=a.example" header.from=b.example', [("dmarc", "b.example")]),
        ("i=1; x.example; spf=fail (; dmarc=pass header.from=a.example", []),
        ("i=1; x.example; spf=fail); dmarc=pass header.from=a.example", []),
        ('i=1; x.example; dmarc=pass header.from="a"b.example', []),
        ("i=1; x.example; dmarc=pass and header.from=a.example", []),
        ("i=1; x.example; dmarc=pass header.from=localhost", []),
        ("i=1; x.example; " + "x=y; " * 5000 + "dmarc=pass header.from=a.example", []),
    ],
)  # fmt: skip
def test_what_a_sealer_says_it_saw(text: str, expected: list[tuple[str, str]]) -> None:
    assert passed(Field("arc-authentication-results", text.encode(), 0, 0)) == expected


PIECES = st.sampled_from(
    [b"i=1;", b"i=2;", b" cv=none;", b" d=a.example;", b" s=s;", b" a=rsa-sha256;", b" b=AAAA", b";", b"=", b"\xe9",
     b"\x00", b"(", b'"', b"dmarc=pass header.from=a.example", b"\r\n ", b" h=from;", b" bh=AAAA;"]
)  # fmt: skip
FIELDS = st.sampled_from([b"ARC-Seal: ", b"ARC-Message-Signature: ", b"ARC-Authentication-Results: "])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(FIELDS, st.lists(PIECES, max_size=8).map(b"".join)), max_size=6))
def test_nothing_makes_the_check_fail(fields: list[tuple[bytes, bytes]]) -> None:
    mail = b"".join(name + value + b"\r\n" for name, value in fields) + MAIL
    finding = found(mail, trusted=("a.example",))
    assert finding.outcome in ("none", "fail")
    assert finding.authentication.isprintable() and finding.facts == ()
