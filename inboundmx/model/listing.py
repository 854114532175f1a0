"""What stands on an operator's lists: addresses of clients and of senders, why, by whom and until when.

Knows the kinds of list and their words. Does not know how an entry is matched (``policy.listing``), nor where it is
kept.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from inboundmx.model.record import record

Kind = Literal["whitelist", "blacklist", "blocked-sender", "trusted-sender", "bypass-gateway", "block"]
# Those of the lists; blocks are kept as entries are, apart from them.
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "block")
# What a whitelisted client is spared: limits and blocks of SMTP; spam checks; greylisting. None grants relay.
Tick = Literal["smtp", "spam", "greylisting"]
TICKS: tuple[Tick, ...] = get_args(Tick)
# Kinds whose entries are patterns of senders; those of all others are addresses of clients.
OF_SENDERS = frozenset({"blocked-sender", "trusted-sender"})


# Kind and value.
Key = tuple[str, str]


@record(frozen=True, slots=True)
class Listed:
    """One entry. ``value``: an address, ``a-b`` range or CIDR block, or the pattern of a sender, each in one normal
    form, so that the same thing is the same text. ``ticks``: of a whitelist alone. ``author`` is empty for what stands
    in the INI. Instants are seconds since the epoch; ``until_at`` None: until somebody removes it."""

    kind: Kind
    value: str
    ticks: tuple[Tick, ...] = ()
    reason: str = ""
    author: str = ""
    since_at: float = 0.0
    until_at: float | None = None

    @property
    def key(self) -> Key:
        """What an entry is found by: an entry with the same key takes its place."""
        return self.kind, self.value

    def over(self, now: float) -> bool:
        return self.until_at is not None and self.until_at <= now

    def __str__(self) -> str:
        said = ", ".join(filter(None, (self.reason, self.author and f"by {self.author}")))
        return f"{self.value} ({said})" if said else self.value


class Difference(NamedTuple):
    """An entry that is there no more, one that has come, or one in the other's place."""

    gone: Listed | None
    come: Listed | None


class News(NamedTuple):
    """What has changed in what is kept since somebody looked last. ``damage`` and ``done``: what was found wrong
    with it, if anything, and what was done about that."""

    differences: list[Difference]
    damage: str = ""
    done: str = ""
