"""The walk through the parts of a message, made once for all checks that look at it.

Knows where it is made, on the reactor or in a thread, and for how long it is kept. Does not know what is looked for.
"""

from __future__ import annotations

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.once import OncePerMessage
from inboundmx.model.message import Body
from inboundmx.policy.mime import Limits, Walked, walk
from inboundmx.ports import Contents

# Octets that are walked at once, and what of them within a few milliseconds; what has more in it goes to a thread.
AT_ONCE = 64 * 1024
HASTE = Limits(parts=100, delimiters=1000)

_walks: OncePerMessage[Walked] = OncePerMessage()


async def walked(case: Case, tools: Tools) -> Walked:
    """Raises Unavailable when the body cannot be read, or no thread is free."""
    message = case.message
    assert message is not None
    body = message.body
    # The parts of a large body hold all of it: only those who ask at the same time share them.
    return await _walks.get(
        message,
        lambda: _walk_in_haste(body),
        lambda: tools.offload.run(_walk_whole, tools.contents, body),
        keep=body.path is None,
    )


def _walk_in_haste(body: Body) -> Walked | None:
    if body.path is not None or body.size > AT_ONCE:
        return None
    found = walk(body.head, HASTE)
    return found if found.complete else None


def _walk_whole(contents: Contents, body: Body) -> Walked:
    return walk(body.head if body.path is None else contents.whole(body))
