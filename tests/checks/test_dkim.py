"""The DKIM check: right signatures of every form, and every way in which one can be wrong."""

from __future__ import annotations

import base64
from typing import Any

import authres
import dkim
import pytest
from fakes.checks import NOW, FakeClock, FakeContents, FakeOffload, begun, examined, tools
from fakes.dkim_signing import (
    MAIL,
    NAMES,
    ed25519_key,
    ed25519_record,
    encoded,
    rsa_key,
    rsa_record,
    signed,
    signed_with,
)
from fakes.resolver import FakeResolver
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from inboundmx.checks import dkim_content, dkim_key
from inboundmx.checks.api import Case, Tools
from inboundmx.checks.dkim import SIGNATURES, Dkim
from inboundmx.checks.dkim_proof import KEY_SECONDS
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.message import SMALL_BODY, Body, Message
from inboundmx.model.session import Session
from inboundmx.ports import Unavailable

SESSION = Session("s", "192.0.2.1", 25000, "192.0.2.25", 0.0, "mx.a.example")
ANN = Address("ann", "a.example")
RSA = rsa_record(rsa_key())


def zone(*records: Any, name: str = "s._domainkey.a.example") -> dict[str, Any]:
    return {name: {"TXT": list(records)}}


def case(mail: bytes, sender: Address | None = ANN) -> Case:
    return Case(SESSION, Envelope(sender), None, Message("id", Body(len(mail), mail, None, b"")))


def found(mail: bytes, answers: Any = None, *, sender: Address | None = ANN, **options: int) -> Finding:
    return examined(Dkim(options, tools(zone(RSA) if answers is None else answers)), case(mail, sender))


@pytest.mark.parametrize("forms", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"])
def test_a_right_signature_passes_in_every_form(forms: str) -> None:
    finding = found(signed(forms=forms))

    assert finding.outcome == "pass"
    assert finding.authentication == "dkim=pass header.d=a.example header.s=s header.a=rsa-sha256"
    assert finding.facts == (("dkim", "a.example"), ("dkim_sender", "a.example"))
    assert finding.detail == "pass for a.example"


def test_ed25519_passes() -> None:
    mail = signed_with({"a": "ed25519-sha256"}, key=ed25519_key())
    finding = found(mail, zone(ed25519_record()))
    assert (finding.outcome, finding.authentication) == (
        "pass", "dkim=pass header.d=a.example header.s=s header.a=ed25519-sha256",
    )  # fmt: skip


def test_no_signature_is_none() -> None:
    assert found(MAIL) == Finding("none", "no signature", "dkim=none")


@pytest.mark.parametrize("forms", ["simple/simple", "relaxed/relaxed"])
@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (b"Bye", b"Buy", "the body has been altered"),
        (b"Bye\t\r\n", b"Bye\t\r\nP.S.\r\n", "the body has been altered"),
        (b"Subject: a", b"Subject: b", "the header has been altered"),
        (b"To: user@", b"To: boss@", "the header has been altered"),
        (b"d=a.example;", b"d=a.example; x=2999999999;", "the header has been altered"),
    ],
)
def test_what_is_altered_fails(forms: str, before: bytes, after: bytes, reason: str) -> None:
    mail = signed(forms=forms)
    assert before in mail
    finding = found(mail.replace(before, after, 1))
    assert (finding.outcome, finding.detail) == ("fail", f"fail for a.example ({reason})")
    assert finding.facts == ()


