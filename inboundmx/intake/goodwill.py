"""Who need not be greylisted any more: clients that send good mail, and whom our own users write to.

Knows which mail speaks for a client and which against it, and where that is remembered. Does not know how much of it is
enough (``policy.greylisting``), nor who asks (``checks.greylist``).

Nothing here may cost a message anything: what cannot be remembered is not, and nobody hears of it but the journal.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from twisted.python.failure import Failure

from inboundmx.checks.greylist import COUNTED, GOOD, WRITTEN, Greylist
from inboundmx.intake.arrival import Arrival, Lot
from inboundmx.model.address import Address
from inboundmx.model.finding import CheckResult
from inboundmx.model.session import Session
from inboundmx.model.settings import DAY, GreylistingSettings, Settings
from inboundmx.model.verdict import Level, Score
from inboundmx.policy.greylisting import after_writing, allowed, correspondence, credited, enough, over, still_good
from inboundmx.ports import Clock, Journal, StateStore, Unavailable
from inboundmx.prompt import promptly

# New ones, of one message and of a day: whoever writes to the whole world must not fill the table of everybody.
MOST_AT_ONCE = 50
MOST_A_DAY = 5000


class Goodwill:
    def __init__(self, state: StateStore, clock: Clock, journal: Journal) -> None:
        self._state = state
        self._clock = clock
        self._journal = journal
        self._day = 0.0
        self._today = 0

    def accepted(self, arrival: Arrival, lots: Sequence[Lot]) -> None:
        """A message was taken: 250 was said, or is about to be."""
        settings, sender = arrival.settings, arrival.envelope.sender
        if sender is None or not _greylists(settings):
            return
        if arrival.relays:
            if settings.domain(sender.domain) is not None:
                strangers = [each for lot in lots if lot.domain.via == "outbound" for each in lot.recipients]
                self._do(self._written(settings, sender, strangers[:MOST_AT_ONCE]))
        elif any(_bad(lot) for lot in lots):
            self._judged(settings, arrival.session, sender, arrival.results, good=False)
        elif all(lot.verdict.level <= Level.LOW and lot.fate == "deliver" for lot in lots):
            self._judged(settings, arrival.session, sender, arrival.results, good=True)

    def refused(
        self,
        settings: Settings,
        session: Session,
        sender: Address | None,
        results: Sequence[CheckResult],
        score: Score,
    ) -> None:
        """A message was refused for good, by us. It does not speak against its client when that was for the sake of a
        recipient: whom we do not know may just have moved."""
        if sender is None or not _greylists(settings):
            return
        if score.forced == "reject" and all(
            result.recipient is not None for result in results if result.check == score.forced_by
        ):
            return
        self._judged(settings, session, sender, results, good=False)

    def _judged(
        self, settings: Settings, session: Session, sender: Address, results: Sequence[CheckResult], good: bool
    ) -> None:
        greylisting = settings.greylisting
        if not greylisting.auto_allow:
            return
        facts = {fact for result in results for fact in result.finding.facts}
        authenticated, signed = (("spf_mailfrom", sender.domain) in facts, ("dkim_sender", sender.domain) in facts)
        names = credited(session.peer_ip, sender, authenticated, signed, greylisting)
        self._do(self._good(names, greylisting) if good else self._bad(names, greylisting))

    async def _good(self, names: Sequence[str], settings: GreylistingSettings) -> None:
        now, state = self._clock.now(), self._state
        for name in names:
            fact = await state.get(GOOD, name)
            if fact is not None and allowed(fact, settings):
                changed = still_good(fact, now, settings)
            else:
                changed = enough(state.add(COUNTED, name, 1, settings.auto_allow_for), now, settings)
            if changed is not None:
                state.put(GOOD, name, changed)

    async def _bad(self, names: Sequence[str], settings: GreylistingSettings) -> None:
        for name in names:
            if await self._state.get(GOOD, name) is not None:
                self._state.put(GOOD, name, over(self._clock.now()))
            counter = await self._state.get(COUNTED, name)
            if counter is not None and counter.values:
                self._state.add(COUNTED, name, -counter.values[0], settings.auto_allow_for)

    async def _written(self, settings: Settings, sender: Address, strangers: Sequence[Address]) -> None:
        now = self._clock.now()
        if not 0 <= now - self._day < DAY:
            self._day, self._today = now, 0

        for stranger in strangers:
            key = correspondence(stranger, sender.domain)
            fact = await self._state.get(WRITTEN, key)
            self._today += fact is None
            changed = after_writing(fact, now, settings.greylisting)
            if changed is not None and self._today <= MOST_A_DAY:
                self._state.put(WRITTEN, key, changed)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        promptly(work, lambda _: None, self._failed)

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, Unavailable):
            fields = {"about": "goodwill", "trouble": failure.getErrorMessage()}
            self._journal.record("fault", "", fields, level="error")


def _bad(lot: Lot) -> bool:
    """Whether it speaks against its client though it was taken. What is kept because we doubt what we saw of it does
    not, nor for it: whether it is bad nobody knows."""
    verdict = lot.verdict
    if lot.doubted:
        return False
    return verdict.level is Level.HIGH or verdict.reply is not None or bool(verdict.score.quarantined_by)


def _greylists(settings: Settings) -> bool:
    return any(check.kind == Greylist.kind for check in settings.checks)
