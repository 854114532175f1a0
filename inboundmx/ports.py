"""What the inside asks of the outside: protocols, and the one exception they share. No code.

Awaitables are Twisted Deferreds (pure values, no reactor). Every port raises ``Unavailable`` for "ask again later".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from inboundmx.model.address import Address
from inboundmx.model.custody import (
    Change,
    Content,
    DeliveryAttempt,
    Handover,
    Host,
    Parcel,
    Route,
    SpoolEntry,
    Terms,
)
from inboundmx.model.envelope import Envelope
from inboundmx.model.listing import Listed
from inboundmx.model.message import Body
from inboundmx.model.reply import Replies, Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import DomainSettings

T = TypeVar("T")


class Unavailable(Exception):
    """Ask again later. ``reason`` is a short printable phrase for logs; never shown to a stranger."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StorageFull(Unavailable):
    """No room on the disk: answered 452 4.3.1 instead of 451."""


class Damaged(Exception):
    """What was stored is not what is read back: hash, length or file is wrong. The entry is parked, never delivered."""


class Timer(Protocol):
    def cancel(self) -> None:
        """Forgets the call; harmless when it has been made or cancelled already."""


class Clock(Protocol):
    def now(self) -> float:
        """Wall clock, seconds since the epoch: for dates, and for instants that must survive a restart."""

    def monotonic(self) -> float:
        """Seconds that never jump: for measuring and for waits."""

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> Timer:
        """Calls back once, after so many seconds."""


class Chance(Protocol):
    def token(self, length: int) -> str:
        """So many lower-case letters and digits that nobody can guess (32 of them are used: no i, l, o, u)."""

    def uniform(self, low: float, high: float) -> float: ...

    def shuffled(self, items: Sequence[Any]) -> list[Any]: ...


class Journal(Protocol):
    def record(self, event: str, id: str, fields: Mapping[str, object], *, level: str = "info") -> None:
        """One event: one line in the log and one row in the ledger, both from the same JSON text.

        ``event`` is a stable name (refused, handed_over, spooled, quarantined, held, discarded, delivered, deferred,
        failed, bounced, ...). ``id`` is what the stranger was told. ``level``: debug (only in the log, and only when
        detail is asked for), info, warning, error.
        """


# --- smtp asks intake -------------------------------------------------------------------------------------------------


class Draft(Protocol):
    """A body on its way in: in memory while small, in a file once large. Not yet a promise."""

    def write(self, chunk: bytes) -> None:
        """Appends octets, dot-stuffing undone. Raises StorageFull or Unavailable; then the draft is lost but ``write``
        may go on being called without effect, until the final dot."""

    def finish(self) -> Body:
        """The whole body. Raises what ``write`` raised."""

    def discard(self) -> None:
        """Removes a file that nobody took over. Harmless after ``finish``d bodies were moved into the spool."""


class Welcome(NamedTuple):
    """What is known of a client before anything was said. ``refusal``: said in place of a greeting, recorded and with
    its id already. ``strange``: it has not shown yet that it is a mail server. ``spared``: no limit on connections from
    one address, bad commands or bad recipients holds for it."""

    refusal: Reply | None
    strange: bool = True
    spared: bool = False


