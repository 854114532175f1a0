"""What we write above a message, and the forgeries we take out of it.

Knows Received (RFC 5321 4.4), Authentication-Results (RFC 8601), the X-Spam fields and how a header section is edited.
Does not know how the verdict came about. Nothing a stranger said gets out of the place it is written to, and what is
signed is not touched unless an action asks for it.
"""

from __future__ import annotations

import re
from base64 import b64encode
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

RECEIVED = "Received"
AUTHENTICATION_RESULTS = "Authentication-Results"
SPAM_LEVEL = "X-Spam-Level"
SPAM_SCORE = "X-Spam-Score"
SPAM_CHECKS = "X-Spam-Checks"

# Letters of a value that are kept, so that no line comes near the 998 of RFC 5322 2.1.1.
VALUE_LIMIT = 255
CLAUSE_LIMIT = 900
TAG_LIMIT = 100
AUTHSERV_LIMIT = 8 * 1024
LINE_WISHED = 78

_STAMPS = (
    f"{RECEIVED}: from %s (%s)\r\n\tby %s with %s%s id %s%s;\r\n\t%s\r\n"
    f"{AUTHENTICATION_RESULTS}: %s;%s\r\n"
    f"{SPAM_LEVEL}: %s\r\n{SPAM_SCORE}: %s\r\n{SPAM_CHECKS}: %s\r\n"
)

# What may stand outside a comment as a host name or literal, and inside a comment.
_NOT_HOST = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_NOT_COMMENT = re.compile(r"[^!-'*-\[\]-~ ]")
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_PRINTABLE = re.compile(r"[!-~]+")

