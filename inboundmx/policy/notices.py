"""What a sender is told of mail that was not delivered, or not yet (RFC 3464), and who may be told.

Knows how a notice is written, and that nothing a stranger or a primary said gets out of the line it is written to. Does
not know how a notice travels, nor when one is due.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from ipaddress import ip_address
from textwrap import wrap
from typing import Literal

from inboundmx.model.address import Address
from inboundmx.model.custody import Host, SpoolEntry, SpoolRecipient
from inboundmx.model.settings import GatewaySettings

Kind = Literal["failed", "delayed"]

# What is returned of the header section of the message, in octets.
HEADERS_LIMIT = 16 * 1024
# What is quoted of an answer or an address, in characters: folded or not, no line comes near RFC 5322's 998.
QUOTE_LIMIT = 400
LINE_LIMIT = 900
LINE_WISHED = 76

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
    header_section: bytes,
    *,
    host: Host | None = None,
    retry_until: float | None = None,
) -> bytes:
    """The notice as mail data, CRLF lines. It is ASCII but for addresses and header fields that are not; then it needs
    8BITMIME, and SMTPUTF8 when the sender's own address is not ASCII.

    ``recipients`` are those it speaks of; ``host`` answered, if any did; ``retry_until`` is when a delayed message will
    be given up. ``notice_id`` must be one that nobody could guess. ``header_section`` is the original's, cut here.
    """
    if entry.sender is None:
        raise ValueError("the null sender is never told anything")
    postmaster = _clean(gateway.postmaster or f"postmaster@{gateway.hostname}")
    text = _text(kind, entry, recipients, gateway.hostname, postmaster, retry_until)
    status = _status(kind, entry, recipients, gateway.hostname, host, retry_until)
    headers = _returned(header_section)
    boundary = f"=_{notice_id}"
    while boundary.encode() in text + status + headers:
        boundary += "_"
    subject = "Your message could not be delivered" if kind == "failed" else "Your message is delayed"
    top = [
        f"Date: {_date(now)}",
        f"From: Mail Delivery System <{postmaster}>",
        f"To: <{_clean(str(entry.sender))}>",
        f"Subject: {subject}",
        f"Message-ID: <{notice_id}@{gateway.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {_encoding(text + headers)}",
        "",
        "This is a notice about a message, in several parts (RFC 3464).",
    ]
    line = f"\r\n--{boundary}"
    return b"".join(
        (
            "\r\n".join(top).encode(),
            f"{line}\r\n".encode(),
            _part_head(f"text/plain; charset={'us-ascii' if text.isascii() else 'utf-8'}", text),
            text,
            f"{line}\r\n".encode(),
            _part_head("message/delivery-status", status),
            status,
            f"{line}\r\n".encode(),
            _part_head("text/rfc822-headers" if headers.isascii() else "text/rfc822-headers; charset=utf-8", headers),
            headers,
            f"{line}--\r\n".encode(),
        )
    )


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
) -> bytes:
    """The part that is read by people."""
    whom = "these addresses" if len(recipients) > 1 else "this address"
    if kind == "delayed":
        until = "" if retry_until is None else f" until {_date(retry_until)}"
        said = f"has not been delivered to {whom} yet:"
        advice = f"You do not need to send it again: delivery will be tried{until}. You will be told if it fails."
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
        wrap(advice, LINE_WISHED),
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
) -> bytes:
    """The part that is read by programs: fields about the message, then a group for each recipient (RFC 3464 2)."""
    groups = [[f"Reporting-MTA: dns; {hostname}", f"Arrival-Date: {_date(entry.received_at)}"]]
    for recipient in recipients:
        said = _ascii(_clean(recipient.last_reply, _room(recipients)))
        group = [
            f"Final-Recipient: {_typed(recipient.address)}",
            f"Action: {kind}",
            f"Status: {_status_code(kind, said)}",
        ]
        if host is not None:
            group.append(f"Remote-MTA: dns; {_mta_name(host)}")
        if said:
            group.append(_folded(f"Diagnostic-Code: smtp; {said}"))
        if kind == "delayed" and retry_until is not None:
            group.append(f"Will-Retry-Until: {_date(retry_until)}")
        groups.append(group)
    return "\r\n\r\n".join("\r\n".join(group) for group in groups).encode("ascii") + b"\r\n"


def _status_code(kind: Kind, said: str) -> str:
    """What the host said in RFC 3463's terms; a temporary answer at the end of all attempts keeps its own."""
    match = _ENHANCED.match(said)
    if match is not None and match[2] == said[0] and (said[0] == "4" or (said[0] == "5" and kind == "failed")):
        return match[1]
    return "5.0.0" if kind == "failed" and said.startswith("5") else "4.4.7" if kind == "failed" else "4.0.0"


def _typed(address: Address) -> str:
    """The address with its type; one that is not ASCII as utf-8-addr-xtext (RFC 6533 3), which is."""
    text = _clean(str(address))
    if text.isascii():
        return f"rfc822; {text}"
    written = (char if "!" <= char <= "~" and char not in "\\+=" else f"\\x{{{ord(char):X}}}" for char in text)
    return f"utf-8; {''.join(written)}"


def _mta_name(host: Host) -> str:
    try:
        ip_address(host.address)
    except ValueError:
        return _ascii(_clean(host.address))
    return f"[{'IPv6:' if ':' in host.address else ''}{host.address}]"


def _returned(header_section: bytes) -> bytes:
    """The fields of the original that fit, whole lines, long ones folded, nothing but printable text in them."""
    lines: list[bytes] = []
    room = HEADERS_LIMIT
    cut = _LINE_END.split(header_section[: HEADERS_LIMIT + 1])
    if len(header_section) > HEADERS_LIMIT:
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
