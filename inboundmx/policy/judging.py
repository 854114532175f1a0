"""What becomes of a message, given its score.

Knows levels, thresholds, what goes before what, and the words of a refusal. Does not know how the score came about,
and puts nothing a stranger said into a reply. The id that ends each refusal is added by whoever gives the reply.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from inboundmx.model.address import Address
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DomainSettings, LevelSettings
from inboundmx.model.verdict import Action, Level, Score, Verdict, written_weight

Disposition = Literal["deliver", "discard", "hold", "quarantine", "reject"]

DELIVER: tuple[Action, ...] = (Action("deliver"),)
_QUARANTINE = Action("quarantine")
DEFAULT_REJECT_TEXT = "message refused as spam"

# What wins when a level joins several: what refuses openly, then what keeps the mail longest, then what loses it.
_PRECEDENCE: tuple[Disposition, ...] = ("reject", "quarantine", "hold", "discard")


def blocking_threshold(domain: DomainSettings) -> float:
    """The blocking sum at which mail for ``domain`` is refused: mail that leaves us has one of its own."""
    blocking = domain.blocking
    return blocking.outgoing_threshold if domain.via == "outbound" else blocking.incoming_threshold


def judge(score: Score, levels: Sequence[LevelSettings], blocking_threshold: float) -> Verdict:
    """The verdict at MESSAGE: any reject, then any defer, then the blocking sum, then the highest level whose threshold
    the filtering sum reaches (inclusive); that level's actions alone hold. Where none of this refuses the mail, and a
    check has it quarantined, that goes before what else the level does."""
    reached = Level.NONE
    actions = DELIVER
    for level in levels:
        if level.level is Level.NONE:
            if reached is Level.NONE:
                actions = level.action
        elif level.level > reached and score.filtering >= level.threshold:
            reached, actions = level.level, level.action
    reply, reason = _refusal(score, blocking_threshold, 554, "message")
    if reply is None:
        reason = f"level {reached.word}"
        for action in actions:
            if action.verb == "reject":
                reply = Reply(550, "5.7.1", _printable(action.argument) or DEFAULT_REJECT_TEXT)
                break
    if reply is None and score.quarantined_by:
        actions, reason = (*actions, _QUARANTINE), f"quarantine by {score.quarantined_by}"
    return Verdict(reached, actions, score, reply, reason)


def judge_early(score: Score, blocking_threshold: float) -> Verdict | None:
    """The verdict before the message has come: a refusal if there is a reason for one already, else None."""
    reply, reason = _refusal(score, blocking_threshold, 550, "mail")
    return None if reply is None else Verdict(Level.NONE, DELIVER, score, reply, reason)


def disposition(actions: Iterable[Action]) -> Disposition:
    """Where mail goes. Of several, in this order: reject, quarantine, hold, discard; else it is delivered, with the
    headers and tag and to the recipients that the other actions ask for."""
    verbs = {action.verb for action in actions}
    for verb in _PRECEDENCE:
        if verb in verbs:
            return verb
    return "deliver"


def redirected(actions: Iterable[Action]) -> tuple[Address, ...]:
    """Who gets the mail in place of its recipients; empty: its recipients."""
    addresses = []
    for action in actions:
        if action.verb == "redirect":
            local, _, domain = action.argument.rpartition("@")
            addresses.append(Address(local, domain.lower()))
    return tuple(dict.fromkeys(addresses))


def _refusal(score: Score, blocking_threshold: float, code: int, what: str) -> tuple[Reply | None, str]:
    if score.enhanced and score.forced:
        # A check that knows what is wrong says so itself, as any mail server would.
        code, kind = (550, "5") if score.forced == "reject" else (450, "4")
        return Reply(code, f"{kind}.{score.enhanced}", _printable(score.advice)), _forced(score)
    if score.forced == "reject":
        return Reply(code, "5.7.1", f"{what} refused by check {_printable(score.forced_by)}"), _forced(score)
    if score.forced == "defer":
        advice = _printable(score.advice) or "please try again later"
        text = f"{what} not accepted yet by check {_printable(score.forced_by)}, {advice}"
        return Reply(451, "4.7.1", text), _forced(score)
    # Without a check that names it there is nothing to compare, whatever the threshold.
    if score.blocking >= blocking_threshold and any(line.blocking for line in score.lines):
        reason = f"blocking {written_weight(score.blocking)} of {written_weight(blocking_threshold)}"
        return Reply(554, "5.7.1", f"{what} refused: too many checks speak against it"), reason
    return None, ""


def _forced(score: Score) -> str:
    return f"{score.forced} by {score.forced_by}"


def _printable(text: str) -> str:
    """Operators write what they like; a reply holds printable ASCII and fits its line (RFC 5321 4.5.3.1.5)."""
    return "".join(sign if " " <= sign <= "~" else "?" for sign in text[:300])
