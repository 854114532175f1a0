"""How often a cause speaks against mail, and whether that is far from what is usual.

Knows shares of messages, and how the usual one is learned. Does not know what a cause is, where counts are kept, nor
what follows.

Shares are compared as odds (fired against not fired): of 1 in 100 ten times as much is 9 in 100, of 30 in 100 it is 81,
so that what is common already can be far outside as well.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

from inboundmx.model.settings import DAY, CausesSettings

# What is rarer than this counts as so rare: the second time in a year is no alarm.
RAREST = 0.01
# What speaks against half of all mail, day after day, is not sudden when it speaks against all of it.
COMMON = 0.5
# After so long what was counted weighs a third.
MEMORY_SECONDS = 7 * DAY


class Counted(NamedTuple):
    """Of ``asked`` messages a cause spoke against ``fired``; those of a past that fades are no whole numbers."""

    fired: float = 0.0
    asked: float = 0.0


def faded(number: float, seconds: float) -> float:
    return number * exp(-max(seconds, 0.0) / MEMORY_SECONDS)


def highest(usual: Counted, settings: CausesSettings) -> float:
    """The share at which the band ends."""
    share = max(usual.fired / usual.asked if usual.asked > 0 else 0.0, RAREST)
    if share >= COMMON:
        return 1.0
    odds = share / (1 - share) * settings.times
    return odds / (1 + odds)


def beyond(now: Counted, usual: Counted, settings: CausesSettings) -> bool:
    """Whether the share in the window under way is outside the band, however few messages that are."""
    return now.asked > 0 and now.fired / now.asked > highest(usual, settings)


def outside(now: Counted, usual: Counted, settings: CausesSettings, known_seconds: float) -> bool:
    """Whether a cause of a check that was first asked so long ago must be doubted."""
    return known_seconds >= settings.learning and now.fired >= settings.at_least and beyond(now, usual, settings)


def believable(now: Counted, usual: Counted, settings: CausesSettings) -> bool:
    """Whether a cause that is doubted needs not be any longer."""
    return now.asked >= settings.at_least and not beyond(now, usual, settings)


def learned(usual: Counted, window: Counted, settings: CausesSettings) -> float:
    """How often a cause fired in the past, a window more included. What went beyond the band counts as far as the band
    goes: a fault does not become usual within a day, and what stays does in the end."""
    fired = window.fired
    if beyond(window, usual, settings):
        fired = window.asked * highest(usual, settings)
    return usual.fired + fired
