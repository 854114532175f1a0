"""What ``inboundmx check`` tries by the very code of the gateway: it takes a reactor, which runs once in a process.

Knows that, and what there is to try. Does not know how any of it is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from inboundmx.app.calling_outbound import OutboundCall, call_outbound
from inboundmx.app.calling_recipients import RecipientsCall, Unheard, ask_all, listed
from inboundmx.model.settings import Settings
from inboundmx.net.clock import ReactorClock
from inboundmx.net.offload import ThreadOffload
from inboundmx.net.recipient_sources import RecipientSources


class Outside(NamedTuple):
    """``outbound``: servers that mail leaves by. ``recipients``: lists of who exists."""

    outbound: Sequence[OutboundCall] = ()
    recipients: Sequence[RecipientsCall] = ()


def call_outside(settings: Settings) -> Outside:
    """Blocks, and runs the reactor; where there is nothing to try it is not touched."""
    if not any(outbound.enabled for outbound in settings.outbound) and not listed(settings):
        return Outside()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    came: list[Any] = []

    async def calling() -> Outside:
        clock = ReactorClock(reactor)
        sources = RecipientSources(reactor, clock, ThreadOffload(reactor.callFromThread), Unheard())
        calls: list[Deferred[Any]] = [
            Deferred.fromCoroutine(call_outbound(settings, reactor)),
            Deferred.fromCoroutine(ask_all(settings, sources, clock)),
        ]
        return Outside(*await gatherResults(calls, consumeErrors=True))

    def begin() -> None:
        Deferred.fromCoroutine(calling()).addBoth(came.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not came:  # Ctrl-C
        raise KeyboardInterrupt
    if isinstance(came[0], Failure):
        came[0].raiseException()
    found: Outside = came[0]
    return found
