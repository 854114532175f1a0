"""What a sender is told of mail that was not delivered, not yet, or as he asked (RFC 3464), and who may be told.

Knows how a notice is written, and that nothing a stranger or a primary said gets out of the line it is written to. Does
not know how a notice travels, nor when one is due.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from textwrap import wrap
from typing import Literal

from inboundmx.model.address import Address
from inboundmx.model.custody import Host, SpoolEntry, SpoolRecipient
from inboundmx.model.ip import is_ip
from inboundmx.model.settings import GatewaySettings
from inboundmx.policy.dsn import decoded, original_recipient, typed, written

# The Action of RFC 3464 2.3.3. ``relayed``: to a host that will not tell whether it delivered.
Kind = Literal["failed", "delayed", "delivered", "relayed"]

# What is returned of the header section of the message, in octets; and how large a message is returned whole.
HEADERS_LIMIT = 16 * 1024
MESSAGE_LIMIT = 64 * 1024
# What is quoted of an answer or an address, in characters: folded or not, no line comes near RFC 5322's 998.
QUOTE_LIMIT = 400
LINE_LIMIT = 900
LINE_WISHED = 76
# What no line of a message that is sent as it is may exceed (RFC 5322 2.1.1).
LINE_ALLOWED = 998

_SUBJECTS: dict[Kind, str] = {
    "failed": "Your message could not be delivered",
    "delayed": "Your message is delayed",
    "delivered": "Your message was delivered",
    "relayed": "Your message was passed on",
}
_NOT_WHOLE = (
    "Only its header section is returned: the message is too large, or has lines too long, to be returned whole."
)
_ENHANCED = re.compile(r"[245][0-9][0-9] (([245])\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")
_LINE_END = re.compile(rb"\r\n|[\r\n]")


def may_notify(bounce: str, sender: Address | None, authenticated: bool, level: str, automatic: bool) -> bool:
    """Whether the sender may be told what became of his mail (RFC 3834, RFC 5321 6.2).

    ``bounce`` as in the INI; ``authenticated``: SPF or an aligned DKIM signature passed; ``level`` is the word of the
    mail's level; ``automatic``: Auto-Submitted is there and not "no", so that programs do not answer one another.
    """
    if bounce == "never" or sender is None or level != "none" or automatic:
        return False
    return bounce == "always" or authenticated


def compose(
    kind: Kind,
    entry: SpoolEntry,
    recipients: Sequence[SpoolRecipient],
    gateway: GatewaySettings,
    now: float,
    notice_id: str,
    head: bytes,
    *,
    host: Host | None = None,
    retry_until: float | None = None,
    attempted_at: float | None = None,
    complete: bool = False,
    held: bool = False,
) -> bytes:
    """The notice as mail data, CRLF lines. It is ASCII but for addresses and parts of the original that are not; then
    it needs 8BITMIME, and SMTPUTF8 when the sender's own address is not ASCII.

    ``recipients`` are those it speaks of; ``host`` answered, if any did, at ``attempted_at``; ``retry_until`` is when a
    delayed message will be given up, ``held``: by keeping it for an operator. ``notice_id`` must be one that nobody
    could guess. ``head`` begins the original; ``complete``: it is all of it. That is returned whole when this was asked
    for and it failed (RFC 3461 4.3), else its header section, cut.
    """
    if entry.sender is None:
        raise ValueError("the null sender is never told anything")
    postmaster = _clean(gateway.postmaster or f"postmaster@{gateway.hostname}")
    utf8 = not entry.sender.ascii
    wanted = kind == "failed" and entry.ret == "FULL"
    whole = wanted and complete and _returnable(head)
    returned = head if whole else _returned(head)
    text = _text(kind, entry, recipients, gateway.hostname, postmaster, retry_until, held, wanted and not whole)
    status = _status(kind, entry, recipients, gateway.hostname, host, retry_until, attempted_at, utf8)
    boundary = f"=_{notice_id}"
    while boundary.encode() in text + status + returned:
        boundary += "_"
    parts = (
        (f"text/plain; charset={'us-ascii' if text.isascii() else 'utf-8'}", text),
        (f"message/{'global-' if utf8 else ''}delivery-status", status),
        (_returned_type(returned, whole), returned),
    )
    top = [
        f"Date: {_date(now)}",
        f"From: Mail Delivery System <{postmaster}>",
        f"To: <{_clean(str(entry.sender))}>",
        f"Subject: {_SUBJECTS[kind]}",
        f"Message-ID: <{notice_id}@{gateway.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {_encoding(text + status + returned)}",
        "",
        "This is a notice about a message, in several parts (RFC 3464).",
    ]
    line = f"\r\n--{boundary}".encode()
    return b"".join(
        (
            "\r\n".join(top).encode(),
            *(line + b"\r\n" + _part_head(content_type, content) + content for content_type, content in parts),
            line + b"--\r\n",
        )
    )


def _returnable(message: bytes) -> bool:
    """Whether it can travel inside another message as it is."""
    return len(message) <= MESSAGE_LIMIT and all(len(line) <= LINE_ALLOWED for line in message.split(b"\r\n"))


def _returned_type(returned: bytes, whole: bool) -> str:
    """Header fields that hold UTF-8 have types of their own (RFC 6532 3.7, RFC 6533 6)."""
    header_section = returned.partition(b"\r\n\r\n")[0]
    if header_section.isascii() or (whole and not _is_utf8(header_section)):
        return "message/rfc822" if whole else "text/rfc822-headers"
    return "message/global" if whole else "message/global-headers"


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _part_head(content_type: str, content: bytes) -> bytes:
    return f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {_encoding(content)}\r\n\r\n".encode("ascii")


def _encoding(content: bytes) -> str:
    return "7bit" if content.isascii() else "8bit"


def _text(
    kind: Kind,
    entry: SpoolEntry,
    recipients: Sequence[SpoolRecipient],
    hostname: str,
    postmaster: str,
    retry_until: float | None,
    held: bool,
    not_whole: bool,
) -> bytes:
    """The part that is read by people."""
    whom = "these addresses" if len(recipients) > 1 else "this address"
    if kind == "delayed":
        until = "" if retry_until is None else f" until {_date(retry_until)}"
        said = f"has not been delivered to {whom} yet:"
        end = "After that it is kept here until somebody decides about it" if held else "You will be told if it fails"
        advice = f"You do not need to send it again: delivery will be tried{until}. {end}."
    elif kind == "delivered":
        said = f"was delivered to {whom}:"
        advice = "You asked to be told. It was put into the mailbox; whether it was read is not known here."
    elif kind == "relayed":
        said = f"was passed on to the mail server of {whom}:"
        advice = "You asked to be told. That mail server does not report whether it delivers the message."
    else:
        said = f"could not be delivered to {whom}, and will not be tried again:"
        advice = "Below each address stands what the mail server said about it. "
        if any(recipient.last_reply.startswith("5") for recipient in recipients):
            advice += "Please check the address, or ask the recipient in another way."
        else:
            advice += "The mail server behind us did not take it in the time there was; please try another way."
    paragraphs = [
        [f"This is the mail system at {hostname}."],
        wrap(f"Your message, received on {_date(entry.received_at)}, {said}", LINE_WISHED),
        *(_about(recipient, _room(recipients)) for recipient in recipients),
        wrap(f"{advice} {_NOT_WHOLE}" if not_whole else advice, LINE_WISHED),
        wrap(f"If you need help, write to {postmaster} and give this id: {entry.message_id}", LINE_WISHED),
    ]
    return "\r\n\r\n".join("\r\n".join(lines) for lines in paragraphs).encode() + b"\r\n"


def _room(recipients: Sequence[SpoolRecipient]) -> int:
    """How much of each answer is quoted: less where there are many, so that no notice becomes a large message."""
    return min(QUOTE_LIMIT, max(40, QUOTE_LIMIT * 50 // len(recipients)))


def _about(recipient: SpoolRecipient, room: int) -> list[str]:
    said = _clean(recipient.last_reply, room) or "no answer yet"
    return [f"  {_clean(str(recipient.address))}", *(f"    {line}" for line in wrap(said, LINE_WISHED - 4))]


def _status(
    kind: Kind,
    entry: SpoolEntry,
    recipients: Sequence[SpoolRecipient],
    hostname: str,
    host: Host | None,
    retry_until: float | None,
    attempted_at: float | None,
    utf8: bool,
) -> bytes:
    """The part that is read by programs: fields about the message, then a group for each recipient (RFC 3464 2). It is
    ASCII unless ``utf8``: then addresses are written as they are (RFC 6533 4)."""
    groups = [[f"Reporting-MTA: dns; {hostname}", f"Arrival-Date: {_date(entry.received_at)}"]]
    if entry.envid:
        groups[0].insert(0, f"Original-Envelope-Id: {_ascii(_clean(decoded(entry.envid)))}")
    for recipient in recipients:
        said = _ascii(_clean(recipient.last_reply, _room(recipients)))
        group = [
            *_original(recipient, utf8),
            f"Final-Recipient: {_clean(written(recipient.address, utf8), LINE_ALLOWED)}",
            f"Action: {kind}",
            f"Status: {_status_code(kind, said)}",
        ]
        if host is not None:
            group.append(f"Remote-MTA: dns; {_mta_name(host)}")
        if said:
            group.append(_folded(f"Diagnostic-Code: smtp; {said}"))
        if attempted_at is not None:
            group.append(f"Last-Attempt-Date: {_date(attempted_at)}")
        if kind == "delayed" and retry_until is not None:
            group.append(f"Will-Retry-Until: {_date(retry_until)}")
        groups.append(group)
    return "\r\n\r\n".join("\r\n".join(group) for group in groups).encode() + b"\r\n"


def _original(recipient: SpoolRecipient, utf8: bool) -> list[str]:
    """The recipient as the sender named it (RFC 3464 2.3.1)."""
    kind, text = original_recipient(recipient.original)
    if not kind:
        return []
    return [f"Original-Recipient: {typed(_ascii(_clean(kind)), _clean(text, LINE_ALLOWED // 5), utf8)}"]


def _status_code(kind: Kind, said: str) -> str:
    """What the host said in RFC 3463's terms; a temporary answer at the end of all attempts keeps its own."""
    if kind in ("delivered", "relayed"):
        match = _ENHANCED.match(said)
        return match[1] if match is not None and match[2] == said[0] == "2" else "2.0.0"
    match = _ENHANCED.match(said)
    if match is not None and match[2] == said[0] and (said[0] == "4" or (said[0] == "5" and kind == "failed")):
        return match[1]
    return "5.0.0" if kind == "failed" and said.startswith("5") else "4.4.7" if kind == "failed" else "4.0.0"


