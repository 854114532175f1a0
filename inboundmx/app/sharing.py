"""Limits that hold for all workers together, as each of them is to keep them.

Knows which settings count something of the whole gateway. Does not know what is counted, nor who the others are: a
share is the limit divided by their number, rounded up, so that the sum is never less than what was asked for.
"""

from __future__ import annotations

from dataclasses import replace

from inboundmx.model.settings import DomainSettings, Settings


def shared_out(settings: Settings, workers: int) -> Settings:
    """The settings of one of so many workers. The fingerprint stays: it tells what the operator wrote."""
    if workers <= 1:
        return settings
    smtp, delivery = settings.smtp, settings.delivery

    def share(limit: int) -> int:
        return -(-limit // workers)

    def domain(each: DomainSettings) -> DomainSettings:
        return replace(
            each,
            messages_per_hour=share(each.messages_per_hour),
            bandwidth_per_hour=share(each.bandwidth_per_hour),
            bounces_per_hour=share(each.bounces_per_hour),
        )

    return replace(
        settings,
        smtp=replace(
            smtp,
            max_connections=share(smtp.max_connections),
            max_connections_per_ip=share(smtp.max_connections_per_ip),
        ),
        delivery=replace(
            delivery,
            max_connections=share(delivery.max_connections),
            max_connections_per_host=share(delivery.max_connections_per_host),
            notices_per_hour=share(delivery.notices_per_hour),
        ),
        log=replace(settings.log, keep_size=share(settings.log.keep_size)),
        domains={name: domain(each) for name, each in settings.domains.items()},
        everything=None if settings.everything is None else domain(settings.everything),
    )
