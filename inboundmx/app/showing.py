"""Entries and mail as operators look at them: a list of what the spool holds, and one message by its id.

Knows how much of a message is shown, and that reading a person's mail is on record. Does not know how a row of a list
is written; ``app.listing`` does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from json import loads

from inboundmx.app.answers import NotUnderstood, Row
from inboundmx.app.finding import TURN, Finder, oldest_first
from inboundmx.app.listing import Listing
from inboundmx.app.selecting import Selection
from inboundmx.model.custody import SpoolEntry
from inboundmx.model.message import HEADER_LIMIT, Body, Message
from inboundmx.model.settings import Settings
from inboundmx.ports import Clock, Damaged, Journal, Spool, Unavailable

# Octets of the body that ``show`` tells; the header section is told whole.
BODY_HEAD = 4096


class Showing:
    """``settings`` gives those in force."""

    def __init__(
        self, spool: Spool, journal: Journal, clock: Clock, finder: Finder, settings: Callable[[], Settings]
    ) -> None:
        self._spool = spool
        self._journal = journal
        self._clock = clock
        self._finder = finder
        self._settings = settings

    def list(self, query: Selection, limit: int | None, columns: bool) -> Iterator[str | None]:
        """The oldest first, at most ``limit`` of them. ``columns``: many of them as one row of columns, for a table."""
        now = self._clock.now()
        listing = Listing(self._settings(), now)
        everything = query == Selection()
        left = limit if limit is not None else sys.maxsize
        entries: list[SpoolEntry] = []
        yield from oldest_first(self._spool.entries(), entries)
        for start in range(0, len(entries), TURN):
            some: Sequence[SpoolEntry] = entries[start : start + TURN]
            if not everything:
                some = [entry for entry in some if query.means(entry, now)]
            some = some[:left]
            left -= len(some)
            if columns and some:
                yield listing.columns(some)
            elif some:
                yield from map(listing.row, some)
            if not left:
                break
            yield None

    def _row(self, entry: SpoolEntry, now: float) -> Row:
        told: Row = loads(Listing(self._settings(), now).row(entry))
        return told

    async def show(self, query: Selection, asked_by: str) -> Sequence[Row]:
        """Metadata, header fields and the beginning of the body. Only by id: mail is read one at a time."""
        if not query.ids:
            raise NotUnderstood("show needs ids")
        told = []
        for entry in await self._finder.meant(query):
            # Someone read a person's mail: that is on record like any change.
            self._journal.record("shown", entry.message_id, {"entry": entry.id, "asked_by": asked_by})
            told.append(self._row(entry, self._clock.now()) | _metadata(entry) | await self._content(entry))
        return told

    async def _content(self, entry: SpoolEntry) -> Row:
        try:
            content = await self._spool.content(entry.id)
        except Damaged as error:
            return {"headers": [], "body_head": "", "body_cut": False, "damaged": str(error) or "damaged"}
        except (KeyError, Unavailable) as error:
            return {"headers": [], "body_head": "", "body_cut": False, "damaged": f"cannot be read: {error}"}
        head = content.prefix + content.body.head[content.skip : content.skip + HEADER_LIMIT + BODY_HEAD]
        message = Message(entry.message_id, Body(len(head), head, None, b""))
        fields = message.fields
        end = message.header_end + 2 if fields or not message.header_end else 0
        names = [head[field.start : field.end].partition(b":")[0].strip().decode("ascii") for field in fields]
        return {
            "headers": [[name, field.text().replace("\t", " ")] for name, field in zip(names, fields, strict=True)],
            "body_head": _readable(head[end : end + BODY_HEAD]),
            "body_cut": content.size > end + BODY_HEAD,
            "damaged": None,
        }


def _metadata(entry: SpoolEntry) -> Row:
    return {
        "message_id": entry.message_id,
        "cause": entry.cause or None,
        "received_at": entry.received_at,
        "expires_at": entry.expires_at,
        "level": entry.level,
        "peer_ip": entry.peer_ip or None,
        "hello": entry.hello or None,
        "peer_name": entry.peer_name or None,
        "via": entry.via or None,
        "notice": entry.notice,
        "may_notify": entry.may_notify,
        "unverified": entry.unverified,
        "eight_bit": entry.eight_bit,
        "utf8": entry.utf8,
    }


def _readable(octets: bytes) -> str:
    """Text for a terminal: whatever could move its cursor or change its colours is replaced."""
    text = octets.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)
