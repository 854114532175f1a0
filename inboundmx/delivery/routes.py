"""``ports.Routes``: where mail of a domain goes now.

Knows which names to look up, all of one message side by side, and whose turn it is. Does not know what the answers mean
(``policy.mx``), which gateway fits (``policy.outbound``), nor whether a host is up.

- Mail we carry for a domain goes to its primaries (``policy.routing``), without a look-up: where they are names, these
  are looked up when a connection is made.
- Mail for domains we are backup of by their MX set goes to those of their better hosts that are in ``[backup]
  primaries``.
- Mail that leaves us goes by an ``[outbound]``, or directly to the domain's mail servers (RFC 5321 5.1, RFC 7505).
  With ``exclusive = no`` it goes directly first. A gateway cannot deliver to a domain that is not there or takes no
  mail, so these are final; it may see another DNS than ours, so what cannot be looked up, has no address or would come
  back to us is left to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from inboundmx.model.address import Address
from inboundmx.model.custody import Host, Route, Terms
from inboundmx.model.settings import DomainSettings, Settings
from inboundmx.policy.mx import (
    LOOP,
    NO_ADDRESS,
    NO_DOMAIN,
    NULL_MX,
    Exchanger,
    apart,
    backup_hosts,
    direct_hosts,
    exchanger,
    listed,
    no_destination,
    null,
    ourselves,
)
from inboundmx.policy.outbound import first_of, gateways_for, relay_route
from inboundmx.policy.routing import refusal, route_for
from inboundmx.ports import Answer, Chance, NoRoute, Resolver, Unavailable
from inboundmx.prompt import promptly


class RouteFinder:
    """Implements ports.Routes. Each that takes turns should have one of its own: a route that was found and then not
    used is a turn as well. ``own``: our addresses as text, to which those and the names of ``[gateway]`` are added.
    ``loads``: how many messages wait in the spool of the gateway ``[outbound NAME]``, None when that is not known.
    ``forbidden``: the addresses that no direct delivery goes to, whatever an MX set says."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        resolver: Resolver,
        chance: Chance,
        own: Callable[[], Collection[str]],
        loads: Callable[[str], int | None],
        forbidden: Callable[[str], bool] = no_destination,
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._chance = chance
        self._own = own
        self._loads = loads
        self._forbidden = forbidden
        # By what takes turns, so that messages of one domain are spread evenly whatever comes between them.
        self._turns: Counter[Hashable] = Counter()
        # The routes of domains with a section of their own, as the settings in force make them: saves 2 us a message.
        self._made: dict[str, tuple[Settings, DomainSettings, Route]] = {}

    async def find(self, domain: DomainSettings, sender: Address | None = None, priority: int = 5) -> Route:
        settings = self._settings()
        if domain.via == "outbound":
            return await self._leaving(settings, domain, sender, priority)
        if domain.via == "backup":
            return await self._backed_up(settings, domain)
        if domain.balance == "round-robin":
            return route_for(domain, self._turn(domain.primary), settings.delivery.source_address)
        made = self._made.get(domain.name)
        if made is not None and made[0] is settings and made[1] is domain:
            return made[2]
        route = route_for(domain, 0, settings.delivery.source_address)
        if settings.domains.get(domain.name) is domain:
            self._made[domain.name] = settings, domain, route
        return route

    def _turn(self, takers: Hashable) -> int:
        turn = self._turns[takers]
        self._turns[takers] = turn + 1
        return turn

    # --- mail that leaves us ------------------------------------------------------------------------------------------

    async def _leaving(
        self, settings: Settings, domain: DomainSettings, sender: Address | None, priority: int
    ) -> Route:
        gateways = gateways_for(settings, sender, priority)
        if not gateways:
            return await self._direct(settings, domain)
        first = 0
        if len(gateways) > 1:
            names = tuple(gateway.name for gateway in gateways)
            first = first_of([self._loads(name) for name in names], self._turn(names))
        relay = relay_route(domain.name, gateways, first, settings.delivery.source_address)
        if gateways[first].exclusive:
            return relay
        try:
            return replace(await self._direct(settings, domain), fallback=relay)
        except Unavailable:
            return relay
        except NoRoute as nowhere:
            if nowhere.reply in (NO_ADDRESS, LOOP):
                return relay
            raise

    async def _direct(self, settings: Settings, domain: DomainSettings) -> Route:
        answer = await self._resolver.look_up(domain.name, "MX")
        if not answer.exists:
            raise NoRoute(NO_DOMAIN)
        if null(answer.rows):
            raise NoRoute(NULL_MX)
        own = self._ourselves(settings)
        records = listed(self._chance.shuffled(answer.rows)) if answer.rows else ((0, domain.name),)
        others, ours = apart(records, own)
        # Aliases are told apart only where there is a choice.
        found = await self._exchangers(others, aliases=len(others) > 1)
        hosts = direct_hosts((*found, *ours), own, self._forbidden)
        return Route(domain.name, hosts, Terms(domain.tls, sources=settings.delivery.source_address), "outbound")

    # --- domains we are backup of -------------------------------------------------------------------------------------

    async def _backed_up(self, settings: Settings, domain: DomainSettings) -> Route:
        refused = refusal(Address("", domain.name))
        primaries = settings.backup.primaries
        if not primaries:
            raise NoRoute(refused)
        answer = await self._resolver.look_up(domain.name, "MX")
        own = self._ourselves(settings)
        others, ours = apart(listed(self._chance.shuffled(answer.rows)), own)
        if not ours and len({preference for preference, _ in others}) < 2:
            # Nobody is better than anybody: whoever they are, we are not their backup.
            raise NoRoute(refused)
        found = await self._exchangers(others)
        hosts = backup_hosts((*found, *ours), own, primaries, refused)
        if domain.tls != "verified":
            # By its address alone a primary is one host, of many domains that each have a name of their own for it.
            hosts = tuple(Host(host.address) for host in hosts)
        terms = Terms(domain.tls, sources=settings.delivery.source_address, client_facts=domain.client_facts)
        return Route(domain.name, hosts, terms, "backup")

    # --- both ---------------------------------------------------------------------------------------------------------

    def _ourselves(self, settings: Settings) -> frozenset[str]:
        gateway = settings.gateway
        names = (gateway.hostname, *gateway.hostnames.values())
        return ourselves((*self._own(), *gateway.addresses, *gateway.hostnames, *names))

    async def _exchangers(self, records: Sequence[tuple[int, str]], aliases: bool = False) -> tuple[Exchanger, ...]:
        types = ("AAAA", "A", "CNAME") if aliases else ("AAAA", "A")
        answers = iter(await side_by_side(self._resolver, [(name, type) for _, name in records for type in types]))
        found = []
        for preference, name in records:
            six, four = next(answers), next(answers)
            alias = next(answers) if aliases else None
            found.append(exchanger(preference, name, six, four, isinstance(alias, Answer) and bool(alias.rows)))
        return tuple(found)


async def side_by_side(resolver: Resolver, questions: Iterable[tuple[str, str]]) -> list[Answer | Unavailable]:
    """What came of each look-up, all begun before any is waited for; none is waited for that is answered at once."""
    came: dict[int, Answer | Unavailable] = {}
    waiting: list[Deferred[Any]] = []

    def failed(number: int, failure: Failure) -> None:
        if not isinstance(failure.value, Unavailable):
            failure.raiseException()
        came[number] = failure.value

    for number, question in enumerate(questions):
        look_up = resolver.look_up(*question)
        deferred = promptly(look_up, partial(came.__setitem__, number), partial(failed, number))
        if deferred is not None:
            waiting.append(deferred)
    if waiting:
        for good, result in await DeferredList(waiting, consumeErrors=True):
            if not good:
                result.raiseException()
    return [came[number] for number in sorted(came)]
