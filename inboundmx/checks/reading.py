"""What a reader would see of a message, made once for all checks that look at its words or links.

Knows where it is made, on the reactor or in a thread. Does not know what is looked for.
"""

from __future__ import annotations

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.once import OncePerMessage
from inboundmx.checks.walking import AT_ONCE, walked
from inboundmx.policy.mime import Walked
from inboundmx.policy.mime_text import Bounds, Text, text

# What is read at once, within a few milliseconds; what has more in it goes to a thread.
HASTE = Bounds(octets=AT_ONCE, tags=1000, links=200)

_texts: OncePerMessage[Text] = OncePerMessage()


async def read(case: Case, tools: Tools, parts: Walked | None = None) -> Text:
    """``parts``: of whoever has them already. Raises Unavailable when the body cannot be read, or no thread is free."""
    message = case.message
    assert message is not None
    found = _texts.kept.get(message)
    if found is not None:
        # The parts of a large body are not kept, and need not be looked for again.
        return found
    walk = await walked(case, tools) if parts is None else parts
    return await _texts.get(
        message, lambda: _read_in_haste(message.body.size, walk), lambda: tools.offload.run(text, walk)
    )


def _read_in_haste(size: int, parts: Walked) -> Text | None:
    if size > AT_ONCE:
        return None
    found = text(parts, HASTE)
    return found if found.complete else None
