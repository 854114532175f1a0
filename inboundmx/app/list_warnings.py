"""What an operator may not have meant of the lists.

Knows which checks an entry needs to have an effect, and lists that everybody is on. Does not know who is on the lists
that are changed while the gateway runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from inboundmx.model.settings import Settings


def idle(settings: Settings, kinds: Iterable[str]) -> str:
    """Why entries of these kinds of list (``model.listing``) do nothing, empty when they do something."""
    checks = {check.kind for check in settings.checks}
    for kind in kinds:
        if kind in ("blocked-sender", "trusted-sender") and "blocked" not in checks:
            return "no [check ...] uses blocked: nobody looks at lists of senders"
        if kind == "trusted-sender" and not checks & {"spf", "dkim"}:
            return "no [check ...] uses spf or dkim: no sender shows that it is who it says, so none is trusted"
    return ""


def of_lists(settings: Settings) -> list[str]:
    """Sentences about ``[lists]``."""
    lists = settings.lists
    kinds = [
        kind
        for kind, senders in (("blocked-sender", lists.blocked_senders), ("trusted-sender", lists.trusted_senders))
        if senders
    ]
    found = [f"[lists] {why}"] if (why := idle(settings, kinds)) else []
    for key, networks in (
        ("whitelist_smtp", lists.whitelist_smtp),
        ("whitelist_spam", lists.whitelist_spam),
        ("whitelist_greylisting", lists.whitelist_greylisting),
        ("blacklist", lists.blacklist),
    ):
        found += [f"[lists] {key} {each}: that is everybody" for each in networks if not each.prefixlen]
    for ours in chain(settings.relay.networks, settings.backup.primaries):
        for each in lists.blacklist:
            if each.version == ours.version and ours.overlaps(each):
                found.append(f"[lists] blacklist {each} has addresses of {ours}, which are to speak to us")
    return found
