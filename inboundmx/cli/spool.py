"""``inboundmx spool``: what the gateway holds, and what an operator may do with it."""

from __future__ import annotations

from typing import Any

from inboundmx.cli import exporting, pausing
from inboundmx.cli.querying import STATES, add_verb, verbs_of


def _priority(command: Any) -> None:
    command.add_argument("priority", metavar="N", type=int, choices=range(1, 11), help="from 1 to 10; 5 is usual")


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "spool", "list and change what is held for delivery")
    add_verb(verbs, "spool", "list", "list entries, the oldest first", states=STATES)
    add_verb(verbs, "spool", "show", "show an entry with its header and the beginning of its body")
    add_verb(verbs, "spool", "force", "try to deliver now", states=STATES, changes=True)
    add_verb(
        verbs, "spool", "reset-retries", "set all counts to zero and try to deliver now", states=STATES, changes=True
    )
    add_verb(verbs, "spool", "hold", "keep from being delivered until released", states=STATES, changes=True)
    add_verb(
        verbs, "spool", "priority", "say what goes first: 10 before 1", states=STATES, changes=True, before=_priority
    )
    add_verb(verbs, "spool", "release", "deliver what is held", states=STATES, changes=True)
    add_verb(
        verbs, "spool", "bounce", "give up now and tell the sender; hold what he may not be told", states=STATES,
        changes=True,
    )  # fmt: skip
    add_verb(verbs, "spool", "delete", "delete for good, without a notice to anybody", states=STATES, changes=True)
    add_verb(
        verbs, "spool", "export", "write messages to files, as they would be transmitted", states=STATES, changes=True,
        before=exporting.add_folder, run=exporting.run,
    )  # fmt: skip
    pausing.register(verbs)
