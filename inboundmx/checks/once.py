"""What several checks want of one message, made once for all of them.

Knows who waits for it, and for how long it is kept. Does not know what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.model.message import Message

T = TypeVar("T")


class OncePerMessage(Generic[T]):
    """For messages under way: what was made of each, for as long as the message itself is kept."""

    def __init__(self) -> None:
        self.kept: WeakKeyDictionary[Message, T] = WeakKeyDictionary()
        self.waiting: WeakKeyDictionary[Message, list[Deferred[T]]] = WeakKeyDictionary()

    async def get(
        self, message: Message, at_once: Callable[[], T | None], work: Callable[[], Deferred[Any]], keep: bool = True
    ) -> T:
        """What was made before; else what ``at_once`` makes; where that is None what ``work`` comes to, which begins
        unless it is under way. Without ``keep`` only those who ask at the same time share that."""
        found = self.kept.get(message)
        if found is not None:
            return found
        waiting = self.waiting.get(message)
        if waiting is None:
            found = at_once()
            if found is not None:
                self.kept[message] = found
                return found
        # Each waits on a Deferred of its own: one that gives up does not take it away from the others.
        mine: Deferred[T] = Deferred()
        if waiting is None:
            self.waiting[message] = [mine]
            work().addCallbacks(partial(self._made, message, keep), partial(self._tell, message))
        else:
            waiting.append(mine)
        return await mine

    def _made(self, message: Message, keep: bool, made: T) -> None:
        if keep:
            self.kept[message] = made
        self._tell(message, made)

    def _tell(self, message: Message, came: T | Failure) -> None:
        for deferred in self.waiting.pop(message, ()):
            # One that was cancelled has been told already.
            if not deferred.called:
                deferred.callback(came)
