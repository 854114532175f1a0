"""What an MX set means: who may be given the mail of a domain, and in which order (RFC 5321 5.1, RFC 7505).

Knows preferences, ourselves among the hosts, addresses that are no destination, and whom a backup may deliver to. Does
not know how names are looked up, only what came of it.

Directly: hosts by preference, equal ones in the order they are given (the caller shuffles). Without MX records the
domain itself is the host, of preference 0. A null MX takes no mail (RFC 7505 3). Where we are in the set ourselves, by
name or address, we and every host no better than us are left out, else mail would go round in a loop. A host that is an
alias (RFC 2181 10.3 forbids that) is left out where another one can be used; alone, it is better than no delivery.
A look-up that was not answered stands in nobody's way while another host can be used, and is no reason to give up.

As backup: we are one only where the MX set names us, and only those hosts are given mail that it names with better
preference than us *and* that the operator calls primaries: whoever owns a domain may write anything into its MX set, so
without the second we would be an open relay by DNS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from itertools import chain, zip_longest

from inboundmx.model.custody import Host
from inboundmx.model.ip import ip_of
from inboundmx.model.reply import Reply
from inboundmx.model.settings import Network
from inboundmx.ports import Answer, NoRoute, Unavailable

# Records of one set that are looked at, the best first: its owner is a stranger, who does not choose how many look-ups
# we make.
RECORDS_LIMIT = 20
# Addresses of one route. A silent one costs minutes (RFC 5321 4.5.3.2), and how many there are is the choice of whoever
# owns the domain: an attempt has to end, and the next one may begin elsewhere.
ADDRESSES_LIMIT = 10

NO_DOMAIN = Reply(550, "5.1.2", "the domain of this address does not exist")
NULL_MX = Reply(556, "5.1.10", "the domain of this address takes no mail")
NO_ADDRESS = Reply(550, "5.4.4", "no mail server of the domain has an address that mail can be sent to")
LOOP = Reply(554, "5.4.6", "we are the best mail server of the domain ourselves: mail for it would loop")

_HOST_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_THIS_NETWORK, _RESERVED = IPv4Network("0.0.0.0/8"), IPv4Network("240.0.0.0/4")


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One host of an MX set. ``addresses`` of both families, in the order to try. ``unsure``: whether it has more was
    not answered. ``alias``: its name is one for another host."""

    preference: int
    name: str
    addresses: tuple[str, ...] = ()
    unsure: bool = False
    alias: bool = False


def exchanger(
    preference: int, name: str, six: Answer | Unavailable, four: Answer | Unavailable, alias: bool = False
) -> Exchanger:
    """Made of what DNS said of its AAAA and A records: the families in turn, IPv6 first."""
    answers = [answer.rows if isinstance(answer, Answer) else () for answer in (six, four)]
    # An IPv4 address in the clothes of IPv6 would get past whoever forbids or knows it.
    rows = [[row for row in answers[0] if _plain(row)], answers[1]]
    addresses = tuple(row for row in chain(*zip_longest(*rows)) if row is not None)
    unsure = isinstance(six, Unavailable) or isinstance(four, Unavailable)
    return Exchanger(preference, name, addresses, unsure, alias)


def _plain(address: str) -> bool:
    return getattr(ip_address(address), "ipv4_mapped", None) is None


def null(rows: Collection[tuple[int, str]]) -> bool:
    """Whether it is a null MX (RFC 7505 3): the root is the one host there is."""
    return bool(rows) and not any(name for _, name in rows)


