"""Which mail is ours, and which server it goes to.

Knows the configured domains and the order of their primaries. Does not know whether an address exists there, nor
whether a server is up.
"""

from __future__ import annotations

import re

from inboundmx.model.address import Address
from inboundmx.model.custody import Route, Terms
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.relaying import same

# A local part with one of these asks the next server to send the mail on (RFC 5321 appendix F.2): source routes,
# percent and bang paths. A primary that trusts us would.
_ROUTING = frozenset("@%!")
# What ends in a number is an address without its brackets and no name of a domain (RFC 1123 2.1, RFC 5321 4.1.3).
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

DNS_TROUBLE = Reply(451, "4.4.3", "the domain cannot be looked up now, try again later")


def route_for(domain: DomainSettings, turn: int, sources: tuple[str, ...] = ()) -> Route:
    """The servers of ``domain`` in the order to try them. ``turn`` counts messages: with ``balance = round-robin`` each
    begins one further. ``sources``: our addresses to connect from."""
    hosts = domain.primary
    if domain.balance == "round-robin" and hosts:
        first = turn % len(hosts)
        hosts = hosts[first:] + hosts[:first]
    terms = Terms(domain.tls, sources=sources, client_facts=domain.client_facts)
    return Route(domain.name, hosts, terms, domain.via)


def bare_postmaster(address: Address) -> bool:
    """Whether it is ``Postmaster`` without a domain, in any case (RFC 5321 4.5.1)."""
    return not address.domain and address.local.lower() == "postmaster"


def postmaster(settings: Settings) -> Address | None:
    """Where mail to bare Postmaster goes: ``[gateway] postmaster`` if its domain is ours, else postmaster at the first
    domain that is enabled; None without any domain."""
    local, _, domain = settings.gateway.postmaster.rpartition("@")
    if local and _ours(domain.lower(), settings) is not None:
        return Address(local, domain.lower())
    for name in (*settings.domains, settings.gateway.hostname):
        if _ours(name, settings) is not None:
            return Address("postmaster", name)
    return None


def destination(address: Address, settings: Settings, relays: bool = False, peer: str = "") -> DomainSettings | None:
    """What holds for mail to ``address``, or None: then ``refusal`` says what to answer. ``relays``: the client, at the
    address ``peer``, may send out through us.

    Its ``via`` says what it is: a domain of ours, one that mail leaves us for, or, where it is ``backup``, one that is
    taken only if its MX set makes us its backup: that remains to be asked.
    """
    name = address.domain
    found = settings.section(name)
    if found is not None:
        # One that is switched off is refused to everybody, however else it could be reached.
        return found if found.enabled and _ROUTING.isdisjoint(address.local) else None
    if not routable(address):
        return None
    found = _ours(name, settings)
    # A primary that sends its outgoing mail through us does not want it back.
    if found is not None and not (relays and any(same(host.address, peer) for host in found.primary)):
        return found
    if relays:
        return settings.domain(name, "outbound")
    return settings.domain(name, "backup") if settings.backup.primaries else None


def routable(address: Address) -> bool:
    """Whether it names a mailbox in a domain: no literal, no bare name, nothing that asks the next server to send the
    mail on. No other recipient is taken, from anybody."""
    domain = address.domain
    return (
        _ROUTING.isdisjoint(address.local) and domain != "" and domain[0] != "[" and _NUMBER.fullmatch(domain) is None
    )


def refusal(address: Address) -> Reply:
    """What a recipient hears that is not ours. The same for every domain: nothing is told about which we know."""
    if address.domain.startswith("["):
        return Reply(553, "5.1.3", "mail to an address literal is not accepted here")
    return Reply(550, "5.7.1", "relaying denied: no such domain here")


def _ours(name: str, settings: Settings) -> DomainSettings | None:
    found = settings.domain(name)
    return found if found is not None and found.enabled else None