@pytest.mark.parametrize(
    ("answers", "outcome", "reason"),
    [
        ({}, "permerror", "no key"),
        ({"s._domainkey.a.example": {}}, "permerror", "no key"),
        (zone("v=DKIM1; p="), "permerror", "the key is revoked"),
        (zone("v=DKIM1; k=rsa"), "permerror", "the key record holds no key"),
        (zone(RSA.replace("DKIM1", "DKIM2")), "permerror", "the key record is of another version"),
        (zone(RSA, rsa_record(rsa_key(1024))), "permerror", "two keys at one selector"),
        (zone("v=spf1 -all", RSA), "pass", ""),
        (zone(rsa_record(rsa_key(), "s=other; ")), "permerror", "the key is not for mail"),
        (zone(rsa_record(rsa_key(), "s=other:email; ")), "pass", ""),
        (zone(rsa_record(rsa_key(), "h=sha1; ")), "permerror", "the key is not for sha256"),
        (zone(rsa_record(rsa_key(), "h=sha1:sha256; ")), "pass", ""),
        (zone(RSA.replace("k=rsa", "k=dsa")), "permerror", "the key is of a kind that is not known"),
        (zone(ed25519_record()), "permerror", "the key is of another kind than the signature"),
        (zone("v=DKIM1; p=!!!"), "permerror", "the key cannot be read"),
        (zone("v=DKIM1; p=AAAA"), "permerror", "the key cannot be read"),
        (zone("v=DKIM1; k=ed25519; p=AAAA"), "permerror", "the key cannot be read"),
        (zone("v=DKIM1; v=DKIM1; p=AAAA"), "permerror", "the key record cannot be read"),
        (zone("x" * 5000), "permerror", "the key record is too large"),
        (zone(b"\xff\xfep=\x00"), "permerror", "the key record cannot be read"),
        (zone(rsa_record(rsa_key(), "t=y; ")), "pass", "the key is for testing"),
        (zone(rsa_record(rsa_key(1024), "t=y; ")), "neutral", "the header has been altered, the key is for testing"),
        (zone(rsa_record(rsa_key(1024))), "fail", "the header has been altered"),
        ({"s._domainkey.a.example": Unavailable("silence")}, "temperror", "DNS gave no answer for the key"),
    ],
)  # fmt: skip
def test_keys(answers: Any, outcome: str, reason: str) -> None:
    finding = found(signed(), answers)
    assert finding.outcome == outcome
    assert finding.detail == f"{outcome} for a.example" + (f" ({reason})" if reason else "")
    expected = "dkim" if outcome == "pass" and not reason else "dkim_temperror" if outcome == "temperror" else ""
    assert finding.facts[:1] == (((expected, "a.example"),) if expected else ())


@pytest.mark.parametrize(
    ("bits", "minimum", "outcome"),
    [(512, 1024, "fail"), (768, 1024, "fail"), (1024, 1024, "pass"), (1024, 2048, "policy")],
)
def test_small_keys(bits: int, minimum: int, outcome: str) -> None:
    key = rsa_key(bits)
    finding = found(signed_with({}, key=key), zone(rsa_record(key)), minimum_key=minimum)
    assert finding.outcome == outcome
    assert outcome == "pass" or f"a key of {bits} bits" in finding.detail


def large_record(bits: int, exponent: int) -> str:
    """A key that nobody has, written by hand: libraries refuse to make it."""

    def integer(value: int) -> bytes:
        octets = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return b"\x02" + size(len(octets)) + octets

    def size(length: int) -> bytes:
        if length < 128:
            return bytes([length])
        octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
        return bytes([0x80 | len(octets)]) + octets

    numbers = integer(2 ** (bits - 1) + 1) + integer(exponent)
    return "v=DKIM1; p=" + base64.b64encode(b"\x30" + size(len(numbers)) + numbers).decode()


