"""Every list of recipients that a domain may name: files, web services, LDAP servers (ports.Sources).

Knows which of them is asked how, and that new settings begin anew. Does not know what an answer is worth.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Interface

from inboundmx.model.address import Address
from inboundmx.model.settings import DomainSettings
from inboundmx.net.recipient_file import RecipientFile
from inboundmx.net.recipient_ldap import RecipientLdap
from inboundmx.net.recipient_web import RecipientWeb
from inboundmx.ports import Clock, Health, Offload


class _Source(Interface):
    async def holds(self, address: Address) -> bool: ...


class RecipientSources:
    def __init__(self, reactor: Any, clock: Clock, offload: Offload, health: Health) -> None:
        self._reactor = reactor
        self._clock = clock
        self._offload = offload
        self._health = health
        # Domains that name the same one share it.
        self._sources: dict[tuple[str, str, str], _Source] = {}

    async def holds(self, source: str, address: Address, domain: DomainSettings) -> bool:
        who = source, domain.recipients_username, domain.recipients_password
        found = self._sources.get(who)
        if found is None:
            found = self._sources[who] = self._made(*who)
        return await found.holds(address)

    def reread(self) -> None:
        """The settings were read anew: so is everything else, when it is next asked for."""
        self._sources = {}

    def _made(self, source: str, username: str, password: str) -> _Source:
        clock, offload, health = self._clock, self._offload, self._health
        if source.startswith("file:"):
            return RecipientFile(source.removeprefix("file:"), clock, offload, health)
        if source.startswith("ldap"):
            return RecipientLdap(source, username, password, clock, offload, health)
        return RecipientWeb(source, username, password, self._reactor, clock, offload, health)
