"""Tells what was recorded under one id as a story that a postmaster can read out on the telephone.

Knows the journal's events and fields and how to word them; what it does not know it still tells, plainly. Does not know
where events are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

_LABEL = 12
# Text of strangers is told up to here; nobody's line is longer than a paragraph.
_LONGEST = 500
_YEAR_9999 = 253_370_764_800


class Event(NamedTuple):
    """One row of the ledger; ``at`` in seconds since the epoch."""

    at: float
    event: str
    fields: Mapping[str, Any]


_HEADLINES = {
    "refused": "refused at {verb}",
    "refused_again": "the same client was refused again, and told this id",
    "handed_over": "handed over to {host}",
    "spooled": "taken into the spool",
    "quarantined": "put into quarantine",
    "held": "held",
    "discarded": "accepted and discarded",
    "delivered": "delivered to {host}",
    "deferred": "not delivered yet",
    "failed": "could not be delivered",
    "bounced": "the sender was sent a notice",
    "delay_notified": "the sender was told of the delay",
    "success_notified": "the sender was told of the success, as he asked",
    "notice_throttled": "there was no room for a notice",
    "released": "released by {asked_by}",
    "greylist_released": "let through the greylist by {asked_by}",
    "forced": "made due at once by {asked_by}",
    "deleted": "deleted by {asked_by}",
    "shown": "its content was read by {asked_by}",
    "checked": "checked",
    "connected": "connected",
}

# In the order of the conversation: who, what, opinions, sums, decision, answer, onward.
_LABELS = {
    "origin": "came from",
    "walk": "received",
    "entry": "entry",
    "sender": "sender",
    "recipient": "recipient",
    "recipients": "recipients",
    "size": "size",
    "checks": "check",
    "score": "sums",
    "spam_level": "level",
    "actions": "action",
    "action": "action",
    "cause": "cause",
    "reason": "reason",
    "seconds": "took",
    "host": "host",
    "reply": "reply",
    "next_attempt_at": "next attempt",
}

# The reply of these events came from the host we handed the mail to, not from us.
_THEIR_REPLY = frozenset({"handed_over", "delivered", "deferred", "failed", "bounced"})


def tell(id: str, events: Sequence[Event], entries: Sequence[Mapping[str, Any]] | None, now: float) -> list[str]:
    """The story, one line an item. ``entries`` are what the spool holds of it now (rows of ``spool list``); None: the
    spool could not be asked."""
    lines = [f"The story of {plain(id)}", ""]
    for event in sorted(events, key=lambda event: event.at):
        lines += _event(event, id)
        lines.append("")
    return lines + _now(events, entries, now)


def instant(at: float) -> str:
    """ISO 8601 in UTC with milliseconds, as in the log."""
    moment = datetime.fromtimestamp(int(at), UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{int(at * 1000) % 1000:03d}Z"


def plain(value: object) -> str:
    """Any value as one line in which nothing can move a cursor."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text.replace("\n", " / "))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def _event(event: Event, id: str) -> list[str]:
    fields = dict(event.fields)
    if fields.get("entry") == id:
        del fields["entry"]
    lines = [f"{instant(event.at)}  {_headline(event.event, fields)}"]
    if stranger := _stranger(fields):
        lines.append(_line("from", stranger))
    for name, label in _LABELS.items():
        if name in fields:
            lines += _told(event.event, name, label, fields.pop(name), fields)
    lines += [_line(name.replace("_", " "), plain(value)) for name, value in fields.items() if _worth_telling(value)]
    return lines


def _headline(event: str, fields: dict[str, Any]) -> str:
    headline = _HEADLINES.get(event)
    if headline is None:
        return plain(event).replace("_", " ")
    if fields.get("verb") == "dot":
        fields["verb"] = "the final dot"
    for name in ("verb", "host", "asked_by"):
        place = "{" + name + "}"
        if place not in headline:
            continue
        if fields.get(name):
            headline = headline.replace(place, plain(fields.pop(name)))
        else:
            headline = headline.partition(" " + place)[0].removesuffix(" at").removesuffix(" to").removesuffix(" by")
    return headline


