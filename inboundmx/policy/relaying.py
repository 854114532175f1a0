"""Who may send out through us.

Knows that an operator's list of networks and authentication grant it, and nothing else: what a client says of itself in
HELO, MAIL or Received never does. Does not know where the mail goes then.
"""

from __future__ import annotations

from collections.abc import Iterable

from inboundmx.model.ip import ip_of
from inboundmx.model.session import Session
from inboundmx.model.settings import Network, RelaySettings
from inboundmx.policy.listing import NOBODY
from inboundmx.ports import Lists


def may_relay(session: Session, settings: RelaySettings, lists: Lists = NOBODY) -> bool:
    """``session.peer_ip`` is the peer of the TCP connection, or the one that a PROXY header named."""
    return (
        bool(session.authenticated_as)
        or within(session.peer_ip, settings.networks)
        or (settings.whitelisted and lists.whitelisted(session.peer_ip, "smtp"))
    )


def within(peer: str, networks: Iterable[Network]) -> bool:
    """Whether an address as text is in any of them; an IPv4 one that came mapped into IPv6 counts as what it is. What
    is no address, such as the peer of a local socket, is in none."""
    if not networks:
        return False
    address = ip_of(peer)
    return address is not None and any(address in network for network in networks)


def same(one: str, other: str) -> bool:
    """Whether two texts are the same address, however it is written."""
    address = ip_of(one)
    return address is not None and address == ip_of(other)
