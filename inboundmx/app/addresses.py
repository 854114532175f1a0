"""Names, addresses and hosts as an operator writes them. Knows their text; does not resolve anything."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv6Address,
    ip_address,
    ip_network,
    summarize_address_range,
)

import idna

from inboundmx.app.words import Wrong
from inboundmx.model.custody import Host
from inboundmx.model.settings import Network
from inboundmx.policy.listing import MOST_LOOSE, is_loose

IP = IPv4Address | IPv6Address

HOSTS_LIMIT = 16
ADDRESSES_LIMIT = 256
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PATTERN = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+")
_DOMAINS = re.compile(r"[a-z0-9*](?:[a-z0-9.*-]*[a-z0-9*])?")
_LOCAL = re.compile(rf'{_ATOM}(?:\.{_ATOM})*|"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"')


def domain_name(text: str) -> str:
    """A host or domain name as lower-case A-labels (RFC 5890), without a final dot."""
    name = text.strip().removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise Wrong(f"{text} is no domain name: {error}") from None
    name = name.lower()
    if not name:
        raise Wrong("a domain name is missing")
    labels = name.split(".")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise Wrong(f"{text} is no domain name: {label!r} is no label of letters, digits and inner hyphens")
        if label.startswith("xn--"):
            try:
                idna.ulabel(label)
            except idna.IDNAError as error:
                raise Wrong(f"{text} is no domain name: {error}") from None
    if len(name) > 253:
        raise Wrong(f"a domain name has at most 253 characters, this one {len(name)}")
    if labels[-1].isdigit():
        raise Wrong(f"{text} is neither an IP address nor a domain name")
    return name


def mailbox(text: str) -> str:
    """``local@domain`` with the domain as A-labels."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise Wrong(f"{text} is no mail address; write name@domain")
    if len(local) > 64 or not _LOCAL.fullmatch(local):
        raise Wrong(f"{local or 'nothing'} before the @ is no local part (RFC 5321 4.1.2)")
    return f"{local}@{domain_name(domain)}"


def sender(text: str) -> str:
    """An address or a domain, ``*`` for anything in either, as ``local@domain`` in small letters: that is how senders
    are compared. A domain alone is everybody there, ``*.domain`` everybody at the domains below it."""
    local, at, domain = text.rpartition("@")
    local = local.lower() if at and local else "*"
    if len(local) > 64 or not (_PATTERN.fullmatch(local) or _LOCAL.fullmatch(local)):
        raise Wrong(f"{local} before the @ is no local part (RFC 5321 4.1.2), * for anything in it")
    if local == "*" and not domain.strip("*."):
        raise Wrong(f"{text or 'nothing'} would be everybody; name a domain or a local part")
    if domain == "*":
        return f"{local}@*"
    below = "*." if domain.startswith("*.") else ""
    rest = domain.removeprefix(below)
    if "*" not in rest:
        return f"{local}@{below}{domain_name(rest)}"
    rest = rest.lower()
    if len(rest) > 253 or not _DOMAINS.fullmatch(rest):
        raise Wrong(f"{rest} is no domain name, * for anything in it; write one with other letters as A-labels")
    return f"{local}@{below}{rest}"


def senders(text: str) -> tuple[str, ...]:
    """Patterns of senders, blanks between."""
    found = tuple(dict.fromkeys(map(sender, text.split())))
    loose = sum(map(is_loose, found))
    if loose > MOST_LOOSE:
        raise Wrong(
            f"{loose} patterns have a * inside a name; at most {MOST_LOOSE}, for each is tried for each message"
        )
    return found


def single(text: str) -> IP:
    """One address, IPv4 or IPv6."""
    address = _try_address(text)
    if address is None:
        raise Wrong(f"{text} is no IP address")
    return address


def _try_address(text: str) -> IP | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else address


