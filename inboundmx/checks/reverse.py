"""Addresses as names in DNS (RFC 1035 3.5, RFC 3596 2.5, RFC 5782), and which texts are host names.

Knows how they are written. Does not ask anything.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address

from inboundmx.model.ip import IP

# Underscores are not allowed in host names, and there all the same.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.(?!\d+$){_LABEL}", re.ASCII | re.IGNORECASE)


@lru_cache(maxsize=1024)
def reversed_labels(address: IP) -> str:
    """``1.2.0.192``, or the 32 nibbles of an IPv6 address, the last first."""
    if isinstance(address, IPv4Address):
        return ".".join(reversed(str(address).split(".")))
    return ".".join(reversed(f"{int(address):032x}"))


def reverse_name(address: IP) -> str:
    """Where the PTR records of an address are."""
    return f"{reversed_labels(address)}.{'in-addr' if isinstance(address, IPv4Address) else 'ip6'}.arpa"


def host_name(text: str) -> bool:
    """Whether it is a whole host name: letters, digits and hyphens, two labels at least, the last not a number."""
    return len(text) <= 253 and _HOST.fullmatch(text) is not None
