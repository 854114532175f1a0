"""Twisted's epoll reactor with less done around each event.

Knows how Twisted's reactor is told of events. Does not know what is read or written, nor which reactor is installed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.internet.epollreactor import EPOLLIN, EPollReactor
from twisted.python import log

_log: Any = log
# What waits for leisure waits no longer than this: a reactor may be busy for hours. 2.5 ms, 5 and 10 measure the same.
LEISURE_SECONDS = 0.003
# A turn of so many events is crowded: of those that only ``begin`` something so few are called in it, the others in the
# next ones. Of 200 who come together some are through while others wait to begin, instead of all at the end: with the
# port that takes fewer, too, it is 32 ms from MAIL to 250 in place of 73, at the 99th percentile 88 in place of 138,
# for the same CPU. Fewer always, with 50 sessions, were 4 % more CPU and no faster.
CROWD = 40
BEGINNINGS = 6


class QuickReactor(EPollReactor):
    """Calls what is ready to be read without a log context around it, in which Twisted keeps the name of the connection
    for each line logged meanwhile: six function calls and two copied dictionaries an event, a tenth of all that a
    message costs in instructions. Our lines carry ids instead. What fails is logged with that context and its
    connection dropped, as ever."""

    # Twisted made the reactor, so there is no constructor of ours.
    _for_leisure: tuple[Callable[[], object], ...] = ()
    _leisure_by = 0.0
    crowded = False
    """Whether this turn has more to do than it should begin anew."""

    def at_leisure(self, call: Callable[[], object]) -> None:
        """Calls it as soon as nothing else is to be done, or after LEISURE_SECONDS."""
        if not self._for_leisure:
            self._leisure_by = monotonic() + LEISURE_SECONDS
        self._for_leisure += (call,)

    def doPoll(self, timeout: float | None) -> None:
        seconds = -1 if timeout is None else timeout
        if self._for_leisure:
            seconds = 0
        try:
            events = self._poller.poll(seconds, len(self._selectables))
        except OSError as trouble:
            if trouble.errno == errno.EINTR:
                return
            raise
        selectables = self._selectables
        self.crowded = crowded = len(events) > CROWD
        begun = 0
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is None:
                # What came before it in this round has closed it.
                continue
            if event != EPOLLIN:
                _log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, event)
                continue
            if crowded and getattr(selectable, "begins", False):
                begun += 1
                if begun > BEGINNINGS:
                    # What is to be read there is still to be read, and so told of again.
                    continue
            try:
                why: Any = selectable.doRead()
            except BaseException as error:  # noqa: BLE001 - logged, and only this connection is lost, as in Twisted
                why = error
                _log.callWithLogger(selectable, _log.err)
            if why:
                _log.callWithLogger(selectable, self._disconnectSelectable, selectable, why, True)

        if self._for_leisure and (not (events or timeout == 0) or monotonic() >= self._leisure_by):
            calls, self._for_leisure = self._for_leisure, ()
            for call in calls:
                try:
                    call()
                except BaseException:  # noqa: BLE001 - logged, and the others are called
                    _log.err()

    doIteration = doPoll


def quicken(reactor: Any) -> None:
    """Makes one of it, if it is Twisted's own for epoll: whoever installed it (twistd among them) has it quick."""
    if type(reactor) is EPollReactor:
        reactor.__class__ = QuickReactor
