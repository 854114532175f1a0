"""Who is counted as one, how often is too often, and how that is counted without much ado.

Knows that a customer of IPv6 has a network of addresses to choose from. Does not know who sees what is counted, nor
what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import ip_network
from typing import NamedTuple

from inboundmx.model.ip import ip_of
from inboundmx.model.settings import AbuseSettings
from inboundmx.ports import Unavailable

# Of IPv6; whoever has one has all the addresses in it (RFC 6177).
PREFIX = 64
# Processes tell each other what they count in so many steps to a limit: they know it to a twentieth.
STEPS = 20
# By one rule, in one process.
MOST_COUNTED = 20_000


@lru_cache(maxsize=4096)
def subject(ip: str) -> str:
    """An IPv4 address as it is, an IPv6 address as its /64; what is no address, such as the peer of a local socket, is
    nobody: empty."""
    address = ip_of(ip)
    if address is None:
        return ""
    return str(address) if address.version == 4 else str(ip_network((address, PREFIX), strict=False))


@lru_cache(maxsize=4096)
def network(ip: str, bits: int, bits6: int) -> str:
    """The network of an address, of so many bits; what is no address is in none: empty."""
    address = ip_of(ip)
    if address is None:
        return ""
    return str(ip_network((address, bits if address.version == 4 else bits6), strict=False))


class Rules(NamedTuple):
    """The ``[abuse NAME]`` sections by kind."""

    connections: tuple[AbuseSettings, ...] = ()
    bad_sessions: tuple[AbuseSettings, ...] = ()
    bad_commands: tuple[AbuseSettings, ...] = ()
    bad_recipients: tuple[AbuseSettings, ...] = ()
    same_size: tuple[AbuseSettings, ...] = ()


NO_RULES = Rules()


def rules_of(settings: Iterable[AbuseSettings]) -> Rules:
    found: dict[str, list[AbuseSettings]] = {}
    for rule in settings:
        found.setdefault(rule.use.replace("-", "_"), []).append(rule)
    return Rules(**{kind: tuple(rules) for kind, rules in found.items()})


def exceeded(rule: AbuseSettings, total: float) -> bool:
    """So many are suffered, and no more: a connection is counted before it is, all else when it is over."""
    return total > rule.limit if rule.use == "connections" else total >= rule.limit


_WHAT = {
    "connections": "connections",
    "bad-sessions": "sessions with refused recipients and without a message",
    "bad-commands": "bad commands",
    "bad-recipients": "refused recipients",
    "same-size": "messages of the same size",
}


def reason(rule: AbuseSettings, total: float) -> str:
    """Why somebody is blocked or told of, in words."""
    return f"{total:.0f} {_WHAT[rule.use]} within {rule.window / 60:g} minutes"


class Tally:
    """What one rule counts, by whoever is counted: in this process first, and in steps with all others, so that most
    clients, which come once, cost no more than a look into memory. Bounded: the oldest are forgotten."""

    def __init__(self) -> None:
        # By whom: what others do not know of yet, what all know of, and when the window ends.
        self._counts: dict[str, list[float]] = {}

    def add(self, who: str, amount: float, rule: AbuseSettings, now: float, share: Callable[[float], float]) -> float:
        """The total in the window under way. ``share`` adds to what all processes count, and gives their total; when it
        raises Unavailable this process counts alone."""
        counts = self._counts
        count = counts.get(who)
        if count is None or not now < count[2] <= now + rule.window:
            counts.pop(who, None)
            count = counts[who] = [0.0, 0.0, now + rule.window]
            if len(counts) > MOST_COUNTED:
                del counts[next(iter(counts))]
        count[0] += amount
        if abs(count[0]) >= max(1, rule.limit // STEPS):
            try:
                count[1] = share(count[0])
            except Unavailable:
                return count[0] + count[1]
            count[0] = 0.0
        return count[0] + count[1]

    def forget(self, meant: Callable[[str], bool]) -> None:
        for who in [each for each in self._counts if meant(each)]:
            del self._counts[who]
