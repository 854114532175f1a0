"""Which outgoing mail was not sent on because of what checks say, and that its user is told.

Knows what a verdict and an answer together mean for a user's mail. Does not know how he is told, nor how often
(``alerting``).
"""

from __future__ import annotations

from collections.abc import Sequence

from inboundmx.intake.alerting import Alerts
from inboundmx.intake.arrival import Lot
from inboundmx.model.reply import Replies, Reply
from inboundmx.model.settings import Settings


def tell_user(
    alerts: Alerts, user: str, mail: str, lots: Sequence[Lot], reply: Reply | Replies, settings: Settings
) -> None:
    """``reply`` is what ``user`` heard after the final dot of the mail with the id ``mail``. What was put off is sent
    again by his own program, so nothing was stopped then; what was discarded is nobody's to know."""
    outgoing = [lot for lot in lots if lot.domain.via == "outbound"]
    each = isinstance(reply, Replies)
    refused = [lot for lot in outgoing if lot.verdict.reply is not None and lot.verdict.reply.permanent]
    if not each and not (isinstance(reply, Reply) and reply.permanent):
        refused = []
    kept = [lot for lot in outgoing if lot.fate in ("hold", "quarantine") and not (each and lot.verdict.reply)]
    if not reply.positive:
        kept = []
    for stopped, is_kept in ((refused, False), (kept, True)):
        if stopped:
            why = stopped[0].verdict.reply
            recipients = [recipient for lot in stopped for recipient in lot.recipients]
            alerts.stopped(user, recipients, is_kept, "" if why is None else str(why), mail, settings)
