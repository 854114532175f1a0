"""What an operator is written about a client that exceeded a limit.

Knows how such a letter is worded. Does not know how it travels, nor when one is due.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from textwrap import wrap

from inboundmx.model.settings import AbuseSettings, GatewaySettings


def alarm(rule: AbuseSettings, who: str, reason: str, gateway: GatewaySettings, now: float, id: str) -> bytes:
    """As mail data: ASCII, CRLF lines, headers above. ``who`` may be what a client calls itself."""
    who = _printable(who)
    date = format_datetime(datetime.fromtimestamp(now, UTC))
    says = f"{who}: {reason}. [abuse {rule.name}] suffers {rule.limit} within {rule.window / 60:g} minutes."
    more = (
        f"It is blocked for {rule.block / 60:g} minutes, and that ends by itself; 'inboundmx blocks' shows it and ends "
        "it sooner."
        if rule.block
        else "Nothing is done about it: its mail goes on as before."
    )
    rest = f"Within an hour you are not told of {who} again. The log of {gateway.hostname} has every instance."
    lines = [
        f"Date: {date}",
        f"From: {gateway.postmaster or 'postmaster@' + gateway.hostname}",
        f"To: {rule.notify}",
        f"Subject: [abuse {rule.name}] {who}"[:200],
        f"Message-ID: <{id}@{gateway.hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        *wrap(says),
        "",
        *wrap(more),
        "",
        *wrap(rest),
        "",
    ]
    return "\r\n".join(lines).encode("ascii", "replace")


def _printable(text: str) -> str:
    return "".join(sign if " " < sign <= "~" else "?" for sign in text[:100])
