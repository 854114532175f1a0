"""Whether a recipient is taken, and as what: ours, one we are backup of, or one that mail leaves us for.

Knows what must be asked for that: where the mail would go, and whether who would get it can take it at all. Does not
know checks, nor what is made of the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from inboundmx.model.address import Address
from inboundmx.model.custody import Route
from inboundmx.model.envelope import Envelope
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.routing import DNS_TROUBLE, destination, refusal, routable
from inboundmx.ports import Courier, NoRoute, Routes, Unavailable


class Way(NamedTuple):
    """How mail for one domain goes on. ``route`` is None where it is not known or not needed yet: the message is
    promised, and each attempt looks anew."""

    domain: DomainSettings
    route: Route | None = None


class Admission:
    def __init__(self, routes: Routes, courier: Courier) -> None:
        self._routes = routes
        self._courier = courier

    async def admit(
        self,
        recipient: Address,
        envelope: Envelope,
        settings: Settings,
        relays: bool,
        peer: str,
        known: Mapping[str, Way],
    ) -> Way | Reply:
        """The way of a recipient who is taken, or the refusal. ``relays``: the client, at address ``peer``, may send
        out through us. ``known`` are the ways found in this transaction, by domain."""
        way = known.get(recipient.domain)
        if way is None or not routable(recipient):
            domain = destination(recipient, settings, relays, peer)
            if domain is None:
                return refusal(recipient)
            route: Route | None = None
            try:
                # What leaves us is committed first, and where it goes is asked at each attempt.
                if domain.via != "outbound":
                    route = await self._routes.find(domain, envelope.sender)
            except NoRoute:
                if domain.via == "backup":
                    return refusal(recipient)
            except Unavailable:
                if domain.via == "backup":
                    return DNS_TROUBLE
            way = Way(domain, route)
        if way.route is not None:
            # Nobody is promised what cannot be delivered: its host is down, and could not take it when it was up.
            unable = self._courier.unable(way.route, envelope.declared_size or 0, envelope.utf8)
            if unable is not None:
                return unable
        return way
