"""Who may ask: by which name, with which password, and how often with a wrong one.

Knows HTTP Basic (RFC 7617) and DNS rebinding; does not know what is asked for.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address, ip_network

from inboundmx.ports import Clock

# Wrong passwords that an address may send in so many seconds; then it hears nothing else until they are over.
FAILURES = 10
WINDOW_SECONDS = 60.0
# Addresses remembered; of more, the one that failed first is forgotten.
ADDRESSES = 1000

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::[0-9]{1,5})?")


def plain(address: str) -> str:
    """An IP address as text, without its zone, an IPv4 one that came in by an IPv6 socket as IPv4; empty for what is no
    address."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return str(mapped or ip)


def is_loopback(address: str) -> bool:
    return bool(address) and ip_address(address).is_loopback


def names_us(host: str, names: Collection[str]) -> bool:
    """Whether a Host field (RFC 9110 7.2) is an IP address, localhost or one of ``names``: what a page of somebody
    else's, whose name was made to point here, cannot say."""
    match = _AUTHORITY.fullmatch(host)
    if match is None:
        return False
    name = match[1].lower().rstrip(".")
    return name == "localhost" or name in names or bool(plain(name.strip("[]")))


def is_password(given: str, username: str, password: str) -> bool:
    """Whether an Authorization field has this name and password, compared in constant time."""
    scheme, _, coded = given.partition(" ")
    try:
        said = b64decode(coded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        said = b""
    # Of equal length, so that not even that is told.
    return hmac.compare_digest(_digest(said), _digest(f"{username}:{password}".encode()))


def _digest(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()


class FailedLogins:
    """Counts wrong passwords by address, of IPv6 by the /64 it is in."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[str, tuple[float, int]] = {}

    def wait(self, address: str) -> float:
        """Seconds until this address is listened to again, 0 when it is."""
        began_at, failures = self._failed.get(neighbourhood(address), (0.0, 0))
        left = began_at + WINDOW_SECONDS - self._clock.monotonic()
        return left if failures >= FAILURES and left > 0 else 0.0

    def failed(self, address: str) -> None:
        now = self._clock.monotonic()
        key = neighbourhood(address)
        began_at, failures = self._failed.pop(key, (now, 0))
        if now - began_at >= WINDOW_SECONDS:
            began_at, failures = now, 0
        if len(self._failed) >= ADDRESSES:
            del self._failed[min(self._failed, key=lambda each: self._failed[each][0])]
        self._failed[key] = (began_at, failures + 1)


def neighbourhood(address: str) -> str:
    """Of an IPv6 address the /64 it is in, which is one customer's; any other text as it is."""
    return str(ip_network(f"{address}/64", strict=False)) if ":" in address else address
