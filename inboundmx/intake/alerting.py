"""Letters of ours: to an operator, that a client exceeded a limit; to a user, that checks have stopped his mail.

Knows that there are few of them, who may get one, and how it gets into the spool. Does not know what a limit is for,
nor how a letter is worded (``policy.alarms``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from twisted.python.failure import Failure

from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, SpoolRecipient
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.message import Body
from inboundmx.model.settings import AbuseSettings, Settings
from inboundmx.policy.alarms import alarm, doubted, stopped
from inboundmx.policy.prioritising import at_reception
from inboundmx.ports import Chance, Clock, Deliveries, Journal, Spool, StateStore, Unavailable

SPACE = "alerts"
HOUR = 3600.0
# Of one rule in an hour: whoever does not read these reads no more.
MOST_AN_HOUR = 20
# Letters to one user, and to all of them.
MOST_TO_ONE = 10
MOST_TO_ALL = 500

# An address that can stand in a header as it is.
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")


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
        """One for each who exceeds a rule in an hour."""
        if not self._may((f"{rule.name} {who}", 1), (rule.name, MOST_AN_HOUR)):
            return
        now, id = self._begun()
        octets = alarm(rule, who, reason, settings.gateway, now, id)
        self._post(id, now, rule.notify, octets, settings, "alert", {"rule": rule.name})

    def stopped(
        self, user: str, recipients: Sequence[Address], kept: bool, why: str, mail: str, settings: Settings
    ) -> None:
        """To whom has authenticated as ``user``, about outgoing mail of the id ``mail``: refused, or kept back; once
        for each mail. Only to an address at a domain that has a section here: nobody else asked us to write to him."""
        _, _, domain = user.rpartition("@")
        ours = settings.section(domain.lower()) if user.isascii() and _MAILBOX.fullmatch(user) else None
        if not settings.blocking.outgoing_notice or ours is None or not ours.enabled:
            return
        limits = ((f"stopped {mail} {kept}", 1), (f"stopped {user.lower()}", MOST_TO_ONE), ("stopped", MOST_TO_ALL))
        if not self._may(*limits):
            return
        now, id = self._begun()
        octets = stopped(user, recipients, kept, why, mail, settings.gateway, now, id)
        self._post(id, now, user, octets, settings, "outgoing_notice", {"about": mail})

    def doubted(self, cause: str, name: str, says: str, settings: Settings) -> None:
        """A cause is doubted: once an hour for each, whatever process finds it."""
        to = settings.causes.notify
        if not to and settings.section(settings.gateway.postmaster.rpartition("@")[2].lower()) is not None:
            to = settings.gateway.postmaster
        if not to or not self._may((f"cause {cause}", 1), ("causes", MOST_AN_HOUR)):
            return
        now, id = self._begun()
        octets = doubted(to, cause, name, says, settings.gateway, now, id)
        self._post(id, now, to, octets, settings, "alert", {"rule": f"cause {cause}"})

    def _may(self, *limits: tuple[str, int]) -> bool:
        """Whether one more letter is within every limit, counted by its name for an hour; what is beyond the first does
        not count for the next. None is written while it is not known which were."""
        try:
            return all(self._state.add(SPACE, name, 1, HOUR) <= most for name, most in limits)
        except Unavailable:
            return False

    def _begun(self) -> tuple[float, str]:
        now = self._clock.now()
        return now, make_id(now, self._chance.token(TOKEN_LENGTH))

    def _post(
        self, id: str, now: float, to: str, octets: bytes, settings: Settings, event: str, fields: dict[str, str]
    ) -> None:
        local, _, domain = to.rpartition("@")
        domain = domain.lower()
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
        told = (event, {**fields, "recipient": to})
        kept.addCallbacks(self._kept, self._lost, callbackArgs=(entry, *told), errbackArgs=(id, event, fields))

    def _kept(self, _: None, entry: SpoolEntry, event: str, fields: dict[str, str]) -> None:
        self._journal.record(f"{event}_written", entry.id, fields)
        self._deliveries.deposited([entry])

    def _lost(self, failure: Failure, id: str, event: str, fields: dict[str, str]) -> None:
        trouble = str(failure.value) or type(failure.value).__name__
        self._journal.record(f"{event}_lost", id, {**fields, "what": trouble}, level="error")
