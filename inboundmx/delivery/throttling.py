"""How much of a domain's mail is delivered in an hour: messages, octets, and messages with the null sender.

Knows limits and counts. Does not know what becomes of mail that must wait. An hour begins with the first message that
is counted, by a clock that does not jump. Domains without limits are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping

from inboundmx.model.settings import DomainSettings
from inboundmx.ports import Clock, Journal

HOUR_SECONDS = 3600.0
# Hours that are over are forgotten when there are so many.
HOURS = 1000


class _Hour:
    __slots__ = ("bounces", "ends", "messages", "octets", "told")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.messages = 0
        self.octets = 0
        self.bounces = 0
        self.told = ""


class Throttling:
    """``outgoing`` mail, which the domain sends through us, is counted apart from what comes in for it."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self._hours: dict[tuple[str, bool], _Hour] = {}

    def take(self, domain: DomainSettings, outgoing: bool, size: int, null: bool) -> float:
        """0: it may be delivered now, and is counted. Else the seconds until the next hour. ``size`` in octets;
        ``null``: it has the null sender."""
        if not limited(domain):
            return 0.0
        now = self._clock.monotonic()
        key = (domain.name, outgoing)
        hour = self._hours.get(key)
        if hour is None or hour.ends <= now:
            hour = self._begin(key, now)
        reached = _reached(hour, domain, size, null)
        if reached:
            if not hour.told:
                fields = {"domain": domain.name, "outgoing": outgoing, "limit": reached, "seconds": hour.ends - now}
                self._journal.record("throttled", "", fields, level="warning")
            hour.told = reached
            return hour.ends - now
        self._count(hour, 1, size, null)
        return 0.0

    def give_back(self, domain: DomainSettings, outgoing: bool, size: int, null: bool) -> None:
        """It was not delivered after all."""
        hour = self._hours.get((domain.name, outgoing))
        if hour is not None and hour.messages > 0:
            self._count(hour, -1, -size, null)

    def status(self) -> Mapping[str, Mapping[str, object]]:
        """By domain, those that wait: which limit was reached, and the seconds until the next hour."""
        now = self._clock.monotonic()
        return {
            f"{name} (outgoing)" if outgoing else name: {"limit": hour.told, "seconds": round(hour.ends - now, 3)}
            for (name, outgoing), hour in self._hours.items()
            if hour.told and hour.ends > now
        }

    def _begin(self, key: tuple[str, bool], now: float) -> _Hour:
        if len(self._hours) >= HOURS:
            self._hours = {other: hour for other, hour in self._hours.items() if hour.ends > now}
        hour = self._hours[key] = _Hour(now + HOUR_SECONDS)
        return hour

    @staticmethod
    def _count(hour: _Hour, messages: int, octets: int, null: bool) -> None:
        hour.messages += messages
        hour.octets = max(0, hour.octets + octets)
        if null:
            hour.bounces = max(0, hour.bounces + messages)


def limited(domain: DomainSettings) -> bool:
    return bool(domain.messages_per_hour or domain.bandwidth_per_hour or domain.bounces_per_hour)


def _reached(hour: _Hour, domain: DomainSettings, size: int, null: bool) -> str:
    """The key of the limit that is in the way, or nothing. A message larger than an hour's bandwidth goes alone."""
    if 0 < domain.messages_per_hour <= hour.messages:
        return "messages_per_hour"
    if hour.octets and 0 < domain.bandwidth_per_hour < hour.octets + size:
        return "bandwidth_per_hour"
    if null and 0 < domain.bounces_per_hour <= hour.bounces:
        return "bounces_per_hour"
    return ""
