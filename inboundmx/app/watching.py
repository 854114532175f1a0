"""Which workers hang: run, and do nothing at all.

Knows how often each has turned, whenever it is asked to look. Does not know clocks: it counts looks, so the time in
which nobody looked, because the machine or the supervisor stood still itself, is held against nobody.
"""

from __future__ import annotations

# In so many looks in a row nothing has moved.
LOOKS = 10
# Of one who is told to die and cannot even do that.
ABORT_SECONDS = 5.0
# Where nobody is to be called hung; whoever beats does not know.
_USUAL_SECONDS = 60.0


def look_seconds(hung_after: float) -> float:
    """How long to wait from one look, and from one turn, to the next."""
    return (hung_after or _USUAL_SECONDS) / LOOKS


class Watch:
    """On one worker."""

    def __init__(self) -> None:
        self._beats = 0
        self._still = 0

    def hangs(self, beats: int) -> bool:
        """``beats``: how often it has turned by now. True once, when it is time to do something about it."""
        if beats != self._beats:
            self._beats = beats
            self._still = 0
        else:
            self._still += 1
        return self._still == LOOKS
