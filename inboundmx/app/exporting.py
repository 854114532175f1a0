"""Messages as they would be transmitted, for an operator to keep as files.

Knows how many go at once, in parts of what size, and that each is on record. Does not know where they are written: who
asks does, with his own rights.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import chain

from inboundmx.app.answers import NotUnderstood, Row
from inboundmx.app.finding import Finder
from inboundmx.app.selecting import Selection
from inboundmx.model.custody import Content
from inboundmx.ports import Damaged, Journal, Spool
from inboundmx.spool.bodies import BodyContents

# Octets of an exported message in one row.
PART = 16 * 1024
# Messages exported at once.
EXPORTED = 500


class Exporting:
    def __init__(self, spool: Spool, contents: BodyContents, journal: Journal, finder: Finder) -> None:
        self._spool = spool
        self._contents = contents
        self._journal = journal
        self._finder = finder

    async def export(self, query: Selection, asked_by: str, dry_run: bool) -> Iterable[Row]:
        """Messages as they would be transmitted: for each a row with ``id``, ``message_id`` and ``size``, then rows
        with its ``id`` and a ``part`` of it in base64; ``damaged`` in place of both when it cannot be read. A dry run
        has the first row of each alone."""
        told: list[Iterable[Row]] = []
        meant = await self._finder.meant(query)
        if len(meant) > EXPORTED and not dry_run:
            raise NotUnderstood(f"at most {EXPORTED} messages are exported at once; nothing was done")
        for entry in meant:
            row = {"id": entry.id, "message_id": entry.message_id, "size": entry.size}
            if dry_run:
                told.append([row])
                continue
            try:
                content = await self._spool.content(entry.id)
            except Damaged as damage:
                told.append([{"id": entry.id, "damaged": str(damage) or "damaged"}])
                continue
            except KeyError:
                told.append([{"id": entry.id, "damaged": "it has left the spool meanwhile"}])
                continue
            self._journal.record("exported", entry.message_id, {"entry": entry.id, "asked_by": asked_by})
            told.append(chain([row | {"size": content.size}], self._parts(entry.id, content)))
        return chain.from_iterable(told)

    def _parts(self, id: str, content: Content) -> Iterator[Row]:
        """Read only when they are sent."""
        body = content.body
        parts = chain(
            [content.prefix],
            (self._contents.part(body, start, PART) for start in range(content.skip, body.size, PART)),
        )
        return ({"id": id, "part": b64encode(part).decode("ascii")} for part in parts)