@pytest.mark.parametrize(("bits", "exponent"), [(16384, 65537), (8200, 65537), (2048, 2**64 + 1), (2048, 2**2000 + 1)])
def test_keys_that_are_dear_are_never_used(bits: int, exponent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    load = dkim_key.load_der_public_key
    monkeypatch.setattr(dkim_key, "load_der_public_key", lambda octets: read.append(len(octets)) or load(octets))
    monkeypatch.setattr(dkim_key.Key, "verifies", lambda *_: pytest.fail("it is used"))

    finding = found(signed(), zone(large_record(bits, exponent)))

    assert finding.outcome == "permerror"
    assert all(octets <= dkim_key.KEY_OCTETS for octets in read)
    assert bits < 16384 or not read


@pytest.mark.parametrize(
    ("tags", "outcome", "reason"),
    [
        ({}, "pass", ""),
        ({"a": "rsa-sha1"}, "fail", "rsa-sha1 proves nothing any more"),
        ({"a": "rsa-md5"}, "neutral", "a= is not known"),
        ({"a": "ed25519-sha256"}, "permerror", "the key is of another kind than the signature"),
        ({"v": "2"}, "neutral", "v= is not 1"),
        ({"v": None}, "neutral", "v= is missing"),
        ({"h": None}, "neutral", "h= is missing"),
        ({"b": ""}, "neutral", "b= is missing"),
        ({"b": "!"}, "neutral", "b= cannot be read"),
        ({"b": "AAAA"}, "fail", "the header has been altered"),
        ({"bh": "é"}, "neutral", "the field cannot be read"),
        ({"c": "nofws"}, "neutral", "c= is not known"),
        ({"q": "http"}, "neutral", "q= is not known"),
        ({"q": "x:dns/txt"}, "pass", ""),
        ({"h": "to:subject"}, "permerror", "From is not signed"),
        ({"h": "From:Subject"}, "pass", ""),
        ({"h": "from:from:subject"}, "pass", ""),
        ({"h": "from:" + ":".join(["x"] * 300)}, "neutral", "h= is no list of fields"),
        ({"h": "from::to"}, "neutral", "h= is no list of fields"),
        ({"t": str(int(NOW) - 60)}, "pass", ""),
        ({"t": str(int(NOW) + 3600)}, "permerror", "signed in the future"),
        ({"x": str(int(NOW) + 3600)}, "pass", ""),
        ({"x": str(int(NOW) - 3600)}, "permerror", "expired"),
        ({"t": str(int(NOW) - 60), "x": str(int(NOW) - 61)}, "permerror", "expired"),
        ({"x": "9" * 30}, "neutral", "x= is no number"),
        ({"t": "soon"}, "neutral", "t= is no number"),
        ({"i": "ann@a.example"}, "pass", ""),
        ({"i": "@mail.a.example"}, "pass", ""),
        ({"i": "@b.example"}, "permerror", "i= is not of d="),
        ({"i": "@nota.example"}, "permerror", "i= is not of d="),
        ({"s": "s" * 300}, "neutral", "s= is no selector"),
        ({"s": "s..t"}, "neutral", "s= is no selector"),
        ({"l": "99999"}, "permerror", "l= is more than the body"),
        ({"l": "-1"}, "neutral", "l= is no number"),
    ],
)  # fmt: skip
def test_tags(tags: dict[str, str | None], outcome: str, reason: str) -> None:
    finding = found(signed_with(tags))
    assert finding.outcome == outcome
    assert finding.detail.removeprefix(outcome).removeprefix(" for a.example") == (f" ({reason})" if reason else "")


@pytest.mark.parametrize(
    "domain", ['a.example"', "a.example\x00.b.example", "(a.example)", "example", "a..example", "a.example@b", "-"]
)
def test_domains_that_are_none(domain: str) -> None:
    resolver = FakeResolver({})
    finding = found(signed_with({"d": domain}), resolver)
    assert (finding.outcome, finding.authentication) == ("neutral", "dkim=neutral (d= is no domain)")
    assert resolver.asked == []


@pytest.mark.parametrize(("identity", "outcome"), [("@a.example", "pass"), ("@mail.a.example", "permerror")])
def test_a_strict_key_is_of_its_domain_alone(identity: str, outcome: str) -> None:
    assert found(signed_with({"i": identity}), zone(rsa_record(rsa_key(), "t=s; "))).outcome == outcome


def test_a_tail_that_is_not_signed_is_marked() -> None:
    mail = signed(length=True)
    assert found(mail).outcome == "pass"
    finding = found(mail + b"<b>buy</b>\r\n")
    assert (finding.outcome, finding.facts) == ("policy", ())
    assert finding.authentication.startswith("dkim=policy (the end of the body is not signed) ")


@pytest.mark.parametrize("name", ["From", "Subject", "Date"])
def test_a_second_field_above_a_right_signature_is_marked(name: str) -> None:
    finding = found(f"{name}: evil\r\n".encode() + signed())
    assert (finding.outcome, finding.facts) == ("policy", ())
    assert f"a second {name.lower()} is not signed" in finding.detail


@pytest.mark.parametrize(
    ("old", "new"), [(b"h=from:", b"h=from\x1f:"), (b"=\r\nReceived", b"\x1f=\r\nReceived")], ids=["h", "b"]
)
def test_a_control_character_is_no_blank(old: bytes, new: bytes) -> None:
    mail = signed_with({}).replace(old, new, 1)
    assert new in mail
    assert found(mail).outcome == "neutral"


def test_nothing_behind_a_line_that_is_no_field_is_taken_for_signed() -> None:
    """Some readers go on behind it, and would show a From that nobody has signed."""
    mail = signed().replace(b"\r\n\r\n", b"\r\nno field\r\nFrom: boss@a.example\r\n\r\n", 1)
    finding = found(mail)
    assert (finding.outcome, finding.facts) == ("policy", ())
    assert "a line of the header section is no field" in finding.detail


def test_a_second_field_breaks_a_signature_that_counts_on_one() -> None:
    mail = signed(names=(*NAMES, b"from", b"subject"))
    assert found(mail).outcome == "pass"
    assert found(b"Subject: evil\r\n" + mail).outcome == "fail"


def test_fields_that_may_be_repeated_are_not_marked() -> None:
    mail = signed(b"X-Note: one\r\n" + MAIL, names=(*NAMES, b"x-note"))
    assert found(b"X-Note: two\r\n" + mail).outcome == "pass"


# --- several signatures -----------------------------------------------------------------------------------------------


def test_the_best_signature_counts_and_each_is_told() -> None:
    mail = signed_with({"d": "b.example", "a": "rsa-sha1"}, signed(signed_with({"d": "c.example"})))
    finding = found(mail, zone(RSA) | {"s._domainkey.c.example": Unavailable("silence")})
    assert finding.outcome == "pass"
    assert finding.authentication == (
        "dkim=pass header.d=a.example header.s=s header.a=rsa-sha256; "
        "dkim=temperror (DNS gave no answer for the key) header.d=c.example header.s=s header.a=rsa-sha256; "
        "dkim=fail (rsa-sha1 proves nothing any more) header.d=b.example"
    )


def test_a_hundred_signatures_are_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    forms: list[str] = []
    canonical = dkim_content._canonical
    monkeypatch.setattr(
        dkim_content, "_canonical", lambda octets, start, relaxed: forms.append("") or canonical(octets, start, relaxed)
    )
    mail = MAIL
    for number in range(100):
        mail = signed_with({"s": f"s{number}", "b": "AAAA"}, mail)
    resolver = FakeResolver({f"s{number}._domainkey.a.example": {"TXT": [RSA]} for number in range(100)})

    finding = found(mail, resolver)

    assert finding.outcome == "fail"
    assert len(resolver.asked) == SIGNATURES
    assert len(forms) == 1, "the body is made canonical once for all"
    assert finding.detail.endswith("90 more not looked at")
    assert len(finding.authentication) <= 900


def test_one_key_is_asked_for_once() -> None:
    resolver = FakeResolver(zone(RSA))
    assert found(signed(signed()), resolver).outcome == "pass"
    assert resolver.asked == [("s._domainkey.a.example", "TXT")]


def test_a_key_that_does_not_come_holds_up_its_signature_alone() -> None:
    given = tools(FakeResolver(zone(RSA), holding=True))
    resolver, clock = given.resolver, given.clock
    assert isinstance(resolver, FakeResolver) and isinstance(clock, FakeClock)
    came, _ = begun(Dkim({}, given), case(signed_with({"d": "b.example"}, signed())))
    slow, quick = resolver._held
    quick.callback(None)
    clock.task.advance(KEY_SECONDS - 0.1)
    assert came == []

    clock.task.advance(0.1)

    assert came[0].outcome == "pass"
    assert "temperror for b.example" in came[0].detail
    assert slow.called, "it is given up"
    assert clock.task.getDelayedCalls() == []


def test_keys_are_asked_for_together() -> None:
    given = tools(FakeResolver(zone(RSA), holding=True))
    resolver, clock = given.resolver, given.clock
    assert isinstance(resolver, FakeResolver) and isinstance(clock, FakeClock)
    came, _ = begun(Dkim({}, given), case(signed_with({"d": "b.example"}, signed())))
    assert len(resolver.asked) == 2
    resolver.release()
    assert came[0].outcome == "pass"
    assert clock.task.getDelayedCalls() == []


def test_cancelling_gives_everything_up() -> None:
    given = tools(FakeResolver(zone(RSA), holding=True))
    resolver, clock = given.resolver, given.clock
    assert isinstance(resolver, FakeResolver) and isinstance(clock, FakeClock)
    came, waiting = begun(Dkim({}, given), case(signed()))
    assert waiting is not None
    waiting.cancel()
    assert came[0].check(CancelledError)
    assert all(held.called for held in resolver._held)
    assert clock.task.getDelayedCalls() == []


def test_the_fields_are_gone_through_once_for_all_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(tuple):  # type: ignore[type-arg]
        read = 0

        def __iter__(self) -> Any:
            Counted.read += 1
            return super().__iter__()

    mail = MAIL
    for _ in range(SIGNATURES):
        mail = signed_with({"h": ":".join(["from"] + ["x-many"] * 190), "b": "AAAA"}, mail)
    mail = b"X-Many: a\r\n" * 20000 + mail
    judged = case(mail)
    assert judged.message is not None
    judged.message._fields = Counted(judged.message.fields)

    assert examined(Dkim({}, tools(zone(RSA))), judged).outcome == "fail"
    assert Counted.read == 2, "once for the signatures, once for what they sign"


def test_a_field_is_made_canonical_once_for_all_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    octets: list[int] = []
    reduced = dkim_content._reduced
    monkeypatch.setattr(dkim_content, "_reduced", lambda text: octets.append(len(text)) or reduced(text))
    filled = b"X-Many: y" + b" \ty" * 300 + b"\r\n"
    mail = filled * 190 + MAIL
    for _ in range(SIGNATURES):
        mail = signed_with({"h": ":".join(["from"] + ["x-many"] * 190), "b": "AAAA"}, mail)

    finding = found(mail, zone(RSA))

    assert finding.detail.startswith("fail for a.example (the header has been altered)")
    assert sum(octets) < 1.5 * len(mail)


# --- whose mail it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "sender", "is_aligned"),
    [
        ("a.example", "a.example", True),
        ("a.example", "bounces.a.example", True),
        ("mail.a.example", "bounces.a.example", True),
        ("a.example", "b.example", False),
        ("a.co.uk", "b.co.uk", False),
        ("co.uk", "b.co.uk", False),
        ("nota.example", "a.example", False),
    ],
)
def test_alignment_with_the_sender(domain: str, sender: str, is_aligned: bool) -> None:
    finding = found(
        signed(domain=domain), zone(RSA, name=f"s._domainkey.{domain}"), sender=Address("ann", sender)
    )
    expected = (("dkim", domain), ("dkim_sender", sender)) if is_aligned else (("dkim", domain),)
    assert finding.facts == expected