class Conversation(Protocol):
    """What one connection means to us; ``smtp`` calls in protocol order, one question at a time.

    Each question returns a Reply, or a coroutine or a Deferred of one, which never fails with anything the dialogue
    must know: a fault is answered 451 by the caller. ``smtp`` has settled syntax, order and its own limits before it
    asks.
    """

    def arriving(self) -> Welcome:
        """Asked first, and answered at once. After a refusal nothing but ``closed`` is called."""

    def connected(self, early: bool = False) -> Awaitable[Reply]:
        """The greeting (220) or a refusal (421, 554: closes). ``early``: the client has spoken before it."""

    def hello(self, session: Session) -> Awaitable[Reply]:
        """EHLO or HELO was given; ``session`` has the new facts. The positive reply's text is replaced by the
        dialogue's own list of extensions. Also called anew after STARTTLS."""

    def mail(self, envelope: Envelope, prdr: bool = False) -> Awaitable[Reply]:
        """``envelope`` has no recipients yet. ``prdr``: the client takes an answer for each recipient after the final
        dot."""

    def recipient(self, address: Address, notify: str = "", original: str = "") -> Awaitable[Reply]:
        """``notify`` and ``original``: NOTIFY and ORCPT as they were said."""

    def data(self) -> Awaitable[Reply]:
        """354 to go on, or a refusal."""

    def draft(self) -> Draft:
        """Where the content goes after 354."""

    def content(self, body: Body) -> Awaitable[Reply | Replies]:
        """The final dot has come and nothing was wrong with the content: the answer to it; with PRDR where the
        recipients do not all get the same one, an answer for each time one was accepted."""

    def client(self) -> Session:
        """What is known of the client by now."""

    def refused(self, verb: str, reply: Reply) -> Reply:
        """The dialogue itself refuses ``verb`` with ``reply`` (syntax, order, limits, content): lets the conversation
        record it and returns the reply with the id as its last word."""

    def reset(self) -> None:
        """RSET, a new EHLO, or the transaction is over: sender, recipients and draft are forgotten."""

    def closed(self, reason: str) -> None:
        """The connection is gone: ``quit``, ``lost``, ``timeout``, ``limit`` or ``stopping``; or ``renamed``:
        it goes on, and is somebody else's (XCLIENT)."""


class Authenticating(Protocol):
    """A conversation of a session that came by a submission listener, over TLS."""

    def mechanisms(self) -> tuple[str, ...]:
        """What AUTH is offered with."""

    def authenticate(self, mechanism: str, said: bytes | None) -> Awaitable[Reply]:
        """AUTH was begun, with one of ``mechanisms`` and an initial response or None; and then, without a mechanism,
        each response to a challenge: 334 with it in base64, 235, or a refusal."""


class Reception(Protocol):
    def conversation(self, session: Session) -> Conversation: ...

    def unwelcome(self, session: Session) -> Reply | None:
        """Asked where a TLS handshake would come first, of which only the client's address is known: the refusal that
        awaits it in any case, recorded. Nothing is counted; who is welcome so far has a conversation after that."""


# --- delivery asks smtp -----------------------------------------------------------------------------------------------


class Transmission(Protocol):
    """A parcel on its way out."""

    done: Deferred[DeliveryAttempt]
    """Fires once, never fails; trouble is in the attempt."""

    @property
    def dot_sent(self) -> bool:
        """Whether the final dot has been written."""

    def abandon(self) -> None:
        """Before the final dot: closes the connection, and ``done`` fires with trouble ``abandoned``. After it:
        nothing."""


class Connection(Protocol):
    """A kept-open connection to one host, past EHLO (and STARTTLS). One parcel at a time."""

    host: Host
    tls: str
    extensions: Mapping[str, str]
    gone: Deferred[None]
    """Fires once, when the connection has ended for good, whoever ended it."""

    @property
    def usable(self) -> bool:
        """Open, idle, and nothing unexpected has been heard on it."""

    def transmit(self, parcel: Parcel, *, answer_seconds: float, dot_seconds: float) -> Transmission:
        """A parcel that is a ``question`` ends with the answers to RCPT. ``answer_seconds`` bounds each wait for a
        reply, ``dot_seconds`` the one after the final dot."""

    def close(self) -> None:
        """QUIT, without waiting for the answer. Idempotent. With a parcel on its way: abandons it before the final
        dot, waits for the answer after it."""


class Refused(Exception):
    """A connection that did not come about. ``attempt_trouble`` is a word of DeliveryAttempt.trouble, ``phase`` how far
    it came, ``reply`` what the host said, if anything."""

    def __init__(self, trouble: str, phase: str, reply: Reply | None, detail: str) -> None:
        super().__init__(detail)
        self.trouble = trouble
        self.phase = phase
        self.reply = reply
        self.detail = detail


class Transmitter(Protocol):
    def connect(self, host: Host, *, terms: Terms, seconds: float, source: str = "") -> Deferred[Connection]:
        """Opens a connection up to the answer to EHLO, with TLS and authentication as the terms ask. ``seconds`` bounds
        the whole; ``source`` is the address to connect from, empty: the system's choice. Fails with ``Refused``.
        Cancelling closes it."""


# --- custody ----------------------------------------------------------------------------------------------------------


