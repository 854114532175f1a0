"""Which mail is ours, and which server it goes to.

Knows the configured domains and the order of their primaries. Does not know whether an address exists there, nor
whether a server is up.
"""

from __future__ import annotations

from inboundmx.model.address import Address
from inboundmx.model.custody import Route, Terms
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DomainSettings, Settings

# A local part with one of these asks the next server to send the mail on (RFC 5321 appendix F.2): source routes,
# percent and bang paths. A primary that trusts us would.
_ROUTING = frozenset("@%!")


def route_for(domain: DomainSettings, turn: int, sources: tuple[str, ...] = ()) -> Route:
    """The servers of ``domain`` in the order to try them. ``turn`` counts messages: with ``balance = round-robin`` each
    begins one further. ``sources``: our addresses to connect from."""
    hosts = domain.primary
    if domain.balance == "round-robin" and hosts:
        first = turn % len(hosts)
        hosts = hosts[first:] + hosts[:first]
    return Route(domain.name, hosts, Terms(domain.tls, sources=sources, client_facts=domain.client_facts), domain.mode)


def bare_postmaster(address: Address) -> bool:
    """Whether it is ``Postmaster`` without a domain, in any case (RFC 5321 4.5.1)."""
    return not address.domain and address.local.lower() == "postmaster"


def postmaster(settings: Settings) -> Address | None:
    """Where mail to bare Postmaster goes: ``[gateway] postmaster`` if its domain is ours, else postmaster at the first
    domain; None without any domain."""
    local, _, domain = settings.gateway.postmaster.rpartition("@")
    domain = domain.lower()
    if local and domain in settings.domains:
        return Address(local, domain)
    for name in settings.domains:
        return Address("postmaster", name)
    return None


def accepts(address: Address, settings: Settings) -> DomainSettings | None:
    """The settings of the domain that takes mail for ``address``, or None: then ``refusal`` says what to answer."""
    if not address.domain:
        target = postmaster(settings) if bare_postmaster(address) else None
        return None if target is None else settings.domains[target.domain]
    if not _ROUTING.isdisjoint(address.local):
        return None
    found = settings.domain(address.domain)
    return found if found is not None and found.enabled else None


def refusal(address: Address) -> Reply:
    """What a recipient hears that is not ours. The same for every domain: nothing is told about which we know."""
    if address.domain.startswith("["):
        return Reply(553, "5.1.3", "mail to an address literal is not accepted here")
    return Reply(550, "5.7.1", "relaying denied: no such domain here")
