"""The addresses of this machine, for whether an MX set names us. Knows the system's list of interfaces, and that it is
read now and then; does not know what anybody else calls us, such as a NAT in front of us."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import ifaddr

from inboundmx.ports import Clock

# An address that was just given to the machine is ours within this time.
HOLDS_SECONDS = 60.0


def system_addresses() -> Iterable[str]:
    """Every address of every interface. Asks the kernel, which answers at once. Raises OSError."""
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            yield each.ip if isinstance(each.ip, str) else each.ip[0]


class OwnAddresses:
    """Called, it answers with the addresses by which others can reach us, as the ``ipaddress`` module writes them."""

    def __init__(self, clock: Clock, listed: Callable[[], Iterable[str]] = system_addresses) -> None:
        self._clock = clock
        self._listed = listed
        self._until = float("-inf")
        self._addresses: frozenset[str] = frozenset()

    def __call__(self) -> frozenset[str]:
        now = self._clock.monotonic()
        if now >= self._until:
            self._until = now + HOLDS_SECONDS
            try:
                found = [ip_address(each.partition("%")[0]) for each in self._listed()]
            except OSError:
                # What was known a minute ago is the best guess there is.
                return self._addresses
            self._addresses = frozenset(str(each) for each in found if _reachable(each))
        return self._addresses


def _reachable(address: IPv4Address | IPv6Address) -> bool:
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)