def _stranger(fields: dict[str, Any]) -> str:
    ip, hello, tls, sni = (fields.pop(name, "") for name in ("ip", "helo", "tls", "sni"))
    if not (ip or hello or tls):
        return ""
    details = [f"helo {plain(hello)}" if hello else "", plain(tls) if tls else "", f"sni {plain(sni)}" if sni else ""]
    known = ", ".join(filter(None, details))
    return plain(ip or "unknown") + (f" ({known})" if known else "")


def _told(event: str, name: str, label: str, value: Any, others: dict[str, Any]) -> list[str]:
    match name:
        case "checks":
            return [_line(label, _check(check)) for check in value] if isinstance(value, list | tuple) else []
        case "walk" if isinstance(value, list | tuple):
            return [_line(label, _step(step)) for step in value]
        case "score":
            return [_line(label, _sums(value, others.pop("blocking", None)))]
        case "sender":
            return [_line(label, plain(value) if value else "<> (the null sender)")]
        case "recipients" if isinstance(value, list | tuple):
            return [_line(label if i == 0 else "", plain(recipient)) for i, recipient in enumerate(value)]
        case "actions" if isinstance(value, list | tuple):
            return [_line(label, ", ".join(map(plain, value)))] if value else []
        case "size" if isinstance(value, int):
            return [_line(label, f"{value} octets")]
        case "seconds" if isinstance(value, int | float):
            return [_line(label, f"{value:.3f} s")]
        case "next_attempt_at" if isinstance(value, int | float) and 0 <= value < _YEAR_9999:
            return [_line(label, instant(value))]
        case "reply":
            return [_line(_whose(event, others), plain(value))]
    return [_line(label, plain(value))] if _worth_telling(value) else []


def _whose(event: str, others: Mapping[str, Any]) -> str:
    if event not in _THEIR_REPLY:
        return "our reply"
    # Where there was trouble on the way they said nothing, and the words are ours.
    return "outcome" if others.get("trouble") else "their reply"


def _check(check: Any) -> str:
    """``[name, outcome, weight, detail]`` as ``name=outcome(weight)  detail``, the form of X-Spam-Checks."""
    if not isinstance(check, list | tuple) or len(check) < 3:
        return plain(check)
    name, outcome, weight, *detail = check
    told = f"{plain(name)}={plain(outcome)}({_number(weight)})"
    return f"{told}  {plain(detail[0])}" if detail and detail[0] else told


def _step(step: Any) -> str:
    """``[by, address, hello, believed, why]``: a Received field above which only gateways stand."""
    if not isinstance(step, list | tuple) or len(step) != 5:
        return plain(step)
    by, address, hello, believed, why = step
    told = f" from {plain(address)}{f' (helo {plain(hello)})' if hello else ''}" if address else ""
    return f"at {plain(by)}{told}: {plain(why)}, {'believed' if believed else 'not believed'}"


def _sums(filtering: Any, blocking: Any) -> str:
    told = f"filtering {_number(filtering)}"
    return told if blocking is None else f"{told}, blocking {_number(blocking)}"


def _number(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return plain(value)


def _worth_telling(value: Any) -> bool:
    return value is not None and value != "" and value != [] and value != ()


def _line(label: str, text: str) -> str:
    return f"    {label:<{_LABEL}} {text}".rstrip()


def _now(events: Sequence[Event], entries: Sequence[Mapping[str, Any]] | None, now: float) -> list[str]:
    if entries is None:
        return ["now: the spool could not be asked"]
    lines = []
    for entry in entries:
        told = f"now: {entry['state']} in the spool as {entry['id']}"
        if entry.get("next_attempt_at") is not None:
            told += f", {entry['attempts']} attempts made, next attempt {instant(entry['next_attempt_at'])}"
            told += " (due)" if entry["next_attempt_at"] <= now else f" (in {entry['next_attempt_at'] - now:.0f} s)"
        lines.append(told)
        for recipient in entry.get("recipients", ()):
            reply = f": {plain(recipient['last_reply'])}" if recipient.get("last_reply") else ""
            lines.append(f"     {plain(recipient['address'])} {recipient['status']}{reply}")
    if lines:
        return lines
    last = max(events, key=lambda event: event.at, default=None)
    return ["now: not in the spool" + (f"; the last word on it is {last.event.replace('_', ' ')!r}" if last else "")]