def network(text: str) -> Network:
    """A CIDR block."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        proper = ip_network(text, strict=False)
    except ValueError:
        raise Wrong(f"{text} is no CIDR block") from None
    raise Wrong(f"{text} has bits set beyond its prefix; write {proper}")


def networks(text: str) -> tuple[Network, ...]:
    """Addresses, ``a-b`` ranges and CIDR blocks, blanks between."""
    return tuple(found for word in text.split() for found in _networks(word))


def _networks(word: str) -> Iterable[Network]:
    if "/" in word:
        return [network(word)]
    if "-" in word:
        first, last = _range(word)
        return summarize_address_range(first, last)
    return [ip_network(single(word))]


def _range(word: str) -> tuple[IP, IP]:
    low, _, high = word.partition("-")
    first, last = single(low), single(high)
    if first.version != last.version:
        raise Wrong(f"{word} mixes IPv4 and IPv6")
    if int(first) > int(last):
        raise Wrong(f"{word} runs backwards; write {high}-{low}")
    return first, last


def expand(word: str, limit: int) -> tuple[IP, ...]:
    """Every address of a single one, a range or a CIDR block of at most ``limit``."""
    found = list(_networks(word))
    count = sum(block.num_addresses for block in found)
    if count > limit:
        raise Wrong(f"{word} is {count} addresses; at most {limit} are expanded")
    return tuple(address for block in found for address in block)


def addresses(text: str) -> tuple[str, ...]:
    return tuple(str(address) for word in text.split() for address in expand(word, ADDRESSES_LIMIT))


def hosts(text: str) -> tuple[Host, ...]:
    """The value of ``primary``: names, addresses, ``host:port``, ``[v6]:port``, ``lmtp:HOST:PORT``, ranges, CIDR."""
    found: list[Host] = []
    for word in text.split():
        for host in _hosts(word):
            if host in found:
                raise Wrong(f"{host} stands there twice")
            found.append(host)
    return tuple(found)


def _hosts(word: str) -> list[Host]:
    lmtp = word.startswith("lmtp:")
    rest = word.removeprefix("lmtp:")
    port: int | None
    if "/" in rest or (_try_address(rest.partition("-")[0]) and "-" in rest):
        names, port = [str(address) for address in expand(rest, HOSTS_LIMIT)], None
    else:
        name, port = _name_and_port(rest)
        names = [name]
    if lmtp and port is None:
        raise Wrong(f"{word} names no port; write lmtp:HOST:PORT, 24 being LMTP's own")
    return [Host(name, 25 if port is None else port, "lmtp" if lmtp else "smtp") for name in names]


def _name_and_port(word: str) -> tuple[str, int | None]:
    if word.startswith("["):
        inner, bracket, rest = word[1:].partition("]")
        address = _try_address(inner)
        if not bracket or not isinstance(address, IPv6Address) or (rest and not rest.startswith(":")):
            raise Wrong(f"{word} is no host; an IPv6 address with a port is written [2001:db8::1]:25")
        return str(address), _port(word, rest[1:]) if rest else None
    if word.count(":") > 1:
        address = _try_address(word)
        if address is None:
            raise Wrong(f"{word} is no host; an IPv6 address with a port is written [2001:db8::1]:25")
        return str(address), None
    name, colon, port = word.partition(":")
    address = _try_address(name)
    return str(address) if address else domain_name(name), _port(word, port) if colon else None


def _port(word: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise Wrong(f"{text or 'nothing'} in {word} is no port; 1 to 65535")
    return int(text)


def name_servers(text: str) -> tuple[str, ...]:
    """The word ``system``, or addresses with or without a port; as short as they can be read back."""
    words = text.split()
    if words == ["system"]:
        return ("system",)
    found = []
    for word in words:
        name, port = _name_and_port(word)
        address = _try_address(name)
        if address is None:
            raise Wrong(f"{word} is no IP address; write addresses, or system alone")
        shown = f"[{address}]" if address.version == 6 else str(address)
        found.append(str(address) if port in (None, 53) else f"{shown}:{port}")
    if not found:
        raise Wrong("needs the word system, or at least one address")
    if len(set(found)) < len(found):
        raise Wrong("a server stands there twice")
    return tuple(found)


def written_host(host: Host) -> str:
    """As short as it can be read back."""
    if host.protocol == "smtp" and host.port == 25:
        return host.address
    return str(host)
