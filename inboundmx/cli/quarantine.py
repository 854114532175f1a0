"""``inboundmx quarantine``: mail that a level's action kept back, and what becomes of it."""

from __future__ import annotations

from typing import Any

from inboundmx.cli.querying import add_verb, verbs_of


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "quarantine", "list, release and delete what was quarantined")
    add_verb(verbs, "quarantine", "list", "list quarantined entries, the oldest first")
    add_verb(verbs, "quarantine", "show", "show an entry with its header and the beginning of its body")
    add_verb(verbs, "quarantine", "release", "send on to its recipients", changes=True)
    add_verb(verbs, "quarantine", "delete", "delete for good, without a notice to anybody", changes=True)
