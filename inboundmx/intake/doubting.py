"""Causes that suddenly speak against far more mail than usual: what rests on one of them alone is kept, not refused.

Knows what is counted of each message, where, and what is done with mail while a cause is doubted. Does not know how
much is usual (``policy.banding``).

A cause is an outcome of a check that weighed against mail or refused it, or a level. All processes count together, in
windows of the clock; the past of each cause is kept with them. Nothing here may cost a message anything: while nothing
can be counted no cause is doubted anew, and those that are doubted are for no longer than a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from twisted.python.failure import Failure

from inboundmx.intake.alerting import Alerts
from inboundmx.intake.arrival import Arrival, Lot
from inboundmx.model.settings import CausesSettings, Settings
from inboundmx.model.verdict import Action, Level, Verdict
from inboundmx.policy.banding import MEMORY_SECONDS, Counted, believable, beyond, faded, highest, learned, outside
from inboundmx.policy.judging import blocking_threshold, judge
from inboundmx.policy.scoring import score
from inboundmx.ports import Clock, Fact, Health, Journal, StateStore, Unavailable
from inboundmx.prompt import promptly

SPACE = "causes"
# Looked at again after so many messages, or so long, whatever comes first.
MESSAGES, SECONDS = 20, 1.0
# Different ones that are counted between two looks.
MOST = 1000
# Windows after which it is forgotten what was counted in one, though nothing has come since that would have made it
# part of the past.
WINDOWS_KEPT = 200
_KEPT_SECONDS = 4 * MEMORY_SECONDS
# A virus is none the less one when there are many: it never waits among mail that only lacks a word to be delivered.
_INFECTED = "infected"


class Cause(NamedTuple):
    """``check`` is empty for a level."""

    check: str
    word: str

    def __str__(self) -> str:
        return f"{self.check}={self.word}" if self.check else f"level {self.word}"

    @property
    def name(self) -> str:
        """By which an operator asks for the mail that was kept because of it."""
        return self.check or self.word


class Doubts:
    def __init__(self, state: StateStore, alerts: Alerts, health: Health, journal: Journal, clock: Clock) -> None:
        self._state = state
        self._alerts = alerts
        self._health = health
        self._journal = journal
        self._clock = clock
        # What came since the last look, by check and by cause; levels are those of a check without a name. Outcomes
        # that weigh nothing are counted too: a weight may be given to one tomorrow, and that makes it no more common.
        # Causes are made of these pairs when they are looked at, for that takes longer than to count them.
        self._asked: dict[str, int] = {}
        self._fired: dict[tuple[str, str], int] = {}
        self._weighty: set[tuple[str, str]] = set()
        self._messages = 0
        self._looked_at = float("-inf")
        # Until when each is doubted, in seconds since the epoch.
        self._doubted: dict[Cause, float] = {}

    def weighed(self, arrival: Arrival, lots: Sequence[Lot]) -> Sequence[Lot]:
        """Counts a message, and gives its lots as they are to be treated."""
        settings = arrival.settings
        if not settings.causes.enabled:
            for cause in tuple(self._doubted):
                self._believe(cause, "[causes] enabled = no")
            return lots
        self._count(arrival, lots)
        self._messages += 1
        monotonic = self._clock.monotonic()
        if self._messages >= MESSAGES or not 0 <= monotonic - self._looked_at < SECONDS:
            self._looked_at = monotonic
            promptly(self._look(settings), lambda _: None, self._failed)
        return [self._treated(arrival, lot) for lot in lots] if self._doubted else lots

    # --- counting -----------------------------------------------------------------------------------------------------

    def _count(self, arrival: Arrival, lots: Sequence[Lot]) -> None:
        """Whatever holds for several recipients of a message is counted once."""
        asked, fired = {""}, set()
        for lot in lots:
            for line in lot.verdict.score.lines:
                if line.outcome == "skipped":
                    continue
                asked.add(line.check)
                fired.add(cause := (line.check, line.outcome))
                weight = line.weight
                if weight and (weight == "reject" or (not isinstance(weight, str) and weight > 0)):
                    self._weighty.add(cause)
            if lot.verdict.level is not Level.NONE and not _vouched_for(arrival, lot):
                fired.add(cause := ("", lot.verdict.level.word))
                self._weighty.add(cause)
        for check in asked:
            self._asked[check] = self._asked.get(check, 0) + 1
        for cause in fired:
            if cause in self._fired or len(self._fired) < MOST:
                self._fired[cause] = self._fired.get(cause, 0) + 1

    async def _look(self, settings: Settings) -> None:
        asked, self._asked = self._asked, {}
        fired, self._fired = self._fired, {}
        weighty, self._weighty = self._weighty, set()
        self._messages = 0
        causes, now = settings.causes, self._clock.now()
        window = int(now // causes.window)
        totals = {check: self._add(window, check, count, causes) for check, count in asked.items()}
        pasts = {check: await self._past_of_check(check, window, causes) for check in asked}
        for cause in {*map(Cause._make, fired), *self._doubted}:
            if cause.check not in totals:
                # Nobody asked the check: nothing is new but the time.
                self._settle(cause, None, Counted(), settings)
                continue
            total = self._add(window, str(cause), fired.get(cause, 0), causes)
            past, since = pasts[cause.check]
            usual = Counted(await self._past_of_cause(cause, window, past, causes), past)
            current = Counted(total, totals[cause.check])
            if cause in self._doubted:
                if cause.name in causes.except_:
                    self._believe(cause, "[causes] except")
                else:
                    self._settle(cause, current, usual, settings)
            elif cause in weighty and cause.name not in causes.except_ and outside(current, usual, causes, now - since):
                self._doubt(cause, current, usual, settings)

    def _add(self, window: int, name: str, count: float, causes: CausesSettings) -> float:
        return self._state.add(SPACE, f"{window} {name}", count, WINDOWS_KEPT * causes.window)

    # --- what is usual ------------------------------------------------------------------------------------------------

    # What is known of the past goes ``through`` a window; whoever counts in a later one first adds what was counted in
    # the one after it, and so there is never more than this one to be added. Two that do so at once write the same.

    async def _past_of_check(self, check: str, window: int, causes: CausesSettings) -> tuple[float, float]:
        """How many messages it was asked about before this window, and when first, in seconds since the epoch."""
        key, now = f"past {check}", self._clock.now()
        fact = await self._state.get(SPACE, key)
        asked, through, since = fact.values if fact is not None else (0.0, -1.0, now)
        if through == window - 1:
            return asked, since
        if fact is not None:
            asked = faded(asked, (window - 1 - through) * causes.window) + await self._in_window(through, check)
        self._state.put(SPACE, key, Fact((asked, float(window - 1), since), now, now + _KEPT_SECONDS))
        return asked, since

    async def _past_of_cause(self, cause: Cause, window: int, asked: float, causes: CausesSettings) -> float:
        """How many of ``asked`` messages before this window it spoke against."""
        key, now = f"past {cause}", self._clock.now()
        fact = await self._state.get(SPACE, key)
        fired, through = fact.values if fact is not None else (0.0, -1.0)
        if through == window - 1:
            return fired
        if fact is not None:
            fired = faded(fired, (window - 1 - through) * causes.window)
            then = Counted(await self._in_window(through, str(cause)), await self._in_window(through, cause.check))
            fired = learned(Counted(fired, max(asked - then.asked, 0.0)), then, causes)
        self._state.put(SPACE, key, Fact((fired, float(window - 1)), now, now + _KEPT_SECONDS))
        return fired

    async def _in_window(self, through: float, name: str) -> float:
        fact = await self._state.get(SPACE, f"{int(through) + 1} {name}")
        return fact.values[0] if fact is not None else 0.0

    # --- doubting -----------------------------------------------------------------------------------------------------

    def _doubt(self, cause: Cause, current: Counted, usual: Counted, settings: Settings) -> None:
        self._doubted[cause] = self._clock.now() + settings.causes.window
        says = self._told(cause, current, usual, settings)
        self._alerts.doubted(str(cause), cause.name, says, settings)

    def _settle(self, cause: Cause, current: Counted | None, usual: Counted, settings: Settings) -> None:
        """Goes on doubting, or ends it."""
        causes, now = settings.causes, self._clock.now()
        if current is not None and beyond(current, usual, causes):
            self._doubted[cause] = now + causes.window
            self._told(cause, current, usual, settings)
        elif now >= self._doubted[cause] or (current is not None and believable(current, usual, causes)):
            self._believe(cause, "as often as usual again")

    def _believe(self, cause: Cause, why: str) -> None:
        del self._doubted[cause]
        self._health.noted(f"cause {cause}", True, f"{why}: it is believed")

    def _told(self, cause: Cause, current: Counted, usual: Counted, settings: Settings) -> str:
        says = (
            f"spoke against {current.fired:.0f} of {current.asked:.0f} messages, where "
            f"{100 * highest(usual, settings.causes):.0f} in 100 is the most that is usual"
        )
        self._health.noted(f"cause {cause}", False, f"{says}: what rests on it alone is held")
        return says

    def _treated(self, arrival: Arrival, lot: Lot) -> Lot:
        verdict = lot.verdict
        refused = verdict.reply is not None and verdict.reply.permanent
        if not refused and lot.fate != "discard":
            return lot
        level = Cause("", verdict.level.word)
        if level in self._doubted and verdict.reason == str(level) and not _vouched_for(arrival, lot):
            return _kept(lot, level)
        doubted = [
            cause
            for line in verdict.score.lines
            if (cause := Cause(line.check, line.outcome)) in self._doubted and line.weight
        ]
        for some in (*([each] for each in doubted), doubted):
            otherwise = _without(arrival, lot, some)
            if _lost(otherwise):
                continue
            if otherwise.reply is not None:
                # Put off anyway: the sender comes again, and by then it may be known what is true.
                return lot._replace(verdict=replace(verdict, reply=otherwise.reply, reason=otherwise.reason))
            return _kept(lot, some[0])
        return lot

    def _failed(self, failure: Failure) -> None:
        now = self._clock.now()
        for cause in [each for each, until in self._doubted.items() if now >= until]:
            self._believe(cause, "nothing can be counted")
        if not isinstance(failure.value, Unavailable):
            fields = {"about": "causes", "trouble": failure.getErrorMessage()}
            self._journal.record("fault", "", fields, level="error")


def _vouched_for(arrival: Arrival, lot: Lot) -> bool:
    """Whether the mail reaches its level by what checks say that are believed in any case, whatever others say too."""
    names = arrival.settings.causes.except_
    lines = lot.verdict.score.lines
    if not any(line.check in names for line in lines):
        return False
    others = [
        Cause(line.check, line.outcome)
        for line in lines
        if line.check not in names and not isinstance(line.weight, str) and line.weight > 0
    ]
    return _without(arrival, lot, others).level is lot.verdict.level


def _without(arrival: Arrival, lot: Lot, doubted: Sequence[Cause]) -> Verdict:
    """What the verdict would be if these had said nothing."""
    results = [
        replace(each, excused="all") if (each.check, each.finding.outcome) in doubted else each for each in lot.results
    ]
    domain = lot.domain
    return judge(score(results, arrival.checks, domain.weights), domain.levels, blocking_threshold(domain))


def _lost(verdict: Verdict) -> bool:
    """Whether nobody would ever see the mail."""
    if verdict.reply is not None:
        return verdict.reply.permanent
    return verdict.has("discard")


def _kept(lot: Lot, cause: Cause) -> Lot:
    infected = any(line.outcome == _INFECTED and line.weight for line in lot.verdict.score.lines)
    quarantined = infected or lot.verdict.score.quarantined_by
    verb: Literal["quarantine", "hold"] = "quarantine" if quarantined else "hold"
    verdict = replace(lot.verdict, actions=(Action(verb),), reply=None, reason=f"suspect {cause.check or cause}")
    return lot._replace(verdict=verdict, fate=verb, doubted=True)
