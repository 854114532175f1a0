"""Tries the servers that mail leaves by, for ``inboundmx check``: connected, greeted, encrypted and authenticated just
as for a delivery, from each of our addresses, and then left. Knows what there is to try; does not send any mail.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from inboundmx.delivery.pool import matching
from inboundmx.model.custody import Host, Terms
from inboundmx.model.settings import OutboundSettings, Settings
from inboundmx.net.clock import ReactorClock
from inboundmx.policy.outbound import relay_route
from inboundmx.ports import Connection, Refused, Transmitter
from inboundmx.smtp.client import SmtpTransmitter

SECONDS = 15.0
# QUIT is given so long to be heard.
FAREWELL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class OutboundCall:
    """How one try went. ``source``: the address it came from, empty for the system's choice; ``detail`` is how it is
    encrypted, or the trouble."""

    outbound: str
    host: Host
    source: str
    answered: bool
    detail: str


async def call_outbound(settings: Settings, reactor: Any, seconds: float = SECONDS) -> list[OutboundCall]:
    """Every server of every ``[outbound]`` that is enabled."""
    transmitter = SmtpTransmitter(reactor, ReactorClock(reactor), settings.gateway.hostname, "")
    ending: list[Deferred[None]] = []
    tried = await try_all(settings, transmitter, seconds, ending)
    with contextlib.suppress(TimeoutError):
        await DeferredList(ending, consumeErrors=True).addTimeout(FAREWELL_SECONDS, reactor)
    return tried


async def try_all(
    settings: Settings, transmitter: Transmitter, seconds: float, ending: list[Deferred[None]]
) -> list[OutboundCall]:
    """Side by side, each for at most ``seconds``, in the order of the INI. To ``ending`` comes what fires when a
    connection that was made has ended."""
    tries = [
        (outbound.name, host, source, terms)
        for outbound in settings.outbound
        if outbound.enabled
        for terms in [_terms(outbound, settings)]
        for host in outbound.server
        for source in matching(host, terms.sources) or ("",)
    ]
    trying = [_try(transmitter, *each, seconds, ending) for each in tries]
    results = await DeferredList(trying, fireOnOneErrback=True, consumeErrors=True)
    return [call for _, call in results]


def _terms(outbound: OutboundSettings, settings: Settings) -> Terms:
    return relay_route("", [outbound], 0, settings.delivery.source_address).terms


def _try(
    transmitter: Transmitter,
    name: str,
    host: Host,
    source: str,
    terms: Terms,
    seconds: float,
    ending: list[Deferred[None]],
) -> Deferred[OutboundCall]:
    told = partial(OutboundCall, name, host, source)

    def connected(connection: Connection) -> OutboundCall:
        ending.append(connection.gone)
        connection.close()
        encrypted = connection.tls or "not encrypted"
        return told(True, f"{encrypted}, authenticated as {terms.username}" if terms.username else encrypted)

    def refused(failure: Failure) -> OutboundCall:
        if not isinstance(failure.value, Refused):
            failure.raiseException()
        return told(False, failure.value.detail)

    trying = transmitter.connect(host, terms=terms, seconds=seconds, source=source)
    return trying.addCallbacks(connected, refused)
