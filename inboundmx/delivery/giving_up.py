"""Giving an entry up before its schedule ends, because an operator says so.

Knows what must be committed together: the end of the entry and the notice that speaks of it. Does not know who asked,
nor whether the entry is on its way meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inboundmx.delivery.notice_limit import NoticeLimit
from inboundmx.delivery.notifying import deposits_of
from inboundmx.model.custody import Change, Deposit, SpoolEntry
from inboundmx.model.settings import Settings
from inboundmx.policy.retrying import Settlement, give_up
from inboundmx.ports import Spool


@dataclass(frozen=True, slots=True)
class GivenUp:
    """``notice`` is there when the sender is told."""

    entry: SpoolEntry
    settlement: Settlement
    notice: Deposit | None


async def given_up(
    spool: Spool,
    entry: SpoolEntry,
    settings: Settings,
    now: float,
    new_id: Callable[[float], str],
    notices: NoticeLimit,
) -> GivenUp:
    """What is to be committed. Raises Damaged or KeyError when a notice cannot quote the message, and Unavailable."""
    settlement = give_up(entry, now, settings.delivery, notices.room(entry.sender))
    notices.settled(entry, settlement)
    if settlement.fate != "notify":
        return GivenUp(entry, settlement, None)
    content = await spool.content(entry.id)
    (notice,) = deposits_of(entry, settlement, None, None, content, settings, now, lambda: new_id(now))
    return GivenUp(entry, settlement, notice)


def change_of(ends: Sequence[GivenUp]) -> Change:
    return Change(
        tuple(end.notice for end in ends if end.notice is not None),
        tuple(end.settlement.entry for end in ends if end.settlement.entry is not None),
        tuple(end.entry.id for end in ends if end.settlement.entry is None),
    )
