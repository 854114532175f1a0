"""Strangers' connections: how many there may be, with which settings, and how they end together.

Knows every connection that is open. Does not know what is said on one (``server_connection`` and ``dialogue`` do), nor
which sockets are listened on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from inboundmx.model.reply import Reply
from inboundmx.model.settings import Settings
from inboundmx.ports import Chance, Clock, Reception, Timer
from inboundmx.smtp.dialogue import STOPPING
from inboundmx.smtp.server_connection import Live, SmtpServer

# How long a client may take to hear that we stop.
LAST_WORD_SECONDS = 1.0

_FULL = Reply(421, "4.3.2", "Too many connections; please try again later", then_close=True)
_ENDED = Reply(421, "4.3.2", "An operator has ended this connection", then_close=True)
_FULL_FOR_YOU = Reply(421, "4.7.0", "Too many connections from your address", then_close=True)


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
        self._drained: list[Deferred[None]] = []
        self._last_words: list[Timer] = []
        self._stopping = False

    def buildProtocol(self, addr: IAddress | None) -> SmtpServer:
        return SmtpServer(self)

    def counted(self, ip: str) -> Reply | None:
        """Counts a connection from ``ip``; a refusal when it is one too many."""
        self._by_ip[ip] = self._by_ip.get(ip, 0) + 1
        settings = self.settings.smtp
        if self._stopping:
            return STOPPING
        if len(self.connections) > min(settings.max_connections, self.room):
            return _FULL
        # Peers behind a unix socket have no address: they are many, not one.
        if ip and self._by_ip[ip] > settings.max_connections_per_ip and not self.unlimited(ip):
            return _FULL_FOR_YOU
        return None

    def forget(self, connection: SmtpServer, ip: str | None) -> None:
        """A connection is gone. ``ip`` as it was counted, None when it was not."""
        self.connections.discard(connection)
        if ip is not None:
            self._by_ip[ip] -= 1
            if not self._by_ip[ip]:
                del self._by_ip[ip]
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

    def _each(self, end: Callable[[SmtpServer], None]) -> None:
        for connection in list(self.connections):
            end(connection)

    def _all_closed(self) -> None:
        while self._last_words:
            self._last_words.pop().cancel()
        drained, self._drained = self._drained, []
        for one in drained:
            one.callback(None)
