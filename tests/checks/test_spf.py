"""The SPF check: both identities, one outcome, and what is written of it."""

from __future__ import annotations

from typing import Any

import authres
import pytest
from fakes.checks import begun, examined, tools
from fakes.resolver import FakeResolver
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from inboundmx.checks.api import Case
from inboundmx.checks.spf import Spf
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.session import Session
from inboundmx.ports import Unavailable

PASS, FAIL, SOFTFAIL = "v=spf1 ip4:192.0.2.1 -all", "v=spf1 -all", "v=spf1 ~all"


def case(sender: Address | None, hello: str = "mx.a.example", ip: str = "192.0.2.1") -> Case:
    return Case(Session("s", ip, 25000, "192.0.2.25", 0.0, hello), Envelope(sender))


def zone(mailfrom: Any, helo: Any) -> dict[str, Any]:
    return {
        name: trouble if isinstance(trouble, Unavailable) else {"TXT": [trouble] if trouble else []}
        for name, trouble in (("a.example", mailfrom), ("mx.a.example", helo))
    }


ANN = Address("ann", "a.example")
TROUBLE = Unavailable("silence")


@pytest.mark.parametrize(
    ("identity", "sender", "mailfrom", "helo", "outcome", "clauses", "facts"),
    [
        ("mailfrom helo", ANN, PASS, PASS, "pass", "spf=pass smtp.mailfrom=a.example; spf=pass smtp.helo=mx.a.example",
         (("spf_helo", "mx.a.example"), ("spf_mailfrom", "a.example"))),
        ("mailfrom helo", ANN, PASS, FAIL, "pass", "spf=pass smtp.mailfrom=a.example; spf=fail smtp.helo=mx.a.example",
         (("spf_mailfrom", "a.example"),)),
        ("mailfrom helo", ANN, SOFTFAIL, FAIL, "fail",
         "spf=fail smtp.helo=mx.a.example; spf=softfail smtp.mailfrom=a.example", ()),
        ("mailfrom helo", ANN, None, PASS, "none", "spf=none smtp.mailfrom=a.example; spf=pass smtp.helo=mx.a.example",
         (("spf_helo", "mx.a.example"),)),
        ("mailfrom", ANN, FAIL, PASS, "fail", "spf=fail smtp.mailfrom=a.example", ()),
        ("mailfrom", None, FAIL, PASS, "pass", "spf=pass smtp.helo=mx.a.example", (("spf_helo", "mx.a.example"),)),
        ("helo", ANN, FAIL, PASS, "pass", "spf=pass smtp.helo=mx.a.example", (("spf_helo", "mx.a.example"),)),
        ("helo", ANN, PASS, SOFTFAIL, "softfail", "spf=softfail smtp.helo=mx.a.example", ()),
        ("mailfrom helo", ANN, TROUBLE, PASS, "temperror",
         "spf=temperror smtp.mailfrom=a.example; spf=pass smtp.helo=mx.a.example",
         (("spf_helo", "mx.a.example"), ("spf_mailfrom_temperror", "a.example"))),
        ("mailfrom helo", ANN, PASS, TROUBLE, "pass",
         "spf=pass smtp.mailfrom=a.example; spf=temperror smtp.helo=mx.a.example",
         (("spf_helo_temperror", "mx.a.example"), ("spf_mailfrom", "a.example"))),
    ],
)  # fmt: skip
def test_two_identities_become_one_outcome(
    identity: str, sender: Address | None, mailfrom: Any, helo: Any, outcome: str, clauses: str, facts: Any
) -> None:
    found = examined(Spf({"identity": identity}, tools(zone(mailfrom, helo))), case(sender))

    assert (found.outcome, found.authentication, found.facts) == (outcome, clauses, facts)


def test_the_detail_tells_which_identity_and_why() -> None:
    explained = zone(f"{FAIL} exp=why.example", PASS) | {"why.example": {"TXT": ["go\taway"]}}
    found = examined(Spf({}, tools(explained)), case(ANN))
    assert found.detail == "fail for mailfrom a.example (go\taway); pass for helo mx.a.example"


def test_the_sender_of_no_domain_with_spf_is_asked_once() -> None:
    resolver = FakeResolver({})
    assert examined(Spf({}, tools(resolver)), case(ANN)).outcome == "none"
    assert sorted(resolver.asked) == [("a.example", "TXT"), ("mx.a.example", "TXT")]


@pytest.mark.parametrize(
    "hello", ["", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]", "mx..example", "é.example", "a" * 300 + ".b"]
)
def test_a_hello_that_cannot_have_a_record_is_none(hello: str) -> None:
    resolver = FakeResolver(zone(PASS, PASS))
    found = examined(Spf({"identity": "helo"}, tools(resolver)), case(ANN, hello))
    assert found.outcome == "none"


@pytest.mark.parametrize("identity", ["", "sender", "mailfrom hello"])
def test_an_identity_that_there_is_not_is_refused(identity: str) -> None:
    with pytest.raises(ValueError, match="write mailfrom, helo, or mailfrom helo"):
        Spf({"identity": identity})


def test_cancelling_gives_everything_up() -> None:
    resolver = FakeResolver(zone(PASS, PASS), holding=True)
    came, waiting = begun(Spf({}, tools(resolver)), case(ANN))
    assert waiting is not None
    waiting.cancel()
    assert came[0].check(CancelledError)
    assert all(held.called for held in resolver._held)


def test_a_fault_of_the_resolver_is_not_dns_trouble() -> None:
    class Broken(FakeResolver):
        async def look_up(self, name: str, type: str) -> Any:
            raise ZeroDivisionError

    came, _ = begun(Spf({}, tools(Broken())), case(ANN))
    assert came[0].check(ZeroDivisionError)


@settings(max_examples=100)
@given(st.text(max_size=40), st.text(max_size=40))
def test_nothing_said_gets_out_of_its_place(hello: str, domain: str) -> None:
    """An independent parser reads exactly the two clauses, whatever the names are."""
    found = examined(Spf({}, tools({})), case(Address("ann", domain), hello))
    assert found.authentication.isascii() and found.authentication.isprintable()
    read = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: mx.example; {found.authentication}")
    assert [(result.method, result.result) for result in read.results] == [("spf", found.outcome)] * 2
    assert {result.properties[0].type for result in read.results} == {"smtp"}
