"""What an operator may ask of the spool and the quarantine, live and on the files of a stopped gateway alike.

Knows which entries a query means, what may be done with them, and that each change is recorded with who asked for it.
Does not know a socket, a file or a terminal: arguments and answers are values that JSON can write.
"""

from __future__ import annotations

import gc
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from json import JSONEncoder, loads
from operator import attrgetter
from typing import Any, Protocol

import idna
from twisted.internet.defer import Deferred

from inboundmx.app.listing import Listing
from inboundmx.delivery.giving_up import GivenUp, change_of, given_up
from inboundmx.delivery.notice_limit import NoticeLimit
from inboundmx.model.address import written
from inboundmx.model.custody import Change, Content, SpoolEntry, State, Status
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.message import HEADER_LIMIT, Body, Message
from inboundmx.model.settings import Settings
from inboundmx.net.chance import SystemChance
from inboundmx.policy.retrying import UNDELIVERABLE, give_up
from inboundmx.policy.stamping import checks_against
from inboundmx.ports import Chance, Clock, Damaged, Journal, Spool, Unavailable
from inboundmx.spool.bodies import BodyContents

# Octets of an exported message in one row.
PART = 16 * 1024
# Entries changed by one commit, and in one turn of the reactor, whatever number of them a query means.
BATCH = 200
# Changed so many times, entries are kept from the collector of garbage. A multiple of the above.
FROZEN = 10 * BATCH
# Messages exported at once.
EXPORTED = 500
# Notices made and committed at once: each quotes a header section.
NOTICES = 50
# Entries looked at before mail gets its turn again.
TURN = 1000
# Entries sorted in one turn.
SORTED = 10_000
# The longest that mail has its turn between two parts of a change.
TURN_SECONDS = 0.1
# Octets of the body that ``show`` tells; the header section is told whole.
BODY_HEAD = 4096
# Priorities of SmarterMail: 10 goes first.
LOWEST, HIGHEST = 1, 10
# Why an entry is held that an operator stopped.
OPERATOR = "operator"
# What an operator reads of each fate.
_END = {"notify": "bounced", "held": "held", "dropped": "dropped"}
ON_ITS_WAY = "is on its way to a primary just now; ask again in a moment"

_text = JSONEncoder(separators=(",", ":"), check_circular=False).encode

Row = dict[str, Any]
# A row, a row as JSON text already, or None: nothing yet, and somebody else may have a turn.
Told = Row | str | None
# Which entries, whether only of the quarantine, who asks, and whether it is a dry run.
_Changing = Callable[["Selection", bool, str, bool], Awaitable[Iterable[Told]]]


class NotUnderstood(Exception):
    """The request itself is wrong; the text is a sentence for the operator."""


class DeliveryService(Protocol):
    """The part of the delivery loop that operators touch."""

    def changed(self, ids: Sequence[str]) -> None:
        """These entries are not what they were, or are gone."""

    def force(self, ids: Sequence[str]) -> None:
        """Tries these entries now, whatever their schedule and their primary's health say."""

    def set_aside(self, ids: Sequence[str]) -> Set[str]:
        """Those that are not on their way just now; of them none is started until it is said to have ``changed``."""

    def status(self) -> Mapping[str, Any]:
        """``hosts``: each primary's health by its name; and what else there is to know of deliveries."""


class Noun(Protocol):
    """Operations on something else than the spool, by a name of its own."""

    async def perform(self, verb: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Row] | None:
        """As ``Operations.perform``; None when there is no such verb."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are meant: any of ``ids`` (an entry's own or the one the stranger was told), and all else that is
    given. Empty means everything; ``older`` counts seconds since reception, ``since`` is an instant before it.
    ``cause`` is a check that spoke against the mail, or what else kept it; ``only`` are the ids of those of which that
    is known to be true."""

    ids: frozenset[str] = frozenset()
    domain: str = ""
    recipient: str = ""
    sender: str | None = None
    state: str = ""
    older: float | None = None
    since: float | None = None
    cause: str = ""
    only: frozenset[str] | None = None

    @property
    def empty(self) -> bool:
        return self == Selection()

    def means(self, entry: SpoolEntry, now: float) -> bool:
        if self.ids and entry.id not in self.ids and entry.message_id not in self.ids:
            return False
        if self.state and entry.state.value != self.state:
            return False
        if self.older is not None and now - entry.received_at < self.older:
            return False
        if self.since is not None and entry.received_at < self.since:
            return False
        if self.only is not None and entry.id not in self.only:
            return False
        if self.sender is not None and not _fits(self.sender, written(entry.sender)):
            return False
        if self.domain and self.domain != entry.domain and not any(
            recipient.address.domain == self.domain for recipient in entry.recipients
        ):
            return False
        return not self.recipient or any(_fits(self.recipient, str(r.address)) for r in entry.recipients)


