"""What the log and the ledger hear of an attempt, once its consequences are on the disk.

Knows the events: delivered, deferred, failed, held, bounced, delay_notified, success_notified. Does not know what
decided them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Deposit, SpoolEntry, State
from inboundmx.policy.retrying import UNDELIVERABLE, UNVERIFIED, Settlement
from inboundmx.ports import Journal

# The events of notices, in the order in which they are written.
NOTICES = ("bounced", "delay_notified", "success_notified")


def tell(
    journal: Journal, entry: SpoolEntry, settlement: Settlement, attempt: DeliveryAttempt, deposits: Sequence[Deposit]
) -> None:
    id, kept = entry.message_id, settlement.entry
    record = journal.record
    facts = {
        "entry": entry.id,
        # No host: there was no way to one.
        "host": str(attempt.host) if attempt.host.address else "",
        "tls": attempt.tls,
        "attempts": entry.attempts + 1,
        "seconds": round(attempt.ended_at - attempt.started_at, 6),
    }
    if settlement.delivered:
        said = next(str(reply) for address, reply in attempt.replies if address in settlement.delivered)
        told = facts | {"recipients": _texts(settlement.delivered), "reply": said}
        if settlement.unconfirmed:
            told["untold"] = _texts(r.address for r in settlement.unconfirmed)
        record("delivered", id, told)
        if kept is None and not (settlement.failed or deposits):
            # Nearly always, and nothing else is to be told: saves 4 us.
            return
    trouble = facts | {"trouble": attempt.trouble, "phase": str(attempt.phase)}
    for recipient in settlement.failed:
        fate = "dropped" if recipient in settlement.unasked else settlement.fate
        told = {"recipients": [str(recipient.address)], "reply": recipient.last_reply, "fate": fate}
        record("failed", id, trouble | told | {"exhausted": settlement.exhausted}, level="warning")
    if settlement.fate == "held":
        why = "no room for a notice in this hour" if entry.may_notify else "the sender may not be sent a notice"
        event, cause = "held", UNDELIVERABLE
        if entry.unverified:
            event, cause, why = "quarantined", UNVERIFIED, "whether it exists could not be asked at reception"
        told = {"cause": cause, "reason": why, "recipients": _texts(r.address for r in settlement.owed)}
        record(event, id, facts | told)
    if kept is not None and kept.pending and not (settlement.fate == "held" and settlement.split is None):
        told = {"recipients": _texts(r.address for r in kept.pending), "reply": kept.pending[0].last_reply}
        if kept.state is State.ACTIVE:
            record("deferred", id, trouble | told | {"next_attempt_at": kept.next_attempt_at})
        else:
            record("held", id, trouble | told | {"cause": kept.cause}, level="warning")
    tell_notices(journal, entry, settlement, deposits)


def tell_notices(journal: Journal, entry: SpoolEntry, settlement: Settlement, deposits: Sequence[Deposit]) -> None:
    notices = [deposit.entry for deposit in deposits if deposit.entry.notice]
    due = (settlement.fate == "notify", settlement.delayed, bool(settlement.confirmed))
    for event, notice in zip(
        [event for event, is_due in zip(NOTICES, due, strict=True) if is_due], notices, strict=True
    ):
        fields = {
            "entry": entry.id,
            "notice": notice.id,
            "recipients": _texts(r.address for r in notice.recipients),
        }
        journal.record(event, entry.message_id, fields | {"state": notice.state.value, "cause": notice.cause})


def _texts(addresses: Iterable[Address]) -> list[str]:
    return [str(address) for address in addresses]
