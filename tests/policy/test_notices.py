"""Notices: who may get one, and that one is well formed whatever it speaks of."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.custody import Host, SpoolEntry, SpoolRecipient
from inboundmx.model.message import SMALL_BODY
from inboundmx.model.settings import GatewaySettings
from inboundmx.policy.notices import HEADERS_LIMIT, LINE_ALLOWED, MESSAGE_LIMIT, compose, may_notify

SENDER = Address("sender", "a.example")
ANN, BOB = Address("ann", "b.example"), Address("bob", "b.example")
GATEWAY = GatewaySettings(hostname="mx1.gateway.example", postmaster="postmaster@gateway.example")
HEADERS = b"Received: from x\r\n\tby y\r\nFrom: sender@a.example\r\nSubject: Hello\r\n"
NOW = 1_790_000_000.0


def entry(*recipients: SpoolRecipient, sender: Address | None = SENDER) -> SpoolEntry:
    return SpoolEntry("e1", "m1d5", "b1", NOW - 3600, sender, recipients, 1000, "b.example")


def notice(*recipients: SpoolRecipient, kind: str = "failed", headers: bytes = HEADERS, **more: object) -> bytes:
    sender = more.pop("sender", SENDER)
    made = entry(*recipients, sender=sender)  # type: ignore[arg-type]
    made = replace(made, ret=more.pop("ret", ""), envid=more.pop("envid", ""))  # type: ignore[arg-type]
    return compose(kind, made, recipients, GATEWAY, NOW, "n0t1ce5ecret123", headers, **more)  # type: ignore[arg-type]


def failed(address: Address = ANN, reply: str = "550 5.1.1 no such user") -> SpoolRecipient:
    return SpoolRecipient(address, attempts=1, last_reply=reply)


def read(octets: bytes) -> tuple[Message, str, list[Message], Message]:
    """The whole, its text, the groups of fields and the returned header section, by a parser that is not ours."""
    whole = message_from_bytes(octets)
    assert not whole.defects
    assert whole.get_content_type() == "multipart/report"
    text, status, headers = whole.get_payload()  # type: ignore[misc]
    assert not any(part.defects for part in (text, status, headers))  # type: ignore[union-attr]
    assert text.get_content_type() == "text/plain"  # type: ignore[union-attr]
    words = text.get_payload(decode=True).decode(text.get_content_charset())  # type: ignore[union-attr]
    if headers.get_content_type() == "text/rfc822-headers":  # type: ignore[union-attr]
        returned = message_from_bytes(headers.get_payload(decode=True))  # type: ignore[union-attr, arg-type]
    else:
        assert headers.get_content_type() in ("message/rfc822", "message/global", "message/global-headers")  # type: ignore[union-attr]
        (returned,) = headers.get_payload()  # type: ignore[union-attr, misc]
    return whole, words, groups_of(status), returned  # type: ignore[arg-type]


def groups_of(status: Message) -> list[Message]:
    if status.get_content_type() == "message/delivery-status":
        return list(status.get_payload())  # type: ignore[arg-type]
    # The parser knows nothing of it but that a message is in it: the first group are its fields.
    assert status.get_content_type() == "message/global-delivery-status"
    (first,) = status.get_payload()  # type: ignore[misc]
    rest = first.get_payload(decode=True)  # type: ignore[union-attr]
    return [first, *map(message_from_bytes, rest.split(b"\r\n\r\n"))]  # type: ignore[list-item, union-attr, arg-type]


def utf8(group: Message, name: str) -> str:
    """A field that may hold UTF-8, which this parser keeps as octets."""
    return str(dict(group.raw_items())[name]).encode("ascii", "surrogateescape").decode()


def well_formed(octets: bytes) -> None:
    assert octets.endswith(b"\r\n")
    for line in octets[:-2].split(b"\r\n"):
        assert len(line) <= 998
        assert not set(line) & (set(range(32)) - {9} | {127})


def test_a_failure() -> None:
    octets = notice(failed(), failed(BOB, "451 4.4.2 the connection to the mail server was lost"))
    well_formed(octets)
    assert octets.isascii()
    whole, words, groups, returned = read(octets)
    assert {name: value for name, value in whole.items() if name != "Content-Type"} == {
        "Date": "Mon, 21 Sep 2026 14:13:20 +0000",
        "From": "Mail Delivery System <postmaster@gateway.example>",
        "To": "<sender@a.example>",
        "Subject": "Your message could not be delivered",
        "Message-ID": "<n0t1ce5ecret123@mx1.gateway.example>",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
        "Content-Transfer-Encoding": "7bit",
    }
    assert whole.get_param("report-type") == "delivery-status"
    assert "ann@b.example" in words
    assert "550 5.1.1 no such user" in words
    assert "m1d5" in words
    assert [dict(group) for group in groups] == [
        {"Reporting-MTA": "dns; mx1.gateway.example", "Arrival-Date": "Mon, 21 Sep 2026 13:13:20 +0000"},
        {
            "Final-Recipient": "rfc822; ann@b.example",
            "Action": "failed",
            "Status": "5.1.1",
            "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        },
        {
            "Final-Recipient": "rfc822; bob@b.example",
            "Action": "failed",
            "Status": "4.4.2",
            "Diagnostic-Code": "smtp; 451 4.4.2 the connection to the mail server was lost",
        },
    ]
    assert returned.items() == [
        ("Received", "from x\r\n\tby y"),
        ("From", "sender@a.example"),
        ("Subject", "Hello"),
    ]


def test_a_delay() -> None:
    octets = notice(failed(reply="450 4.2.0 later"), kind="delayed", retry_until=NOW + 86400)
    well_formed(octets)
    whole, words, groups, _ = read(octets)
    assert whole["Subject"] == "Your message is delayed"
    assert "do not need to send it again" in words
    assert groups[1].items() == [
        ("Final-Recipient", "rfc822; ann@b.example"),
        ("Action", "delayed"),
        ("Status", "4.2.0"),
        ("Diagnostic-Code", "smtp; 450 4.2.0 later"),
        ("Will-Retry-Until", "Tue, 22 Sep 2026 14:13:20 +0000"),
    ]


@pytest.mark.parametrize(
    ("kind", "reply", "status"),
    [
        ("failed", "550 5.1.1 x", "5.1.1"),
        ("failed", "550 no enhanced code", "5.0.0"),
        ("failed", "550 4.1.1 of another class", "5.0.0"),
        ("failed", "451 4.3.0 x", "4.3.0"),
        ("failed", "451 x", "4.4.7"),
        ("failed", "", "4.4.7"),
        ("delayed", "", "4.0.0"),
        ("delayed", "421 x", "4.0.0"),
        ("delayed", "451 4.7.1", "4.7.1"),
        ("delayed", "550 5.1.1 x", "4.0.0"),
    ],
)
def test_status_codes(kind: str, reply: str, status: str) -> None:
    groups = read(notice(failed(reply=reply), kind=kind))[2]
    assert groups[1]["Status"] == status
    assert ("Diagnostic-Code" in groups[1]) is bool(reply)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        (Host("192.0.2.10"), "dns; [192.0.2.10]"),
        (Host("2001:db8::1"), "dns; [IPv6:2001:db8::1]"),
        (Host("mail.b.example", 24, "lmtp"), "dns; mail.b.example"),
        (Host("192.0.2.10", name="mx.b.example"), "dns; mx.b.example"),
    ],
)
def test_the_host_that_answered(host: Host, shown: str) -> None:
    assert read(notice(failed(), host=host))[2][1]["Remote-MTA"] == shown


def test_the_null_sender_gets_none() -> None:
    with pytest.raises(ValueError, match="null sender"):
        notice(failed(), sender=None)


def test_a_postmaster_is_made_of_the_host_name() -> None:
    octets = compose("failed", entry(failed()), [failed()], GatewaySettings(hostname="mx.example"), NOW, "n1", HEADERS)
    assert read(octets)[0]["From"] == "Mail Delivery System <postmaster@mx.example>"


def test_addresses_that_are_not_ascii() -> None:
    octets = notice(failed(Address("grün+=\\", "b.example")))
    well_formed(octets)
    whole, words, groups, _ = read(octets)
    assert whole["Content-Transfer-Encoding"] == "8bit"
    assert "grün" in words
    assert groups[1]["Final-Recipient"] == r"utf-8; gr\x{FC}n\x{2B}\x{3D}\x{5C}@b.example"
    octets = notice(failed(Address("grün", "b.example")), sender=Address("zoë", "a.example"))
    well_formed(octets)
    assert "To: <zoë@a.example>\r\n".encode() in octets
    status = read(octets)[0].get_payload()[1]  # type: ignore[index, union-attr]
    assert (status.get_content_type(), status["Content-Transfer-Encoding"]) == (  # type: ignore[union-attr]
        "message/global-delivery-status",
        "8bit",
    )
    assert b"\r\nFinal-Recipient: utf-8; gr\xc3\xbcn@b.example\r\n" in octets


# --- what was asked for by RFC 3461 ---

LETTER = HEADERS + b"\r\nHello,\r\n\r\n--=_n0t1ce5ecret123\r\nBcc: victim@c.example\r\n\r\n.\r\n"


def returned_part(octets: bytes) -> Message:
    well_formed(octets)
    return message_from_bytes(octets).get_payload()[2]  # type: ignore[index, return-value]


def test_the_names_the_sender_gave_stand_in_the_notice() -> None:
    asked = replace(failed(), original="rfc822;Ann+2BNews@a.example")
    octets = notice(asked, failed(BOB), envid="QQ+2B31+204=".replace("=", "+3D"), attempted_at=NOW - 60)
    well_formed(octets)
    message, ann, bob = read(octets)[2]
    assert message.items()[:2] == [
        ("Original-Envelope-Id", "QQ+31 4="),
        ("Reporting-MTA", "dns; mx1.gateway.example"),
    ]
    assert ann.items()[:2] == [
        ("Original-Recipient", "rfc822; Ann+News@a.example"),
        ("Final-Recipient", "rfc822; ann@b.example"),
    ]
    assert ann["Last-Attempt-Date"] == "Mon, 21 Sep 2026 14:12:20 +0000"
    assert "Original-Recipient" not in bob


@pytest.mark.parametrize(
    ("original", "sender", "shown"),
    [
        (r"utf-8;gr\x{FC}n\x{2B}x@a.example", SENDER, r"utf-8; gr\x{FC}n\x{2B}x@a.example"),
        ("utf-8;grün@a.example", SENDER, r"utf-8; gr\x{FC}n@a.example"),
        (r"utf-8;gr\x{FC}n\x{2B}x@a.example", Address("zoë", "a.example"), "utf-8; grün+x@a.example"),
        ("X400;/C+3Dus/", SENDER, "X400; /C=us/"),
        ("rfc822;a+0D+0ABcc:+20x", SENDER, "rfc822; a  Bcc: x"),
        (r"utf-8;a\x{0D}\x{0A}Bcc: x\x{110000}", SENDER, "utf-8; a  Bcc: x?"),
        ("rfc\r\n822;a", SENDER, "rfc  822; a"),
    ],
)
def test_an_original_recipient_is_shown_as_it_was_meant(original: str, sender: Address, shown: str) -> None:
    octets = notice(replace(failed(), original=original), sender=sender)
    well_formed(octets)
    assert utf8(read(octets)[2][1], "Original-Recipient") == shown


def test_an_original_recipient_that_names_nobody_is_left_out() -> None:
    assert "Original-Recipient" not in read(notice(replace(failed(), original="nobody")))[2][1]


def test_the_whole_message_is_returned_to_who_asked_for_it() -> None:
    octets = notice(failed(), headers=LETTER, ret="FULL", complete=True)
    part = returned_part(octets)
    assert part.get_content_type() == "message/rfc822"
    assert LETTER in octets
    assert octets.isascii()
    whole, words, groups, original = read(octets)
    assert len(whole.get_payload()) == 3
    assert original["Subject"] == "Hello"
    assert "Only its header section" not in words
    assert len(groups) == 2


@pytest.mark.parametrize(
    ("headers", "content_type"),
    [
        ("Subject: grün\r\n".encode(), "message/global"),
        (b"Subject: gr\xfcn\r\n", "message/rfc822"),
        (b"Subject: x\r\n", "message/rfc822"),
    ],
)
def test_a_whole_message_beyond_ascii_has_the_type_of_its_header_section(headers: bytes, content_type: str) -> None:
    letter = headers + b"\r\ngr\xc3\xbcn\r\n"
    octets = notice(failed(), headers=letter, ret="FULL", complete=True)
    part = returned_part(octets)
    assert (part.get_content_type(), part["Content-Transfer-Encoding"]) == (content_type, "8bit")
    assert message_from_bytes(octets)["Content-Transfer-Encoding"] == "8bit"
    assert letter in octets


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"ret": "HDRS"}, False),
        ({"ret": ""}, False),
        ({"ret": "FULL", "kind": "delayed"}, False),
        ({"ret": "FULL", "kind": "delivered"}, False),
        ({"ret": "FULL", "complete": False}, True),
        ({"ret": "FULL", "headers": LETTER + b"x" * MESSAGE_LIMIT + b"\r\n"}, True),
        ({"ret": "FULL", "headers": LETTER + b"x" * (LINE_ALLOWED + 1) + b"\r\n"}, True),
    ],
)
def test_else_the_header_section_is_returned_and_the_reason_is_said(more: dict[str, object], reason: bool) -> None:
    octets = notice(failed(), **{"headers": LETTER, "complete": True, **more})  # type: ignore[arg-type]
    assert returned_part(octets).get_content_type() == "text/rfc822-headers"
    assert b"Hello,\r\n" not in octets
    words = " ".join(read(octets)[1].split())
    assert ("Only its header section is returned" in words) is reason


def test_header_fields_beyond_ascii_have_a_type_of_their_own() -> None:
    part = returned_part(notice(failed(), headers="Subject: grün\r\n".encode()))
    assert (part.get_content_type(), part["Content-Transfer-Encoding"]) == ("message/global-headers", "8bit")


@pytest.mark.parametrize(
    ("kind", "reply", "status", "subject"),
    [
        ("relayed", "250 2.6.0 queued", "2.6.0", "Your message was passed on"),
        ("relayed", "250 Ok", "2.0.0", "Your message was passed on"),
        ("delivered", "250 2.1.5 <ann> saved", "2.1.5", "Your message was delivered"),
        ("delivered", "", "2.0.0", "Your message was delivered"),
    ],
)
def test_good_news(kind: str, reply: str, status: str, subject: str) -> None:
    octets = notice(failed(reply=reply), kind=kind, host=Host("192.0.2.10"))
    well_formed(octets)
    whole, words, groups, _ = read(octets)
    assert whole["Subject"] == subject
    assert (groups[1]["Action"], groups[1]["Status"]) == (kind, status)
    assert "You asked to be told" in words
    assert "could not" not in words


HOSTILE = [
    "550 5.7.1 x\r\nBcc: victim@c.example\r\n\r\nbody",
    "550 5.7.1 x\nBcc: victim@c.example",
    "550 5.7.1 x\rBcc: victim@c.example",
    "550 \x00\x1b[31m\x7f\x85\u2028\u2029Bcc: x",
    "550 " + "long" * 1000,
    "550 5.1.1 " + "word " * 1000,
    "550 grün \xff",
    "550 5.1.1 ;;; (comment <x@y> \"quote",
    "550-5.1.1 a / 550 5.1.1 b",
    "\r\nBcc: victim@c.example\r\n".join(f"550-5.7.1 line {n} gr\xfc\xdf" for n in range(50)),
    "--=_n0t1ce5ecret123--",
    "550 --=_n0t1ce5ecret123",
]  # fmt: skip


@pytest.mark.parametrize("reply", HOSTILE)
def test_no_answer_of_a_host_breaks_out(reply: str) -> None:
    octets = notice(failed(reply=reply), failed(BOB))
    well_formed(octets)
    whole, _, groups, returned = read(octets)
    assert "Bcc" not in whole
    assert len(groups) == 3
    for group in groups[1:]:
        assert set(group.keys()) == {"Final-Recipient", "Action", "Status", "Diagnostic-Code"}
        assert len(group.keys()) == 4
    assert returned["Subject"] == "Hello"


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"\r\n",
        b"Subject: x\r\n\r\n--=_n0t1ce5ecret123--\r\n",
        b"--=_n0t1ce5ecret123\r\nContent-Type: text/html\r\n",
        b"Subject: x\n--=_n0t1ce5ecret123\rBcc: y\x00\x1b\r\n",
        b"Subject: " + b"x" * 100_000 + b"\r\n",
        b"Subject: gr\xc3\xbcn\r\n",
        b"Subject: \xff\xfe\x80\r\n",
        b"X: y\r\n" * 100_000,
        b"Subject: " + "ü".encode() * 700 + b"\r\n",
        b" starts with a fold\r\n\t\r\nX: y\r\n",
    ],
)
def test_no_header_of_the_original_breaks_out(headers: bytes) -> None:
    octets = notice(failed(), headers=headers)
    well_formed(octets)
    assert len(octets) < HEADERS_LIMIT + 3000
    whole, _, groups, _ = read(octets)
    assert len(whole.get_payload()) == 3
    assert len(groups) == 2
    assert "Bcc" not in whole


def test_the_returned_header_section_ends_with_a_whole_line() -> None:
    headers = b"X-Number: 12345678\r\n" * 2000
    lines = notice(failed(), headers=headers).split(b"\r\n")
    returned = [line for line in lines if line.startswith(b"X-Number")]
    assert set(returned) == {b"X-Number: 12345678"}
    assert len(returned) == HEADERS_LIMIT // 20


def test_many_recipients_make_no_large_message() -> None:
    recipients = [failed(Address(f"{'x' * 60}{n}", "b.example"), "550 5.1.1 " + "word " * 200) for n in range(200)]
    octets = notice(*recipients)
    well_formed(octets)
    assert len(octets) < SMALL_BODY
    assert len(read(octets)[2]) == 201


@given(
    st.lists(st.tuples(st.text(max_size=20), st.text(max_size=200)), min_size=1, max_size=4),
    st.binary(max_size=300),
    st.text(max_size=20),
    st.sampled_from(["failed", "delayed"]),
)
def test_whatever_was_said(said: list[tuple[str, str]], headers: bytes, local: str, kind: str) -> None:
    recipients = [failed(Address(name, "b.example"), reply) for name, reply in said]
    octets = notice(*recipients, kind=kind, headers=headers, sender=Address(local, "a.example"))
    well_formed(octets)
    whole, _, groups, _ = read(octets)
    assert whole.keys() == [
        "Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding",
    ]  # fmt: skip
    assert len(groups) == 1 + len(recipients)
    for group in groups[1:]:
        assert group["Action"] == kind


# --- who may be told ---


@pytest.mark.parametrize(
    ("bounce", "sender", "authenticated", "level", "automatic", "allowed"),
    [
        ("verified", SENDER, True, "none", False, True),
        ("verified", SENDER, False, "none", False, False),
        ("verified", SENDER, True, "none", True, False),
        ("verified", SENDER, True, "low", False, False),
        ("verified", None, True, "none", False, False),
        ("always", SENDER, False, "none", False, True),
        ("always", SENDER, False, "none", True, False),
        ("always", SENDER, True, "low", False, False),
        ("always", SENDER, True, "high", False, False),
        ("always", None, True, "none", False, False),
        ("never", SENDER, True, "none", False, False),
    ],
)
def test_who_may_be_told(
    bounce: str, sender: Address | None, authenticated: bool, level: str, automatic: bool, allowed: bool
) -> None:
    assert may_notify(bounce, sender, authenticated, level, automatic) is allowed