class Spool(Protocol):
    """The promise. Every method but ``commit`` and ``content`` reads what is in memory."""

    def commit(self, change: Change) -> Deferred[None]:
        """Fires when the change is on the disk for good (synced), all of it or none. Fails with StorageFull or
        Unavailable; then nothing of it is kept, and an entry that was to be updated or removed is remembered as it
        should be until it can be written. ``entries`` shows the change once it fired."""

    def remove_soon(self, id: str) -> None:
        """Forgets a delivered entry: at once in memory, on disk within 200 ms or so. A crash in between
        makes an explained duplicate, never a loss."""

    def entries(self) -> Sequence[SpoolEntry]: ...

    def entry(self, id: str) -> SpoolEntry | None: ...

    def content(self, id: str) -> Deferred[Content]:
        """What to transmit, its hash checked. Fails with Damaged, KeyError (no such entry) or Unavailable."""

    def free_octets(self) -> int:
        """Room left on the disk, as of the last second or so."""


class Bodies(Protocol):
    def draft(self, id: str) -> Draft: ...


# --- what checks ask --------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What DNS says of a name and a type. ``rows``: A and AAAA and PTR and CNAME as text (names in lower case, without
    the last dot), MX as (preference, name), TXT as the joined octets of one record; in the order they came.
    No rows and ``exists``: the name is there, without such data. Not ``exists``: there is no such name (NXDOMAIN).
    """

    rows: tuple[Any, ...]
    exists: bool = True


class Resolver(Protocol):
    async def look_up(self, name: str, type: str) -> Answer:
        """``type`` is A, AAAA, MX, TXT, PTR, CNAME, NS or SOA; ``name`` is text, A-labels. Answers at once, without
        suspending, from the cache. Raises Unavailable when no server gave a proper answer in time: SERVFAIL, refused,
        silence, garbage; a name that cannot be asked for (too long, empty label) is an Answer that does not exist."""


class Fact(NamedTuple):
    """What is remembered under a key: a few numbers, when it was written, and when it may be forgotten (both seconds
    since the epoch)."""

    values: tuple[float, ...]
    written_at: float
    expires_at: float


class StateStore(Protocol):
    """Facts we may forget: losing them costs delay, never mail. Shared by all processes of a gateway."""

    async def get(self, space: str, key: str) -> Fact | None:
        """None when never written, forgotten or expired. Raises Unavailable."""

    def put(self, space: str, key: str, fact: Fact) -> None:
        """Read back at once by this process; on the disk, and so for others, within a fraction of a second."""

    def add(self, space: str, key: str, amount: float, window_seconds: float) -> float:
        """Counts: adds to what was counted in the window under way, which begins with the first addition and lasts so
        long; the total in it. What other processes add is in it within a fraction of a second. Read as a fact, a
        counter is its total, the beginning and the end of its window. Raises Unavailable when it cannot be counted."""

    def forget(self, space: str, *matching: str) -> Deferred[int]:
        """Forgets keys that contain any of ``matching`` literally; fires with how many. Whatever other processes wrote
        is then read anew."""

    def facts(
        self, space: str, matching: str, limit: int, numbers: int | None = None
    ) -> Deferred[Sequence[tuple[str, Fact]]]:
        """Keys that contain ``matching`` literally, newest first; those alone whose facts have so many ``numbers``."""


class Lists(Protocol):
    """Who stands on the operator's lists: those of the INI, and those that were added since. Only looks into memory,
    and costs some microseconds however long the lists are."""

    def whitelisted(self, ip: str, for_: str) -> bool:
        """``for_`` is smtp, spam or greylisting: three kinds of trust, of which none implies another. ``ip`` as in
        Session; what is no address, such as the peer of a local socket, is on no list."""

    def blacklisted(self, ip: str) -> str:
        """The entry as text, its reason and author with it, for logs; empty when there is none. Whoever is
        whitelisted for smtp is not refused for it: that is for the caller to ask first."""

    def bypasses(self, ip: str) -> bool:
        """Whether it is one of the gateways through which mail of others comes to us."""

    def sender(self, address: Address | None, authenticated: Collection[str]) -> str:
        """``blocked``, ``trusted`` or empty. ``authenticated`` are the domains that are known to be those they say:
        they passed SPF or DKIM. A sender is blocked whether it is authenticated or not, and also when all senders of
        an authenticated domain are blocked; it is trusted only when its own domain is authenticated."""

    def sender_entry(self, address: Address | None, authenticated: Collection[str]) -> Listed | None:
        """The entry behind what ``sender`` says."""


class UserBase(Protocol):
    """Those who may authenticate."""

    def ask(self, work: Callable[[Any], T]) -> Deferred[T]:
        """What ``work`` says of the users as they are now, in a thread. Fails with Unavailable."""


class Offload(Protocol):
    def run(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        """Runs in one of few threads. Fails with Unavailable when too many wait already, else with what it raises."""


class Contents(Protocol):
    def whole(self, body: Body) -> bytes:
        """All octets of a body, read from its file if it is a large one: blocks, so only to be called in Offload.
        Raises Unavailable."""

    def part(self, body: Body, start: int, octets: int) -> bytes:
        """At most so many octets of a large body from ``start`` on, none at its end. Blocks and raises as ``whole``."""


class VirusScanner(Protocol):
    async def scan(self, body: Body) -> str:
        """The name of what was found, empty when clean. Raises Unavailable, and TooLarge when it was not looked at."""


class TooLarge(Exception):
    """More octets than the service takes: an outcome of its own, neither clean nor unavailable."""


# No spam score is further from 0: what says more is not believed.
SPAM_SCORE_LIMIT = 10_000.0


class SpamScorer(Protocol):
    async def score(self, body: Body, prefix: bytes) -> tuple[float, tuple[str, ...]]:
        """The service's own score, within SPAM_SCORE_LIMIT, and the names of the rules that hit. ``prefix``: header
        fields of ours put before the message. Raises Unavailable, and TooLarge when it was not looked at."""


class MessageScorer(Protocol):
    async def score(self, body: Body, facts: Sequence[tuple[str, str]]) -> tuple[float, tuple[str, ...]]:
        """As a SpamScorer; ``facts`` are what the service is told of client and envelope, by its names for them."""


class Ran(NamedTuple):
    """How a program ended: its exit status, less than 0 the number of the signal that ended it; the beginning of what
    it ``said``; the beginning of its copy of the message as it left it."""

    status: int
    said: str
    copy: bytes


class Program(Protocol):
    async def run(self, body: Body, prefix: bytes, words: Mapping[str, str], field: str) -> Ran:
        """Runs it about a copy of the message, with ``prefix`` on top and without the header fields named ``field``.
        ``words`` (beside ``filepath``, where the copy is) are what its arguments may name. Raises Unavailable: it could
        not be started, or did not end in time, or was not asked. Cancelled, it is killed."""


class Scanners(Protocol):
    """Makes clients of scanning services; they live as long as the check that asked for them. ``servers`` are client
    endpoints, asked in order until one answers; ``seconds`` is the time the check has, queueing and all tries included;
    ``at_once`` bounds what one server is asked at the same time."""

    def viruses(self, servers: Sequence[str], max_size: int, seconds: float) -> VirusScanner: ...

    def spam(
        self, servers: Sequence[str], max_size: int, attempts: int, at_once: int, seconds: float
    ) -> SpamScorer: ...

    def rspamd(
        self, servers: Sequence[str], max_size: int, attempts: int, at_once: int, seconds: float, password: str
    ) -> MessageScorer: ...

    def program(self, argv: Sequence[str], at_once: int, seconds: float) -> Program: ...


class MacroReader(Protocol):
    def read(self, octets: bytes, seconds: float) -> tuple[str, ...]:
        """What is suspicious in the macros of an Office document, in words of whoever reads it; nothing of the kind:
        empty. Blocks for so many seconds at most, so only to be called in Offload. Raises Unavailable."""


class Learned(Protocol):
    """From how many messages of each kind words were learned."""

    @property
    def spam(self) -> int: ...

    @property
    def ham(self) -> int: ...

    def counts(self, words: Iterable[str]) -> list[tuple[int, int]]:
        """Of each word that is known, in how many messages of spam and of ham it was. About a microsecond each."""


class Vocabulary(Protocol):
    """What was learned from mail that people called spam or ham; the same for all processes of a gateway."""

    async def learned(self) -> Learned | None:
        """Answers at once, without suspending, but for a moment every few seconds. None: nothing was ever learned.
        Raises Unavailable."""


class Health(Protocol):
    """How the services we ask are doing, for ``status``."""

    def noted(self, service: str, well: bool, detail: str) -> None:
        """``service`` as an operator knows it: "zen.spamhaus.org", "clamd /run/clamav/clamd.ctl"."""


class Hand(Protocol):
    """Notes what is being worked on, for whoever wants to know what a process died of. Costs next to nothing."""

    def take(self, id: str) -> None: ...

    def drop(self, id: str) -> None:
        """Harmless when it was not taken."""


# --- who exists -------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """Whether a recipient exists: ``exists``, ``unknown``, ``undetermined`` (who was asked gave no proper answer),
    ``unreachable`` (who would have to be asked is not there), or ``unasked`` (there is nobody to ask). ``detail`` says
    who says so, for people."""

    word: str
    detail: str


class Directory(Protocol):
    async def who(self, address: Address, domain: DomainSettings) -> Known:
        """Raises nothing."""


class Sources(Protocol):
    """Lists of recipients that others keep: files, web services, LDAP servers."""

    async def holds(self, source: str, address: Address, domain: DomainSettings) -> bool:
        """``source`` as ``recipients`` of ``domain`` names it. Raises Unavailable."""


class Primaries(Protocol):
    async def ask(self, recipient: Address, route: Route) -> DeliveryAttempt | None:
        """A question: MAIL with the null sender and RCPT, never DATA. None: no host of the route is there. Cancelled,
        it lets go of its connection."""

    def down(self, route: Route) -> bool:
        """Whether it is known that no host of the route is there."""


# --- delivery, as intake sees it --------------------------------------------------------------------------------------


class Unheard(CancelledError):
    """The stranger hung up after the final dot had gone to the primary: the message may arrive, and nobody was told.
    ``late`` fires with the DeliveryAttempt when the answer comes or never will."""

    def __init__(self, late: Deferred[DeliveryAttempt]) -> None:
        super().__init__()
        self.late = late


class NoRoute(Exception):
    """Mail to this domain goes nowhere, for good: ``reply`` is the 5xx that says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Routes(Protocol):
    async def find(self, domain: DomainSettings, sender: Address | None = None, priority: int = 5) -> Route:
        """Where mail of ``domain`` goes now, looked up anew: at its primaries, by its MX set (RFC 5321 5.1, 7505), at
        both (``via`` is ``backup``), or by an outbound gateway, which may depend on the sender and the priority.
        Answers at once, without suspending, where no name need be looked up. Raises NoRoute, and Unavailable when the
        DNS does not answer."""


