"""What we hold, for whom, and how its delivery went."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import field
from typing import Any

from inboundmx.model.address import Address
from inboundmx.model.message import Body
from inboundmx.model.record import record
from inboundmx.model.reply import Reply


class Status(enum.StrEnum):
    """What became of one recipient. All but PENDING are final."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISCARDED = "discarded"


class State(enum.StrEnum):
    """What becomes of an entry. Only ACTIVE ones are delivered."""

    ACTIVE = "active"
    HELD = "held"
    QUARANTINED = "quarantined"
    EXPIRED = "expired"


@record(frozen=True, slots=True)
class SpoolRecipient:
    """``last_reply`` is the last answer for this recipient, one printable line, empty before the first attempt.
    ``notify`` and ``original`` are NOTIFY and ORCPT as they were said (RFC 3461 4.1, 4.2), empty when they were not."""

    address: Address
    status: Status = Status.PENDING
    attempts: int = 0
    last_reply: str = ""
    notify: str = ""
    original: str = ""


@record(frozen=True, slots=True)
class SpoolEntry:
    """Custody of one message for recipients that share a route and stamps. Instants are seconds since the epoch.

    ``message_id`` is the id the stranger was told; ``body_id`` names the stored body, which several entries may share.
    ``domain`` is the route's key: it is looked up in the settings anew at each attempt, by ``via``: empty for a domain
    we carry mail for, ``backup`` where its MX set alone makes us its backup, ``outbound`` for mail that leaves us for
    anywhere, ``archive`` for a copy that goes to the archive of that name.
    ``slots_used`` counts slots of the retry list used up, ``attempts`` every try, ``dns_errors`` those for which no
    primary's name could be looked up.
    ``next_attempt_at`` is None unless ``state`` is ACTIVE.
    ``expires_at`` is the end of retention of what is held or quarantined, None: kept until an operator decides.
    ``may_notify``: whether the policy of ``bounce`` allows a notice to the sender, decided at reception.
    ``ret`` and ``envid`` are RET and ENVID as they were said (RFC 3461 4.3, 4.4). ``peer_ip``, ``hello`` and
    ``peer_name`` (confirmed reverse name) are the client's. ``unverified``: whether its recipients exist could not be
    asked at reception; whoever is refused later is quarantined, and nobody is sent a notice of it.
    """

    id: str
    message_id: str
    body_id: str
    received_at: float
    sender: Address | None
    recipients: tuple[SpoolRecipient, ...]
    size: int
    domain: str
    priority: int = 5
    state: State = State.ACTIVE
    cause: str = ""
    attempts: int = 0
    slots_used: int = 0
    dns_errors: int = 0
    next_attempt_at: float | None = None
    expires_at: float | None = None
    eight_bit: bool = False
    utf8: bool = False
    may_notify: bool = False
    delay_notified: bool = False
    notice: bool = False
    level: str = "none"
    peer_ip: str = ""
    hello: str = ""
    via: str = ""
    peer_name: str = ""
    ret: str = ""
    envid: str = ""
    unverified: bool = False

    @property
    def pending(self) -> tuple[SpoolRecipient, ...]:
        # Asked five times a message; by way of a list, for a generator costs 0.4 us more each time.
        return tuple([r for r in self.recipients if r.status is Status.PENDING])


@record(frozen=True, slots=True)
class Content:
    """What is transmitted: ``prefix``, then the body from octet ``skip`` on. So headers are added, replaced or removed
    by writing the header section anew into ``prefix`` and skipping the old one, and a body is never copied."""

    prefix: bytes
    skip: int
    body: Body

    @property
    def size(self) -> int:
        return len(self.prefix) + self.body.size - self.skip


@record(frozen=True, slots=True)
class Deposit:
    """A new entry with its content. Deposits with the same ``entry.body_id`` share one stored body."""

    entry: SpoolEntry
    content: Content


@record(frozen=True, slots=True)
class Change:
    """What one commit does to the spool, all of it or nothing."""

    add: tuple[Deposit, ...] = ()
    update: tuple[SpoolEntry, ...] = ()
    remove: tuple[str, ...] = ()


@record(frozen=True, slots=True)
class Host:
    """A server to deliver to. ``address`` is an IP address or a host name; ``protocol`` "smtp" or "lmtp"; ``name`` what
    an address was looked up for: the name a certificate must have, empty when the address is all that is known."""

    address: str
    port: int = 25
    protocol: str = "smtp"
    name: str = ""

    def __hash__(self) -> int:
        # Hosts and terms are looked up for each message; what tells almost all apart is enough, and that has its hash.
        return hash(self.address)

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'lmtp:' if self.protocol == 'lmtp' else ''}{shown}:{self.port}"


