"""How many file descriptors there are, and how many of them strangers may have.

Knows that delivery, the spool and the operator must never want for one because strangers came in a crowd. Does not
know connections.
"""

from __future__ import annotations

import resource

from inboundmx.model.settings import Settings
from inboundmx.smtp.server import OVERHANG

# Files of the spool, the ledger and the log, sockets of scanners, DNS and the control socket.
FOR_OURSELVES = 64
# A connection, and the file that its message is written to while it comes.
FOR_A_STRANGER = 2


def room_for_strangers(settings: Settings) -> int:
    """Asks for as many descriptors as this process may have; says how many strangers' connections that leaves room
    for, besides all outgoing connections and our own files. At least one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    left = hard - FOR_OURSELVES - settings.delivery.max_connections
    return max(1, left // FOR_A_STRANGER - OVERHANG)
