"""Whether a message goes in circles.

Knows Received fields, and which of them we wrote. Does not know where the message goes next.
"""

from __future__ import annotations

import re

from inboundmx.model.identity import ALPHABET
from inboundmx.model.message import Message
from inboundmx.model.settings import GatewaySettings
from inboundmx.policy.stamping import count_received, our_names

# How often a message may have passed here before. Somebody who forwards his mail to another domain of ours, a list and
# an alias on the way, each bring it here once more; more than five times it is two servers that send it to each other,
# long before the hops of RFC 5321 6.3 are used up.
PASSES = 5

# Our own trace field, as it may have been folded anew on the way (policy.stamping writes it).
_BY_AND_ID = re.compile(
    rb"\sby\s+([^\s;()]{1,255})\s+with\s+[A-Za-z0-9]+(?:\s+\([^()]*\))?\s+id\s+([" + ALPHABET.encode() + rb"]{15})[\s;]"
)


def goes_in_circles(message: Message, gateway: GatewaySettings, max_hop_count: int) -> bool:
    """It has more hops behind it than it may, or too many of them were ours."""
    hops = count_received(message)
    return hops > max_hop_count or (hops > PASSES and passes(message, gateway) > PASSES)


def passes(message: Message, gateway: GatewaySettings) -> int:
    """How many of its Received fields name one of our names and an id as we make them."""
    names = our_names(gateway)
    found = (_BY_AND_ID.search(field.value) for field in message.fields if field.name == "received")
    return sum(1 for match in found if match is not None and match[1].decode("latin-1").lower().rstrip(".") in names)
