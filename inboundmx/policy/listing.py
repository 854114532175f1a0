"""Whether a client or a sender stands on an operator's lists.

Knows how addresses, ranges, networks and patterns with ``*`` are found without walking through them. Does not know who
wrote an entry, where it is kept, nor what follows from it.

A look-up costs a dictionary access for each length of prefix that is in use, and for each label of a domain; only
*loose* patterns are tried one by one (``is_loose``), and so there may be few of them (``MOST_LOOSE``).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv6Network, ip_address, ip_network, summarize_address_range

from inboundmx.model.address import Address
from inboundmx.model.ip import ip_of
from inboundmx.model.listing import TICKS, Kind, Listed
from inboundmx.model.settings import ListsSettings, Network
from inboundmx.ports import Lists

# Each costs a look-up a fifth of a microsecond.
MOST_LOOSE = 200

_MAPPED = IPv6Network("::ffff:0:0/96")


def blocks(value: str) -> list[Network]:
    """The networks that an address, an ``a-b`` range or a CIDR block is made of. Raises ValueError."""
    first, dash, last = value.partition("-")
    if not dash:
        return [ip_network(first)]
    try:
        return list(summarize_address_range(ip_address(first), ip_address(last)))
    except TypeError as error:
        raise ValueError(str(error)) from error


def written(network: Network) -> str:
    """As people write it: a single address without its prefix."""
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def is_loose(pattern: str) -> bool:
    """Whether a pattern can only be found by trying it: those for one address, for all of a domain, for all domains
    below one, and for one local part anywhere are looked up."""
    local, _, domain = pattern.rpartition("@")
    if local == "*":
        return "*" in domain.removeprefix("*.")
    return "*" in local or ("*" in domain and domain != "*")


def of_domain(domain: str) -> Iterator[str]:
    """The patterns for everybody at a domain, those that say more of it first: for all of it, for all domains below its
    parent, and so on."""
    yield f"*@{domain}"
    _, dot, above = domain.partition(".")
    while dot:
        yield f"*@*.{above}"
        _, dot, above = above.partition(".")


@lru_cache(maxsize=4 * MOST_LOOSE)
def _pieces(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("*"))


def fits(pattern: str, text: str) -> bool:
    """Whether ``text`` is ``pattern`` with something, or nothing, in place of each ``*``. Linear: after each piece is
    found where it comes first, none of the following ones can need an earlier place."""
    first, *middle = _pieces(pattern)
    if not middle:
        return text == pattern
    last = middle.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    place, end = len(first), len(text) - len(last)
    for piece in middle:
        place = text.find(piece, place, end)
        if place < 0:
            return False
        place += len(piece)
    return True


class _Clients:
    """Entries by network. ``_tables``: by version, (bits of the host, entries by the network's bits), longest prefix
    first."""

    def __init__(self) -> None:
        self._tables: dict[int, list[tuple[int, dict[int, list[Listed]]]]] = {4: [], 6: []}

    def add(self, entry: Listed) -> None:
        for network in map(_unmapped, blocks(entry.value)):
            self._table(network).setdefault(_bits(network), []).append(entry)

    def remove(self, entry: Listed) -> None:
        for network in map(_unmapped, blocks(entry.value)):
            table = self._table(network)
            left = [other for other in table.pop(_bits(network), ()) if other.key != entry.key]
            if left:
                table[_bits(network)] = left
            elif not table:
                host = network.max_prefixlen - network.prefixlen
                self._tables[network.version].remove((host, table))

    def find(self, ip: str, now: float) -> Listed | None:
        """The entry for the smallest network that the address is in."""
        return next(self.all(ip, now), None) if self._tables[4] or self._tables[6] else None

    def all(self, ip: str, now: float) -> Iterator[Listed]:
        """Every entry that the address falls under, the smallest network first."""
        address = ip_of(ip)
        if address is None:
            return
        number = int(address)
        for host, table in self._tables[address.version]:
            for entry in table.get(number >> host, ()):
                if not entry.over(now):
                    yield entry

    def _table(self, network: Network) -> dict[int, list[Listed]]:
        host = network.max_prefixlen - network.prefixlen
        tables = self._tables[network.version]
        for bits, table in tables:
            if bits == host:
                return table
        made: dict[int, list[Listed]] = {}
        insort(tables, (host, made), key=lambda pair: pair[0])
        return made


def _bits(network: Network) -> int:
    return int(network.network_address) >> (network.max_prefixlen - network.prefixlen)


def _unmapped(network: Network) -> Network:
    """IPv4 that is written as IPv6 is looked for as what it is."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return ip_network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


class _Senders:
    """Entries by what they are a pattern of."""

    def __init__(self) -> None:
        # By the whole pattern, which is how all but the loose ones are looked up: "a@b.example", "*@b.example",
        # "*@*.example", "a@*".
        self._patterns: dict[str, Listed] = {}
        self._loose: dict[str, Listed] = {}

    def add(self, entry: Listed) -> None:
        (self._loose if is_loose(entry.value) else self._patterns)[entry.value] = entry

    def remove(self, entry: Listed) -> None:
        self._patterns.pop(entry.value, None)
        self._loose.pop(entry.value, None)

    def find(self, address: Address, now: float) -> Listed | None:
        return next(self.all(address, now), None) if self._patterns or self._loose else None

    def all(self, address: Address, now: float) -> Iterator[Listed]:
        """Every entry that the sender falls under, those that say more of him first."""
        local = address.local.lower()
        whole = f"{local}@{address.domain}"
        for pattern in (whole, f"{local}@*"):
            entry = self._patterns.get(pattern)
            if entry is not None and not entry.over(now):
                yield entry
        yield from self.all_of_domain(address.domain, now)
        for pattern, entry in self._loose.items():
            if fits(pattern, whole) and not entry.over(now):
                yield entry

    def find_domain(self, domain: str, now: float) -> Listed | None:
        return next(self.all_of_domain(domain, now), None) if self._patterns else None

    def all_of_domain(self, domain: str, now: float) -> Iterator[Listed]:
        """Every entry for all senders at ``domain``."""
        for pattern in of_domain(domain):
            entry = self._patterns.get(pattern)
            if entry is not None and not entry.over(now):
                yield entry


class Listing:
    """Implements ports.Lists, over entries that are added and removed. ``now``: entries whose time is over then do not
    count; instants are seconds since the epoch."""

    def __init__(self, entries: Iterable[Listed] = ()) -> None:
        self._white = {tick: _Clients() for tick in TICKS}
        self._black = _Clients()
        self._gateways = _Clients()
        self._blocks = _Clients()
        self._blocked = _Senders()
        self._trusted = _Senders()
        for entry in entries:
            self.add(entry)

    def add(self, entry: Listed) -> None:
        """Raises ValueError when the value is none of its kind. What has the same key is to be removed first."""
        for table in self._tables(entry):
            table.add(entry)

    def remove(self, entry: Listed) -> None:
        for table in self._tables(entry):
            table.remove(entry)

    def whitelisted(self, ip: str, for_: str, now: float = 0.0) -> bool:
        return self._white[for_].find(ip, now) is not None  # type: ignore[index]

    def blacklisted(self, ip: str, now: float = 0.0) -> str:
        entry = self._black.find(ip, now)
        return "" if entry is None else str(entry)

    def bypasses(self, ip: str, now: float = 0.0) -> bool:
        return self._gateways.find(ip, now) is not None

    def block(self, ip: str, now: float) -> Listed | None:
        return self._blocks.find(ip, now)

    def sender(self, address: Address | None, authenticated: Collection[str], now: float = 0.0) -> str:
        return word_of(self.sender_entry(address, authenticated, now))

    def sender_entry(self, address: Address | None, authenticated: Collection[str], now: float = 0.0) -> Listed | None:
        entry = None if address is None else self._blocked.find(address, now)
        if entry is not None:
            return entry
        for domain in authenticated:
            entry = self._blocked.find_domain(domain, now)
            if entry is not None:
                return entry
        if address is None or address.domain not in authenticated:
            return None
        return self._trusted.find(address, now)

    def concerning(self, text: str, now: float = 0.0) -> list[Listed]:
        """Every entry that an address of a client, or of a sender, falls under; a domain is that of a sender."""
        clients = (*self._white.values(), self._black, self._gateways, self._blocks)
        found = [entry for table in clients for entry in table.all(text, now)]
        local, _, domain = text.rpartition("@")
        for senders in (self._blocked, self._trusted):
            found += senders.all(Address(local, domain.lower()), now) if local else senders.all_of_domain(domain, now)
        return list(dict.fromkeys(found))

    def _tables(self, entry: Listed) -> list[_Clients | _Senders]:
        if entry.kind == "whitelist":
            return [self._white[tick] for tick in entry.ticks]
        tables: dict[Kind, _Clients | _Senders] = {
            "blacklist": self._black,
            "block": self._blocks,
            "bypass-gateway": self._gateways,
            "blocked-sender": self._blocked,
            "trusted-sender": self._trusted,
        }
        return [tables[entry.kind]]


class Joined:
    """Implements ports.Lists: what stands in the INI, and what operators added since."""

    def __init__(self, written: Lists, live: Lists) -> None:
        self._written = written
        self._live = live

    def whitelisted(self, ip: str, for_: str) -> bool:
        return self._written.whitelisted(ip, for_) or self._live.whitelisted(ip, for_)

    def blacklisted(self, ip: str) -> str:
        return self._written.blacklisted(ip) or self._live.blacklisted(ip)

    def bypasses(self, ip: str) -> bool:
        return self._written.bypasses(ip) or self._live.bypasses(ip)

    def sender(self, address: Address | None, authenticated: Collection[str]) -> str:
        return word_of(self.sender_entry(address, authenticated))

    def sender_entry(self, address: Address | None, authenticated: Collection[str]) -> Listed | None:
        """To be blocked goes before to be trusted, wherever each stands."""
        written = self._written.sender_entry(address, authenticated)
        if written is not None and written.kind == "blocked-sender":
            return written
        live = self._live.sender_entry(address, authenticated)
        return live if written is None or (live is not None and live.kind == "blocked-sender") else written


def word_of(entry: Listed | None) -> str:
    """What an entry for a sender says of it."""
    if entry is None:
        return ""
    return "blocked" if entry.kind == "blocked-sender" else "trusted"


# Lists on which nothing stands.
NOBODY = Listing()


def written_entries(settings: ListsSettings) -> list[tuple[str, Listed]]:
    """What stands in the INI: each entry with the key it stands under."""
    found: list[tuple[str, Listed]] = []
    for tick in TICKS:
        key = f"whitelist_{tick}"
        found += [(key, Listed("whitelist", written(each), (tick,))) for each in getattr(settings, key)]
    plain: tuple[tuple[str, Kind, Iterable[str]], ...] = (
        ("blacklist", "blacklist", map(written, settings.blacklist)),
        ("blocked_senders", "blocked-sender", settings.blocked_senders),
        ("trusted_senders", "trusted-sender", settings.trusted_senders),
        ("bypass_gateways", "bypass-gateway", map(written, settings.bypass_gateways)),
    )
    for key, kind, values in plain:
        found += [(key, Listed(kind, each)) for each in values]
    return found
