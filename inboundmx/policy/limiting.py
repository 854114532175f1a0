"""Who is counted as one, where an address is limited, blocked or known.

Knows that a customer of IPv6 has a network of addresses to choose from. Does not know what is counted, nor where.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_network

from inboundmx.model.ip import ip_of

# Of IPv6; whoever has one has all the addresses in it (RFC 6177).
PREFIX = 64


@lru_cache(maxsize=4096)
def subject(ip: str) -> str:
    """An IPv4 address as it is, an IPv6 address as its /64; what is no address, such as the peer of a local socket, is
    nobody: empty."""
    address = ip_of(ip)
    if address is None:
        return ""
    return str(address) if address.version == 4 else str(ip_network((address, PREFIX), strict=False))
