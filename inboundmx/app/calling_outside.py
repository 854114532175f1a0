"""What ``inboundmx check`` tries by the very code of the gateway: it takes a reactor, which runs once in a process.

Knows that, and what there is to try. Does not know how any of it is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from inboundmx.app.calling_lists import ListCall, asked_about, probe_lists
from inboundmx.app.calling_outbound import OutboundCall, call_outbound
from inboundmx.app.calling_recipients import RecipientsCall, Unheard, ask_all, listed
from inboundmx.model.settings import Settings
from inboundmx.net.chance import SystemChance
from inboundmx.net.clock import ReactorClock
from inboundmx.net.dns_servers import name_servers
from inboundmx.net.offload import ThreadOffload
from inboundmx.net.recipient_sources import RecipientSources
from inboundmx.net.resolver import DnsResolver


class OutsideCalls(NamedTuple):
    """``outbound``: servers that mail leaves by. ``recipients``: lists of who exists. ``lists``: those in DNS."""

    outbound: Sequence[OutboundCall] = ()
    recipients: Sequence[RecipientsCall] = ()
    lists: Sequence[ListCall] = ()


def call_outside(settings: Settings) -> OutsideCalls:
    """Blocks, and runs the reactor; where there is nothing to try it is not touched."""
    sending = any(outbound.enabled for outbound in settings.outbound)
    if not (sending or listed(settings) or asked_about(settings)):
        return OutsideCalls()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    came: list[Any] = []

    async def calling() -> OutsideCalls:
        clock = ReactorClock(reactor)
        sources = RecipientSources(reactor, clock, ThreadOffload(reactor.callFromThread), Unheard())
        servers, seconds = name_servers(settings.dns.servers), settings.dns.timeout
        resolver = DnsResolver(reactor, clock, SystemChance(), servers, seconds)
        calls: list[Deferred[Any]] = [
            Deferred.fromCoroutine(call_outbound(settings, reactor)),
            Deferred.fromCoroutine(ask_all(settings, sources, clock)),
            Deferred.fromCoroutine(probe_lists(settings, resolver, clock)),
        ]
        try:
            return OutsideCalls(*await gatherResults(calls, consumeErrors=True))
        finally:
            resolver.close()

    def begin() -> None:
        Deferred.fromCoroutine(calling()).addBoth(came.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not came:  # Ctrl-C
        raise KeyboardInterrupt
    if isinstance(came[0], Failure):
        came[0].raiseException()
    found: OutsideCalls = came[0]
    return found
