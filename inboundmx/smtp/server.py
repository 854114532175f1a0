"""Strangers' connections: how many there may be, with which settings, and how they end together.

Knows every connection that is open. Does not know what is said on one (``server_connection`` and ``dialogue`` do), nor
which sockets are listened on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from inboundmx.model.ip import counted_as
from inboundmx.model.reply import Reply
from inboundmx.model.settings import Settings
from inboundmx.ports import Chance, Clock, Reception, Timer
from inboundmx.smtp.dialogue import STOPPING
from inboundmx.smtp.server_connection import LAST_WORD_SECONDS, Live, SmtpServer

# Whoever has kept us waiting for so long gives way when connections run out, and so often we look for them.
PATIENCE_SECONDS = 10.0
LOOK_SECONDS = 1.0
# How many that gave way may still be closing while others have their places.
OVERHANG = 16

_ENDED = Reply(421, "4.3.2", "An operator has ended this connection", then_close=True)
_FULL_FOR_YOU = Reply(421, "4.7.0", "Too many connections from your address", then_close=True)
_FULL = Reply(421, "4.3.2", "Too many connections; please try again later", then_close=True)


class SmtpServerFactory(Factory):
    """Makes and counts connections.

    ``settings`` and ``tls_options`` may be replaced whole at any time: connections made from then on use the new ones,
    those under way keep their own limits. ``tls_options`` None: STARTTLS is not offered. ``room``: how many connections
    the system has descriptors for, whatever the settings say.
    """

    noisy = False

    def __init__(
        self, reception: Reception, clock: Clock, chance: Chance, settings: Settings, tls_options: Any = None
    ) -> None:
        self.reception = reception
        self.clock = clock
        self.chance = chance
        self.settings = settings
        self.tls_options = tls_options
        self.room = sys.maxsize
        # Addresses that limits of one client do not hold for.
        self.unlimited: Callable[[str], bool] = lambda ip: False
        self.connections: set[SmtpServer] = set()
        self._by_ip: dict[str, int] = {}
        # When the patience with each ends, unless it gets on; the first to give way last.
        self._waited_for: list[tuple[float, SmtpServer]] = []
        self._look_at = 0.0
        self._drained: list[Deferred[None]] = []
        self._last_words: list[Timer] = []
        self._stopping = False

    def buildProtocol(self, addr: IAddress | None) -> SmtpServer:
        return SmtpServer(self)

    def for_submission(self) -> Factory:
        """What serves the listeners of ``[submission]``; its connections count with the others."""
        return _Submission(self)

    def counted(self, ip: str) -> Reply | None:
        """Counts a connection from ``ip``; a refusal when it is one too many."""
        place = counted_as(ip) if ":" in ip else ip
        there = self._by_ip[place] = self._by_ip.get(place, 0) + 1
        settings = self.settings.smtp
        if self._stopping:
            return STOPPING
        # Peers behind a unix socket have no address: they are many, not one.
        if ip and there > settings.max_connections_per_ip and not self.unlimited(ip):
            return _FULL_FOR_YOU
        most = min(settings.max_connections, self.room)
        if len(self.connections) > most and not self._somebody_gives_way(most + OVERHANG):
            return _FULL
        return None

    def uncounted(self, ip: str) -> None:
        """It turned out to be somebody else."""
        place = counted_as(ip) if ":" in ip else ip
        self._by_ip[place] -= 1
        if not self._by_ip[place]:
            del self._by_ip[place]

    def forget(self, connection: SmtpServer, ip: str | None) -> None:
        """A connection is gone. ``ip`` as it was counted, None when it was not."""
        self.connections.discard(connection)
        if ip is not None:
            self.uncounted(ip)
        if not self.connections:
            self._all_closed()

    def live(self) -> Iterator[Live]:
        """Each connection whose client is known."""
        for connection in self.connections:
            live = connection.live()
            if live is not None:
                yield live

    def end(self, id: str) -> None:
        """Says 421 to the connection with this id, and closes it."""
        for connection in list(self.connections):
            live = connection.live()
            if live is not None and live.session.id == id:
                connection.interrupt(_ENDED)

    def drain(self, seconds: float) -> Deferred[None]:
        """Takes no more commands: idle connections hear 421, messages on their way in are finished, and what is left
        after ``seconds`` hears 421 as well, and a second later is cut. Fires when all are closed."""
        self._stopping = True
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        self._last_words += [
            self.clock.call_later(seconds, self._each, SmtpServer.interrupt),
            self.clock.call_later(seconds + LAST_WORD_SECONDS, self._each, SmtpServer.cut),
        ]
        for connection in list(self.connections):
            connection.stop()
        if not self.connections:
            self._all_closed()
        return drained

    def _somebody_gives_way(self, most: int) -> bool:
        """The one that has kept us waiting longest makes room for another, unless there are more than ``most``."""
        if len(self.connections) > most:
            return False
        now = self.clock.monotonic()
        if now >= self._look_at and not (self._waited_for and self._waited_for[-1][0] <= now):
            # To look at all of them for each that comes would make a flood dear.
            self._look_at = now + LOOK_SECONDS
            self._waited_for = [(now + PATIENCE_SECONDS - each.kept_waiting(now), each) for each in self.connections]
            self._waited_for.sort(key=itemgetter(0), reverse=True)
        while self._waited_for and self._waited_for[-1][0] <= now:
            _, longest = self._waited_for.pop()
            if longest in self.connections and longest.kept_waiting(now) >= PATIENCE_SECONDS:
                longest.give_way()
                return True
        return False

    def _each(self, end: Callable[[SmtpServer], None]) -> None:
        for connection in list(self.connections):
            end(connection)

    def _all_closed(self) -> None:
        while self._last_words:
            self._last_words.pop().cancel()
        drained, self._drained = self._drained, []
        for one in drained:
            one.callback(None)


class _Submission(Factory):
    noisy = False

    def __init__(self, every: SmtpServerFactory) -> None:
        self._every = every

    def buildProtocol(self, addr: IAddress | None) -> SmtpServer:
        return SmtpServer(self._every, submission=True)