_RECEIVED_FIELD = re.compile(rb"\n(?i:received)[ \t]*:")
_FIRST_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
# A line feed before the name makes this search a fast one; the first field is looked at alone.
_SUSPECT = re.compile(rb"\n(?i:authentication-results|x-spam-(?:level|score|checks))[ \t]*:")
_SUSPECTS = frozenset((b"authentication-results", b"x-spam-level", b"x-spam-score", b"x-spam-checks"))
_EDITABLE = re.compile(
    rb"^(authentication-results|x-spam-(?:level|score|checks)|subject)[ \t]*:"
    rb"([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?:\r\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_AUTHSERV_TOKEN = re.compile(r"[^\s()<>@,;:\\\"/\[\]?=]+")
_AUTHSERV_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
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
    stamps = _stamps(message, session, envelope, verdict, results, settings.gateway, now, for_recipient)
    body = message.body
    head = body.head
    first = _FIRST_FIELD.match(head)
    tags: list[str] = []
    for action in verdict.actions:
        if action.verb == "tag" and action.argument:
            tags.append(action.argument)
        elif action.verb == "header":
            stamps += _added(action)
    if first is None:
        if tags:
            stamps += _subject(b"", tags)
        return Content(stamps if head.startswith(b"\r\n") else stamps + b"\r\n", 0, body)
    end = message.header_end
    if not tags and first[1].lower() not in _SUSPECTS and _SUSPECT.search(head, 0, end) is None:
        return Content(stamps, 0, body)
    return _edited(message, stamps, tags, settings.gateway)


def host_name(gateway: GatewaySettings, session: Session) -> str:
    """What we are called on the address the stranger came to."""
    return gateway.hostnames.get(session.local_ip, gateway.hostname)


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
    first = _FIRST_FIELD.match(head)
    begun = first is not None and first[1].lower() == b"received"
    return len(_RECEIVED_FIELD.findall(head, 0, message.header_end)) + begun


# --- our own fields ---------------------------------------------------------------------------------------------------


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
    name = _host(host_name(gateway, session))
    peer = session.peer_ip
    literal = f"[IPv6:{peer}]" if ":" in peer else f"[{peer}]"
    recipient = "" if for_recipient is None else str(for_recipient)
    text = _STAMPS % (
        _host(session.hello),
        f"{_host(session.reverse_name)} {literal}" if session.reverse_name else literal,
        name,
        protocol_word(session, envelope),
        f" ({_NOT_COMMENT.sub('?', session.tls[:VALUE_LIMIT])})" if session.tls else "",
        message.id,
        f"\r\n\tfor <{recipient}>" if len(recipient) < 400 and _PRINTABLE.fullmatch(recipient) else "",
        _date(int(now)),
        name,
        _clauses(clauses) if clauses else " none",
        verdict.level.name,
        written_weight(verdict.score.filtering),
        _checks(verdict.score.lines),
    )
    return text.encode("ascii", "replace")


@lru_cache(maxsize=16)
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


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


# --- the sender's fields ----------------------------------------------------------------------------------------------


def _edited(message: Message, stamps: bytes, tags: Sequence[str], gateway: GatewaySettings) -> Content:
    """The header section written anew without forgeries, and with the tags in every Subject."""
    ours = (gateway.hostname, *gateway.hostnames.values())
    names = frozenset(name.lower().rstrip(".") for name in ours if name)
    subjects = 0

    def edit(match: re.Match[bytes]) -> bytes:
        nonlocal subjects
        name = match[1].lower()
        if name == b"subject":
            subjects += 1
            return _subject(match[2], tags, match[0]) if tags else match[0]
        if name == b"authentication-results" and not _forged(match[2], names):
            return match[0]
        return b""

    end = message.header_end
    section = message.body.head[:end]
    edited = _EDITABLE.sub(edit, section)
    if tags and not subjects:
        stamps += _subject(b"", tags)
    if edited == section:
        return Content(stamps, 0, message.body)
    return Content(stamps + edited, end, message.body)


def _subject(value: bytes, tags: Sequence[str], whole: bytes = b"") -> bytes:
    """A Subject with the tags before its value, which is kept as it is, folds and encoded words included. ``whole`` is
    the field as it was, given back when it begins with the tags already."""
    text = " ".join(tags)
    shown = value.strip()
    tag = _tag(text)
    # Between two encoded words a space is not shown (RFC 2047 6.2), so it goes into the first.
    spaced = _tag(f"{text} ")
    if whole and shown.startswith((tag, spaced)):
        return whole
    if shown.startswith(b"=?") and not text.isascii():
        tag = spaced
    if not shown:
        return b"Subject: %b\r\n" % tag
    kept = value.rstrip()
    if not kept.startswith((b" ", b"\t", b"\r\n")):
        kept = b" " + kept
    line = kept.partition(b"\r\n")[0]
    fold = b"\r\n" if line.strip() and len("Subject: ") + len(tag) + len(line) > LINE_WISHED else b""
    return b"Subject: %b%b%b\r\n" % (tag, fold, kept)


def _tag(text: str) -> bytes:
    """ASCII as it is; anything else as encoded words, each of at most 75 letters."""
    clean = "".join(sign if sign.isprintable() else "?" for sign in text[:TAG_LIMIT])
    if clean.isascii():
        return clean.encode("ascii")
    pieces = (clean[at : at + 10].encode("utf-8", "replace") for at in range(0, len(clean), 10))
    return b" ".join(b"=?utf-8?B?%b?=" % b64encode(piece) for piece in pieces)


def _forged(value: bytes, names: frozenset[str]) -> bool:
    """Whether an Authentication-Results that came from outside speaks in one of our names (RFC 8601 5)."""
    text = value[:AUTHSERV_LIMIT].replace(b"\r\n", b"").decode("utf-8", "replace")
    at = _past_comments(text)
    quoted = _AUTHSERV_QUOTED.match(text, at)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1]).strip().lower().rstrip(".") in names
    token = _AUTHSERV_TOKEN.match(text, at)
    if token is not None:
        return token[0].lower().rstrip(".") in names
    # Nobody knows what others make of it: it is theirs as long as it does not speak of us.
    lowered = text.lower()
    return any(name in lowered for name in names)


def _past_comments(text: str) -> int:
    """Where white space and comments at the start end (RFC 5322 3.2.2); the end of the text when a comment does not."""
    depth = 0
    at = 0
    while at < len(text):
        sign = text[at]
        if depth and sign == "\\":
            at += 1
        elif sign == "(":
            depth += 1
        elif depth and sign == ")":
            depth -= 1
        elif not depth and not sign.isspace():
            return at
        at += 1
    return len(text)
