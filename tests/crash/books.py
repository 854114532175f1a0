"""The books of a run: what was sent, what was promised, what a primary got and when, and every cut in between.

Knows serials, hashes and moments of one clock (CLOCK_MONOTONIC, the same in all processes). Does not know who sends,
who kills, nor SMTP. ``Books.audit`` says what of it does not add up.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

# An answer of the primary that was given so long before a cut had been received and written down by us.
GRACE_SECONDS = 1.0
# Between a cut and the moments at which a busy primary, a stranger or whoever waits for the process notices it.
NOTICED_SECONDS = 2.0


class Promise(NamedTuple):
    """A 250 to the final dot: when a stranger got it, and the id it was told."""

    at: float
    id: str


@dataclass(frozen=True)
class Cut:
    """A process that was killed, at this moment: ``gateway``, ``worker`` or ``primary``."""

    at: float
    who: str


@dataclass
class Copy:
    """A message as a primary got it; ``stamps`` is the hash of what stands above the octets that were sent."""

    serial: str
    digest: str
    stamps: str
    line: str
    kept_at: float
    said_at: float | None = None


@dataclass
class Line:
    """A connection to a primary."""

    opened_at: float
    closed_at: float | None = None


@dataclass
class Arrivals:
    """What a primary wrote down; ``read`` from its journal, which it writes in step with what it does."""

    copies: list[Copy] = field(default_factory=list)
    lines: dict[str, Line] = field(default_factory=dict)

    @classmethod
    def read(cls, journal: Path) -> Arrivals:
        arrivals, last = cls(), dict[str, Copy]()
        # A kill may have cut the last line of any of its lives short.
        for text in journal.read_text().splitlines():
            try:
                event, line, at, *rest = json.loads(text)
            except ValueError:
                continue
            if event == "open":
                arrivals.lines[line] = Line(at)
            elif event == "close":
                arrivals.lines[line].closed_at = at
            elif event == "kept":
                last[line] = Copy(*rest, line=line, kept_at=at)
                arrivals.copies.append(last[line])
            elif event == "said":
                last[line].said_at = at
        return arrivals

    def open_at(self, moment: float) -> int:
        """How many connections there were; those of a primary that was killed end with it (``end``)."""
        return sum(
            line.opened_at <= moment and (line.closed_at is None or line.closed_at >= moment)
            for line in self.lines.values()
        )

    def end(self, cuts: Iterable[Cut]) -> None:
        """A primary that is killed cannot write down that its connections ended."""
        ends = sorted(cut.at for cut in cuts if cut.who == "primary")
        for line in self.lines.values():
            if line.closed_at is None:
                line.closed_at = next((end for end in ends if end >= line.opened_at), None)


@dataclass
class Audit:
    """What does not add up, by serial, and what does."""

    sent: int = 0
    promised: int = 0
    arrived: int = 0
    lost: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    held: int = 0
    resent: int = 0
    """Copies because a stranger heard nothing, and sent again."""
    delivered_again: int = 0
    """Copies because a cut came between the primary's answer and our writing it down."""
    most_again: int = 0
    """Of these, the most for one cut."""
    unanswered: int = 0
    """Copies because the primary gave no answer."""
    windows: int = 0
    """Connections to the primary that were open at a cut: in each one message may have been between dot and answer."""


class Books:
    """Written by many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.digests: dict[str, str] = {}
        self.promises: dict[str, list[Promise]] = defaultdict(list)
        self.refusals: Counter[int] = Counter()
        self.cuts: list[Cut] = []
        self.turned_away = 0
        """Strangers who could not connect."""
        self.unheard: dict[str, list[float]] = defaultdict(list)
        """When a stranger who had begun to send content lost hope of an answer."""

    def sent(self, serial: str, digest: str) -> None:
        with self._lock:
            self.digests[serial] = digest

    def answered(self, serial: str, at: float, code: int, id: str) -> None:
        with self._lock:
            if code == 250:
                self.promises[serial].append(Promise(at, id))
            else:
                self.refusals[code] += 1

    def not_answered(self, serial: str, at: float) -> None:
        with self._lock:
            self.unheard[serial].append(at)

    def not_connected(self) -> None:
        with self._lock:
            self.turned_away += 1

    def cut(self, at: float, who: str) -> None:
        with self._lock:
            self.cuts.append(Cut(at, who))

    def audit(self, arrivals: Arrivals, kept: Collection[str] = ()) -> Audit:
        """``kept``: ids that are still in the spool, by a recorded decision."""
        arrivals.end(self.cuts)
        cuts = sorted(self.cuts, key=lambda cut: cut.at)
        audit = Audit(sent=len(self.digests), promised=len(self.promises), arrived=len(arrivals.copies))
        audit.windows = sum(arrivals.open_at(cut.at) for cut in cuts)
        # By serial, and then by the stamps above it: they name the reception that a copy is of.
        received: dict[str, dict[str, list[Copy]]] = defaultdict(lambda: defaultdict(list))
        for copy in sorted(arrivals.copies, key=lambda copy: copy.kept_at):
            received[copy.serial][copy.stamps].append(copy)
            if self.digests.get(copy.serial) != copy.digest:
                audit.altered.append(copy.serial)
        for serial, promises in self.promises.items():
            if serial not in received:
                if any(promise.id in kept for promise in promises):
                    audit.held += 1
                else:
                    audit.lost.append(serial)
        again = Counter[Cut]()
        for serial, receptions in received.items():
            audit.resent += len(receptions) - 1
            if not self._had_reason(serial, [*receptions.values()], cuts):
                audit.unexplained.append(serial)
            for copies in receptions.values():
                for earlier, later in pairwise(copies):
                    cut = _why(earlier, later, arrivals.lines[earlier.line], cuts)
                    if cut is not None:
                        again[cut] += 1
                    elif earlier.said_at is None:
                        audit.unanswered += 1
                    else:
                        audit.unexplained.append(serial)
        audit.delivered_again = sum(again.values())
        audit.most_again = max(again.values(), default=0)
        return audit

    def _had_reason(self, serial: str, receptions: Sequence[list[Copy]], cuts: Sequence[Cut]) -> bool:
        """Whether the stranger who sent it more than once was cut off each time, and not long after the primary had
        answered: what it knew for so long should have been passed on."""
        unheard = [_before(at, cuts) for at in self.unheard.get(serial, ())]
        if len(receptions) > 1 + len(unheard):
            return False
        for earlier, cut in enumerate(unheard):
            if cut is None:
                return False
            known = [copies for copies in receptions if _said(copies[0]) < cut.at - GRACE_SECONDS]
            if len(known) > earlier:
                return False
        return True


def _said(copy: Copy) -> float:
    return copy.kept_at if copy.said_at is None else copy.said_at


def _before(at: float, cuts: Sequence[Cut]) -> Cut | None:
    """The cut of a gateway or worker that a stranger noticed then."""
    return next((cut for cut in reversed(cuts) if cut.who != "primary" and 0 <= at - cut.at <= NOTICED_SECONDS), None)


def _why(earlier: Copy, later: Copy, line: Line, cuts: Sequence[Cut]) -> Cut | None:
    """The cut because of which ``later`` had to come after ``earlier``: it ended the connection that ``earlier`` came
    over, before the answer can have been received and written down."""
    for cut in cuts:
        in_time = line.opened_at <= cut.at <= _said(earlier) + GRACE_SECONDS and cut.at <= later.kept_at
        if in_time and line.closed_at is not None and abs(line.closed_at - cut.at) <= NOTICED_SECONDS:
            return cut
    return None
