"""Whether a host is worth talking to: a breaker, its probe, and a suspicion.

Knows closed, open and half-open, and when every message is refused alike. Does not know messages, lines or how a
connection is made: it is handed a way to connect, and hands a good connection on.

While open nothing is sent to the host but the probe. Whoever must really try it (a slot of the retry list has come)
shares that probe: ``knock``.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from inboundmx.model.reply import Reply
from inboundmx.ports import Chance, Clock, Connection, Refused, Timer

PROBE_SECONDS = 30.0
# Of a host that another process probes, who will tell us when it is back.
HEARD_SECONDS = 300.0
# Probes of many hosts that went down together drift apart; only ever later.
PROBE_JITTER = 0.01
# After a probe that took long itself the next one follows this soon.
PAUSE_SECONDS = 1.0
# A knock that ended so recently is not made again: what falls due in one wave costs one connect.
SHARED_SECONDS = 1.0
# So many messages in a row with the same 5.7.x and no success: it is us who are refused, not they.
SAME_REFUSALS = 20


class Breaker:
    """``connect`` opens a connection with RFC 5321's patience; ``came_back`` is given it when the host answers again;
    ``wanted`` says whether anybody would still send to it;
    ``tripped`` is told once why the host is now left alone. ``refused`` is the last reason while it is."""

    def __init__(
        self,
        clock: Clock,
        chance: Chance,
        connect: Callable[[], Deferred[Connection]],
        came_back: Callable[[Connection], object],
        tripped: Callable[[Refused], object],
        wanted: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._connect = connect
        self._came_back = came_back
        self._tripped = tripped
        self._wanted = wanted
        self.refused: Refused | None = None
        self._knock: Deferred[Connection] | None = None
        self._knocking: list[Deferred[Refused | None]] = []
        self._knocked_at = 0.0
        self._probed_at = 0.0
        self._timer: Timer | None = None
        self._closed = False
        self.last_error = ""
        # It is open because another process said so.
        self._heard = False

    @property
    def open(self) -> bool:
        """Nothing is to be sent."""
        return self.refused is not None

    @property
    def state(self) -> str:
        if self.refused is None:
            return "closed"
        return "open" if self._knock is None else "half-open"

    def trip(self, refused: Refused, heard: bool = False) -> None:
        """``heard``: another process found the host so, and goes on probing it."""
        self.last_error = refused.detail
        first = self.refused is None
        self.refused = refused
        if first and not self._closed:
            self._heard = heard
            self._knocked_at = self._probed_at = self._clock.monotonic()
            self._set_timer()
            if not heard:
                self._tripped(refused)

    def look(self) -> None:
        """Whoever probed it says that it is back, or is gone himself: from now on we probe it, beginning now."""
        if self.refused is not None and not self._closed:
            self._heard = False
            self._probe()

    def knock(self) -> Deferred[Refused | None]:
        """One real connect, shared by all who ask meanwhile or a second later. None: the host is there."""
        if self.refused is None:
            return succeed(None)
        if (refused := self.just_refused) is not None:
            return succeed(refused)
        asked: Deferred[Refused | None] = Deferred(self._knocking_ends)
        self._knocking.append(asked)
        if self._knock is None:
            self._probe()
        return asked

    @property
    def knocking(self) -> bool:
        """Somebody waits for what a probe finds."""
        return bool(self._knocking)

    @property
    def just_refused(self) -> Refused | None:
        """What a knock would hear without a connect."""
        if self._knock is None and self._clock.monotonic() - self._knocked_at < SHARED_SECONDS:
            return self.refused
        return None

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._knock is not None:
            self._knock.cancel()

    def _knocking_ends(self, asked: Deferred[Refused | None]) -> None:
        if asked in self._knocking:
            self._knocking.remove(asked)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        seconds = (HEARD_SECONDS if self._heard else PROBE_SECONDS) * (1.0 + self._chance.uniform(0.0, PROBE_JITTER))
        spent = self._clock.monotonic() - self._probed_at
        self._timer = self._clock.call_later(max(PAUSE_SECONDS, seconds - spent), self._probe_due)

    def _probe_due(self) -> None:
        self._timer = None
        if self._wanted():
            self._probe()
        else:
            # Its domains are gone from the settings; should they come back, it is tried like a new one.
            self.refused = None

    def _probe(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._knock is not None:
            return
        self._probed_at = self._clock.monotonic()
        self._knock = knock = self._connect()
        knock.addCallbacks(self._answered, self._silent)

    def _answered(self, connection: Connection) -> None:
        self._knock = None
        self.refused = None
        # The host first has its connection back, then those who knocked go on and find it.
        self._came_back(connection)
        self._tell(None)

    def _silent(self, failure: Failure) -> None:
        self._knock = None
        self._knocked_at = self._clock.monotonic()
        refused = as_refused(failure)
        self.refused = refused
        self.last_error = refused.detail
        if not self._closed:
            self._set_timer()
        self._tell(refused)

    def _tell(self, refused: Refused | None) -> None:
        asked, self._knocking = self._knocking, []
        for deferred in asked:
            deferred.callback(refused)


class Suspicion:
    """Whether the host refuses us rather than our messages: every one hears the same 5.7.x."""

    __slots__ = ("_code", "_times")

    def __init__(self) -> None:
        self._code = ""
        self._times = 0

    @property
    def certain(self) -> bool:
        return self._times >= SAME_REFUSALS

    def heard(self, reply: Reply) -> bool:
        """Counts a message's answer; whether this very one made it certain."""
        if reply.positive:
            self._code, self._times = "", 0
        elif reply.permanent:
            if reply.enhanced.startswith("5.7.") and reply.enhanced == self._code:
                self._times += 1
                return self._times == SAME_REFUSALS
            self._code, self._times = reply.enhanced, int(reply.enhanced.startswith("5.7."))
        return False


def as_refused(failure: Failure) -> Refused:
    """What went wrong with a connection, whatever it was."""
    error = failure.value
    if isinstance(error, Refused):
        return error
    trouble = "abandoned" if isinstance(error, CancelledError) else "lost"
    return Refused(trouble, "connect", None, str(error) or type(error).__name__)
