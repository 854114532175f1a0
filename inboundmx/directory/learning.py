"""Learns who exists from what primaries answer to mail itself.

Knows which answers belong to a domain that wants to learn from them. Does not know how a message is transmitted, nor
what is made of what is learned.
"""

from __future__ import annotations

from collections.abc import Callable

from inboundmx.directory.memory import Memory
from inboundmx.model.custody import DeliveryAttempt
from inboundmx.model.settings import Settings
from inboundmx.policy.verifying import learned


class Learning:
    def __init__(self, memory: Memory, settings: Callable[[], Settings]) -> None:
        self._memory = memory
        self._settings = settings

    def heard(self, attempt: DeliveryAttempt, live: bool) -> None:
        """A host has answered. ``live``: while the sender waited. What goes by another way than to the domain's own
        primaries says nothing about the domain."""
        settings = self._settings()
        for address, exists in learned(attempt):
            domain = settings.section(address.domain) or settings.everything
            if domain is not None and "learned" in domain.recipients and attempt.host in domain.primary:
                self._memory.note(address, exists, "handover" if live else "delivery")
