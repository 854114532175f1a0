"""Clients that sent good mail lately: they need not show again that they are mail servers.

Knows how long that holds, and that it is written down once a day at most. Does not know what good mail is, nor what a
client is spared for it.
"""

from __future__ import annotations

from collections import OrderedDict

from inboundmx.policy.limiting import subject
from inboundmx.ports import Clock, Fact, StateStore, Unavailable

SPACE = "good"
KNOWN_SECONDS = 36 * 86400.0
# Until it is written down anew.
AGAIN_SECONDS = 86400.0
REMEMBERED = 10_000


class KnownGood:
    def __init__(self, state: StateStore, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        # By client, when it is to be written down again.
        self._written: OrderedDict[str, float] = OrderedDict()

    def sent_good_mail(self, ip: str) -> None:
        who, now = subject(ip), self._clock.now()
        if not who or self._written.get(who, 0.0) > now:
            return
        self._written[who] = now + AGAIN_SECONDS
        if len(self._written) > REMEMBERED:
            self._written.popitem(last=False)
        self._state.put(SPACE, who, Fact((now,), now, now + KNOWN_SECONDS))

    def knows(self, ip: str) -> bool:
        """At once: who cannot be looked up now is not known."""
        who = subject(ip)
        if not who:
            return False
        if who in self._written:
            return True
        asked = self._state.get(SPACE, who)
        try:
            asked.send(None)
        except StopIteration as stop:
            return stop.value is not None
        except Unavailable:
            return False
        asked.close()
        return False
