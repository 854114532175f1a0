"""What an operator may not have meant of where mail goes, and who may make us send it.

Knows when we would relay for strangers, and sections that come to nothing. Does not know the network: ``calling`` and
``calling_outbound`` try it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from inboundmx.model.ip import is_ip
from inboundmx.model.settings import Network, Settings

# Shortest prefixes, of IPv4 and IPv6, of a network that may still be one operator's own, and of one that is private.
SHORTEST, SHORTEST_PRIVATE = {4: 16, 6: 32}, {4: 8, 6: 7}


def exposures(settings: Settings) -> list[str]:
    """Sentences about what strangers could make of us."""
    found = []
    if settings.everything is not None and settings.everything.enabled:
        found.append(
            "[domain *] takes mail for any domain: a primary that trusts us and sends it on makes us an open relay"
        )
    relayed = [("[relay] allow", each) for each in settings.relay.networks]
    if settings.relay.whitelisted:
        relayed += [("[lists] whitelist_smtp", each) for each in settings.lists.whitelist_smtp]
    for where, each in relayed:
        if _vast([each]):
            found.append(f"{where} {each}: so many may send out through us that we are as good as an open relay")
    for each in _vast(settings.backup.primaries):
        found.append(
            f"[backup] primaries {each}: whoever owns a domain could have us deliver its mail to any of so many"
        )
    proxied = any(endpoint.startswith("haproxy:") for endpoint in settings.gateway.listen)
    for key, believed in (("proxies", settings.smtp.proxies if proxied else ()), ("xclient", settings.smtp.xclient)):
        for each in _vast(believed):
            found.append(
                f"[smtp] {key} {each}: so many may say which address they have, that of a client in [relay] allow too"
            )
    console = settings.console
    for endpoint in console.listen:
        if not _reachable(endpoint):
            continue
        if not console.password:
            found.append(f"[console] {endpoint} can be reached from elsewhere, and has no username and password")
        elif not endpoint.startswith("ssl:"):
            found.append(f"[console] {endpoint} can be reached from elsewhere: the password goes there in the clear")
    return found


def _vast(networks: Iterable[Network]) -> list[Network]:
    # Whether something larger than a private network is private, versions of Python answer differently.
    return [
        each
        for each in networks
        if each.prefixlen < SHORTEST_PRIVATE[each.version]
        or (each.prefixlen < SHORTEST[each.version] and not each.is_private)
    ]


def _reachable(endpoint: str) -> bool:
    """Whether others than this machine may come to it, as far as its text says."""
    kind, *parts = (part.replace("\\:", ":") for part in re.split(r"(?<!\\):", endpoint))
    return kind not in ("unix", "systemd") and not any(_loopback(part.removeprefix("interface=")) for part in parts)


def _loopback(text: str) -> bool:
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return text == "localhost"


def of_routes(settings: Settings) -> list[str]:
    """Sentences about sections that come to nothing, or to something else."""
    return [
        *_of_proxies(settings),
        *_of_everything(settings),
        *_of_outbound(settings),
        *_of_backup(settings),
        *_of_archives(settings),
        *_of_sources(settings),
    ]


def _of_proxies(settings: Settings) -> Iterable[str]:
    if any(not each.is_loopback for each in settings.smtp.proxies):
        return
    for endpoint in settings.gateway.listen:
        if endpoint.startswith("haproxy:") and _reachable(endpoint.removeprefix("haproxy:")):
            yield f"[gateway] listen {endpoint}: a proxy elsewhere is refused there until [smtp] proxies names it"


def _of_everything(settings: Settings) -> Iterable[str]:
    everything = settings.everything
    if everything is None or not everything.enabled or not settings.relay.allow:
        return
    for host in everything.primary:
        if not is_ip(host.address):
            # Who comes is known by address (policy.routing): by a name nobody is told apart.
            yield (
                f"[domain *] primary {host} is a name: where it sends out through us, its mail for others comes back "
                f"to it; give its address"
            )


def _of_outbound(settings: Settings) -> Iterable[str]:
    off = {outbound.name for outbound in settings.outbound if not outbound.enabled}
    named = set()
    for domain in settings.sections:
        named.add(domain.outbound)
        if domain.outbound in off:
            yield (
                f"[domain {domain.name}] outbound = {domain.outbound}: that one is switched off, and mail it sends "
                f"leaves as everybody's"
            )
    turns = [each for each in settings.outbound if each.enabled and each.mode == "round-robin"]
    for outbound in settings.outbound:
        if outbound.enabled and outbound.mode == "domains" and outbound.name not in named:
            yield f"[outbound {outbound.name}] has mode = domains, and no domain names it: nothing leaves by it"
        if outbound.enabled and _in_the_clear(outbound.status_url, outbound.status_password):
            yield f"[outbound {outbound.name}] status_url {outbound.status_url}: the password goes there in the clear"
    taken = {priority for each in turns for priority in range(each.priority[0], each.priority[1] + 1)}
    left = [str(priority) for priority in range(1, 11) if priority not in taken]
    if turns and left:
        yield f"no [outbound] takes mail of priority {' '.join(left)}: it leaves directly"


def _in_the_clear(url: str, password: str) -> bool:
    """Whether a password goes to another machine without encryption."""
    where = urlsplit(url)
    return bool(password) and where.scheme == "http" and not _loopback(where.hostname or "")


def _of_backup(settings: Settings) -> Iterable[str]:
    if settings.backup.primaries and not settings.gateway.addresses:
        yield (
            "[backup] primaries: [gateway] addresses is empty, so an MX set names us where it has our name or an "
            "address of this machine; behind NAT, give the public ones"
        )


def _of_archives(settings: Settings) -> Iterable[str]:
    for archive in settings.archives:
        known = archive.domain == "*" or settings.domain(archive.domain) is not None or settings.backup.primaries
        if not known and archive.rule in ("all", "incoming"):
            yield f"[archive {archive.name}]: there is no [domain {archive.domain}] whose incoming mail it could keep"


def _of_sources(settings: Settings) -> Iterable[str]:
    places = [("delivery", settings.delivery.source_address)]
    places += [(f"outbound {each.name}", each.source_address) for each in settings.outbound if each.enabled]
    for section, addresses in places:
        for address in addresses:
            if not here(address):
                yield (
                    f"[{section}] source_address {address} is no address of this machine: the system chooses another"
                )


def here(address: str) -> bool:
    """Whether this machine has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
