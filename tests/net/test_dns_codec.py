"""Questions and replies, with dnspython as the oracle; and what a hostile server may write."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.net import dns_codec
from inboundmx.net.dns_codec import Failure, Malformed, Reply, answers, query, question, read
from inboundmx.ports import Answer

TYPES = sorted(dns_codec.TYPES)
NAMES = st.lists(st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True), min_size=1, max_size=6).map(".".join)


def section(name: str, type: str = "A") -> bytes:
    made = question(name, type)
    assert made is not None
    return made


def reply_to(name: str, type: str, *rrsets: Any, rcode: str = "NOERROR", authority: Any = ()) -> bytes:
    answer = dns.message.make_response(dns.message.make_query(name, type), recursion_available=True)
    answer.set_rcode(dns.rcode.from_text(rcode))
    answer.answer.extend(rrsets)
    answer.authority.extend(authority)
    return answer.to_wire(max_size=65535)


def rows(name: str, type: str, *texts: str, ttl: int = 300) -> Any:
    return dns.rrset.from_text(f"{name}.", ttl, "IN", type, *texts)


SOA = rows("test", "SOA", "ns.test. root.test. 1 2 3 4 60", ttl=900)


@given(NAMES, st.sampled_from(TYPES), st.integers(0, 65535), st.booleans())
@settings(max_examples=60)
def test_a_query_is_what_dnspython_reads(name: str, type: str, id: int, extended: bool) -> None:
    message = dns.message.from_wire(query(id, section(name, type), extended))

    assert message.id == id
    assert message.flags == dns.flags.RD
    assert [(str(q.name), dns.rdatatype.to_text(q.rdtype)) for q in message.question] == [(f"{name}.", type)]
    assert (message.edns, message.payload) == ((0, 1232) if extended else (-1, 0))


@pytest.mark.parametrize(
    "name", ["a..b", ".a", "a.", "x" * 64, ".".join(["x" * 63] * 4), "a\tb", "a\x00b", "a\nb", "é", "a\\b"]
)
def test_names_that_cannot_be_asked_for(name: str) -> None:
    assert question(name, "A") is None


def test_a_name_may_hold_blanks_as_macros_of_spf_make_them() -> None:
    """RFC 7208 7.1."""
    assert question("a b.test", "A") == b"\x03a b\x04test\0\0\x01\0\x01"


@given(st.binary(min_size=1, max_size=300), st.lists(NAMES, min_size=2, max_size=4, unique=True))
@settings(max_examples=60)
def test_records_are_read_as_dnspython_wrote_them(text: bytes, names: list[str]) -> None:
    name, *others = names
    written = "".join(f"\\{octet:03d}" for octet in text)
    strings = " ".join(f'"{written[at : at + 400]}"' for at in range(0, len(written), 400))
    wire = reply_to(name, "TXT", rows(name, "TXT", strings))
    assert read(wire, section(name, "TXT")) == Reply(Answer((text,)), 300)

    wire = reply_to(name, "MX", rows(name, "MX", *(f"{place} {other}." for place, other in enumerate(others))))
    answer = read(wire, section(name, "MX")).answer
    assert answer is not None and sorted(answer.rows) == list(enumerate(others))


@pytest.mark.parametrize(
    ("type", "text", "row"),
    [
        ("A", "192.0.2.255", "192.0.2.255"),
        ("AAAA", "2001:DB8:0:0::1", "2001:db8::1"),
        ("PTR", "Mail.Example.", "mail.example"),
        ("PTR", r"evil\032name\.x.<script>.example.", r"evil\032name\046x.<script>.example"),
        ("PTR", ".", ""),
        ("NS", "ns.example.", "ns.example"),
        ("CNAME", "www.example.", "www.example"),
        ("SOA", "ns.test. root.test. 1 2 3 4 5", ("ns.test", "root.test", 1, 2, 3, 4, 5)),
        ("TXT", '"a" "" "b"', b"ab"),
        ("MX", "10 .", (10, "")),
    ],
)
def test_rows(type: str, text: str, row: Any) -> None:
    wire = reply_to("a.test", type, rows("a.test", type, text))

    assert read(wire, section("a.test", type)) == Reply(Answer((row,)), 300)


def chain(*links: str, end: Any = None, ttl: int = 300) -> list[Any]:
    made = [rows(one, "CNAME", f"{other}.", ttl=ttl) for one, other in pairwise(links)]
    return [*made, end] if end else made


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (reply_to("a.test", "A", *chain("a.test", "b.test", end=rows("B.test", "A", "192.0.2.1", ttl=9))),
         Reply(Answer(("192.0.2.1",)), 9)),
        (reply_to("a.test", "A", *reversed(chain("a.test", "b.test", "c.test", end=rows("c.test", "A", "192.0.2.1")))),
         Reply(Answer(("192.0.2.1",)), 300)),
        (reply_to("a.test", "A", *chain("a.test", "b.test")), Reply(None, 300, "b.test")),
        (reply_to("a.test", "A", *chain("a.test", "b.test"), authority=[SOA]), Reply(Answer(()), 60)),
        (reply_to("a.test", "A", *chain("a.test", "b.test", ttl=7), rcode="NXDOMAIN", authority=[SOA]),
         Reply(Answer((), False), 7)),
        (reply_to("a.test", "A", authority=[SOA]), Reply(Answer(()), 60)),
        (reply_to("a.test", "A"), Reply(Answer(()), None)),
        (reply_to("a.test", "A", rcode="NXDOMAIN"), Reply(Answer((), False), None)),
        (reply_to("a.test", "A", rows("other.test", "A", "192.0.2.66"), authority=[SOA]), Reply(Answer(()), 60)),
        (reply_to("a.test", "A", rows("a.test", "AAAA", "2001:db8::66"), authority=[SOA]), Reply(Answer(()), 60)),
    ],
    ids=["alias", "backwards", "open", "no data", "no name", "nodata", "silent nodata", "nxdomain", "stranger", "type"],
)  # fmt: skip
def test_chains_and_negatives(wire: bytes, reply: Reply) -> None:
    assert read(wire, section("a.test")) == reply


def extended_error() -> bytes:
    answer = dns.message.make_response(dns.message.make_query("a.test", "A", use_edns=0))
    answer.set_rcode(dns.rcode.BADVERS)
    return answer.to_wire()


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (reply_to("a.test", "A", rcode="SERVFAIL"), "SERVFAIL"),
        (reply_to("a.test", "A", rcode="REFUSED"), "REFUSED"),
        (reply_to("a.test", "A", rcode="YXDOMAIN"), "rcode 6"),
        (reply_to("a.test", "A", authority=[rows("test", "NS", "ns.test.")]), "referral"),
        (extended_error(), "BADVERS"),
    ],
    ids=["servfail", "refused", "rcode 6", "referral", "badvers"],
)
def test_failures(wire: bytes, said: str) -> None:
    with pytest.raises(Failure, match=said):
        read(wire, section("a.test"))


HEAD = struct.pack("!6H", 1, 0x8180, 1, 1, 0, 0) + section("a.test")


def record(data: bytes, type: int = 1, owner: bytes = b"\xc0\x0c", length: int | None = None) -> bytes:
    return HEAD + owner + struct.pack("!HHIH", type, 1, 60, len(data) if length is None else length) + data


@pytest.mark.parametrize(
    "wire",
    [
        HEAD,
        HEAD + b"\xc0",
        HEAD + b"\x05abc",
        record(b"\xc0\x00\x02"),
        record(b"\xc0\x00\x02\x01\x01"),
        record(b"\xc0\x00\x02\x01", length=400),
        record(b"\xc0\x00\x02\x01", owner=b"\xc0\x18"),
        record(b"\xc0\x00\x02\x01", owner=b"\xc0\xff"),
        record(b"\xc0\x00\x02\x01", owner=b"\xc0\x04"),
        record(b"\xc0\x00\x02\x01", owner=b"\x41a\x00"),
        record(b"\x09abc", type=dns_codec.CNAME),
        record((b"\x3f" + b"x" * 63) * 4 + b"\x00", type=dns_codec.CNAME),
        record(b"\x01b\x00\x00", type=dns_codec.CNAME),
        record(b"\xc0\x0c", type=dns_codec.CNAME),
        record(b"")[:6] + struct.pack("!3H", 60000, 0, 0) + record(b"")[12:],
    ],
)
def test_what_is_malformed_is_said_to_be(wire: bytes) -> None:
    with pytest.raises(Malformed):
        read(wire, section("a.test"))


def test_a_ttl_with_the_highest_bit_counts_as_nothing() -> None:
    wire = record(b"\xc0\x00\x02\x01").replace(struct.pack("!I", 60), struct.pack("!I", 0x80000000))
    assert read(wire, section("a.test")).ttl == 0


def test_many_records_with_long_names_are_refused_unread() -> None:
    many = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + b"\xc0\x00\x02\x01" for _ in range(4000))
    wire = struct.pack("!6H", 1, 0x8180, 1, 4000, 0, 0) + section("a.test") + many
    with pytest.raises(Malformed, match="too many"):
        read(wire, section("a.test"))


@given(st.binary(max_size=120), st.sampled_from([0, 1, 2, 5, 12, 15, 16, 28, 6]))
@settings(max_examples=300)
def test_nothing_a_server_sends_makes_reading_fail_otherwise(octets: bytes, type: int) -> None:
    for wire in (HEAD + octets, record(octets, type=type), HEAD[:6] + octets[:6].ljust(6, b"\1") + HEAD[12:] + octets):
        for wanted in TYPES:
            asked = section("a.test", wanted)
            with suppress(Malformed, Failure):
                assert isinstance(read(wire[:12] + asked + wire[12 + len(asked) :], asked), Reply)


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        (lambda wire: wire, True),
        (lambda wire: b"\xff" + wire[1:], False),
        (lambda wire: wire[:2] + b"\x01" + wire[3:], False),
        (lambda wire: wire[:2] + b"\xa9" + wire[3:], False),
        (lambda wire: wire.replace(b"\x04test", b"\x04Test"), False),
        (lambda wire: wire.replace(b"\x00\x01\x00\x01", b"\x00\x1c\x00\x01", 1), False),
        (lambda wire: wire[:5] + b"\x02" + wire[6:], False),
        (lambda wire: wire[:11], False),
        (lambda wire: b"", False),
        (lambda wire: struct.pack("!6H", 7, 0x8181, 0, 0, 0, 0), True),
        (lambda wire: struct.pack("!6H", 7, 0x8180, 0, 0, 0, 0), False),
    ],
)
def test_an_answer_has_our_id_and_our_question(change: Any, holds: bool) -> None:
    response = dns.message.make_response(dns.message.from_wire(query(7, section("a.test"))))

    assert answers(change(response.to_wire()), 7, section("a.test")) is holds
