"""The walk through the parts of a message, made once for all checks that look at it.

Knows where it is made, on the reactor or in a thread, and for how long it is kept. Does not know what is looked for.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.checks.api import Case, Tools
from inboundmx.model.message import Body, Message
from inboundmx.policy.mime import Limits, Walked, walk
from inboundmx.ports import Contents

# Octets that are walked at once, and what of them within a few milliseconds; what has more in it goes to a thread.
AT_ONCE = 64 * 1024
HASTE = Limits(parts=100, delimiters=1000)

# Of messages under way: their walk, for as long as the message itself is kept, or those who wait for it.
_walked: WeakKeyDictionary[Message, Walked] = WeakKeyDictionary()
_waiting: WeakKeyDictionary[Message, list[Deferred[Walked]]] = WeakKeyDictionary()


async def walked(case: Case, tools: Tools) -> Walked:
    """Raises Unavailable when the body cannot be read, or no thread is free."""
    message = case.message
    assert message is not None
    found = _walked.get(message)
    if found is not None:
        return found
    body = message.body
    if body.path is None and body.size <= AT_ONCE and message not in _waiting:
        found = walk(body.head, HASTE)
        if found.complete:
            _walked[message] = found
            return found
    # Each waits on a Deferred of its own: one that gives up does not take the walk away from the others.
    mine: Deferred[Walked] = Deferred()
    waiting = _waiting.get(message)
    if waiting is None:
        _waiting[message] = [mine]
        work = tools.offload.run(_walk_whole, tools.contents, body)
        work.addCallbacks(partial(_made, message), partial(_failed, message))
    else:
        waiting.append(mine)
    return await mine


def _walk_whole(contents: Contents, body: Body) -> Walked:
    return walk(body.head if body.path is None else contents.whole(body))


def _made(message: Message, found: Walked) -> None:
    # The parts of a large body hold all of it: only those who ask at the same time share them.
    if message.body.path is None:
        _walked[message] = found
    _tell(message, found)


def _failed(message: Message, failure: Failure) -> None:
    _tell(message, failure)


def _tell(message: Message, came: Any) -> None:
    for deferred in _waiting.pop(message, ()):
        # One that was cancelled has been told already.
        if not deferred.called:
            deferred.callback(came)
