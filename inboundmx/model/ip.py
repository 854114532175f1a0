"""What an IP address as text is. Knows nothing of names, nor of who is behind an address."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

IP = IPv4Address | IPv6Address


@lru_cache(maxsize=4096)
def ip_of(text: str) -> IP | None:
    """The address, an IPv4 one that came mapped into IPv6 as what it is; None for anything else."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def counted_as(ip: str) -> str:
    """What connections of an address are counted by: itself, or the /64 of an IPv6 address, in which one host may have
    as many as it likes (RFC 6177)."""
    address = ip_of(ip)
    return str(IPv6Address(int(address) >> 64 << 64)) if isinstance(address, IPv6Address) else ip


def is_ip(text: str) -> bool:
    """Whether it is an address, and not a name or the peer of a local socket."""
    return ip_of(text) is not None