def test_the_null_sender_is_not_authenticated() -> None:
    assert found(signed(), sender=None).facts == (("dkim", "a.example"),)


# --- large and hostile content ----------------------------------------------------------------------------------------


def large(mail: bytes) -> tuple[Tools, Case]:
    given = tools(zone(RSA))
    assert isinstance(given.contents, FakeContents)
    given.contents.files["bodies/1"] = mail
    body = Body(len(mail), mail[:SMALL_BODY], "bodies/1", b"")
    return given, Case(SESSION, Envelope(ANN), None, Message("id", body))


def test_a_large_body_is_read_and_hashed_elsewhere() -> None:
    mail = signed(MAIL + b"line \t of text\r\n" * 40000 + b"\r\n" * 70000 + b"end\r\n")
    given, large_case = large(mail)
    assert isinstance(given.offload, FakeOffload)

    assert examined(Dkim({}, given), large_case).outcome == "pass"
    assert given.offload.runs == 1

    given, large_case = large(mail.replace(b"end\r\n", b"And\r\n"))
    assert examined(Dkim({}, given), large_case).outcome == "fail"


def test_a_large_body_without_a_usable_key_is_not_read() -> None:
    given, large_case = large(signed(MAIL + b"x" * 300000 + b"\r\n"))
    assert isinstance(given.resolver, FakeResolver) and isinstance(given.offload, FakeOffload)
    given.resolver.zone.clear()
    assert examined(Dkim({}, given), large_case).outcome == "permerror"
    assert given.offload.runs == 0


