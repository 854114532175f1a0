"""What clients do too often: counted by rules, and what follows.

Knows which rule counts what, and that a client is blocked or an operator written to. Does not know how a count is kept
for all workers, nor when a session did something bad (``conversation`` does).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from twisted.internet.defer import Deferred

from inboundmx.intake.alerting import Alerts
from inboundmx.intake.blocking import Blocks
from inboundmx.model.listing import Listed
from inboundmx.model.settings import AbuseSettings, Settings
from inboundmx.policy.limiting import MOST_COUNTED, Tally, exceeded, reason
from inboundmx.ports import Clock, Journal, StateStore

SPACE = "abuse"


class Doorkeeper:
    """One for a process: what was counted outlives a reload."""

    def __init__(self, state: StateStore, blocks: Blocks, alerts: Alerts, journal: Journal, clock: Clock) -> None:
        self.blocks = blocks
        self._state = state
        self.alerts = alerts
        self._journal = journal
        self._clock = clock
        self._tallies: dict[str, Tally] = {}
        # Rule and what is counted, until when it need not be told again.
        self._told: dict[tuple[str, str], float] = {}

    def count(
        self, rules: Sequence[AbuseSettings], who: str, settings: Settings, amount: float = 1.0, of: str = ""
    ) -> Listed | None:
        """``who`` has done something ``amount`` times; the block that begins with it, if any. ``of``: what it did, when
        that is counted apart."""
        block = None
        key = f"{who} {of}"
        now = self._clock.now()
        for rule in rules:
            tally = self._tallies.get(rule.name)
            if tally is None:
                tally = self._tallies[rule.name] = Tally()
            share = partial(self._share, f"{rule.name} {key}", rule.window)
            total = tally.add(key, amount, rule, now, share)
            if amount > 0 and exceeded(rule, total):
                block = self._exceeded(rule, who, of, total, settings, now) or block
        return block

    def forget(self, those: Collection[str]) -> Deferred[int]:
        """What was counted about ``those``, in this process and what all share. Fires with how much of the latter;
        fails with Unavailable when only this process could forget."""
        for tally in self._tallies.values():
            tally.forget(lambda key: _whose(key) in those)
        for told in [each for each in self._told if _whose(each[1]) in those]:
            del self._told[told]
        return forget_shared(self._state, those)

    def _share(self, key: str, window: float, amount: float) -> float:
        return self._state.add(SPACE, key, amount, window)

    def _exceeded(
        self, rule: AbuseSettings, who: str, of: str, total: float, settings: Settings, now: float
    ) -> Listed | None:
        why = reason(rule, total) + (f", {of}" if of else "")
        key = (rule.name, f"{who} {of}")
        if self._told.get(key, 0.0) <= now:
            self._told.pop(key, None)
            self._told[key] = now + rule.window
            if len(self._told) > MOST_COUNTED:
                del self._told[next(iter(self._told))]
            self._journal.record("abuse", "", {"rule": rule.name, "who": who, "reason": why}, level="warning")
            if rule.notify:
                self.alerts.write(rule, who, why, settings)
        if not rule.block:
            return None
        return self.blocks.find(who) or self.blocks.begin(who, rule.block, why, f"rule {rule.name}")


def forget_shared(state: StateStore, those: Collection[str]) -> Deferred[int]:
    """As ``Doorkeeper.forget`` where there is no process that counts."""
    return state.forget(SPACE, *(f" {who} " for who in those))


def _whose(key: str) -> str:
    return key.partition(" ")[0]
