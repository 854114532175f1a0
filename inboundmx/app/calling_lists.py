"""Probes the lists in DNS that checks ask, for ``inboundmx check``, as the gateway does when it starts.

Knows which lists there are, and how long they may take. Does not know what a probe asks, nor what it means.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred, gatherResults

from inboundmx.app.calling_recipients import Unheard
from inboundmx.checks.registry import KINDS
from inboundmx.checks.zones import Probe, Zone, Zones
from inboundmx.model.settings import Settings
from inboundmx.net.servers import within
from inboundmx.ports import Clock, Resolver, Unavailable

SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ListCall:
    """How a probe of the list of that check went."""

    check: str
    zone: str
    answered: bool
    detail: str


def asked_about(settings: Settings) -> list[tuple[str, Probe]]:
    """The names of checks with the lists that they ask."""
    return [(each.name, probe) for each in settings.checks for probe in KINDS[each.kind].probes(each.options)]


async def probe_lists(
    settings: Settings, resolver: Resolver, clock: Clock, seconds: float = SECONDS
) -> list[ListCall]:
    """Each list of each check, side by side, for at most ``seconds``."""
    zones = Zones(resolver, clock, Unheard())
    asked = asked_about(settings)
    calls: list[Deferred[ListCall]] = [
        Deferred.fromCoroutine(_probed(name, zones.zone(probe), clock, seconds)) for name, probe in asked
    ]
    found: list[ListCall] = await gatherResults(calls, consumeErrors=True)
    zones.stop()
    return found


async def _probed(check: str, zone: Zone, clock: Clock, seconds: float) -> ListCall:
    try:
        await within(clock, Deferred.fromCoroutine(zone.probed()), seconds, f"no answer within {seconds:g} s")
    except Unavailable as trouble:
        return ListCall(check, zone.name, False, trouble.reason)
    return ListCall(check, zone.name, True, zone.detail)
