"""How many notices we write: an hour's worth in all, and few to any one address.

Knows what was written in this hour, by a clock that does not jump. Does not know what a notice says, nor what becomes
of mail whose sender cannot be told. Hours are counted one after the other: over their border twice as many may come.
"""

from __future__ import annotations

from collections.abc import Callable

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry
from inboundmx.model.settings import Settings
from inboundmx.policy.retrying import Settlement
from inboundmx.ports import Clock, Journal

HOUR_SECONDS = 3600.0
# A sender who is told of more failures than this in an hour learns nothing from the next one; a victim whose address
# was forged well enough to be told at all gets no more than this.
ADDRESS_LIMIT = 20


class NoticeLimit:
    def __init__(self, settings: Callable[[], Settings], clock: Clock, journal: Journal) -> None:
        self._settings = settings
        self._clock = clock
        self._journal = journal
        self._began = float("-inf")
        self._written = 0
        # No more addresses than notices were written.
        self._by_address: dict[Address, int] = {}
        self._said = False

    def room(self, sender: Address | None) -> bool:
        """Whether a notice to ``sender`` may be written now."""
        if sender is None:
            return False
        now = self._clock.monotonic()
        if now - self._began >= HOUR_SECONDS:
            self._began, self._written, self._by_address, self._said = now, 0, {}, False
        return (
            self._written < self._settings().delivery.notices_per_hour
            and self._by_address.get(sender, 0) < ADDRESS_LIMIT
        )

    def settled(self, entry: SpoolEntry, settlement: Settlement) -> None:
        """Counts the notices that follow from ``settlement``; says once an hour that there was no room for one."""
        sender = entry.sender
        notices = (settlement.fate == "notify") + settlement.delayed + bool(settlement.confirmed)
        if notices and sender is not None:
            self._written += notices
            self._by_address[sender] = self._by_address.get(sender, 0) + notices
        elif entry.may_notify and not self._said and (settlement.fate == "held" or settlement.unconfirmed):
            self._said = True
            per_hour = self._settings().delivery.notices_per_hour
            fields = {"entry": entry.id, "sender": str(sender), "written": self._written, "notices_per_hour": per_hour}
            self._journal.record("notice_throttled", entry.message_id, fields, level="warning")