def _mta_name(host: Host) -> str:
    if host.name:
        return _ascii(_clean(host.name))
    if not is_ip(host.address):
        return _ascii(_clean(host.address))
    return f"[{'IPv6:' if ':' in host.address else ''}{host.address}]"


def _returned(head: bytes) -> bytes:
    """The fields of the original that fit, whole lines, long ones folded, nothing but printable text in them."""
    lines: list[bytes] = []
    room = HEADERS_LIMIT
    cut = _LINE_END.split(head[: HEADERS_LIMIT + 1])
    if len(head) > HEADERS_LIMIT:
        cut.pop()
    for raw in cut:
        if not raw:
            break
        line = _clean(raw.decode("utf-8", "replace"), HEADERS_LIMIT, "\t").replace("\ufffd", "?")
        if not line.strip():
            continue
        pieces = [line[at : at + LINE_LIMIT // 4] for at in range(0, len(line), LINE_LIMIT // 4)]
        written = (line if len(line.encode()) <= LINE_LIMIT else "\r\n ".join(pieces)).encode()
        room -= len(written) + 2
        if room < 0:
            break
        lines.append(written)
    return b"".join(line + b"\r\n" for line in lines)


def _clean(text: str, limit: int = QUOTE_LIMIT, keep: str = "") -> str:
    """One line of at most ``limit`` characters; whatever is no printable character becomes a blank."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() or char in keep else " " for char in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def _folded(line: str) -> str:
    return "\r\n ".join(wrap(line, LINE_WISHED, break_long_words=False, break_on_hyphens=False))


def _date(instant: float) -> str:
    return format_datetime(datetime.fromtimestamp(instant, UTC))