class Archive(Protocol):
    def keep(self, entry: SpoolEntry, content: Content) -> Deferred[str]:
        """Writes a copy to the archive named ``entry.domain``, synced; the same entry twice makes one copy. Fires with
        its path. Fails with Unavailable, and with Damaged when the content cannot be read whole."""


class Courier(Protocol):
    def hand_over(self, parcel: Parcel, route: Route) -> Awaitable[Handover]:
        """Tries to give the parcel to a primary while the stranger waits, within the domain's deadline. Cancelled, it
        raises Unheard when the final dot was sent."""

    def unable(self, route: Route, size: int, utf8: bool) -> Reply | None:
        """552 5.3.4 or 553 5.6.7 when every host of the route, fallbacks included, is down and could not take a message
        of so many octets (0: unknown), or SMTPUTF8, when it was last heard. Only a look into memory."""


class Deliveries(Protocol):
    """The loop that delivers what the spool holds, as seen by whoever puts something into it."""

    def deposited(self, entries: Sequence[SpoolEntry]) -> None:
        """These were just committed."""

    def foreseen(self, entry: SpoolEntry, route: Route) -> tuple[SpoolEntry, Callable[[], None]] | None:
        """When the first attempt of what is to be committed is known to find nobody, because somebody has just tried:
        the entry as that attempt leaves it, and what is to be called in place of ``deposited`` once it is committed so.
        None: it has to be tried."""

    def claimed(self, entry: SpoolEntry, late: Deferred[DeliveryAttempt]) -> None:
        """This was committed while a transmission of it still waits for the answer to its final dot."""
