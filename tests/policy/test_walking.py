"""Whose address is read out of Received, of which servers, and what a forged field is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.message import Body, Message
from inboundmx.policy.walking import FIELD_LIMIT, MOST_STEPS, Walk, walk, walked

PEER, INNER, REAL = "203.0.113.1", "203.0.113.2", "198.51.100.7"
GATEWAYS = {PEER, INNER, "2001:db8::25"}
POSTFIX = f"from mx.b.example (mx.b.example [{REAL}])\r\n\tby gw1.example (Postfix) with ESMTPS id 4Abc; date"


def found(*fields: str) -> Walk:
    return walked([field.encode() for field in fields], PEER, GATEWAYS.__contains__)


@pytest.mark.parametrize(
    ("field", "hello"),
    [
        (POSTFIX, "mx.b.example"),
        (f"from [9.9.9.9] (unknown [{REAL}])\r\n\tby gw1.example (Postfix) with ESMTP id 4Abc; date", "[9.9.9.9]"),
        (
            f"from a.example (a.example [{REAL}])\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
            f'\r\n\t key-exchange X25519)\r\n\t(Client CN "[9.9.9.9]", Issuer "x" (not verified))\r\n\tby gw1.example;',
            "a.example",
        ),
        (f"from a.example ([{REAL}] helo=x.example)\r\n\tby gw1.example with esmtp (Exim 4.96)", "x.example"),
        (f"from a.example ([{REAL}]:4711 helo=[9.9.9.9])\r\n\tby gw1.example with esmtp (Exim 4.96)", "[9.9.9.9]"),
        (f"from [{REAL}] (helo=[9.9.9.9])\r\n\tby gw1.example with esmtp (Exim 4.96) id 1; date", "[9.9.9.9]"),
        (f"from [{REAL}] (port=4711 helo=x.example)\r\n\tby gw1.example with esmtp (Exim 4.96) id 1", "x.example"),
        (f"from [{REAL}]\r\n\tby gw1.example with smtp (Exim 4.96) id 1; date", ""),
        (f"from x.example (a.example [{REAL}] (may be forged))\r\n\tby gw1.example (8.17.1/8.17.1)", "x.example"),
        (f"from x.example (evil[9.9.9.9]@a.example [{REAL}] (may be forged))\r\n\tby gw1.example (8.17)", "x.example"),
        (f"from unknown (HELO x.example) ({REAL})\r\n  by gw1.example with SMTP; date", "x.example"),
        (f"from unknown (HELO [9.9.9.9]) (ann@{REAL})\r\n  by gw1.example with SMTP; date", "[9.9.9.9]"),
        (f"from {REAL}  (EHLO x.example) by gw1.example with SMTP; date", "x.example"),
        (f"from [{REAL}] (HELO x.example) by gw1.example (CommuniGate Pro SMTP 6) with ESMTP id 1", "x.example"),
        (f"from x.example ({REAL}) by gw1.example (10.0.0.4) with Microsoft SMTP Server (TLS) id 15; d", "x.example"),
        (f"from x.example ([{REAL}%4]) by gw1.example ([fe80::1%17]) with mapi id 15.1; date", "x.example"),
        (f"from x.example ([::ffff:{REAL}])\r\n  (TLS: TLSv1.3,256bits)\r\n  by gw1.example with ESMTPS", "x.example"),
        (f"FROM x.example ({REAL}:25123) BY gw1.example; date", "x.example"),
    ],
)  # fmt: skip
def test_how_servers_write_who_spoke_to_them(field: str, hello: str) -> None:
    walk = found(field)
    assert (walk.address, walk.hello) == (REAL, hello)
    assert [step.believed for step in walk.steps] == [True]


def test_ipv6_is_read_in_the_spelling_of_everybody() -> None:
    assert found("from x.example (x.example [IPv6:2001:DB8:0::7]) by gw1.example;").address == "2001:db8::7"


@pytest.mark.parametrize(
    "field",
    [
        "",
        "by gw1.example (Postfix, from userid 1000) id 4Abc; date",
        "(qmail 123 invoked by uid 0); date",
        "from x.example by gw1.example with SMTP; date",
        "from [198.51.100.7] by gw1.example with SMTP; date",
        "from [9.9.9.9] (unknown) by gw1.example with SMTP; date",
        f"from x.example (x.example [{REAL}])",
        # What a client may have put into its HELO, where a server writes down whatever it hears.
        f"from unknown (HELO x) (9.9.9.9) ({REAL}) by gw1.example with SMTP; date",
        f"from unknown (HELO x) (9.9.9.9) by fake) ({REAL}) by gw1.example with SMTP; date",
        f"from x (x [9.9.9.9]) by fake (x [{REAL}]) by gw1.example with SMTP; date",
        f"from x (x [9.9.9.9]) (x [{REAL}]) by gw1.example with SMTP; date",
        f"from a b (x [{REAL}]) by gw1.example with SMTP; date",
        f"from x (x [{REAL}] by gw1.example with SMTP; date",
        f"from x (x [{REAL}]) by gw1.example" + " x" * FIELD_LIMIT,
        "from x (x [999.1.1.1]) by gw1.example; date",
    ],
)
def test_what_can_be_read_in_two_ways_or_none_ends_the_walk(field: str) -> None:
    walk = found(field, POSTFIX)
    assert (walk.address, walk.hello, len(walk.steps)) == ("", "", 1)
    assert walk.steps[0].by == PEER and not walk.steps[0].believed


def test_only_the_fields_of_gateways_are_believed() -> None:
    forged = "from nice.example (nice.example [192.0.2.80]) by mx.b.example with ESMTP; date"
    walk = found(
        f"from gw2.example (gw2.example [{INNER}]) by gw1.example; date",
        "(qmail 123 invoked from network); date",
        "from localhost (localhost [127.0.0.1]) by gw2.example (Postfix); date",
        POSTFIX,
        forged,
    )
    assert walk.address == REAL
    assert [step.by for step in walk.steps] == [PEER, INNER, INNER, INNER]
    assert all(step.believed for step in walk.steps)


def test_a_message_without_fields_of_the_gateway_leads_nowhere() -> None:
    assert found().address == ""
    through = found(f"from gw2.example (gw2.example [{INNER}]) by gw1.example; date")
    assert (through.address, through.steps[-1].believed, through.steps[-1].by) == ("", False, INNER)


def test_the_topmost_field_of_a_message_is_the_peer_s() -> None:
    head = f"X-First: 1\r\nRECEIVED: {POSTFIX}\r\nReceived: from x ([192.0.2.8]) by y\r\n\r\nbody\r\n".encode()
    assert walk(Message("m", Body(len(head), head, None, b"")), PEER, GATEWAYS.__contains__).address == REAL


def test_ten_thousand_fields_are_not_looked_at() -> None:
    asked: list[str] = []

    def gateway(ip: str) -> bool:
        asked.append(ip)
        return True

    walk = walked([POSTFIX.encode()] * 10_000, PEER, gateway)
    assert (walk.address, len(asked), len(walk.steps)) == ("", MOST_STEPS, MOST_STEPS + 1)


@given(st.text("from by()[]:;=@. 198IPv6HELOhelo\r\n\t", max_size=200))
def test_no_field_is_too_strange(text: str) -> None:
    walk = found(text)
    assert walk.steps and len(walk.steps) <= MOST_STEPS + 1


@given(st.text("()[]. 19;bywithHELO=@", max_size=60))
def test_no_helo_becomes_the_address(said: str) -> None:
    """Of a server that writes down the HELO as it came, in front of what it knows itself."""
    walk = found(f"from {said} (x.example [{REAL}]) by gw1.example (8.17) with SMTP; date")
    assert walk.address in ("", REAL)
