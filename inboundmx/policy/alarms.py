"""What an operator is written about a client or a check that went too far, and a user about mail that was stopped.

Knows how such letters are worded. Does not know how it travels, nor when one is due.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from textwrap import wrap

from inboundmx.model.address import Address
from inboundmx.model.settings import AbuseSettings, GatewaySettings


def alarm(rule: AbuseSettings, who: str, reason: str, gateway: GatewaySettings, now: float, id: str) -> bytes:
    """As mail data: ASCII, CRLF lines, headers above. ``who`` may be what a client calls itself."""
    who = _printable(who)
    says = f"{who}: {reason}. [abuse {rule.name}] suffers {rule.limit} within {rule.window / 60:g} minutes."
    more = (
        f"It is blocked for {rule.block / 60:g} minutes, and that ends by itself; 'inboundmx blocks' shows it and ends "
        "it sooner."
        if rule.block
        else "Nothing is done about it: its mail goes on as before."
    )
    rest = f"Within an hour you are not told of {who} again. The log of {gateway.hostname} has every instance."
    return _letter(rule.notify, f"[abuse {rule.name}] {who}", (says, more, rest), gateway, now, id)


# Recipients that are named.
MOST_NAMED = 20


def stopped(
    user: str, recipients: Sequence[Address], kept: bool, why: str, mail: str, gateway: GatewaySettings, now: float,
    id: str,
) -> bytes:  # fmt: skip
    """As mail data, to the ``user`` whose mail of the id ``mail`` checks have stopped. ``kept``: it is held for an
    operator, else refused. Nothing of the mail itself is in it."""
    named = [_printable(str(each)) for each in recipients[:MOST_NAMED]]
    others = f" and {len(recipients) - MOST_NAMED} others" if len(recipients) > MOST_NAMED else ""
    words = " ".join(map(_printable, why.split()))
    to = f"Your mail to {', '.join(named)}{others}"
    says = (
        f"{to} was not sent: it is kept for an operator to look at, who may send it on."
        if kept
        else f"{to} was refused, and nothing of it was sent. Your program was told: {words}."
    )
    wrong = f"If you think that this is wrong, tell your postmaster the id {mail}."
    stolen = "If you did not write it, somebody else knows your password: change it at once."
    rest = "You are told of this ten times an hour at most."
    subject = f"Your mail was {'held' if kept else 'refused'} ({mail})"
    return _letter(user, subject, (says, f"{wrong} {stolen}", rest), gateway, now, id)


def doubted(to: str, cause: str, name: str, says: str, gateway: GatewaySettings, now: float, id: str) -> bytes:
    """As mail data, to an operator: ``cause`` suddenly speaks against more mail than usual."""
    what = f"{cause} {says}. Either much has changed, or what it relies on is wrong."
    held = (
        "Mail that would be refused or discarded because of it alone is held instead, infected mail is quarantined, "
        "until it is as common as usual again. What was refused before that stays refused."
    )
    wrong = (
        f"If it is wrong: switch the check off, then 'inboundmx spool release --cause {name} --since 2h' "
        "(or 'inboundmx quarantine release') delivers what was kept."
    )
    right = "If it is right: name it in [causes] except, and 'inboundmx spool delete' takes the same words."
    rest = "Within an hour you are not told of it again. 'inboundmx status' shows it as long as it lasts."
    subject = f"{cause} speaks against more mail than usual"
    return _letter(to, subject, (what, held, wrong, right, rest), gateway, now, id)


def _letter(
    to: str, subject: str, paragraphs: Iterable[str], gateway: GatewaySettings, now: float, id: str
) -> bytes:
    lines = [
        f"Date: {format_datetime(datetime.fromtimestamp(now, UTC))}",
        f"From: {gateway.postmaster or 'postmaster@' + gateway.hostname}",
        f"To: {to}",
        f"Subject: {subject}"[:200],
        f"Message-ID: <{id}@{gateway.hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
    ]
    for paragraph in paragraphs:
        lines += ["", *wrap(paragraph)]
    return "\r\n".join([*lines, ""]).encode("ascii", "replace")


def _printable(text: str) -> str:
    return "".join(sign if " " < sign <= "~" else "?" for sign in text[:100])