@pytest.mark.parametrize("minimum", [0, 512, 1023, 8193])
def test_a_minimum_that_makes_no_sense_is_refused(minimum: int) -> None:
    with pytest.raises(ValueError, match="write 1024 to 8192"):
        Dkim({"minimum_key": minimum})


TAGS = st.sampled_from(
    ["v=1", "a=rsa-sha256", "d=a.example", "s=s", "h=from", "bh=AAAA", "b=AAAA", "c=relaxed", "l=1", "t=1", "x=1",
     "i=@a.example", "q=dns/txt", ";", "=", "é", "\x00", '"', "(", "\r\n ", " ", "z=|:"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(TAGS, max_size=16), st.binary(max_size=60))
def test_no_field_makes_the_check_fail(tags: list[str], rest: bytes) -> None:
    mail = b"DKIM-Signature: " + "; ".join(tags).encode() + b"\r\n" + rest + b"\r\n" + MAIL
    finding = found(mail)
    assert finding.outcome in Dkim.outcomes
    assert finding.authentication.isprintable() and finding.authentication.isascii()
    read = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: mx.example; {finding.authentication}")
    assert [result.method for result in read.results] == ["dkim"]


BODY = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"bc", b"."]), max_size=30).map(b"".join)


@settings(max_examples=60, deadline=None)
@given(BODY, st.sampled_from(["simple/simple", "relaxed/relaxed", "simple/relaxed"]), BODY)
def test_a_second_opinion_agrees(body: bytes, forms: str, value: bytes) -> None:
    """dkimpy signs and verifies; both see the same, before and after an alteration."""
    mail = b"From: a@a.example\r\nX-Odd:" + value.replace(b"\r\n", b"\r\n ") + b"a\r\n\r\n" + body + b"\r\n"
    mail = signed(mail, forms=forms, names=(b"from", b"x-odd"))
    assert found(mail).outcome == "pass"
    altered = mail.replace(b"a\r\n\r\n", b"a\r\n\r\nb ", 1)
    expected = dkim.verify(altered, dnsfunc=lambda name, timeout=0: RSA.encode())
    assert (found(altered).outcome == "pass") == expected


@pytest.mark.parametrize("mail", [b"", b"\r\n", b" folded: a\r\nDKIM-Signature: v=1\r\n\r\n", b"DKIM-Signature:"])
def test_content_that_is_no_message(mail: bytes) -> None:
    assert found(mail).outcome == "none"


def test_the_key_of_the_suite_is_a_real_one() -> None:
    assert encoded(rsa_key().public_key()) in RSA
