"""The sockets of ``listen`` in ``[gateway]`` and ``[submission]``, opened, and changed while they are in use.

Knows which are open, and that a change opens all that is new before it closes anything, or changes nothing. Does not
know what is spoken on them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from inboundmx.app.listening import Hint, adopt, bound, hint_at_start, stopped
from inboundmx.app.starting import CannotStart, shown
from inboundmx.model.settings import Settings

# What stands before an endpoint of ``[submission]``, where it stands with those of ``[gateway]``.
SUBMISSION = "submission:"


def listened(settings: Settings) -> list[str]:
    """All that strangers come to."""
    return [*settings.gateway.listen, *(SUBMISSION + each for each in settings.submission.listen)]


class Opened(NamedTuple):
    """``number`` is its name among several processes that share it; an endpoint may have a socket for each family."""

    number: int
    endpoint: str
    port: Any


class Change(NamedTuple):
    """What was opened already, and what is to be closed."""

    opened: Sequence[Opened]
    closing: Sequence[Opened]


class Sockets:
    """``opened``: those that are, in the order in which they were, without those to be closed."""

    def __init__(self, reactor: Any, factory: Any, certificate: Any, for_submission: Any = None) -> None:
        self.opened: list[Opened] = []
        self._reactor = reactor
        self._factory = factory
        self._for_submission = for_submission or factory
        self._certificate = certificate
        self._last = 0

    def open(self, endpoints: Iterable[str], hint: Hint = hint_at_start) -> None:
        """Raises CannotStart, and then none of them is."""
        fresh: list[Opened] = []
        try:
            for endpoint in endpoints:
                factory, text = self._served(endpoint)
                for port in bound(self._reactor, text, factory, self._certificate, hint):
                    self._last += 1
                    fresh.append(Opened(self._last, endpoint, port))
        except CannotStart:
            stopped(each.port for each in fresh)
            raise
        self.opened = self.opened + fresh

    def change(self, endpoints: Sequence[str]) -> Change:
        """To those of these endpoints, with whatever stays untouched; to be settled or undone. Raises ValueError with a
        sentence, and then nothing has changed."""
        before = self.opened
        open_already = {each.endpoint for each in before}
        try:
            self.open([each for each in endpoints if each not in open_already], self._hint)
        except CannotStart as trouble:
            raise ValueError("; ".join(trouble.problems)) from trouble
        return self._changed(before, [each for each in before if each.endpoint not in endpoints])

    def adopt(self, told: Sequence[tuple[int, str]], descriptors: Sequence[int]) -> Change:
        """To those that another process has opened: number, endpoint and descriptor of each that there is. All
        descriptors are closed. Raises OSError or ValueError, and then nothing has changed."""
        before = self.opened
        known = {each.number for each in before}
        fresh: list[Opened] = []
        left = list(descriptors)
        try:
            for (number, endpoint), descriptor in zip(told, descriptors, strict=True):
                if number not in known:
                    left.remove(descriptor)
                    factory, text = self._served(endpoint)
                    port = adopt(self._reactor, text, descriptor, factory, self._certificate)
                    fresh.append(Opened(number, endpoint, port))
        except (OSError, ValueError):
            stopped(each.port for each in fresh)
            raise
        finally:
            for descriptor in left:
                os.close(descriptor)
        self.opened = before + fresh
        there = {number for number, _ in told}
        return self._changed(before, [each for each in before if each.number not in there])

    def _served(self, endpoint: str) -> tuple[Any, str]:
        """Who serves an endpoint, and its own string."""
        text = endpoint.removeprefix(SUBMISSION)
        return (self._factory if text == endpoint else self._for_submission), text

    def _changed(self, before: list[Opened], closing: list[Opened]) -> Change:
        change = Change([each for each in self.opened if each not in before], closing)
        self.opened = [each for each in self.opened if each not in closing]
        return change

    def undo(self, change: Change) -> None:
        """All is as it was before."""
        stopped(each.port for each in change.opened)
        # No two have the same number.
        self.opened = sorted([*(each for each in self.opened if each not in change.opened), *change.closing])

    def settle(self, change: Change) -> Deferred[Any]:
        """Fires when nobody listens any more on what was to be closed."""
        return stopped(each.port for each in change.closing)

    def close(self) -> Deferred[Any]:
        opened, self.opened = self.opened, []
        return stopped(each.port for each in opened)

    def _hint(self, trouble: CannotListenError) -> str:
        number = getattr(trouble.socketError, "errno", None)
        ours = {getattr(each.port.getHost(), "port", None) for each in self.opened}
        if number == errno.EACCES:
            return "; what a port below 1024 takes was given up at the start: this needs a restart"
        if number == errno.EADDRINUSE and trouble.port in ours:
            return "; one of our own sockets is in its way: this needs a restart"
        return hint_at_start(trouble)

    def shown(self) -> list[str]:
        return [shown(each.port.getHost()) for each in self.opened]
