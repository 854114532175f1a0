"""When a message is tried again, when that ends, and what then becomes of each recipient.

Knows the retry list, its slots and what an attempt's answers mean for custody. Does not know a host, a disk or a clock:
the time is an argument.

A slot is one instant of the list: slot 0 is the first attempt, slot n comes ``waits[n-1]`` after the one before. The
end of a list is counted in slots and not in age, so neither a clock that jumps nor a gateway that was stopped ends it
early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, SpoolEntry, SpoolRecipient, State, Status
from inboundmx.model.ip import is_ip
from inboundmx.model.record import record, replace
from inboundmx.model.reply import Reply
from inboundmx.model.settings import HOUR, DeliverySettings, DomainSettings, Retry
from inboundmx.policy.dsn import hears_of_delay, hears_of_failure, hears_of_success

# After a final dot without an answer the message may have arrived: RFC 1047, RFC 5321 4.5.3.2.6.
UNANSWERED_SECONDS = 600.0
# Entries that wait in one wave drift apart; only ever later.
JITTER = 0.01
# How far an attempt may be off its slot by the rounding of timers.
SLACK_SECONDS = 1.0

# An outage of our resolver may last a night's first hours, and must not bounce what we were to send meanwhile.
DNS_PATIENCE_SECONDS = 4 * HOUR

# Causes of an entry. The first is an ACTIVE one's: not to be tried before its time even when its primary comes back.
UNANSWERED = "unanswered"
EXHAUSTED = "exhausted"
UNDELIVERABLE = "undeliverable"
NO_ROUTE = "no route"
DAMAGED = "damaged"
# Time and again the process that had it in hand died.
CRASHES = "crashes"
# Nobody could be asked at reception, and the primary does not take it.
UNVERIFIED = "unverified recipient"

Fate = Literal["", "notify", "held", "dropped"]


@record(frozen=True, slots=True)
class Settlement:
    """What an attempt changes. ``entry`` is what stays of the entry, None: nothing does. ``split``: a new entry,
    still without an id, that holds the undeliverable recipients while others wait.

    ``failed`` will not be tried again by themselves; ``fate`` says what becomes of them: ``notify`` the sender,
    ``held`` as undeliverable, or ``dropped`` (mail with the null sender). Whatever it says, ``unasked`` of them are
    dropped, for the sender asked not to hear of their failure. ``delayed``: the sender is told it is late.
    Of ``confirmed`` the sender is told that they have the mail, as he asked; of ``unconfirmed`` he asked as well and
    may not be told.
    """

    entry: SpoolEntry | None
    split: SpoolEntry | None = None
    delivered: tuple[Address, ...] = ()
    failed: tuple[SpoolRecipient, ...] = ()
    fate: Fate = ""
    exhausted: bool = False
    delayed: bool = False
    unasked: tuple[SpoolRecipient, ...] = ()
    confirmed: tuple[SpoolRecipient, ...] = ()
    unconfirmed: tuple[SpoolRecipient, ...] = ()

    @property
    def owed(self) -> tuple[SpoolRecipient, ...]:
        """Those whose failure is not dropped for want of anybody who asked."""
        return _without(self.failed, self.unasked)


def offset(slot: int, retry: Retry) -> float:
    """Seconds from the first attempt to this slot, when the list repeats its last wait without end."""
    listed = sum(retry.waits[:slot])
    beyond = max(0, slot - len(retry.waits))
    return listed + (beyond * retry.waits[-1] if retry.waits else 0.0)


def wait_before(slot: int, retry: Retry, lifetime: float) -> float | None:
    """Seconds between the slot before and this one; None: there is no such slot, the list has ended. A list that
    repeats ends with ``lifetime``; one that does not is kept whole, however long it is."""
    if not retry.waits:
        return None
    if retry.repeat_last:
        return None if offset(slot, retry) > lifetime else retry.waits[min(slot, len(retry.waits)) - 1]
    return retry.waits[slot - 1] if slot <= len(retry.waits) else None


def given_up_after(retry: Retry, lifetime: float) -> float:
    """Seconds from the first attempt to the last one of the list; the lifetime, of one that repeats."""
    return lifetime if retry.repeat_last else offset(len(retry.waits), retry)


def due_in(entry: SpoolEntry, now: float, domain: DomainSettings) -> float:
    """Seconds until the entry's next attempt, measured once; to be waited for by a clock that does not jump. Never more
    than the longest wait there is, so that a wall clock set wrong does not strand mail."""
    if entry.next_attempt_at is None:
        return 0.0
    longest = max(*domain.retry.waits, domain.delay, UNANSWERED_SECONDS) * (1 + JITTER)
    return min(max(0.0, entry.next_attempt_at - now), longest)


def unanswered(attempt: DeliveryAttempt) -> bool:
    """The final dot was sent and nothing understandable came back: the message may have arrived."""
    return attempt.dot_sent and attempt.trouble not in ("", "rejects_us")


def settle(
    entry: SpoolEntry,
    attempt: DeliveryAttempt,
    now: float,
    domain: DomainSettings,
    delivery: DeliverySettings,
    *,
    slot: bool,
    jitter: float,
    notices: bool = True,
) -> Settlement:
    """``slot``: the attempt was made because its time had come, and uses it up; one made because the primary came back
    or an operator asked does not. ``jitter`` from 0 to 1. ``notices``: whether one may be written now; otherwise what
    would be told is held."""
    replies = dict(attempt.replies)
    waiting = [recipient.address for recipient in entry.pending]
    if attempt.delivered and attempt.dot_sent and replies.keys() >= set(waiting):
        confirmed, unconfirmed = _confirmed(entry, attempt, replies, waiting, notices)
        return Settlement(None, delivered=tuple(waiting), confirmed=confirmed, unconfirmed=unconfirmed)
    recipients = tuple(
        _answered(recipient, replies.get(recipient.address), attempt)
        if recipient.status is Status.PENDING
        else recipient
        for recipient in entry.recipients
    )
    before = set(waiting)
    slots_used = entry.slots_used + slot
    wait = wait_before(max(slots_used, 1), domain.retry, domain.lifetime)
    dns_errors = entry.dns_errors + (slot and _is_nameless(entry, attempt, domain))
    given_up = wait is None or dns_errors >= delivery.dns_error_attempts
    exhausted = slot and given_up and any(r.status is Status.PENDING for r in recipients)
    if exhausted and domain.when_exhausted == "bounce":
        recipients = _given_up(recipients)
    after = replace(
        entry,
        recipients=recipients,
        attempts=entry.attempts + 1,
        slots_used=slots_used,
        dns_errors=dns_errors,
        cause=UNANSWERED if unanswered(attempt) else "",
        next_attempt_at=_next_attempt_at(entry, attempt, now, slot, wait, jitter),
    )
    if exhausted and domain.when_exhausted == "hold":
        after = _held(after, EXHAUSTED, now, delivery)
    failed = tuple(r for r in recipients if r.address in before and r.status is Status.FAILED)
    fate, unasked = _fate(entry, failed, notices)
    kept, split = _parted(after, _without(failed, unasked) if fate == "held" else (), now, delivery)
    delayed = kept is not None and notices and is_late(kept, now, delivery)
    delivered = tuple(r.address for r in recipients if r.address in before and r.status is Status.DELIVERED)
    confirmed, unconfirmed = _confirmed(entry, attempt, replies, delivered, notices)
    return Settlement(
        entry=replace(kept, delay_notified=True) if kept is not None and delayed else kept,
        split=split,
        delivered=delivered,
        failed=failed,
        fate=fate,
        exhausted=exhausted,
        delayed=delayed,
        unasked=unasked,
        confirmed=confirmed,
        unconfirmed=unconfirmed,
    )


def give_up(entry: SpoolEntry, now: float, delivery: DeliverySettings, notices: bool = True) -> Settlement:
    """The end of the schedule, now, for all who still wait, as ``settle`` finds it where ``when_exhausted`` is bounce.
    Where no notice may be sent, ``entry`` is held as undeliverable."""
    failed = _given_up(entry.pending)
    fate, unasked = _fate(entry, failed, notices)
    undeliverable = _without(failed, unasked) if fate == "held" else ()
    kept, _ = _parted(replace(entry, recipients=_given_up(entry.recipients)), undeliverable, now, delivery)
    return Settlement(kept, failed=failed, fate=fate, unasked=unasked)


def park(entry: SpoolEntry, cause: str, now: float, delivery: DeliverySettings) -> SpoolEntry:
    """The entry as one that an operator must look at: not delivered any more, not forgotten."""
    held = _held(entry, cause, now, delivery)
    return replace(held, expires_at=None)


def _is_nameless(entry: SpoolEntry, attempt: DeliveryAttempt, domain: DomainSettings) -> bool:
    """Whether the attempt counts as one of SmarterMail's *Attempts before bouncing DNS errors*.

    Only what nobody answered comes here: that a domain is not there, or takes no mail, is an answer and final at once.
    No answer says as much of our own resolver as of the domain, so it counts only from DNS_PATIENCE_SECONDS of the list
    on: an outage of ours, however many domains it is of, lets nothing be given up before its slots have come that far.
    It never counts where we hold mail as backup, where a primary is given as an address, nor where it is a gateway's
    name that is not found: that is no word about the domain."""
    if attempt.trouble != "dns" or domain.mode == "backup" or any(is_ip(host.address) for host in domain.primary):
        return False
    if entry.via == "outbound" and attempt.host.address:
        return False
    return offset(entry.slots_used, domain.retry) >= DNS_PATIENCE_SECONDS


def _answered(recipient: SpoolRecipient, reply: Reply | None, attempt: DeliveryAttempt) -> SpoolRecipient:
    status = Status.PENDING
    if reply is not None and reply.positive and attempt.dot_sent:
        status = Status.DELIVERED
    elif reply is not None and reply.permanent and attempt.trouble != "rejects_us":
        status = Status.FAILED
    said = str(reply) if reply is not None else recipient.last_reply
    return SpoolRecipient(recipient.address, status, recipient.attempts + 1, said, recipient.notify, recipient.original)


def _given_up(recipients: tuple[SpoolRecipient, ...]) -> tuple[SpoolRecipient, ...]:
    """With those failed who still wait."""
    return tuple(replace(r, status=Status.FAILED) if r.status is Status.PENDING else r for r in recipients)


def _next_attempt_at(
    entry: SpoolEntry, attempt: DeliveryAttempt, now: float, slot: bool, wait: float | None, jitter: float
) -> float | None:
    scheduled = attempt.started_at if entry.next_attempt_at is None else entry.next_attempt_at
    if not slot and scheduled > now:
        following = scheduled
    else:
        if wait is None:
            # Only an attempt beside the list can find it ended and yet go on; it is settled by the next one.
            wait = UNANSWERED_SECONDS
        # Measured from the slot, so that slow attempts do not stretch the list; but from the attempt when that was far
        # off its slot, for then the clock has jumped or nobody was there, and slots must not come in a heap.
        on_time = -SLACK_SECONDS <= attempt.started_at - scheduled <= wait / 2
        following = (scheduled if on_time and slot else attempt.started_at) + wait * (1 + JITTER * jitter)
    if unanswered(attempt):
        following = max(following, now + UNANSWERED_SECONDS)
    return following


def _fate(
    entry: SpoolEntry, failed: tuple[SpoolRecipient, ...], notices: bool
) -> tuple[Fate, tuple[SpoolRecipient, ...]]:
    """What becomes of those who failed, and which of them are dropped all the same."""
    if not failed:
        return "", ()
    if entry.sender is None or entry.notice:
        return "dropped", ()
    unasked = tuple(recipient for recipient in failed if not hears_of_failure(recipient.notify))
    if len(unasked) == len(failed):
        return "dropped", unasked
    return "notify" if entry.may_notify and not entry.unverified and notices else "held", unasked


def _without(recipients: tuple[SpoolRecipient, ...], others: tuple[SpoolRecipient, ...]) -> tuple[SpoolRecipient, ...]:
    return tuple(recipient for recipient in recipients if recipient not in others) if others else recipients


def _confirmed(
    entry: SpoolEntry, attempt: DeliveryAttempt, replies: Mapping[Address, Reply], to: Sequence[Address], notices: bool
) -> tuple[tuple[SpoolRecipient, ...], tuple[SpoolRecipient, ...]]:
    """Of those who have the mail now: whose sender asked to hear of it and is told, and is not. A host that offers DSN
    has taken that duty over (RFC 3461 5.2.1)."""
    if attempt.dsn or not any(hears_of_success(recipient.notify) for recipient in entry.pending):
        return (), ()
    asked = tuple(
        _answered(recipient, replies.get(recipient.address), attempt)
        for recipient in entry.pending
        if recipient.address in to and hears_of_success(recipient.notify)
    )
    told = entry.may_notify and notices and entry.sender is not None and not entry.notice
    return (asked, ()) if told else ((), asked)


def _parted(
    entry: SpoolEntry, undeliverable: tuple[SpoolRecipient, ...], now: float, delivery: DeliverySettings
) -> tuple[SpoolEntry | None, SpoolEntry | None]:
    """The entry without, or as, its undeliverable recipients, and those in an entry of their own. They are pending
    there, so that an operator can release them."""
    if not undeliverable:
        return (entry if entry.pending else None), None
    waiting = tuple(replace(r, status=Status.PENDING) for r in undeliverable)
    moved = {r.address for r in undeliverable}
    others = tuple(r for r in entry.recipients if r.address not in moved)
    if not entry.pending:
        return _held(replace(entry, recipients=others + waiting), UNDELIVERABLE, now, delivery), None
    apart = replace(entry, id="", recipients=waiting)
    return replace(entry, recipients=others), _held(apart, UNDELIVERABLE, now, delivery)


def _held(entry: SpoolEntry, cause: str, now: float, delivery: DeliverySettings) -> SpoolEntry:
    until = now + delivery.undeliverable_retention
    if entry.unverified and cause == UNDELIVERABLE:
        return replace(entry, state=State.QUARANTINED, cause=UNVERIFIED, next_attempt_at=None, expires_at=until)
    return replace(entry, state=State.HELD, cause=cause, next_attempt_at=None, expires_at=until)


def is_late(entry: SpoolEntry, now: float, delivery: DeliverySettings) -> bool:
    """Whether the sender is to be told that delivery takes long: he may be, wants to be, and was not yet."""
    return (
        entry.state is State.ACTIVE
        and entry.via != "archive"
        and entry.may_notify
        and entry.sender is not None
        and not entry.notice
        and not entry.delay_notified
        and any(hears_of_delay(recipient.notify) for recipient in entry.pending)
        and 0 < delivery.delay_notice <= now - entry.received_at
    )
