"""How many file descriptors there are, and how many of them strangers may have.

Knows that delivery, the spool and the operator must never want for one because strangers came in a crowd. Does not
know connections.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from inboundmx.model.settings import Settings
from inboundmx.smtp.server import OVERHANG

# Files of the spool, the ledger and the log, sockets of scanners, DNS and the control socket.
FOR_OURSELVES = 64
# Of the rest, for messages so large that they are written to a file while they come: fewer than half of the strangers
# who fit send one at the same time, or whoever is one too many is put off.
FILES = 1 / 3


class Room(NamedTuple):
    """How many connections of strangers, and how many files of their messages, may be open at the same time."""

    connections: int
    files: int


def room_for_strangers(settings: Settings) -> Room:
    """Asks for as many descriptors as this process may have; says what they leave room for, besides all outgoing
    connections and our own files. At least one of each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    left = hard - FOR_OURSELVES - settings.delivery.max_connections
    files = int(left * FILES)
    return Room(max(1, left - files - OVERHANG), max(1, files))
