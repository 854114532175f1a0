"""Whether a triplet has waited long enough, what to remember of it (RFC 6647), and who need not wait any more.

Knows the periods, what makes two deliveries the same triplet, by what names a client is known, and clocks that jump.
Does not know where facts are kept, nor what an outcome is worth.
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
State = Literal["waiting", "known", "released"]
# How many numbers the fact of a triplet has in each state: when it was first seen; when it passed, or 0; when an
# operator let it through.
STATES: dict[State, int] = {"waiting": 1, "known": 2, "released": 3}

# What stands between the parts of a key: no address holds one.
SEPARATOR = "\t"
# A client that is known by its sender's domain, and one of a network by a domain that signed: no network begins so.
BY_SPF, BY_DKIM = "spf:", "dkim:"
# What is remembered for days is written anew only when this part of them has gone by since: not with every message.
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
    """``fact``: what is remembered, None: nothing. How many values it has says its state (``STATES``).

    The block period counts from the first attempt; an early retry does not prolong it. What passed stays known until
    nothing was heard of it for the expiration, wherever the clock jumps to meanwhile. A first attempt that lies in the
    future was made by a clock that was put back since: it counts as made now.
    """
    if fact is None or not fact.values or (len(fact.values) == 1 and fact.values[0] + settings.pass_ < now):
        return Decision("new", _waiting(now, settings), settings.block)
    first_seen = fact.values[0]
    if len(fact.values) == STATES["known"]:
        return Decision("known", _refreshed(fact, now, settings.expire), 0.0)
    if len(fact.values) == STATES["released"]:
        return Decision("passed", Fact((first_seen, now), now, now + settings.expire), 0.0)
    if first_seen > now:
        return Decision("early", _waiting(now, settings), settings.block)
    wait = first_seen + settings.block - now
    if wait > 0:
        return Decision("early", None, wait)
    return Decision("passed", Fact((first_seen, now), now, now + settings.expire), 0.0)


def released(fact: Fact | None, now: float, settings: GreylistingSettings) -> Fact:
    """What to remember of one whose next try is to pass, whenever it comes within the pass period from now."""
    first_seen = fact.values[0] if fact is not None and fact.values else now
    return Fact((first_seen, 0.0, now), now, now + settings.pass_)


def state_of(fact: Fact) -> State:
    if len(fact.values) >= STATES["released"]:
        return "released"
    return "known" if len(fact.values) == STATES["known"] else "waiting"


def _waiting(now: float, settings: GreylistingSettings) -> Fact:
    return Fact((now,), now, now + settings.pass_)


def _refreshed(fact: Fact, now: float, seconds: float) -> Fact | None:
    """The same for so many seconds more, None while it was written lately. After a clock that was put back the older,
    later expiry is the better promise."""
    stale = not 0 <= now - fact.written_at < seconds * _REFRESHED
    return Fact(fact.values, now, now + seconds) if stale and now + seconds > fact.expires_at else None


# --- by what a client is known ----------------------------------------------------------------------------------------


def names(peer_ip: str, sender: Address | None, authenticated: bool, settings: GreylistingSettings) -> tuple[str, ...]:
    """By what a client's triplets are kept: the first from now on, the other one before, or under another ``key``.
    ``authenticated``: SPF says that the client may send for the sender's domain. A domain that anybody may name tells
    nothing of the client, so without that it is its network."""
    network = _network(peer_ip, *settings.network)
    if sender is None or not authenticated:
        return (network,)
    domain = BY_SPF + sender.domain
    return (domain, network) if settings.key == "domain" else (network, domain)


def good_names(
    peer_ip: str, sender: Address | None, authenticated: bool, settings: GreylistingSettings
) -> tuple[str, ...]:
    """By what a client may have become known for good mail. What signs a message is not known yet when it is asked
    for: a domain that signed is believed in the network it was seen in."""
    known = names(peer_ip, sender, authenticated, settings)
    if sender is None or authenticated or settings.key == "network":
        return known
    return (*known, _signing(known[0], sender))


def credited(
    peer_ip: str, sender: Address, authenticated: bool, signed: bool, settings: GreylistingSettings
) -> tuple[str, ...]:
    """What a message is counted for, good or bad. ``signed``: DKIM passed for a domain aligned with the sender's. With
    ``key = domain`` only what nobody answers for is counted for its network: good mail of one customer of a large
    service does not speak for all others."""
    known = names(peer_ip, sender, authenticated, settings)
    if settings.key == "network" or not (authenticated or signed):
        return known
    return known[:1] if authenticated else (_signing(known[0], sender),)


def _signing(network: str, sender: Address) -> str:
    return f"{network} {BY_DKIM}{sender.domain}"


def told(name: str) -> str:
    """A client's name for people."""
    network, domain = parts_of(name)
    if not domain:
        return network
    return f"{domain} (DKIM) in {network}" if network else f"{domain} (SPF)"


