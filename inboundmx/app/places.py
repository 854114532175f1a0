"""Where a worker belongs, and one process of it.

Knows what a process was asked and has answered, how it ended, and what of it is told before it can be asked itself.
Does not know when one is started or replaced; the crew does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from inboundmx.app.channel import Said
from inboundmx.app.in_hand import beats, last_frames, new_notes, noted
from inboundmx.app.respawning import Backoff, Suspects
from inboundmx.app.spawning import Nursery
from inboundmx.app.watching import Watch


class Life:
    """One process of a worker, from its start to its end. ``loaded`` and ``ready`` fire when it says so, or with None
    when it never will; ``gone`` with how it ended, and then ``frames`` tell where it was when a signal ended it."""

    def __init__(self, reactor: Any, nursery: Nursery, heard: Callable[[Life, Said], object]) -> None:
        self.notes = new_notes()
        self.started_at = reactor.seconds()
        self.is_ready = False
        self.leaving = False
        self.is_gone = False
        self.frames: list[str] = []
        self._had_in_hand: frozenset[str] = frozenset()
        self._watch = Watch()
        self._answers: dict[str, Deferred[Said | None]] = {}
        self.loaded = self.answer("loaded")
        self.ready = self.answer("ready")
        self.gone: Deferred[int] = Deferred()
        self._worker = nursery.fork(lambda said: heard(self, said))
        self._worker.gone.addCallback(self._ended)

    @property
    def pid(self) -> int:
        return self._worker.pid

    def tell(self, said: Said, descriptors: Sequence[int] = ()) -> None:
        self._worker.channel.tell(said, descriptors)

    def answer(self, name: str) -> Deferred[Said | None]:
        """Fires when the worker says something of that name, with None when it ends first."""
        waiting: Deferred[Said | None] = Deferred()
        self._answers[name] = waiting
        return waiting

    def answered(self, name: str, said: Said | None) -> None:
        waiting = self._answers.pop(name, None)
        if waiting is not None:
            waiting.callback(said)

    def end(self) -> None:
        """Asks it to."""
        self.leaving = True
        self._worker.signal(signal.SIGTERM)

    def abort(self) -> None:
        """Ends it so that it leaves word of where it was."""
        self._worker.signal(signal.SIGABRT)

    def kill(self) -> None:
        self._worker.signal(signal.SIGKILL)

    def hangs(self) -> bool:
        """To be asked from time to time while it is ready; see ``Watch.hangs``."""
        return self._watch.hangs(beats(self.notes))

    def in_hand(self) -> frozenset[str]:
        """Now, or when it ended."""
        return self._had_in_hand if self.is_gone else noted(self.notes)

    def _ended(self, status: int) -> None:
        self._had_in_hand, self.frames = noted(self.notes), last_frames(self.notes)
        os.close(self.notes)
        self.is_ready, self.is_gone = False, True
        for name in tuple(self._answers):
            self.answered(name, None)
        self.gone.callback(status)


class Place:
    """A worker's number, and whoever has it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.life: Life | None = None
        self.restarts = 0
        self.backoff = Backoff()
        self.suspects = Suspects()
        self.guilty: frozenset[str] = frozenset()
        self.timer: Any = None

    def row(self, now: float) -> dict[str, Any]:
        """As ``status`` tells it before it is asked itself."""
        life = self.life
        state = "down" if life is None else "ready" if life.is_ready else "starting"
        return {
            "worker": str(self.number),
            "pid": None if life is None else life.pid,
            "state": state,
            "age_seconds": 0.0 if life is None else round(now - life.started_at, 1),
            "restarts": self.restarts,
        }
