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


def is_ip(text: str) -> bool:
    """Whether it is an address, and not a name or the peer of a local socket."""
    return ip_of(text) is not None