def parts_of(name: str) -> tuple[str, str]:
    """The network and the domain in a client's name, each empty when there is none."""
    if name.startswith(BY_SPF):
        return "", name.removeprefix(BY_SPF)
    network, signed, domain = name.partition(f" {BY_DKIM}")
    return (network, domain) if signed else (name, "")


def triplet(name: str, sender: Address | None, recipient: Address) -> str:
    """The key: the client's name; the sender, numbers in whose local part count as one, for lists number their senders
    (VERP); the recipient. All in lower case."""
    local = "<>" if sender is None else f"{_DIGITS.sub('#', sender.local.lower())}@{sender.domain}"
    return f"{name}{SEPARATOR}{local}{SEPARATOR}{written(recipient).lower()}"


def searched(text: str, settings: GreylistingSettings) -> tuple[str, ...]:
    """What keys may hold where an operator writes ``text``: the numbers of a sender are not in them, and of a client
    its network alone."""
    text = text.lower()
    network = _network(text, *settings.network)
    if network != text:
        return text, network
    local, at, rest = text.partition("@")
    return tuple(dict.fromkeys((text, f"{_DIGITS.sub('#', local)}{at}{rest}"))) if at else (text,)


# --- who need not wait ------------------------------------------------------------------------------------------------


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


def enough(count: float, now: float, settings: GreylistingSettings) -> Fact | None:
    """What to remember of a client that sent so many good messages, None while they are too few. The values are how
    many it took, and when that was."""
    return Fact((count, now), now, now + settings.auto_allow_for) if count >= settings.auto_allow else None


def still_good(fact: Fact, now: float, settings: GreylistingSettings) -> Fact | None:
    """The same of one that has sent one more, None: nothing new."""
    return _refreshed(fact, now, settings.auto_allow_for)


def over(now: float) -> Fact:
    """What takes the place of something that is to be forgotten at once."""
    return Fact((), now, now)


def allowed(fact: Fact | None, settings: GreylistingSettings) -> int:
    """After how many good messages a client need not wait; 0: it must."""
    if fact is None or not fact.values or not 0 < settings.auto_allow <= fact.values[0]:
        return 0
    return int(fact.values[0])


def correspondence(stranger: Address, domain: str) -> str:
    """The key of somebody a user of ``domain`` has written to."""
    return f"{written(stranger).lower()}{SEPARATOR}*@{domain}"


def after_writing(fact: Fact | None, now: float, settings: GreylistingSettings) -> Fact | None:
    """What to remember of that, None: nothing new."""
    return Fact((now,), now, now + settings.expire) if fact is None else _refreshed(fact, now, settings.expire)


@lru_cache(maxsize=4096)
def _network(peer_ip: str, bits: int, bits6: int) -> str:
    address = ip_of(peer_ip.partition("%")[0])
    if address is None:
        return peer_ip
    # As ipaddress.ip_network would say it, at a fifth of the cost: every new client comes here.
    kept = bits if address.version == 4 else bits6
    host = address.max_prefixlen - kept
    return f"{type(address)(int(address) >> host << host)}/{kept}"
