"""Mail that an operator gives up: its sender is told where he may be.

Knows which entries can be given up, a few of them at a time, what is on record of each, and who goes first when two
change the same. Does not know how a notice is made, nor whom it may be sent to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inboundmx.app.answers import Row
from inboundmx.app.changing import ON_ITS_WAY, DeliveryService, audit, is_on_its_way, outcome_of
from inboundmx.app.finding import Finder
from inboundmx.app.selecting import Selection
from inboundmx.delivery.giving_up import GivenUp, change_of, given_up
from inboundmx.delivery.notice_limit import NoticeLimit
from inboundmx.model.custody import SpoolEntry, State
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.settings import Settings
from inboundmx.policy.retrying import UNDELIVERABLE, give_up
from inboundmx.ports import Chance, Clock, Damaged, Journal, Spool, Unavailable

# Notices made and committed at once: each quotes a header section.
NOTICES = 50
# What an operator reads of each fate.
_END = {"notify": "bounced", "held": "held", "dropped": "dropped"}


class Bouncing:
    """``deliveries`` is None when the gateway is stopped. ``settings`` gives those in force."""

    def __init__(
        self,
        spool: Spool,
        deliveries: DeliveryService | None,
        journal: Journal,
        clock: Clock,
        finder: Finder,
        settings: Callable[[], Settings],
        chance: Chance,
        notices: NoticeLimit,
    ) -> None:
        self._spool = spool
        self._deliveries = deliveries
        self._journal = journal
        self._clock = clock
        self._finder = finder
        self._settings = settings
        self._chance = chance
        self._notices = notices

    async def bounce(self, query: Selection, asked_by: str, dry_run: bool) -> Sequence[Row]:
        """Gives up now: the sender is told where he may be, else the mail is held as undeliverable; mail with the null
        sender goes, for there is nobody to tell. ``outcome`` says which: bounced, held or dropped."""
        meant = [entry.id for entry in await self._finder.meant(query)]
        told: list[Row] = []
        for start in range(0, len(meant), NOTICES):
            aside: list[str] = []
            ends: list[GivenUp] = []
            try:
                for id in meant[start : start + NOTICES]:
                    now = self._clock.now()
                    entry = self._spool.entry(id)
                    if entry is None or not query.means(entry, now):
                        continue
                    room = self._notices.room(entry.sender)
                    outcome, reason = _END[give_up(entry, now, self._settings().delivery, room).fate or "dropped"], ""
                    why_not = _not_bounced(entry, outcome)
                    if why_not and not query.ids:
                        continue
                    if why_not:
                        outcome, reason = "skipped", why_not
                    elif dry_run:
                        reason = "dry run: nothing was done"
                    elif is_on_its_way(entry, self._deliveries):
                        outcome, reason = "skipped", ON_ITS_WAY
                    else:
                        aside.append(id)
                        try:
                            ends.append(
                                await given_up(self._spool, entry, self._settings(), now, self._new_id, self._notices)
                            )
                        except (Damaged, KeyError) as damage:
                            outcome, reason = "skipped", f"cannot be read: {damage}; delete it"
                    told.append(outcome_of(entry, outcome, reason))
                # Whoever else changed one of them while contents were read goes before us.
                late = {end.entry.id for end in ends if self._spool.entry(end.entry.id) != end.entry}
                ends = [end for end in ends if end.entry.id not in late]
                for row in told:
                    if row["id"] in late:
                        row |= {"outcome": "skipped", "reason": "was changed by another command meanwhile"}
                if ends:
                    await self._end(ends, asked_by)
            finally:
                if self._deliveries is not None and aside:
                    self._deliveries.changed(aside)
        return told

    async def _end(self, ends: Sequence[GivenUp], asked_by: str) -> None:
        trouble = ""
        try:
            await self._spool.commit(change_of(ends))
        except Unavailable as error:
            trouble = error.reason
            raise
        finally:
            for end in ends:
                for fate, failed in ((end.settlement.fate, end.settlement.owed), ("dropped", end.settlement.unasked)):
                    if not failed:
                        continue
                    fields = audit(end.entry, asked_by, trouble) | {"fate": fate}
                    fields["recipients"] = [str(recipient.address) for recipient in failed]
                    self._journal.record("failed", end.entry.message_id, fields, level="warning")
                    if fate == "held":
                        self._journal.record("held", end.entry.message_id, fields | {"cause": UNDELIVERABLE})
                if end.notice is not None:
                    notice = end.notice.entry
                    told = {
                        "entry": end.entry.id,
                        "notice": notice.id,
                        "recipients": [str(recipient.address) for recipient in notice.recipients],
                        "state": notice.state.value,
                        "cause": notice.cause,
                        "asked_by": asked_by,
                    }
                    self._journal.record("bounced", end.entry.message_id, told)
        if self._deliveries is not None:
            self._deliveries.changed([end.notice.entry.id for end in ends if end.notice is not None])

    def _new_id(self, now: float) -> str:
        return make_id(now, self._chance.token(TOKEN_LENGTH))


def _not_bounced(entry: SpoolEntry, outcome: str) -> str:
    """Why it cannot be given up, or nothing."""
    if entry.state not in (State.ACTIVE, State.HELD):
        return f"is {entry.state.value}; release or delete it"
    if not entry.pending:
        return "has nobody left to be delivered to; delete it"
    if outcome == "held" and entry.cause == UNDELIVERABLE:
        return "is held because its sender may not be told; release or delete it"
    return ""
