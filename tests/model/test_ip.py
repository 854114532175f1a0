"""One IPv4 address is the same whichever family it came by, and a name is no address."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from inboundmx.model.ip import ip_of, is_ip


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("::", "::"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    assert ip_of(text) == ip_address(address)
    assert is_ip(text)


@pytest.mark.parametrize("text", ["", "mx.example", "192.0.2", "192.0.2.1.", "192.0.2.256", "[192.0.2.1]", "0x7f.1"])
def test_what_is_none(text: str) -> None:
    assert ip_of(text) is None
    assert not is_ip(text)
