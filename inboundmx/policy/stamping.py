"""What we write above a message.

Knows Received (RFC 5321 4.4), Authentication-Results (RFC 8601) and the X-Spam fields. Does not know how the verdict
came about. Nothing a stranger said gets out of the place it is written to, and what is signed is not touched unless an
action asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from inboundmx.model.address import Address
from inboundmx.model.custody import Content
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult
from inboundmx.model.message import Message
from inboundmx.model.session import Session
from inboundmx.model.settings import GatewaySettings, Settings
from inboundmx.model.verdict import Action, ScoreLine, Verdict, Weight, written_weight
from inboundmx.policy.editing import FIRST_FIELD, LINE_WISHED, edited, subject, suspicious

RECEIVED = "Received"
AUTHENTICATION_RESULTS = "Authentication-Results"
SPAM_LEVEL = "X-Spam-Level"
SPAM_SCORE = "X-Spam-Score"
SPAM_CHECKS = "X-Spam-Checks"

# Letters of a value that are kept, so that no line comes near the 998 of RFC 5322 2.1.1.
VALUE_LIMIT = 255
CLAUSE_LIMIT = 900

_RECEIVED = f"{RECEIVED}: from %s (%s)\r\n\tby %s with %s%s id %s%s;\r\n\t%s\r\n"
_STAMPS = (
    f"{AUTHENTICATION_RESULTS}: %s;%s\r\n"
    f"{SPAM_LEVEL}: %s\r\n{SPAM_SCORE}: %s\r\n{SPAM_CHECKS}: %s\r\n"
)
_CHECKS_FIELD = re.compile(rb"^" + SPAM_CHECKS.encode() + rb":((?:[^\r\n]|\r\n[ \t])*)", re.MULTILINE)
_DECIDING = ("reject", "defer", "quarantine")
_CHECK_TOLD = re.compile(r"([^\s=]+)=[^\s(]*\(([^)]*)\)")

# What may stand outside a comment as a host name or literal, and inside a comment.
_NOT_HOST = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_NOT_COMMENT = re.compile(r"[^!-'*-\[\]-~ ]")
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_PRINTABLE = re.compile(r"[!-~]+")

_RECEIVED_FIELD = re.compile(rb"\n(?i:received)[ \t]*:")
_HEADER_LINE = re.compile(r"[!-9;-~]+: ?[ -~]*")


def stamp(
    message: Message,
    session: Session,
    envelope: Envelope,
    verdict: Verdict,
    results: Iterable[CheckResult],
    settings: Settings,
    now: float,
    for_recipient: Address | None = None,
) -> Content:
    """The message with our fields above it, forged ones of ours taken out, and what the actions ``tag`` and ``header``
    ask for. ``for_recipient`` is named in Received: give it only for a message to that one recipient.

    Content that does not begin with a header field becomes the body, whole.
    """
    gateway = settings.gateway
    stamps = _stamps(message, session, envelope, verdict, results, gateway, now, for_recipient)
    tags: list[str] = []
    for action in verdict.actions:
        if action.verb == "tag" and action.argument:
            tags.append(action.argument)
        elif action.verb == "header":
            stamps += _added(action)
    body = message.body
    head = body.head
    if FIRST_FIELD.match(head) is None:
        added = subject(tags) if tags else b""
        return Content(stamps + added + (b"" if head.startswith(b"\r\n") else b"\r\n"), 0, body)
    end = message.header_end
    if tags or suspicious(head, end):
        before = head[:end]
        after = edited(before, our_names(gateway), tags)
        if after != before:
            return Content(stamps + after, end, body)
    return Content(stamps, 0, body)


def host_name(gateway: GatewaySettings, session: Session) -> str:
    """What we are called on the address the stranger came to."""
    return gateway.hostnames.get(session.local_ip, gateway.hostname)


def our_names(gateway: GatewaySettings) -> frozenset[str]:
    """All we are called, in small letters, without a dot at the end."""
    names = (gateway.hostname, *gateway.hostnames.values())
    return frozenset(name.lower().rstrip(".") for name in names if name)


def protocol_word(session: Session, envelope: Envelope) -> str:
    """How it was received: SMTP, ESMTP, ESMTPS, ESMTPSA ... (RFC 3848), UTF8SMTP ... (RFC 6531 4.3)."""
    if not session.extended:
        return "SMTP"
    secured = "S" if session.tls else ""
    authenticated = "A" if session.authenticated_as else ""
    return f"{'UTF8SMTP' if envelope.utf8 else 'ESMTP'}{secured}{authenticated}"


def count_received(message: Message) -> int:
    """How many hops the message has behind it (RFC 5321 6.3)."""
    head = message.body.head
    first = FIRST_FIELD.match(head)
    begun = first is not None and first[1].lower() == b"received"
    return len(_RECEIVED_FIELD.findall(head, 0, message.header_end)) + begun


def _stamps(
    message: Message,
    session: Session,
    envelope: Envelope,
    verdict: Verdict,
    results: Iterable[CheckResult],
    gateway: GatewaySettings,
    now: float,
    for_recipient: Address | None,
) -> bytes:
    clauses = [result.finding.authentication for result in results if result.finding.authentication]
    text = _STAMPS % (
        _host(host_name(gateway, session)),
        _clauses(clauses) if clauses else " none",
        verdict.level.word.upper(),
        written_weight(verdict.score.filtering),
        _checks(verdict.score.lines),
    )
    return received(message, session, envelope, gateway, now, for_recipient) + text.encode("ascii", "replace")


def received(
    message: Message,
    session: Session,
    envelope: Envelope,
    gateway: GatewaySettings,
    now: float,
    for_recipient: Address | None = None,
) -> bytes:
    """The trace field (RFC 5321 4.4) with its CRLF."""
    peer = session.peer_ip
    # A unix socket's peer has no address.
    literal = f"[IPv6:{peer}]" if ":" in peer else f"[{peer}]" if peer else "local socket"
    recipient = "" if for_recipient is None else str(for_recipient)
    text = _RECEIVED % (
        _host(session.hello),
        f"{_host(session.reverse_name)} {literal}" if session.reverse_name else literal,
        _host(host_name(gateway, session)),
        protocol_word(session, envelope),
        f" ({_NOT_COMMENT.sub('?', session.tls[:VALUE_LIMIT])})" if session.tls else "",
        message.id,
        f"\r\n\tfor <{recipient}>" if len(recipient) < 400 and _PRINTABLE.fullmatch(recipient) else "",
        _date(int(now)),
    )
    return text.encode("ascii", "replace")


@lru_cache(maxsize=16)
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


@lru_cache(maxsize=1024)
def _host(text: str) -> str:
    return _NOT_HOST.sub("?", text[:VALUE_LIMIT]) or "unknown"


def _clauses(clauses: Sequence[str]) -> str:
    return ";".join(f"\r\n\t{_NOT_PRINTABLE.sub('?', clause[:CLAUSE_LIMIT])}" for clause in clauses)


def _checks(lines: Sequence[ScoreLine]) -> str:
    """The score lines, folded: ``spamhaus=listed(15) spf=softfail(10)``."""
    if not lines:
        return "none"
    written: list[str] = []
    room = LINE_WISHED - len(SPAM_CHECKS) - 1
    for line in lines:
        word = _word(line.check, line.outcome, line.weight)
        room -= len(word) + 1
        if room < 0 and written:
            written.append("\r\n\t")
            room = LINE_WISHED - 8 - len(word)
        elif written:
            written.append(" ")
        written.append(word)
    return "".join(written)


@lru_cache(maxsize=4096)
def _word(check: str, outcome: str, weight: Weight) -> str:
    return _NOT_PRINTABLE.sub("?", str(ScoreLine(check, outcome, weight))[:VALUE_LIMIT])


def _added(action: Action) -> bytes:
    """The line of an action ``header "Name: value"``; nothing when it is no header field."""
    line = _NOT_PRINTABLE.sub("?", action.argument[:CLAUSE_LIMIT])
    return f"{line}\r\n".encode("ascii") if _HEADER_LINE.fullmatch(line) else b""


def checks_against(prefix: bytes) -> frozenset[str]:
    """The checks, in small letters, that X-Spam-Checks in the stamps of a message says spoke against it: by a weight
    above zero or one that decides."""
    field = _CHECKS_FIELD.search(prefix)
    if field is None:
        return frozenset()
    told = _CHECK_TOLD.findall(field[1].decode("ascii", "replace"))
    return frozenset(name.lower() for name, weight in told if weight in _DECIDING or _above_zero(weight))


def _above_zero(weight: str) -> bool:
    try:
        return float(weight) > 0
    except ValueError:
        return False
