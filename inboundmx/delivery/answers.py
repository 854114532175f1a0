"""What a host's answer means: for the message, for the stranger who waits, and for which host is tried next.

Knows phases, codes and trouble. Does not know connections or time; every function is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.defer import succeed

from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Handover, Host, Phase
from inboundmx.model.reply import Reply
from inboundmx.ports import Refused

TEXT_LIMIT = 400
# What we say in place of a host's answer when it refuses all our mail; a 521 or 530 has another code.
ALL_REFUSED = "4.7.0"

# As long as nothing was said of a message.
BEFORE_MAIL = frozenset({Phase.CONNECT, Phase.GREETING, Phase.HELLO, Phase.TLS, Phase.AUTH})

# What a host's refusal without an enhanced code says in RFC 3463's terms, as far as phase and code tell.
ENHANCED = {
    (Phase.MAIL, 552): "5.3.4",
    (Phase.RECIPIENT, 550): "5.1.1",
    (Phase.RECIPIENT, 551): "5.1.6",
    (Phase.RECIPIENT, 552): "5.2.2",
    (Phase.RECIPIENT, 553): "5.1.3",
    (Phase.DATA, 552): "5.3.4",
    (Phase.DOT, 552): "5.3.4",
}


def meaning(attempt: DeliveryAttempt) -> Handover:
    """What an answer means for a message whose sender still waits."""
    host, (_, reply) = attempt.host, attempt.replies[0]
    if attempt.trouble:
        if attempt.dot_sent and (attempt.trouble != "rejects_us" or _somebody_has_it(attempt)):
            return Handover("uncertain", host, detail=attempt.trouble, attempt=attempt, late=succeed(attempt))
        if attempt.trouble == "rejects_us" and reply.enhanced == ALL_REFUSED:
            # What would only be refused again is not taken into custody: its sender keeps it and tries again.
            ours = Reply(451, ALL_REFUSED, "the mail server refuses all mail")
            return Handover("refused", host, ours, attempt=attempt)
        if attempt.trouble == "unable" and all(r.permanent for _, r in attempt.replies):
            return Handover("refused", host, passed_on(reply, attempt.phase), attempt=attempt)
        detail = "deadline" if attempt.trouble == "abandoned" else f"{attempt.trouble} at {attempt.phase}: {reply}"
        return Handover("postponed", host, detail=detail, attempt=attempt)
    if attempt.delivered:
        return Handover("delivered", host, reply, attempt=attempt)
    if all(r.permanent for _, r in attempt.replies):
        return Handover("refused", host, passed_on(reply, attempt.phase), attempt=attempt)
    if all(r.temporary for _, r in attempt.replies):
        return Handover("deferred", host, passed_on(reply, attempt.phase), str(reply), attempt)
    detail = "recipients were answered differently"
    if attempt.dot_sent:
        # LMTP: some have it. It is kept for all, and settled at once by what each was answered.
        return Handover("uncertain", host, detail=detail, attempt=attempt, late=succeed(attempt))
    return Handover("postponed", host, detail=detail, attempt=attempt)


def passed_on(reply: Reply, phase: Phase) -> Reply:
    """A host's answer as the stranger may hear it: its code, one line of printable text, an enhanced code."""
    text = "".join(c if c.isprintable() else " " for c in reply.text)
    enhanced = reply.enhanced or ENHANCED.get((phase, reply.code), f"{reply.code // 100}.0.0")
    return Reply(reply.code, enhanced, " ".join(text.split())[:TEXT_LIMIT] or "refused by the mail server")


def stale(attempt: DeliveryAttempt) -> bool:
    """A kept connection that was gone, or closing, before it had heard of this message."""
    return attempt.trouble == "lost" and attempt.phase is Phase.MAIL and not attempt.dot_sent


def turned_away(attempt: DeliveryAttempt) -> Refused | None:
    """421 before the body was sent: the host closes, and another may be tried."""
    if attempt.trouble != "lost" or attempt.dot_sent:
        return None
    reply = next((reply for _, reply in attempt.replies if reply.code == 421), None)
    return None if reply is None else Refused("lost", attempt.phase, reply, str(reply))


def unfinished(attempt: DeliveryAttempt) -> bool:
    """The host fell silent, hung up or made no sense while it was given the message. Without the final dot it has
    nothing (RFC 5321 4.1.1.4), and another may be given all of it."""
    trouble = attempt.trouble in ("timeout", "lost", "garbage")
    return trouble and not attempt.dot_sent and turned_away(attempt) is None


def elsewhere(attempt: DeliveryAttempt) -> bool:
    """Whether another way may be tried at once: this host was not there, turned us away or refuses us, has time later,
    or refuses all for what it thinks of us (5.7.x). Any other definite refusal is the answer, and what may have arrived
    is not sent again."""
    if _somebody_has_it(attempt):
        return False
    if attempt.trouble:
        early = attempt.phase in BEFORE_MAIL and attempt.trouble != "abandoned"
        return early or attempt.trouble == "rejects_us" or turned_away(attempt) is not None
    return all(reply.temporary or reply.enhanced.startswith("5.7.") for _, reply in attempt.replies)


def _somebody_has_it(attempt: DeliveryAttempt) -> bool:
    """LMTP: a recipient was answered before the host refused us or went."""
    return attempt.dot_sent and any(reply.positive for _, reply in attempt.replies)


def not_connected(
    host: Host, refused: Refused, recipients: Sequence[Address], started: float, ended: float, offered: bool = False
) -> DeliveryAttempt:
    """An attempt that did not come as far as a connection. ``offered``: one to a host before it did."""
    reply = Reply(451, "4.4.1", (refused.detail or refused.trouble)[:TEXT_LIMIT])
    phase = Phase(refused.phase) if refused.phase in Phase._value2member_map_ else Phase.CONNECT
    replies = tuple((recipient, reply) for recipient in recipients)
    return DeliveryAttempt(host, started, ended, phase, replies, "", refused.trouble, offered=offered)


def refuses_us(attempt: DeliveryAttempt) -> DeliveryAttempt:
    """The attempt when it is known that the host refuses all our mail: its answer says nothing of this message."""
    ours = Reply(451, ALL_REFUSED, f"{attempt.host} refuses all our mail")
    return replace(attempt, trouble="rejects_us", replies=tuple((address, ours) for address, _ in attempt.replies))