def _sort(entries: Sequence[SpoolEntry], ordered: list[SpoolEntry]) -> Iterator[None]:
    """Puts the entries into ``ordered``, the oldest first, a part of the work at each step."""
    key = attrgetter("received_at")
    for start in range(0, len(entries), SORTED):
        if start:
            yield
        ordered += sorted(entries[start : start + SORTED], key=key)
    # Runs that are sorted already are only merged.
    ordered.sort(key=key)


def _fits(wanted: str, address: str) -> bool:
    """Addresses compared without case; a leading ``*@`` or ``@`` means a whole domain."""
    wanted, address = wanted.lower(), address.lower()
    if wanted.startswith(("*@", "@")):
        return bool(address) and address.rpartition("@")[2] == wanted.rpartition("@")[2]
    return wanted == address


def selection(arguments: Mapping[str, Any]) -> Selection:
    """Raises NotUnderstood on what no query can hold."""
    known = {"ids", "domain", "recipient", "sender", "state", "older", "since", "cause", "dry_run"}
    if unknown := sorted(set(arguments) - known):
        raise NotUnderstood(f"a query has no {unknown[0]!r}")
    ids, older, since = arguments.get("ids") or [], arguments.get("older"), arguments.get("since")
    if not isinstance(ids, list) or not all(isinstance(id, str) and id for id in ids):
        raise NotUnderstood("ids must be a list of words")
    if older is not None and (isinstance(older, bool) or not isinstance(older, int | float)):
        raise NotUnderstood("older must be a number of seconds")
    if since is not None and (isinstance(since, bool) or not isinstance(since, int | float)):
        raise NotUnderstood("since must be an instant in seconds since the epoch")
    texts: dict[str, str | None] = {}
    for name in ("domain", "recipient", "sender", "state", "cause"):
        texts[name] = arguments.get(name)
        if texts[name] is not None and not isinstance(texts[name], str):
            raise NotUnderstood(f"{name} must be text")
    state = texts["state"] or ""
    if state and state not in set(State):
        raise NotUnderstood(f"no state is called {state!r}: it is one of {', '.join(State)}")
    sender = texts["sender"]
    return Selection(
        frozenset(id.lower() for id in ids),
        a_label((texts["domain"] or "").lower().rstrip(".")),
        texts["recipient"] or "",
        "" if sender == "<>" else sender,
        state,
        older,
        since,
        (texts["cause"] or "").lower(),
    )


def a_label(domain: str) -> str:
    """Entries know domains as A-labels; an operator may write what people read."""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise NotUnderstood(f"{domain!r} is no domain name: {error}") from error


