"""What an operator may ask of the lists, live and on the file of a stopped gateway alike.

Knows how an entry is asked for and told, and that each change is recorded with who asked for it. Does not know a
socket, a file or a terminal: arguments and answers are values that JSON can write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from inboundmx.app import addresses
from inboundmx.app import arguments as read
from inboundmx.app.answers import NotUnderstood, Row
from inboundmx.app.list_warnings import idle
from inboundmx.app.words import Wrong, nearest
from inboundmx.intake.live_lists import MOST_ENTRIES, LiveLists
from inboundmx.model.listing import KINDS, OF_SENDERS, TICKS, Listed
from inboundmx.model.settings import ListsSettings, Settings
from inboundmx.policy.listing import MOST_LOOSE, Listing, is_loose, written_entries
from inboundmx.ports import Clock, Journal

# Values in one request.
MOST_VALUES = 1000
# A reason is a line for whoever comes next, not a letter.
REASON_LIMIT = 200


class ListOperations:
    """The noun ``lists`` of ``app.operations``."""

    def __init__(
        self,
        lists: LiveLists,
        journal: Journal,
        clock: Clock,
        settings: Callable[[], Settings],
        kinds: Sequence[str] = KINDS,
    ) -> None:
        """``settings`` gives those in force: a reload may change what stands in the INI. ``kinds``: which there are."""
        self._kinds = kinds
        self._lists = lists
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._read = ListsSettings()
        self._written: list[tuple[str, Listed]] = []
        self._listing = Listing()

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> list[Row] | None:
        """The rows of the answer, None when there is no such verb. ``look`` learns what another worker changed. Raises
        NotUnderstood and Unavailable."""
        if verb == "list":
            return self._list(arguments, *read.matching(arguments, {"kind", "matching", "limit"}))
        if verb == "add":
            read.only(arguments, {"kind", "values", "ticks", "reason", "for"})
            return await self._add(arguments, asked_by)
        if verb == "remove":
            read.only(arguments, {"kind", "values", "dry_run"})
            return await self._remove(arguments, asked_by)
        if verb == "look":
            await self._lists.look()
            return []
        return None

    def _list(self, arguments: Mapping[str, Any], matching: str, limit: int) -> list[Row]:
        kind = read.text(arguments, "kind")
        if kind:
            self._known_kind(kind)
        written = self._in_ini()
        rows: Iterable[tuple[Listed, str]] = chain(
            ((entry, "") for entry in self._lists.entries()), ((entry, key) for key, entry in written)
        )
        if matching:
            falls_under = {*self._lists.concerning(matching), *self._listing.concerning(matching)}
            text = matching.lower()
            rows = ((entry, key) for entry, key in rows if entry in falls_under or _holds(entry, text))
        return [_row(entry, key) for entry, key in islice((row for row in rows if kind in ("", row[0].kind)), limit)]

    async def _add(self, arguments: Mapping[str, Any], asked_by: str) -> list[Row]:
        """``note``: why the entry does nothing as the gateway is configured now, None when it does something."""
        kind = self._known_kind(read.text(arguments, "kind"))
        ticks = _ticks(kind, arguments.get("ticks") or [])
        reason, seconds = read.text(arguments, "reason"), arguments.get("for")
        if len(reason) > REASON_LIMIT or not reason.isprintable():
            raise NotUnderstood(f"a reason is one line of at most {REASON_LIMIT} characters; nothing was added")
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
            raise NotUnderstood("for must be more than no time; nothing was added")
        now = self._clock.now()
        until = None if seconds is None else now + seconds
        entries = [
            Listed(kind, value, ticks, reason, asked_by, now, until)  # type: ignore[arg-type]
            for value in _values(kind, arguments, "nothing was added")
        ]
        self._must_have_room(entries)
        outcomes = ["added" if self._lists.entry(entry.key) is None else "replaced" for entry in entries]
        await self._lists.change(come=entries)
        for entry in entries:
            self._record("list_entry_added", entry, asked_by)
        note = idle(self._settings(), [kind]) or None
        rows = zip(entries, outcomes, strict=True)
        return [_row(entry) | {"outcome": outcome, "note": note} for entry, outcome in rows]

    async def _remove(self, arguments: Mapping[str, Any], asked_by: str) -> list[Row]:
        """The outcome is removed, absent, or ``written``: it stands in the INI, under ``key``, and only there."""
        kind = self._known_kind(read.text(arguments, "kind"))
        keys = [(kind, value) for value in _values(kind, arguments, "nothing was removed")]
        found = {key: entry for key in keys if (entry := self._lists.entry(key)) is not None}
        if found and not arguments.get("dry_run"):
            await self._lists.change(gone=list(found))
            for entry in found.values():
                self._record("list_entry_removed", entry, asked_by)
        rows = []
        in_ini = {entry.key: (entry, key) for key, entry in reversed(self._in_ini())}
        for key in keys:
            if key in found:
                rows.append(_row(found[key]) | {"outcome": "removed"})
            elif key in in_ini:
                rows.append(_row(*in_ini[key]) | {"outcome": "written"})
            else:
                rows.append(_row(Listed(*key)) | {"outcome": "absent"})  # type: ignore[arg-type]
        return rows

    def _must_have_room(self, entries: Sequence[Listed]) -> None:
        fresh = [entry for entry in entries if self._lists.entry(entry.key) is None]
        if len(self._lists) + len(fresh) > MOST_ENTRIES:
            raise NotUnderstood(f"the lists hold at most {MOST_ENTRIES} entries; nothing was added")
        loose = sum(entry.kind in OF_SENDERS and is_loose(entry.value) for entry in fresh)
        if loose and self._lists.loose + loose > MOST_LOOSE:
            raise NotUnderstood(
                f"patterns with a * inside a name are tried one by one, and there are at most {MOST_LOOSE}; "
                "nothing was added"
            )

    def _known_kind(self, text: str) -> str:
        if text not in self._kinds:
            raise NotUnderstood(f"there is no list {text or 'without a name'}{nearest(text, self._kinds)}")
        return text

    def _in_ini(self) -> list[tuple[str, Listed]]:
        """Entries with their keys; made once for each reading of the file, for they may be many."""
        settings = self._settings().lists
        if settings is not self._read:
            self._read, self._written = settings, written_entries(settings)
            self._listing = Listing(entry for _, entry in self._written)
        return self._written

    def _record(self, event: str, entry: Listed, asked_by: str) -> None:
        fields = {
            "kind": entry.kind,
            "value": entry.value,
            "ticks": list(entry.ticks),
            "reason": entry.reason,
            "until_at": entry.until_at,
            "asked_by": asked_by,
        }
        self._journal.record(event, "", fields)


def _row(entry: Listed, key: str = "") -> Row:
    """Every key always: ``key`` is that of the INI the entry stands under, None for what operators added; instants are
    seconds since the epoch, ``since_at`` and ``author`` None for what stands in the INI."""
    return {
        "kind": entry.kind,
        "value": entry.value,
        "ticks": list(entry.ticks),
        "reason": entry.reason or None,
        "author": entry.author or None,
        "since_at": entry.since_at or None,
        "until_at": entry.until_at,
        "key": key or None,
    }


def _holds(entry: Listed, text: str) -> bool:
    return text in entry.value or text in entry.reason.lower() or text in entry.author.lower()


def _ticks(kind: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list) or not set(given) <= set(TICKS):
        raise NotUnderstood(f"ticks are of {', '.join(TICKS)}; nothing was added")
    if kind == "whitelist" and not given:
        raise NotUnderstood("a whitelist spares something: say --smtp, --spam, --greylisting; nothing was added")
    if kind != "whitelist" and given:
        raise NotUnderstood(f"only a whitelist spares something, no {kind}; nothing was added")
    return tuple(tick for tick in TICKS if tick in given)


def _values(kind: str, arguments: Mapping[str, Any], nothing: str) -> list[str]:
    """In their normal form, each once."""
    given = arguments.get("values")
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        raise NotUnderstood(f"values must be at least one text; {nothing}")
    if len(given) > MOST_VALUES:
        raise NotUnderstood(f"at most {MOST_VALUES} values at once; {nothing}")
    try:
        return list(dict.fromkeys(addresses.sender(each) if kind in OF_SENDERS else _clients(each) for each in given))
    except Wrong as wrong:
        raise NotUnderstood(f"{wrong}; {nothing}") from wrong


def _clients(text: str) -> str:
    """One address, range or block, as short as it is read back."""
    if len(text.split()) != 1:
        raise Wrong(f"{text or 'nothing'} is no IP address")
    blocks = addresses.networks(text)
    if any(not block.prefixlen for block in blocks):
        raise Wrong(f"{text} would be everybody")
    if "-" in text:
        return f"{blocks[0][0]}-{blocks[-1][-1]}"
    return str(blocks[0][0] if blocks[0].num_addresses == 1 else blocks[0])
