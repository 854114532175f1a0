"""Routes without DNS: ordinary domains go to their primaries, all else where a test says."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from inboundmx.model.address import Address
from inboundmx.model.custody import Route
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DomainSettings
from inboundmx.policy.routing import route_for
from inboundmx.ports import NoRoute

NOWHERE = Reply(550, "5.1.2", "the domain of this address does not exist")


class FakeRoutes:
    """``found``: by domain, a Route, an exception to raise, or a Deferred of either. ``asked``: what was asked for."""

    def __init__(self, **found: Any) -> None:
        self.found: dict[str, Any] = dict(found)
        self.asked: list[tuple[str, str]] = []

    async def find(self, domain: DomainSettings, sender: Address | None = None, priority: int = 5) -> Route:
        self.asked.append((domain.via, domain.name))
        found = self.found.get(domain.name)
        if found is None:
            if domain.via:
                raise NoRoute(NOWHERE)
            return route_for(domain, len(self.asked))
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]
