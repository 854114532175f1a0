"""Which archives get a copy of a message that was accepted.

Knows what incoming and outgoing mean to an archive. Does not know where a copy is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inboundmx.model.address import Address
from inboundmx.model.settings import ArchiveSettings, DomainSettings


def archives_for(
    archives: Sequence[ArchiveSettings], sender: Address | None, accepted: Mapping[Address, DomainSettings]
) -> list[tuple[ArchiveSettings, Address]]:
    """The archives that take the message, each with the first recipient because of whom it does. ``accepted`` are the
    recipients with the settings of their domains, in order."""
    found = []
    for archive in archives:
        for recipient, domain in accepted.items():
            if _takes(archive, sender, recipient, outgoing=domain.via == "outbound"):
                found.append((archive, recipient))
                break
    return found


def _takes(archive: ArchiveSettings, sender: Address | None, recipient: Address, outgoing: bool) -> bool:
    if archive.rule not in ("all", "outgoing" if outgoing else "incoming"):
        return False
    whose = sender if outgoing else recipient
    return archive.domain == "*" or (whose is not None and whose.domain == archive.domain)
