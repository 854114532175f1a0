"""What hosts could take when they last said so, kept for when they are down.

Knows SIZE, SMTPUTF8 and 8BITMIME (RFC 1870, 6531, 6152) of the last EHLO of each host. Does not know whether a host is
up, nor which mail is meant for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from inboundmx.model.custody import Host
from inboundmx.model.reply import Reply
from inboundmx.ports import Clock, Fact, StateStore

SPACE = "ehlo"
# A host that was not heard of for so long may have become another.
KEPT_SECONDS = 30 * 86400.0
# What is unchanged is written anew this often, so that it is not forgotten.
AGAIN_SECONDS = 86400.0
HOSTS = 1000

TOO_LARGE = Reply(552, "5.3.4", "the mail server does not take messages so large")
NOT_UTF8 = Reply(553, "5.6.7", "the mail server does not take internationalized addresses")


class Capability(NamedTuple):
    """``size``: the largest message in octets, 0 without a limit."""

    size: int
    utf8: bool
    eight_bit: bool


class Capabilities:
    def __init__(self, state: StateStore, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        # The one written longest ago is first.
        self._known: dict[str, tuple[Capability, float]] = {}

    def recall(self) -> None:
        """Begins to read what was kept."""
        kept = self._state.facts(SPACE, "", HOSTS)
        # What cannot be read now is learned anew.
        kept.addCallbacks(self._recalled, lambda failure: None)

    def greeted(self, host: Host, extensions: Mapping[str, str]) -> None:
        """A connection came about. ``extensions``: keyword to parameters, as in its EHLO."""
        limit = extensions.get("SIZE", "")
        said = Capability(
            int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 16 else 0,
            "SMTPUTF8" in extensions,
            "8BITMIME" in extensions,
        )
        key, now = str(host), self._clock.now()
        known = self._known.get(key)
        if known is not None and known[0] == said and 0 <= now - known[1] < AGAIN_SECONDS:
            return
        self._note(key, said, now)
        self._state.put(SPACE, key, Fact(tuple(map(float, said)), now, now + KEPT_SECONDS))

    def unable(self, host: Host, size: int, utf8: bool) -> Reply | None:
        """Why it would not take a message of so many octets, as far as is known; 0: of unknown size."""
        known = self._known.get(str(host))
        if known is None:
            return None
        if known[0].size and size > known[0].size:
            return TOO_LARGE
        return NOT_UTF8 if utf8 and not known[0].utf8 else None

    def _note(self, key: str, said: Capability, now: float) -> None:
        self._known.pop(key, None)
        self._known[key] = said, now
        if len(self._known) > HOSTS:
            del self._known[next(iter(self._known))]

    def _recalled(self, facts: Sequence[tuple[str, Fact]]) -> None:
        for key, fact in reversed(facts):
            if key not in self._known and len(fact.values) == len(Capability._fields):
                size, utf8, eight_bit = fact.values
                self._note(key, Capability(int(size), bool(utf8), bool(eight_bit)), fact.written_at)
