"""What one client does in one session, as far as rules count it.

Knows what is a bad command, a bad recipient and a bad session. Does not know how often is too often (``doorkeeping``).
"""

from __future__ import annotations

from collections.abc import Sequence

from inboundmx.intake.doorkeeping import Doorkeeper
from inboundmx.model.listing import Listed
from inboundmx.model.reply import Reply
from inboundmx.model.settings import AbuseSettings, Settings
from inboundmx.policy.limiting import Rules, subject


class Conduct:
    """``sent``: a message came, whatever was said to it."""

    __slots__ = ("_bad_recipients", "_door", "_ip", "_put_off", "_rules", "_settings", "_who", "sent")

    def __init__(self, door: Doorkeeper, rules: Rules, settings: Settings, ip: str) -> None:
        self._door = door
        self._rules = rules
        self._settings = settings
        self._ip = ip
        self._who = subject(ip)
        self._bad_recipients = 0
        self._put_off = 0
        self.sent = False

    def arrived(self) -> Listed | None:
        """The block that begins with this connection, if any."""
        return self._count(self._rules.connections)

    def blocked(self) -> Listed | None:
        """A block that began since holds for all sessions of the client."""
        return self._door.blocks.find(self._ip)

    def command_refused(self, reply: Reply) -> None:
        if 500 <= reply.code <= 504:
            self._count(self._rules.bad_commands)

    def recipient_refused(self, reply: Reply) -> None:
        if reply.temporary:
            self._put_off += 1
        elif reply.enhanced.startswith(("5.1.", "5.7.")):
            self._bad_recipients += 1
            self._count(self._rules.bad_recipients)

    def left(self, excused: bool) -> None:
        """``excused``: its connection was nothing to be counted."""
        # Whoever was put off is expected again: it was no harvester, even if one of its recipients is gone.
        if self._bad_recipients > self._put_off and not self.sent:
            self._count(self._rules.bad_sessions)
        if excused:
            self._count(self._rules.connections, -1.0)

    def _count(self, rules: Sequence[AbuseSettings], amount: float = 1.0) -> Listed | None:
        if not rules or not self._who:
            return None
        return self._door.count(rules, self._who, self._settings, amount)