class Operations:
    """``deliveries`` is None when the gateway is stopped. ``facts`` adds to ``status`` what only the assembly knows:
    workers, connections, the health of services. ``nouns`` are further things to operate on, by name, or do what is not
    done to entries. ``paused``: whether nothing of a domain is delivered now. ``notices`` counts those of a running
    gateway."""

    def __init__(
        self,
        spool: Spool,
        deliveries: DeliveryService | None,
        journal: Journal,
        clock: Clock,
        settings: Settings,
        facts: Callable[[], Mapping[str, Any]] = dict,
        nouns: Mapping[str, Noun] | None = None,
        paused: Callable[[str], bool] = lambda domain: False,
        chance: Chance | None = None,
        notices: NoticeLimit | None = None,
    ) -> None:
        self._spool = spool
        self._deliveries = deliveries
        self._journal = journal
        self._clock = clock
        self.settings = settings
        self._notices = notices or NoticeLimit(lambda: self.settings, clock, journal)
        self._facts = facts
        self._nouns = nouns or {}
        self._paused = paused
        self._chance = chance or SystemChance()
        self._contents = BodyContents(settings.gateway.data)

    async def perform(self, operation: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[Told]:
        """``operation`` is a noun and a verb, ``spool.list``. The rows may be made while they are read.

        Raises NotUnderstood for what cannot be asked, and Unavailable when the disk says so.
        """
        self._journal.record("asked", "", {"operation": operation, "asked_by": asked_by, **arguments}, level="debug")
        if operation == "status":
            return [self.status()]
        noun, _, verb = operation.partition(".")
        if noun in self._nouns:
            rows = await self._nouns[noun].perform(verb, arguments, asked_by)
            if rows is not None:
                return rows
        if noun not in ("spool", "quarantine"):
            raise NotUnderstood(f"no operation is called {operation!r}")
        quarantine = noun == "quarantine"
        dry_run = bool(arguments.get("dry_run"))
        told = dict(arguments)
        exact = bool(told.pop("exact", False)) if operation == "spool.export" else False
        priority = told.pop("priority", None) if operation == "spool.priority" else None
        limit = told.pop("limit", None) if verb == "list" else None
        columns = bool(told.pop("columns", False)) if verb == "list" else False
        query = selection(told)
        if query.cause:
            query = await self._caused(query, quarantine)
        if verb == "list":
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
                raise NotUnderstood("limit must be a whole number, 1 or more")
            return self.list(query, quarantine, limit, columns)
        if verb == "show":
            return await self.show(query, quarantine, asked_by)
        if verb == "export" and not quarantine:
            if query.empty:
                raise NotUnderstood("spool export needs ids or a query; nothing was done")
            if exact:
                query = replace(query, ids=frozenset(), only=query.ids)
            return await self.export(query, asked_by, dry_run)
        changes: dict[str, _Changing] = {"release": self.release, "delete": self.delete}
        if not quarantine:
            changes |= {
                "force": self.force,
                "reset-retries": self.reset_retries,
                "hold": self.hold,
                "bounce": self.bounce,
                "priority": self._prioritising(priority),
            }
        if verb not in changes:
            raise NotUnderstood(f"no operation is called {operation!r}")
        if query.empty:
            raise NotUnderstood(f"{noun} {verb} needs ids or a query; nothing was done")
        if verb == "priority" and not _is_priority(priority):
            raise NotUnderstood(f"priority is a whole number from {LOWEST} to {HIGHEST}; nothing was done")
        return await changes[verb](query, quarantine, asked_by, dry_run)

    # --- looking ------------------------------------------------------------------------------------------------------

    def list(
        self, query: Selection, quarantine: bool = False, limit: int | None = None, columns: bool = False
    ) -> Iterator[Told]:
        """The oldest first, at most ``limit`` of them. ``columns``: many of them as one row of columns, for a table."""
        now = self._clock.now()
        listing = Listing(self.settings, now)
        everything = query.empty and not quarantine
        left = limit if limit is not None else sys.maxsize
        entries: list[SpoolEntry] = []
        yield from _sort(self._spool.entries(), entries)
        for start in range(0, len(entries), TURN):
            some: Sequence[SpoolEntry] = entries[start : start + TURN]
            if not everything:
                some = [entry for entry in some if self._is_meant(entry, query, quarantine, now)]
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
        told: Row = loads(Listing(self.settings, now).row(entry))
        return told

    async def show(self, query: Selection, quarantine: bool, asked_by: str) -> Iterable[Row]:
        """Metadata, header fields and the beginning of the body. Only by id: mail is read one at a time."""
        if not query.ids:
            raise NotUnderstood("show needs ids")
        told = []
        for entry in await self._meant(query, quarantine):
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

    async def export(self, query: Selection, asked_by: str, dry_run: bool) -> Iterable[Row]:
        """Messages as they would be transmitted: for each a row with ``id``, ``message_id`` and ``size``, then rows
        with its ``id`` and a ``part`` of it in base64; ``damaged`` in place of both when it cannot be read. A dry run
        has the first row of each alone."""
        told: list[Iterable[Row]] = []
        meant = await self._meant(query, False)
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

    def status(self) -> Row:
        """One process. ``spool`` counts entries by state; ``primaries`` is empty when the gateway is stopped, or none
        has been spoken to yet."""
        states = {state.value: 0 for state in State}
        octets = 0
        now = oldest = self._clock.now()
        for entry in self._spool.entries():
            states[entry.state.value] += 1
            octets += entry.size
            oldest = min(oldest, entry.received_at)
        delivery = {} if self._deliveries is None else dict(self._deliveries.status())
        hosts = delivery.pop("hosts", {})
        return {
            "running": self._deliveries is not None,
            "spool": states,
            "spool_octets": octets,
            "oldest_seconds": max(0.0, round(now - oldest, 3)),
            "free_octets": self._spool.free_octets(),
            "primaries": [{"host": host, **health} for host, health in hosts.items()],
            "settings": self.settings.fingerprint,
            **delivery,
            **self._facts(),
        }

    # --- changing -----------------------------------------------------------------------------------------------------

    async def force(self, query: Selection, quarantine: bool, asked_by: str, dry_run: bool) -> Iterable[Told]:
        """Makes the next attempt now. Only of what is delivered at all: ACTIVE."""

        def due(entry: SpoolEntry, now: float) -> SpoolEntry | str:
            if entry.state is not State.ACTIVE:
                return _not_active(entry)
            if self._paused(entry.domain):
                return "is of a domain whose deliveries are paused; resume them first"
            # While deliveries run an active entry is theirs: what they are just writing of it must not be undone.
            return entry if self._deliveries is not None else replace(entry, next_attempt_at=now)

        return await self._change(query, quarantine, asked_by, dry_run, "forced", due)

    async def release(self, query: Selection, quarantine: bool, asked_by: str, dry_run: bool) -> Iterable[Told]:
        """Sends on what a level's action or a lost delivery had stopped, by a schedule begun anew."""

        def freed(entry: SpoolEntry, now: float) -> SpoolEntry | str:
            if entry.state is State.ACTIVE:
                return "is not held"
            if entry.state is State.QUARANTINED and not quarantine:
                return "is quarantined; use quarantine release"
            return replace(
                entry,
                state=State.ACTIVE,
                cause="",
                next_attempt_at=now,
                expires_at=None,
                slots_used=0,
                recipients=tuple(
                    replace(recipient, status=Status.PENDING) if recipient.status is Status.FAILED else recipient
                    for recipient in entry.recipients
                ),
            )

        return await self._change(query, quarantine, asked_by, dry_run, "released", freed)

    async def delete(self, query: Selection, quarantine: bool, asked_by: str, dry_run: bool) -> Iterable[Told]:
        """Gone for good; nobody is notified."""
        return await self._change(query, quarantine, asked_by, dry_run, "deleted", lambda entry, now: None)

    async def reset_retries(self, query: Selection, quarantine: bool, asked_by: str, dry_run: bool) -> Iterable[Told]:
        """Begins the schedule anew: all counts are zero, and the first attempt is now."""

        def fresh(entry: SpoolEntry, now: float) -> SpoolEntry | str:
            if entry.state is not State.ACTIVE:
                return _not_active(entry)
            return replace(
                entry,
                cause="",
                attempts=0,
                slots_used=0,
                dns_errors=0,
                next_attempt_at=now,
                recipients=tuple(replace(recipient, attempts=0) for recipient in entry.recipients),
            )

        return await self._change(query, quarantine, asked_by, dry_run, "retries_reset", fresh, aside=True)

    async def hold(self, query: Selection, quarantine: bool, asked_by: str, dry_run: bool) -> Iterable[Told]:
        """Keeps mail from being delivered until it is released, however long that takes."""

        def kept(entry: SpoolEntry, now: float) -> SpoolEntry | str:
            if entry.state is not State.ACTIVE:
                return f"is {entry.state.value} already"
            return replace(entry, state=State.HELD, cause=OPERATOR, next_attempt_at=None, expires_at=None)

        return await self._change(query, quarantine, asked_by, dry_run, "held", kept, aside=True)

    def _prioritising(self, priority: Any) -> _Changing:
        """Says which mail goes first: 10 before 1."""

        async def prioritise(query: Selection, quarantine: bool, asked_by: str, dry_run: bool) -> Iterable[Told]:
            return await self._change(
                query,
                quarantine,
                asked_by,
                dry_run,
                "prioritised",
                lambda entry, now: replace(entry, priority=priority),
                aside=True,
                priority=priority,
            )

        return prioritise

    async def bounce(self, query: Selection, quarantine: bool, asked_by: str, dry_run: bool) -> Iterable[Told]:
        """Gives up now: the sender is told where he may be, else the mail is held as undeliverable; mail with the null
        sender goes, for there is nobody to tell. ``outcome`` says which: bounced, held or dropped."""
        meant = [entry.id for entry in await self._meant(query, quarantine)]
        told: list[Row] = []
        for start in range(0, len(meant), NOTICES):
            aside: list[str] = []
            ends: list[GivenUp] = []
            try:
                for id in meant[start : start + NOTICES]:
                    now = self._clock.now()
                    entry = self._spool.entry(id)
                    if entry is None or not query.means(entry, now):
                        continue
                    room = self._notices.room(entry.sender)
                    outcome, reason = _END[give_up(entry, now, self.settings.delivery, room).fate or "dropped"], ""
                    why_not = _not_bounced(entry, outcome)
                    if why_not and not query.ids:
                        continue
                    if why_not:
                        outcome, reason = "skipped", why_not
                    elif dry_run:
                        reason = "dry run: nothing was done"
                    elif self._on_its_way(entry):
                        outcome, reason = "skipped", ON_ITS_WAY
                    else:
                        aside.append(id)
                        try:
                            ends.append(
                                await given_up(self._spool, entry, self.settings, now, self._new_id, self._notices)
                            )
                        except (Damaged, KeyError) as damage:
                            outcome, reason = "skipped", f"cannot be read: {damage}; delete it"
                    told.append(_outcome(entry, outcome, reason))
                # Whoever else changed one of them while contents were read goes before us.
                late = {end.entry.id for end in ends if self._spool.entry(end.entry.id) != end.entry}
                ends = [end for end in ends if end.entry.id not in late]
                for row in told:
                    if row["id"] in late:
                        row |= {"outcome": "skipped", "reason": "was changed by another command meanwhile"}
                if ends:
                    await self._end(ends, asked_by)
            finally:
                if self._deliveries is not None and aside:
                    self._deliveries.changed(aside)
        return told

    async def _end(self, ends: Sequence[GivenUp], asked_by: str) -> None:
        trouble = ""
        try:
            await self._spool.commit(change_of(ends))
        except Unavailable as error:
            trouble = error.reason
            raise
        finally:
            for end in ends:
                for fate, failed in ((end.settlement.fate, end.settlement.owed), ("dropped", end.settlement.unasked)):
                    if not failed:
                        continue
                    fields = _audit(end.entry, asked_by, trouble) | {"fate": fate}
                    fields["recipients"] = [str(recipient.address) for recipient in failed]
                    self._journal.record("failed", end.entry.message_id, fields, level="warning")
                    if fate == "held":
                        self._journal.record("held", end.entry.message_id, fields | {"cause": UNDELIVERABLE})
                if end.notice is not None:
                    notice = end.notice.entry
                    told = {
                        "entry": end.entry.id,
                        "notice": notice.id,
                        "recipients": [str(recipient.address) for recipient in notice.recipients],
                        "state": notice.state.value,
                        "cause": notice.cause,
                        "asked_by": asked_by,
                    }
                    self._journal.record("bounced", end.entry.message_id, told)
        if self._deliveries is not None:
            self._deliveries.changed([end.notice.entry.id for end in ends if end.notice is not None])

    def _new_id(self, now: float) -> str:
        return make_id(now, self._chance.token(TOKEN_LENGTH))

    async def _change(
        self,
        query: Selection,
        quarantine: bool,
        asked_by: str,
        dry_run: bool,
        event: str,
        become: Callable[[SpoolEntry, float], SpoolEntry | str | None],
        *,
        aside: bool = False,
        **facts: Any,
    ) -> Iterable[Told]:
        """``become`` says what an entry turns into: another, nothing, or a reason why it stays as it is. ``aside``:
        entries that may be on their way to a primary are changed only when they are not, so that what comes of the
        attempt and what the operator wants do not undo each other. ``facts`` go on record with each."""
        meant = [entry.id for entry in await self._meant(query, quarantine)]
        told: list[str] = []
        since = self._clock.monotonic()
        for start in range(0, len(meant), BATCH):
            if start:
                await self._turn(since)
                since = self._clock.monotonic()
            if start % FROZEN == FROZEN - BATCH:
                # What takes the place of many entries is no garbage either, and to look for it there stops mail for
                # most of a second.
                gc.collect(1)
                gc.freeze()
            now = self._clock.now()
            before: list[SpoolEntry] = []
            update: list[SpoolEntry] = []
            remove: list[str] = []
            for id in meant[start : start + BATCH]:
                # Looked at again: the commits before this one took their time, and mail goes on meanwhile.
                entry = self._spool.entry(id)
                if entry is None or not query.means(entry, now):
                    continue
                after = become(entry, now)
                if isinstance(after, str):
                    # Who names an entry hears why it stays; a query means those it can be done to.
                    if query.ids:
                        told.append(_text(_outcome(entry, "skipped", after)))
                    continue
                if aside and not dry_run and self._on_its_way(entry):
                    told.append(_text(_outcome(entry, "skipped", ON_ITS_WAY)))
                    continue
                told.append(_text(_outcome(entry, event, "" if not dry_run else "dry run: nothing was done")))
                before.append(entry)
                if after is None:
                    remove.append(entry.id)
                elif after is not entry:
                    update.append(after)
            if dry_run or not before:
                continue
            trouble = ""
            try:
                if update or remove:
                    await self._spool.commit(Change(update=tuple(update), remove=tuple(remove)))
                    since = self._clock.monotonic()
            except Unavailable as error:
                trouble = error.reason
                raise
            finally:
                # A change that could not be written is remembered until it can be, so it is on record either way.
                for entry in before:
                    self._journal.record(event, entry.message_id, _audit(entry, asked_by, trouble) | facts)
                if self._deliveries is not None:
                    tell = self._deliveries.force if event == "forced" else self._deliveries.changed
                    tell([entry.id for entry in before])
        return told

    def _on_its_way(self, entry: SpoolEntry) -> bool:
        """False: it is not, nor will it be before the delivery loop is told that it changed."""
        return self._deliveries is not None and entry.id not in self._deliveries.set_aside([entry.id])

    async def _caused(self, query: Selection, quarantine: bool) -> Selection:
        """The query with ``only`` those of which ``cause`` is true. What a level kept has no one check for its cause,
        so the stamps on the mail are asked which spoke against it."""
        only = set()
        for entry in await self._meant(query, quarantine):
            kept_by = entry.cause.lower()
            if query.cause in (kept_by, kept_by.rpartition(" ")[2]):
                only.add(entry.id)
                continue
            try:
                content = await self._spool.content(entry.id)
            except (Damaged, KeyError):
                # Nobody knows what spoke against it.
                continue
            if query.cause in checks_against(content.prefix):
                only.add(entry.id)
        return replace(query, only=frozenset(only))

    async def _meant(self, query: Selection, quarantine: bool) -> Sequence[SpoolEntry]:
        """The oldest first; found and sorted a part in a turn."""
        now = self._clock.now()
        entries = self._spool.entries()
        found: list[SpoolEntry] = []
        for start in range(0, len(entries), TURN):
            if start:
                await self._turn()
            found += [e for e in entries[start : start + TURN] if self._is_meant(e, query, quarantine, now)]
        meant: list[SpoolEntry] = []
        for _ in _sort(found, meant):
            await self._turn()
        return meant

    async def _turn(self, since: float | None = None) -> None:
        """Lets mail have its turn, for as long as we had ours ``since``: who records and writes what we do comes along,
        too. On files nobody else waits."""
        if self._deliveries is None:
            return
        turn: Deferred[None] = Deferred()
        took = 0.0 if since is None else self._clock.monotonic() - since
        self._clock.call_later(min(max(took, 0.0), TURN_SECONDS), turn.callback, None)
        await turn

    def _is_meant(self, entry: SpoolEntry, query: Selection, quarantine: bool, now: float) -> bool:
        return (not quarantine or entry.state is State.QUARANTINED) and query.means(entry, now)


def _not_active(entry: SpoolEntry) -> str:
    return f"is {entry.state.value}; release it first"


def _not_bounced(entry: SpoolEntry, outcome: str) -> str:
    """Why it cannot be given up, or nothing."""
    if entry.state not in (State.ACTIVE, State.HELD):
        return f"is {entry.state.value}; release or delete it"
    if not entry.pending:
        return "has nobody left to be delivered to; delete it"
    if outcome == "held" and entry.cause == UNDELIVERABLE:
        return "is held because its sender may not be told; release or delete it"
    return ""


def _is_priority(priority: object) -> bool:
    return isinstance(priority, int) and not isinstance(priority, bool) and LOWEST <= priority <= HIGHEST


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
        "eight_bit": entry.eight_bit,
        "utf8": entry.utf8,
    }


def _outcome(entry: SpoolEntry, outcome: str, reason: str) -> Row:
    return {
        "id": entry.id,
        "message_id": entry.message_id,
        "sender": None if entry.sender is None else str(entry.sender),
        "recipients": [str(recipient.address) for recipient in entry.recipients],
        "state": entry.state.value,
        "outcome": outcome,
        "reason": reason or None,
    }


def _audit(entry: SpoolEntry, asked_by: str, trouble: str) -> Row:
    fields = {
        "entry": entry.id,
        "asked_by": asked_by,
        "was": entry.state.value,
        "cause": entry.cause,
        "sender": written(entry.sender),
        "recipients": [str(recipient.address) for recipient in entry.recipients],
        "size": entry.size,
    }
    return fields | {"not_written_yet": trouble} if trouble else fields


def _readable(octets: bytes) -> str:
    """Text for a terminal: whatever could move its cursor or change its colours is replaced."""
    text = octets.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)
