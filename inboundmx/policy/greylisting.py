"""Whether a triplet has waited long enough, and what to remember of it (RFC 6647).

Knows the three periods, what makes two deliveries the same triplet, and clocks that jump. Does not know where facts are
kept, nor what an outcome is worth.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from inboundmx.model.address import Address, written
from inboundmx.model.ip import ip_of
from inboundmx.model.settings import GreylistingSettings
from inboundmx.ports import Fact

Outcome = Literal["new", "early", "passed", "known"]

# What stands between the parts of a key: no address holds one.
SEPARATOR = "\t"
# A known triplet is written anew only when this part of its expiration has gone by since: not with every message.
_REFRESHED = 1 / 36

_DIGITS = re.compile(r"[0-9]+")
_REACHED_ALWAYS = frozenset({"postmaster", "abuse"})


class Decision(NamedTuple):
    """``fact``: what to remember from now on, None when nothing changes. ``wait``: seconds until a retry will pass,
    0 when it has passed."""

    outcome: Outcome
    fact: Fact | None
    wait: float


def decide(fact: Fact | None, now: float, settings: GreylistingSettings) -> Decision:
    """``fact``: what is remembered, None: nothing. Its values are when the triplet was first seen and, once it passed,
    when that was.

    The block period counts from the first attempt; an early retry does not prolong it. What passed stays known until
    nothing was heard of it for the expiration, wherever the clock jumps to meanwhile. A first attempt that lies in the
    future was made by a clock that was put back since: it counts as made now.
    """
    if fact is None or not fact.values or (len(fact.values) == 1 and fact.values[0] + settings.pass_ < now):
        return Decision("new", _waiting(now, settings), settings.block)
    first_seen = fact.values[0]
    if len(fact.values) > 1:
        stale = not 0 <= now - fact.written_at < settings.expire * _REFRESHED
        refreshed = Fact(fact.values, now, now + settings.expire)
        # After a clock that was put back the older, later expiry is the better promise.
        return Decision("known", refreshed if stale and refreshed.expires_at > fact.expires_at else None, 0.0)
    if first_seen > now:
        return Decision("early", _waiting(now, settings), settings.block)
    wait = first_seen + settings.block - now
    if wait > 0:
        return Decision("early", None, wait)
    return Decision("passed", Fact((first_seen, now), now, now + settings.expire), 0.0)


def _waiting(now: float, settings: GreylistingSettings) -> Fact:
    return Fact((now,), now, now + settings.pass_)


def triplet(peer_ip: str, sender: Address | None, recipient: Address, settings: GreylistingSettings) -> str:
    """The key: the client's network, so that every member of a pool may retry; the sender, numbers in whose local part
    count as one, for lists number their senders (VERP); the recipient. All in lower case."""
    local = "<>" if sender is None else f"{_DIGITS.sub('#', sender.local.lower())}@{sender.domain}"
    network = _network(peer_ip, *settings.network)
    return f"{network}{SEPARATOR}{local}{SEPARATOR}{written(recipient).lower()}"


def searched(text: str, settings: GreylistingSettings) -> tuple[str, ...]:
    """What keys may hold where an operator writes ``text``: the numbers of a sender are not in them, and of a client
    its network alone."""
    text = text.lower()
    network = _network(text, *settings.network)
    if network != text:
        return text, f"{network}{SEPARATOR}"
    local, at, rest = text.partition("@")
    return tuple(dict.fromkeys((text, f"{_DIGITS.sub('#', local)}{at}{rest}"))) if at else (text,)


def exempt(sender: Address | None, recipient: Address) -> str:
    """Why this is never put off, empty when it may be.

    Null senders are those of bounces, and of hosts that ask whether a sender of ours exists before they take his mail:
    putting them off would delay what our own users send. Postmaster and abuse are to be reached by anybody (RFC 5321
    4.5.1, RFC 2142).
    """
    if sender is None:
        return "null sender"
    if recipient.local.lower() in _REACHED_ALWAYS:
        return f"{recipient.local.lower()} is reached by anybody"
    return ""


@lru_cache(maxsize=4096)
def _network(peer_ip: str, bits: int, bits6: int) -> str:
    address = ip_of(peer_ip.partition("%")[0])
    if address is None:
        return peer_ip
    # As ipaddress.ip_network would say it, at a fifth of the cost: every new client comes here.
    kept = bits if address.version == 4 else bits6
    host = address.max_prefixlen - kept
    return f"{type(address)(int(address) >> host << host)}/{kept}"
