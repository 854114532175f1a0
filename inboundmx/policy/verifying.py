"""What a primary's words say about whether a recipient exists.

Knows which codes deny a mailbox and which only refuse a sender or us. Does not know who asked, nor what is remembered.
"""

from __future__ import annotations

from typing import Literal

from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Phase
from inboundmx.model.reply import Reply

Word = Literal["exists", "unknown", "undetermined"]

# RFC 5321 4.2.2: the mailbox is not there, not local, or its name is not allowed.
_DENIALS = frozenset({550, 551, 553})
# RFC 3463 3.2: of the fifth class' addresses these are the sender's.
_OF_THE_SENDER = frozenset({"5.1.7", "5.1.8"})
# What mail itself may teach: everything else, 5.1.0 first of all, is said of senders as well (Postfix's
# reject_unlisted_sender), and would let a stranger with a bad sender deny a recipient to everybody.
_OF_NOBODY_ELSE = frozenset({"5.1.1", "5.1.10"})


def denies(reply: Reply) -> bool:
    """Whether an answer to RCPT says that there is no such mailbox. Without an enhanced code the number alone says
    so."""
    return reply.code in _DENIALS and (not reply.enhanced or _of_the_mailbox(reply))


def answer(attempt: DeliveryAttempt, recipient: Address) -> tuple[Word, str]:
    """What a host said that was asked about ``recipient`` alone, and its words for people. What it said before it heard
    the name (at MAIL, or in trouble) says nothing about that."""
    reply = dict(attempt.replies).get(recipient)
    said = f"{attempt.host}: {reply}" if reply is not None else f"{attempt.host}: {attempt.trouble}"
    if reply is None or attempt.trouble or attempt.phase is not Phase.RECIPIENT:
        return "undetermined", said
    if reply.positive:
        return "exists", said
    return ("unknown" if denies(reply) else "undetermined"), said


def outspoken(attempt: DeliveryAttempt | None) -> bool:
    """Whether the answers of a host have enhanced codes, which say what a number alone leaves open."""
    return attempt is not None and all(reply.enhanced for _, reply in attempt.replies)


def learned(attempt: DeliveryAttempt) -> list[tuple[Address, bool]]:
    """Whom a delivery has shown to exist, or not to. A 250 after the final dot does; a denial counts only at RCPT and
    with an enhanced code that says so: without one, and at MAIL or after the content, the same refuses a sender or a
    message."""
    if attempt.trouble:
        return []
    dot = attempt.phase is Phase.DOT
    # Where others have it, those who have not were refused by name.
    at_rcpt = attempt.phase is Phase.RECIPIENT or (dot and any(reply.positive for _, reply in attempt.replies))
    found = []
    for address, reply in attempt.replies:
        if reply.positive:
            if dot:
                found.append((address, True))
        elif at_rcpt and reply.code in _DENIALS and reply.enhanced in _OF_NOBODY_ELSE:
            found.append((address, False))
    return found


def _of_the_mailbox(reply: Reply) -> bool:
    return reply.enhanced.startswith("5.1.") and reply.enhanced not in _OF_THE_SENDER