def listed(rows: Iterable[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    """The records worth a look-up, by preference; equal ones stay as they were. The root beside others is no host
    (RFC 7505 3), a name that is no host name has no address we would want, and a second record of a host says nothing
    new."""
    kept: dict[str, int] = {}
    for preference, name in sorted(rows, key=lambda row: row[0]):
        if name not in kept and _HOST_NAME.fullmatch(name):
            kept[name] = preference
    return tuple((preference, name) for name, preference in kept.items())[:RECORDS_LIMIT]


def apart(
    records: Iterable[tuple[int, str]], own: Collection[str]
) -> tuple[tuple[tuple[int, str], ...], tuple[Exchanger, ...]]:
    """The records that need a look-up, and ourselves as far as our names are among them: what is no better than us is
    of no use to us, whatever its addresses."""
    records = tuple(records)
    ours = tuple(Exchanger(preference, name) for preference, name in records if name in own)
    best = min((each.preference for each in ours), default=None)
    return tuple(record for record in records if best is None or record[0] < best), ours


def ourselves(texts: Iterable[str]) -> frozenset[str]:
    """Our addresses and names, written as DNS answers are."""
    return frozenset(_canonical(text) for text in texts if text)


def _canonical(text: str) -> str:
    text = text.partition("%")[0].lower().removesuffix(".")
    address = ip_of(text)
    return text if address is None else str(address)


def no_destination(address: str) -> bool:
    """Whether nobody else can be there: this network and this host, loopback, link-local, multicast, reserved and
    broadcast addresses (RFC 6890). Private ones (RFC 1918, 4193) may be a neighbour's."""
    ip = ip_address(address)
    if ip.version == 4 and (ip in _THIS_NETWORK or ip in _RESERVED):
        return True
    return ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip.is_multicast


def direct_hosts(
    found: Sequence[Exchanger], own: Collection[str], forbidden: Callable[[str], bool] = no_destination
) -> tuple[Host, ...]:
    """Where mail goes directly, in the order to try, never to what is ``forbidden``. Raises NoRoute where there is
    nothing, and Unavailable where there may be."""
    ours = _our_preference(found, own)
    better = [each for each in found if ours is None or each.preference < ours]
    if ours is not None and not better:
        raise NoRoute(LOOP)
    proper = [each for each in better if not each.alias]
    hosts = _hosts(proper, lambda each: not forbidden(each)) or _hosts(better, lambda each: not forbidden(each))
    if hosts:
        return hosts
    for each in better:
        if each.unsure:
            raise Unavailable(f"the addresses of {each.name} cannot be looked up")
    raise NoRoute(NO_ADDRESS)


def backup_hosts(
    found: Sequence[Exchanger], own: Collection[str], primaries: Sequence[Network], refusal: Reply
) -> tuple[Host, ...]:
    """Whom we are backup of: those addresses of better hosts than us that are ``primaries``, in the order to try.
    Raises NoRoute with ``refusal`` when we are not, however the look-ups that were not answered may come out, and
    Unavailable when that depends on them."""

    def primary(address: str) -> bool:
        ip = ip_address(address)
        return any(ip in network for network in primaries)

    ours = _our_preference(found, own)
    others = [each for each in found if not _is_ours(each, own)]
    known = [each for each in others if any(map(primary, each.addresses))]
    if ours is not None:
        # A host of which nothing is known may be us, and then we are better than we thought.
        strangers = [each.preference for each in others if each.unsure and not each.addresses]
        certain = [each for each in known if each.preference < min([ours, *strangers])]
        if certain:
            return _hosts(certain, primary)
    unsure = [each for each in others if each.unsure]
    latest = ours if ours is not None else max((each.preference for each in unsure), default=None)
    for each in (*known, *unsure):
        if latest is not None and each.preference < latest:
            raise Unavailable("the addresses of its mail servers cannot all be looked up")
    raise NoRoute(refusal)


def _is_ours(exchanger: Exchanger, own: Collection[str]) -> bool:
    return exchanger.name in own or any(address in own for address in exchanger.addresses)


def _our_preference(found: Iterable[Exchanger], own: Collection[str]) -> int | None:
    return min((each.preference for each in found if _is_ours(each, own)), default=None)


def _hosts(found: Iterable[Exchanger], allowed: Callable[[str], bool]) -> tuple[Host, ...]:
    """Their allowed addresses, each once. Where there are too many, every host has its share of them, and what others
    leave of theirs: one with a dozen addresses, all silent, would keep mail from all others. No share is less than one
    of each family."""
    seen: set[str] = set()
    usable: list[list[Host]] = []
    for each in found:
        fresh = [address for address in each.addresses if allowed(address) and address not in seen]
        seen.update(fresh)
        if fresh:
            usable.append([Host(address, name=each.name) for address in fresh])
    share = max(2, ADDRESSES_LIMIT // max(1, len(usable)))
    room = ADDRESSES_LIMIT - sum(min(share, len(hosts)) for hosts in usable)
    chosen: list[Host] = []
    for hosts in usable:
        more = max(0, min(room, len(hosts) - share))
        room -= more
        chosen += hosts[: share + more]
    return tuple(chosen[:ADDRESSES_LIMIT])
