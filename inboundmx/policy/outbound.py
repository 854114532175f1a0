"""Which outbound gateway mail leaves by (SmarterMail: Outgoing Gateway; ISMail: SmartHost).

Knows who may take a message and whose turn it is. Does not know MX sets, nor whether a gateway is up.

A sender's domain that names a gateway (``outbound = NAME``, of those with ``mode = domains``) leaves by that one alone.
All other mail takes turns through the ones with ``mode = round-robin``, the rest of which step in where the first does
not take it. ``enabled = no`` or a priority out of range is as if a gateway were not there; mail that none takes goes
directly.
"""

from __future__ import annotations

from collections.abc import Sequence

from inboundmx.model.address import Address
from inboundmx.model.custody import Route, Terms
from inboundmx.model.settings import OutboundSettings, Settings

# So many messages in the spool of a gateway halve what it is given, beside an idle one: a few are chance, not load.
USUAL_LOAD = 10
# 2**32 divided by the golden ratio: multiples of it fall evenly into whatever parts the circle is cut into (Weyl).
_GOLDEN, _CIRCLE = 2654435769, 2**32


def gateways_for(settings: Settings, sender: Address | None, priority: int) -> tuple[OutboundSettings, ...]:
    """The gateways that take a message of this sender and priority, in the order of the INI; none: it goes directly."""
    fitting = [
        gateway
        for gateway in settings.outbound
        if gateway.enabled and gateway.server and gateway.priority[0] <= priority <= gateway.priority[1]
    ]
    domain = settings.domain(sender.domain) if sender is not None else None
    if domain is not None and domain.outbound:
        for gateway in fitting:
            if gateway.mode == "domains" and gateway.name == domain.outbound:
                return (gateway,)
    return tuple(gateway for gateway in fitting if gateway.mode == "round-robin")


def first_of(loads: Sequence[int | None], turn: int) -> int:
    """Whose turn it is: the number of one of the gateways, of whose spools this many messages wait (None: not known,
    taken as the average of the others). ``turn`` counts messages. One after the other while nothing tells them apart;
    else each has turns by its weight, 1 / (messages + USUAL_LOAD), spread evenly."""
    known = [load for load in loads if load is not None]
    if len(set(known)) < 2:
        return turn % len(loads)
    average = sum(known) / len(known)
    weights = [1 / ((average if load is None else load) + USUAL_LOAD) for load in loads]
    point = (turn * _GOLDEN % _CIRCLE) / _CIRCLE * sum(weights)
    for number, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return number
    return len(loads) - 1


def relay_route(domain: str, gateways: Sequence[OutboundSettings], first: int, sources: Sequence[str]) -> Route:
    """Through the gateways, the ``first`` one first, each the fallback of the one before. ``sources`` are those of
    ``[delivery]``, for gateways without their own."""
    route: Route | None = None
    for gateway in reversed((*gateways[first:], *gateways[:first])):
        terms = Terms(
            gateway.tls,
            gateway.username,
            gateway.password,
            gateway.auth_without_tls,
            gateway.source_address or tuple(sources),
        )
        route = Route(domain, gateway.server, terms, "outbound", route)
    assert route is not None
    return route
