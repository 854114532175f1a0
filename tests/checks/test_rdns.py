"""The rdns check: names that lead back, names that do not, and names that are none."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.checks import begun, examined, tools
from fakes.resolver import FakeResolver, Zone

from inboundmx.checks.api import Case
from inboundmx.checks.rdns import NAMES_LIMIT, ReverseDns, confirmed_name
from inboundmx.checks.reverse import host_name, reverse_name, reversed_labels
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.ip import ip_of
from inboundmx.model.session import Session
from inboundmx.ports import Unavailable

V6 = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
ZONE: Zone = {
    "1.2.0.192.in-addr.arpa": {"PTR": ["Mail.a.test"]},
    "mail.a.test": {"A": ["192.0.2.9", "192.0.2.1"], "AAAA": ["2001:db8::7"]},
    V6: {"PTR": ["mail.a.test"]},
    "2.2.0.192.in-addr.arpa": {"PTR": ["mail.a.test"]},
    "3.2.0.192.in-addr.arpa": {"PTR": ["gone.a.test", "mail.b.test"]},
    "mail.b.test": {"A": ["192.0.2.3"]},
    "4.2.0.192.in-addr.arpa": {"PTR": ["broken.test", "mail.c.test"]},
    "broken.test": Unavailable("SERVFAIL"),
    "mail.c.test": {"A": ["192.0.2.4"]},
    "5.2.0.192.in-addr.arpa": {"PTR": ["broken.test", "mail.c.test"]},
    "6.2.0.192.in-addr.arpa": Unavailable("silence"),
    "7.2.0.192.in-addr.arpa": {"PTR": [r"evil\032name.test", "<script>.test", "a" * 64 + ".test", "192.0.2.7"]},
    "8.2.0.192.in-addr.arpa": {"PTR": [f"n{number}.test" for number in range(50)]},
    "n49.test": {"A": ["192.0.2.8"]},
}


def case(peer: str) -> Case:
    return Case(Session("s", peer, 25000, "192.0.2.25", 0.0), Envelope(None))


@pytest.mark.parametrize(
    ("peer", "outcome", "detail"),
    [
        ("192.0.2.1", "confirmed", "mail.a.test"),
        ("::ffff:192.0.2.1", "confirmed", "mail.a.test"),
        ("2001:db8::7", "confirmed", "mail.a.test"),
        ("192.0.2.2", "unconfirmed", "mail.a.test does not lead back to 192.0.2.2"),
        ("192.0.2.3", "confirmed", "mail.b.test"),
        ("192.0.2.4", "confirmed", "mail.c.test"),
        ("192.0.2.7", "unconfirmed", r"evil\032name.test does not lead back to 192.0.2.7"),
        ("192.0.2.99", "none", "192.0.2.99 has no name"),
        ("2001:db8::99", "none", "2001:db8::99 has no name"),
    ],
)
def test_outcomes(peer: str, outcome: str, detail: str) -> None:
    assert examined(ReverseDns({}, tools(ZONE)), case(peer)) == Finding(outcome, detail)


@pytest.mark.parametrize("peer", ["192.0.2.5", "192.0.2.6", "", "unix"])
def test_what_cannot_be_known_is_unavailable(peer: str) -> None:
    with pytest.raises(Unavailable):
        examined(ReverseDns({}, tools(ZONE)), case(peer))


def test_of_many_names_few_are_looked_at() -> None:
    resolver = FakeResolver(ZONE)
    assert examined(ReverseDns({}, tools(resolver)), case("192.0.2.8")).outcome == "unconfirmed"
    assert len(resolver.asked) == 1 + NAMES_LIMIT


def test_giving_up_ends_it() -> None:
    resolver = FakeResolver(ZONE, holding=True)
    came, waiting = begun(ReverseDns({}, tools(resolver)), case("192.0.2.1"))
    assert waiting is not None
    waiting.cancel()
    resolver.release()
    assert len(came) == 1 and not isinstance(came[0], Finding)
    assert len(resolver.asked) == 1


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (("rdns", "confirmed", "mail.a.test"), "mail.a.test"),
        (("rdns", "unconfirmed", "mail.a.test does not lead back"), ""),
        (("dnsbl", "confirmed", "127.0.0.2"), ""),
    ],
)
def test_the_confirmed_name(result: tuple[str, str, str], name: str) -> None:
    kind, outcome, detail = result
    results: Any = [CheckResult("mine", kind, Stage.CONNECT, Finding(outcome, detail))]
    assert confirmed_name(results) == name
    assert confirmed_name([]) == ""


def test_reversed() -> None:
    assert reverse_name(ip_of("192.0.2.1")) == "1.2.0.192.in-addr.arpa"  # type: ignore[arg-type]
    assert reverse_name(ip_of("2001:db8::7")) == V6  # type: ignore[arg-type]
    assert reversed_labels(ip_of("::ffff:192.0.2.1")) == "1.2.0.192"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("a.test", True), ("A-1.b_c.test", True), ("xn--bro-hoa.example", True), ("1.2.3.4.dyn.test", True),
        ("test", False), ("localhost", False), ("192.0.2.1", False), ("a.1", False), ("-a.test", False),
        ("a-.test", False), ("a..test", False), (".test", False), ("a.test.", False), ("a b.test", False),
        ("a.test\n", False), (r"a\032.test", False), ("<script>.test", False), ("büro.example", False),
        ("x" * 64 + ".test", False), ("a." * 126 + "test", False), ("", False),
    ],
)  # fmt: skip
def test_host_names(text: str, is_one: bool) -> None:
    assert host_name(text) is is_one
