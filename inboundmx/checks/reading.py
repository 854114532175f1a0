"""What a reader would see of a message, made once for all checks that look at its words or links.

Knows where it is made, on the reactor or in a thread. Does not know what is looked for.
"""

from __future__ import annotations

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.once import OncePerMessage
from inboundmx.checks.walking import AT_ONCE, walked
from inboundmx.policy.mime_text import Bounds, Text, text

# What is read at once, within a few milliseconds; what has more in it goes to a thread.
HASTE = Bounds(octets=AT_ONCE, tags=1000, links=200)

_texts: OncePerMessage[Text] = OncePerMessage()


async def read(case: Case, tools: Tools) -> Text:
    """Raises Unavailable when the body cannot be read, or no thread is free."""
    message = case.message
    assert message is not None
    parts = await walked(case, tools)
    found = _texts.kept.get(message)
    if found is not None:
        return found
    if message.body.size <= AT_ONCE and message not in _texts.waiting:
        found = text(parts, HASTE)
        if found.complete:
            _texts.kept[message] = found
            return found
    return await _texts.get(message, lambda: tools.offload.run(text, parts))
