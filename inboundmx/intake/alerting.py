"""Letters of ours to an operator: a client exceeded a limit.

Knows that there are few of them, and how one gets into the spool. Does not know what a limit is for, nor how a letter
is worded (``policy.alarms``).
"""

from __future__ import annotations

import hashlib

from twisted.python.failure import Failure

from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, SpoolRecipient
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.message import Body
from inboundmx.model.settings import AbuseSettings, Settings
from inboundmx.policy.alarms import alarm
from inboundmx.policy.prioritising import at_reception
from inboundmx.ports import Chance, Clock, Deliveries, Journal, Spool, StateStore, Unavailable

SPACE = "alerts"
HOUR = 3600.0
# Of one rule in an hour: whoever does not read these reads no more.
MOST_AN_HOUR = 20


class Alerts:
    def __init__(
        self, spool: Spool, deliveries: Deliveries, state: StateStore, journal: Journal, clock: Clock, chance: Chance
    ) -> None:
        self._spool = spool
        self._deliveries = deliveries
        self._state = state
        self._journal = journal
        self._clock = clock
        self._chance = chance

    def write(self, rule: AbuseSettings, who: str, reason: str, settings: Settings) -> None:
        """One for each who exceeds a rule in an hour; none while it is not known which were written."""
        try:
            if self._state.add(SPACE, f"{rule.name} {who}", 1, HOUR) > 1:
                return
            if self._state.add(SPACE, rule.name, 1, HOUR) > MOST_AN_HOUR:
                return
        except Unavailable:
            return
        now = self._clock.now()
        id = make_id(now, self._chance.token(TOKEN_LENGTH))
        octets = alarm(rule, who, reason, settings.gateway, now, id)
        local, _, domain = rule.notify.rpartition("@")
        ours = settings.domain(domain)
        entry = SpoolEntry(
            id=id,
            message_id=id,
            body_id=id,
            received_at=now,
            sender=None,
            recipients=(SpoolRecipient(Address(local, domain), notify="NEVER"),),
            size=len(octets),
            domain=domain,
            priority=at_reception((ours or settings.outgoing).priority, len(octets), None, settings.priority),
            next_attempt_at=now,
            notice=True,
            via="" if ours is not None else "outbound",
        )
        content = Content(b"", 0, Body(len(octets), octets, None, hashlib.sha256(octets).digest()))
        kept = self._spool.commit(Change((Deposit(entry, content),)))
        kept.addCallbacks(self._kept, self._lost, callbackArgs=(entry, rule), errbackArgs=(id, rule))

    def _kept(self, _: None, entry: SpoolEntry, rule: AbuseSettings) -> None:
        self._journal.record("alert_written", entry.id, {"rule": rule.name, "recipient": rule.notify})
        self._deliveries.deposited([entry])

    def _lost(self, failure: Failure, id: str, rule: AbuseSettings) -> None:
        trouble = str(failure.value) or type(failure.value).__name__
        self._journal.record("alert_lost", id, {"rule": rule.name, "what": trouble}, level="error")
