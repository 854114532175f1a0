"""Twisted's epoll reactor with less done around each event.

Knows how Twisted's reactor is told of events. Does not know what is read or written, nor which reactor is installed.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.epollreactor import EPOLLIN, EPollReactor
from twisted.python import log

_log: Any = log


class QuickReactor(EPollReactor):
    """Calls what is ready to be read without a log context around it, in which Twisted keeps the name of the connection
    for each line logged meanwhile: six function calls and two copied dictionaries an event, a tenth of all that a
    message costs in instructions. Our lines carry ids instead. What fails is logged with that context and its
    connection dropped, as ever."""

    def doPoll(self, timeout: float | None) -> None:
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
        except OSError as trouble:
            if trouble.errno == errno.EINTR:
                return
            raise
        selectables = self._selectables
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is None:
                # What came before it in this round has closed it.
                continue
            if event != EPOLLIN:
                _log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, event)
                continue
            try:
                why: Any = selectable.doRead()
            except BaseException as error:  # noqa: BLE001 - logged, and only this connection is lost, as in Twisted
                why = error
                _log.callWithLogger(selectable, _log.err)
            if why:
                _log.callWithLogger(selectable, self._disconnectSelectable, selectable, why, True)

    doIteration = doPoll


def quicken(reactor: Any) -> None:
    """Makes one of it, if it is Twisted's own for epoll: whoever installed it (twistd among them) has it quick."""
    if type(reactor) is EPollReactor:
        reactor.__class__ = QuickReactor
