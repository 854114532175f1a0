"""How the services we ask are doing: lists, scanners, whatever a check names (ports.Health).

Knows each service's last outcome and how long it has been so. Does not ask anybody, nor decide anything: a service
that is down is an outcome that the INI weighs.
"""

from __future__ import annotations

from typing import Any

from inboundmx.ports import Clock, Journal

# Services are named in the INI; should a check make names up, those not heard of for longest are forgotten.
SERVICES = 1000
# A service that comes and goes is told of no more often than this; what is told in the end is how it is.
TOLD_EVERY_SECONDS = 60.0
DETAIL_LIMIT = 200


class _Service:
    __slots__ = ("detail", "failed", "last_at", "since_at", "told", "told_at", "up", "well")

    def __init__(self, up: bool, now: float) -> None:
        self.up = up
        self.since_at = self.last_at = now
        self.detail = ""
        self.well = self.failed = 0
        # Nobody needs to be told of a service that was well from the beginning.
        self.told = True
        self.told_at = float("-inf")


class ServicesHealth:
    """``rows`` is what ``status`` shows; the journal gets a line when a service turns bad (``service_down``) or good
    again (``service_up``)."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self._services: dict[str, _Service] = {}

    def noted(self, service: str, well: bool, detail: str) -> None:
        now = self._clock.now()
        kept = self._services.get(service)
        if kept is None:
            if len(self._services) >= SERVICES:
                del self._services[min(self._services, key=lambda name: self._services[name].last_at)]
            kept = self._services[service] = _Service(well, now)
        elif kept.up is not well:
            kept.up, kept.since_at = well, now
        kept.last_at = now
        if well:
            kept.well += 1
        else:
            kept.failed += 1
        if not well or detail:
            kept.detail = detail[:DETAIL_LIMIT]
        elif kept.detail:
            kept.detail = ""
        if kept.told is not well:
            self._tell(service, kept)

    def _tell(self, service: str, kept: _Service) -> None:
        monotonic = self._clock.monotonic()
        if monotonic - kept.told_at < TOLD_EVERY_SECONDS:
            return
        kept.told, kept.told_at = kept.up, monotonic
        fields = {"service": service, "detail": kept.detail, "answered": kept.well, "failed": kept.failed}
        self._journal.record(
            "service_up" if kept.up else "service_down", "", fields, level="info" if kept.up else "warning"
        )

    def rows(self) -> list[dict[str, Any]]:
        """One for each service, those that are down first. ``since_at`` and ``last_at`` in seconds since the epoch,
        ``answered`` and ``failed`` counted since the start."""
        return [
            {
                "service": name,
                "state": "up" if kept.up else "down",
                "since_at": kept.since_at,
                "last_at": kept.last_at,
                "answered": kept.well,
                "failed": kept.failed,
                "detail": kept.detail or None,
            }
            for name, kept in sorted(self._services.items(), key=lambda pair: (pair[1].up, pair[0]))
        ]
