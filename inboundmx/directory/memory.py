"""What is remembered of recipients: who was found to exist or not, by what, when, and how sure that is.

Knows how long each answer holds and under which name it stands in the state store. Does not know who gives answers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from inboundmx.model.address import Address
from inboundmx.ports import Clock, Fact, StateStore, Unavailable

SPACE = "recipients"
# And domains whose primary has lately said yes to a question.
BELIEVED_SPACE = "callouts"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
# An address that was refused may be made any minute.
FRESH_UNKNOWN_SECONDS = 10 * MINUTE
# Older than that it is still no address to promise anything to while nobody can be asked.
KEPT_UNKNOWN_SECONDS = DAY
# Who was promised mail is known for as long as greylisting knows who passed.
KEPT_SECONDS = {"handover": 36 * DAY, "delivery": 36 * DAY, "import": 36 * DAY, "callout": 7 * DAY}
# Numbers of sources in the store: only ever added to.
SOURCES = ("callout", "handover", "delivery", "import")
# How sure a yes is: one after the final dot, an operator's, one at RCPT alone.
CONFIDENCE = {"handover": 1.0, "delivery": 1.0, "import": 0.9, "callout": 0.7}
# What was noted so recently is not noted again: a mailbox gets many letters a day.
NOTED_SECONDS = HOUR
NOTED = 10_000
# Whether a primary takes any recipient at all is found out anew so often.
ANYBODY_SECONDS = DAY
ANYBODY_UNCLEAR_SECONDS = HOUR
# And it may begin any minute to refuse questions in place of recipients.
BELIEVED_SECONDS = 10 * MINUTE


class Memo(NamedTuple):
    """``source`` is a word of SOURCES; ``confidence`` from 0 to 1; ``heard_at`` in seconds since the epoch."""

    exists: bool
    source: str
    confidence: float
    heard_at: float
    expires_at: float

    def fresh(self, now: float) -> bool:
        """Whether it still answers by itself. A clock that was put back makes nothing fresh for long."""
        return self.exists or abs(now - self.heard_at) <= FRESH_UNKNOWN_SECONDS


def memo_of(fact: Fact | None) -> Memo | None:
    """A fact of the store as it was written, or None where it is none of ours."""
    if fact is None or len(fact.values) != 3 or not 0 <= fact.values[1] < len(SOURCES):
        return None
    exists, source, confidence = fact.values
    return Memo(bool(exists), SOURCES[int(source)], confidence, fact.written_at, fact.expires_at)


class Memory:
    """Raises nothing: a store that fails remembers nothing, and whoever can be asked is asked."""

    def __init__(self, state: StateStore, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        # When, and how surely.
        self._noted: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def recall(self, address: Address) -> Memo | None:
        """What is known of an address; of its denials only those of exactly this spelling. Known and unknown take the
        same way and so the same time."""
        name = str(address)
        memo = memo_of(await self._get(name))
        folded = name.lower()
        if folded == name:
            return memo
        other = memo_of(await self._get(folded))
        if other is None or not other.exists or (memo is not None and memo.heard_at > other.heard_at):
            return memo
        return other

    def note(self, address: Address, exists: bool, source: str) -> None:
        # Almost no mail server tells upper case from lower; one that does denies only what it was asked.
        name = str(address).lower() if exists else str(address)
        now = self._clock.now()
        noted = self._noted
        if exists:
            before = noted.get(name)
            if before is not None and abs(now - before[0]) < NOTED_SECONDS and CONFIDENCE[source] <= before[1]:
                return
            noted[name] = now, CONFIDENCE[source]
            noted.move_to_end(name)
            if len(noted) > NOTED:
                noted.popitem(last=False)
        else:
            noted.pop(name.lower(), None)
        kept = KEPT_SECONDS[source] if exists else KEPT_UNKNOWN_SECONDS
        values = (float(exists), float(SOURCES.index(source)), CONFIDENCE[source])
        self._state.put(SPACE, name, Fact(values, now, now + kept))

    def forgotten(self) -> None:
        """Somebody had the store forget: what was noted before is noted again."""
        self._noted.clear()

    async def takes_anybody(self, domain: str) -> bool | None:
        """Whether the primary of ``domain`` was found to take any recipient; None: that is not known now."""
        fact = await self._get(f"@{domain}")
        return None if fact is None or len(fact.values) != 1 else bool(fact.values[0])

    def note_anybody(self, domain: str, takes: bool | None) -> None:
        """None: it would not say; it is taken not to for a while."""
        now = self._clock.now()
        kept = ANYBODY_UNCLEAR_SECONDS if takes is None else ANYBODY_SECONDS
        self._state.put(SPACE, f"@{domain}", Fact((float(bool(takes)),), now, now + kept))

    async def believed(self, domain: str) -> bool:
        """Whether the primary of ``domain`` has lately said yes to a question: one that does not may refuse questions,
        and not recipients."""
        return await self._get(domain, BELIEVED_SPACE) is not None

    async def note_believed(self, domain: str) -> None:
        now = self._clock.now()
        fact = await self._get(domain, BELIEVED_SPACE)
        if fact is None or abs(now - fact.written_at) > MINUTE:
            self._state.put(BELIEVED_SPACE, domain, Fact((1.0,), now, now + BELIEVED_SECONDS))

    async def _get(self, name: str, space: str = SPACE) -> Fact | None:
        try:
            return await self._state.get(space, name)
        except Unavailable:
            return None
