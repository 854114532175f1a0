"""Refusals before the greeting, of which there may be thousands a second.

Knows that the first one of a client is recorded, and those that follow are summed up under its id, so that every
refusal has an id that ``explain`` knows and a flood does not fill the log. Does not know why anybody is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from inboundmx.model.reply import Reply
from inboundmx.ports import Clock, Journal

# For so long a client's refusals share an id, and then a line says how many there were.
TOGETHER_SECONDS = 60.0
# Clients that are being counted at a time; beyond, the oldest is told of and counted anew.
MOST_CLIENTS = 10_000


class _Seen:
    __slots__ = ("again", "reply", "since")

    def __init__(self, reply: Reply, since: float) -> None:
        self.reply = reply
        self.since = since
        self.again = 0


class TurningAway:
    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        # By client and what it is told, the oldest first. The id is the last word of the reply.
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()
        self._timed = False

    def refused(self, who: str, id: str, reply: Reply, fields: Mapping[str, Any]) -> Reply:
        """The reply with an id as its last word; ``id`` when this one is recorded, with ``fields``."""
        key = (who, reply.text)
        now = self._clock.monotonic()
        seen = self._seen.get(key)
        if seen is not None and now - seen.since < TOGETHER_SECONDS:
            seen.again += 1
            return seen.reply
        if seen is not None:
            self._tell(key)
        self._journal.record("refused", id, fields)
        said = Reply(reply.code, reply.enhanced, f"{reply.text} {id}", reply.then_close)
        self._seen[key] = _Seen(said, now)
        if len(self._seen) > MOST_CLIENTS:
            self._tell(next(iter(self._seen)))
        if not self._timed:
            self._timed = True
            self._clock.call_later(TOGETHER_SECONDS, self._look)
        return said

    def close(self) -> None:
        """What was counted is told."""
        while self._seen:
            self._tell(next(iter(self._seen)))

    def _look(self) -> None:
        self._timed = False
        now = self._clock.monotonic()
        while self._seen:
            key, seen = next(iter(self._seen.items()))
            left = seen.since + TOGETHER_SECONDS - now
            if left > 0:
                self._timed = True
                self._clock.call_later(left, self._look)
                return
            self._tell(key)

    def _tell(self, key: tuple[str, str]) -> None:
        seen = self._seen.pop(key)
        if seen.again:
            within = round(self._clock.monotonic() - seen.since, 3)
            fields = {"ip": key[0], "times": seen.again, "within_seconds": within, "reply": str(seen.reply)}
            self._journal.record("refused_again", seen.reply.text.rpartition(" ")[2], fields)
