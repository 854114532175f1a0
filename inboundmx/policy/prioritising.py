"""Which priority a message has in the spool: 1 goes last, 10 first.

Knows SmarterMail's rules for large mail, for notices and for further attempts. Does not know what a priority does.
"""

from __future__ import annotations

from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry
from inboundmx.model.settings import PrioritySettings, Settings


def at_reception(usual: int, size: int, sender: Address | None, settings: PrioritySettings) -> int:
    """``usual`` is the domain's, ``size`` in octets. Where both rules speak of a message, the lower priority holds."""
    ruled = [
        priority
        for priority, applies in (
            (settings.over_size, size > settings.message_size_threshold),
            (settings.null_sender, sender is None),
        )
        if applies and priority is not None
    ]
    return min(ruled, default=usual)


def after_attempt(entry: SpoolEntry, settings: Settings) -> int:
    """The priority of ``entry``, as it stands after an attempt, for what comes. Only the first two attempts change
    anything: what an operator gives it later stays."""
    following = {1: settings.priority.second_attempt, 2: settings.priority.third_attempt}.get(entry.attempts)
    return entry.priority if following is None else following
