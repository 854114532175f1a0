"""The end of what is kept: held and quarantined mail goes when its time is over, with a record.

Knows instants. Does not know why an entry was kept, nor for how long: that was decided when it was.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from inboundmx.model.custody import Change, SpoolEntry, State
from inboundmx.ports import Clock, Journal, Spool, Timer

EVERY_SECONDS = 600.0
# So many a commit, and a commit at a time: nothing else waits long.
AT_ONCE = 500


class Retention:
    """Looks through the spool every ten minutes, the first time at ``start``."""

    def __init__(self, spool: Spool, clock: Clock, journal: Journal) -> None:
        self._spool = spool
        self._clock = clock
        self._journal = journal
        self._timer: Timer | None = None
        self._stopped = False

    def start(self) -> None:
        now = self._clock.now()
        over = [entry for entry in self._spool.entries() if _is_over(entry, now)][:AT_ONCE]
        if not over:
            self._again(EVERY_SECONDS)
            return
        removed = self._spool.commit(Change(remove=tuple(entry.id for entry in over)))
        removed.addCallbacks(lambda _: self._record(over), self._failed)

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _record(self, over: list[SpoolEntry]) -> None:
        for entry in over:
            recipients = [str(recipient.address) for recipient in entry.recipients]
            fields = {"entry": entry.id, "state": entry.state.value, "cause": entry.cause, "recipients": recipients}
            self._journal.record("expired", entry.message_id, fields)
        self._again(0.0 if len(over) == AT_ONCE else EVERY_SECONDS)

    def _failed(self, failure: Failure) -> None:
        # The spool remembers removals that it could not write; there is nothing to undo.
        self._journal.record("spool_trouble", "", {"trouble": str(failure.value)}, level="error")
        self._again(EVERY_SECONDS)

    def _again(self, seconds: float) -> None:
        if not self._stopped:
            self._timer = self._clock.call_later(seconds, self.start)


def _is_over(entry: SpoolEntry, now: float) -> bool:
    return entry.state is not State.ACTIVE and entry.expires_at is not None and entry.expires_at <= now
