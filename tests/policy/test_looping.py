"""Mail that comes back to us again and again stops."""

from __future__ import annotations

import pytest

from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.identity import make_id
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import GatewaySettings
from inboundmx.policy.looping import PASSES, goes_in_circles, passes
from inboundmx.policy.stamping import received

US = GatewaySettings(hostname="mx1.example.net", hostnames={"192.0.2.2": "mx2.example.org"})
OTHER = GatewaySettings(hostname="mx1.other.example")
PLAIN = Session("s", "198.51.100.7", 4000, "192.0.2.1", 0.0, "client.example", True)
SECURED = Session(
    "s", "2001:db8::7", 4000, "192.0.2.2", 0.0, "client.example", True, "TLSv1.3 (x)", "", "c.example"
)
END = b"From: a@b.example\r\n\r\nbody\r\n"


def trace(gateway: GatewaySettings, session: Session = PLAIN, number: int = 0) -> bytes:
    message = Message(make_id(1_800_000_000.0 + number, "abc123"), Body(0, b"", None, b""))
    return received(message, session, Envelope(None), gateway, 1_800_000_000.0, Address("ann", "a.example"))


def message(*fields: bytes) -> Message:
    content = b"".join(fields) + END
    return Message("id", Body(len(content), content, None, b""))


@pytest.mark.parametrize("session", [PLAIN, SECURED])
def test_our_own_field_is_known_again(session: Session) -> None:
    ours = trace(US, session)
    assert passes(message(ours), US) == 1
    assert passes(message(ours.replace(b"\r\n\t", b" ").rstrip() + b"\r\n"), US) == 1
    assert passes(message(ours.replace(b" with ", b"\r\n     with ").replace(b" id ", b"\r\n\tid ")), US) == 1
    assert passes(message(ours.replace(b"mx1.", b"MX1.").replace(b"mx2.", b"Mx2.")), US) == 1
    assert passes(message(ours), OTHER) == 0


@pytest.mark.parametrize(
    "field",
    [
        b"Received: from mx1.example.net (x) by mx.other.example with ESMTP id 1hk8s90aabc123z; now\r\n",
        b"Received: by mx1.example.net with ESMTP id 4XyZ; now\r\n",
        b"Received: by mx1.example.net (Postfix) id 1hk8s90aaabc123; now\r\n",
        b"X-Received: by mx1.example.net with ESMTP id 1hk8s90aaabc123; now\r\n",
        b"Received: nonsense\r\n",
    ],
)
def test_what_others_wrote_is_not_ours(field: bytes) -> None:
    assert passes(message(field), US) == 0


@pytest.mark.parametrize(
    ("ours", "others", "circles"),
    [
        (PASSES, 0, False),
        (PASSES + 1, 0, True),
        (PASSES, 40, False),
        (PASSES + 1, 40, True),
        (0, 50, False),
        (0, 51, True),
        (PASSES, 46, True),
    ],
)
def test_how_often_is_too_often(ours: int, others: int, circles: bool) -> None:
    fields = [trace(US, number=number) for number in range(ours)] + [trace(OTHER)] * others
    assert goes_in_circles(message(*fields), US, 50) is circles


def test_long_fields_of_strangers_take_no_time_to_speak_of() -> None:
    """Linear: a pattern that tried again at each word would not come to an end."""
    nasty = b"Received:" + b" by x with y (" * 8_000 + b"\r\n"
    blank = b"Received: by" + b" " * 100_000 + b"x with" + b" " * 100_000 + b"y\r\n"
    assert passes(message(nasty, blank), US) == 0
