"""Lists as an operator may have written them: ``policy.listing`` does no I/O, so it is its own fake."""

from __future__ import annotations

from inboundmx.app.values import kind
from inboundmx.model.settings import ListsSettings
from inboundmx.policy.listing import Listing, written_entries


def lists(**keys: str) -> Listing:
    """``lists(whitelist_smtp="192.0.2.0/28", blocked_senders="*@bad.example")``: the keys of ``[lists]``."""
    kinds = {name: each.metadata["kind"] for name, each in ListsSettings.__dataclass_fields__.items()}
    settings = ListsSettings(**{name: kind(kinds[name]).read(text) for name, text in keys.items()})
    return Listing(entry for _, entry in written_entries(settings))