@record(frozen=True, slots=True)
class Terms:
    """How we speak to a host. ``tls`` as in the INI. With a ``username`` we authenticate, in the clear only when
    ``auth_without_tls``. ``sources``: our addresses to connect from, in rotation; when that fails, or none is of the
    host's family, the system chooses. ``client_facts``: ``xclient`` or ``xforward`` tells the host who the real client
    is, where it offers that; ``none`` does not."""

    tls: str = "opportunistic"
    username: str = ""
    password: str = field(default="", repr=False)
    auth_without_tls: bool = False
    sources: tuple[str, ...] = ()
    client_facts: str = "none"

    def __hash__(self) -> int:
        return hash(self.username)


@record(frozen=True, slots=True)
class Route:
    """Where mail of ``domain`` goes: ``hosts`` in the order to try, on these ``terms``. ``via`` as in SpoolEntry: with
    the domain's name it finds the settings that hold. ``fallback`` is the route taken when none of the hosts took the
    message and none refused it for good."""

    domain: str
    hosts: tuple[Host, ...]
    terms: Terms = Terms()
    via: str = ""
    fallback: Route | None = None

    def ways(self) -> Iterator[Route]:
        """The route and its fallbacks."""
        way: Route | None = self
        while way is not None:
            yield way
            way = way.fallback


@record(frozen=True, slots=True)
class Client:
    """Who brought us a message, as told to a host that trusts us (Postfix: XCLIENT, XFORWARD)."""

    ip: str = ""
    name: str = ""
    hello: str = ""


@record(frozen=True, slots=True)
class Parcel:
    """One transmission: envelope and content. ``all_or_nothing``: DATA only when every recipient was accepted, else
    RSET and the outcome tells each recipient's answer (architecture of cut-through). ``dsn`` has NOTIFY and ORCPT for
    each recipient, or is empty when nobody said anything; ``ret`` and ``envid`` as in SpoolEntry. A ``question`` is no
    message: it ends with the answers to RCPT, and nothing of its transaction is ever followed by DATA."""

    message_id: str
    sender: Address | None
    recipients: tuple[Address, ...]
    content: Content
    eight_bit: bool = False
    utf8: bool = False
    all_or_nothing: bool = False
    ret: str = ""
    envid: str = ""
    dsn: tuple[tuple[str, str], ...] = ()
    client: Client | None = None
    question: bool = False


class Phase(enum.StrEnum):
    """How far a transmission came."""

    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RECIPIENT = "rcpt"
    DATA = "data"
    DOT = "dot"


@record(frozen=True, slots=True)
class DeliveryAttempt:
    """How one transmission ended. ``phase`` is where the deciding answer came, or was waited for; ``replies`` has one
    for each recipient, trouble on the way included as a 4xx of our own making. ``trouble`` is empty when the host
    itself answered, else a word: ``refused`` (connection), ``dns`` (its name cannot be looked up), ``timeout``,
    ``lost``, ``garbage``, ``tls``, ``rejects_us`` (5xx at banner, EHLO, STARTTLS, AUTH; 521, 530, 535, 538 anywhere),
    ``unable`` (the host lacks what the message needs), ``abandoned``, ``damaged`` (the stored body could not be read
    whole; no final dot was sent), ``no_route`` (there is no way to the domain; no host has an address then),
    ``archive`` (the copy could not be written).
    ``dot_sent``: the final dot had left us, so without an answer the message may have arrived. A 2xx in ``replies``
    means delivered only where ``phase`` is DOT; then it does even beside trouble (LMTP answers for each recipient).
    ``dsn``: the host offered DSN and was told what the sender asked for, so notices of success are its duty now.
    ``offered``: there was a connection that the message was offered over, to this host or to one before it."""

    host: Host
    started_at: float
    ended_at: float
    phase: Phase
    replies: tuple[tuple[Address, Reply], ...]
    tls: str = ""
    trouble: str = ""
    dot_sent: bool = False
    dsn: bool = False
    offered: bool = True

    @property
    def delivered(self) -> bool:
        """Every recipient was accepted and the final dot answered with 2xx."""
        return not self.trouble and all(reply.positive for _, reply in self.replies)


@record(frozen=True, slots=True)
class Handover:
    """What came of trying to hand a message over while the stranger waits.

    ``kind``: ``delivered`` (the primary has it: ``reply`` is its 250), ``refused`` (the primary's definite 5xx for the
    message; a 451 of ours when it refuses all our mail), ``deferred`` (a live primary's 4xx), ``postponed`` (spool it:
    ``detail`` says why), ``uncertain`` (the final dot was sent and no answer has come within the deadline: commit it
    claimed; ``late`` fires with the DeliveryAttempt when the answer comes or never will).
    """

    kind: str
    host: Host | None = None
    reply: Reply | None = None
    detail: str = ""
    attempt: DeliveryAttempt | None = None
    late: Any = None
