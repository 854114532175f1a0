"""What a filter learns from one message: what tells it from others, and its words as numbers.

Knows that a message on disk may have other line ends than one on the wire. Does not know where it comes from.
"""

from __future__ import annotations

import hashlib
import re
from array import array

from inboundmx.model.message import SMALL_BODY, Body, Message
from inboundmx.policy.mime import walk
from inboundmx.policy.mime_text import text
from inboundmx.policy.tokens import tokens
from inboundmx.storage.bayes import Lesson
from inboundmx.storage.bayes_model import number_of

# Octets of a message that are looked at.
LARGEST = 2 * 2**20
_LINE_END = re.compile(rb"\r?\n")


def lesson(octets: bytes, secret: bytes) -> Lesson:
    """Blocks for some milliseconds. Raises nothing, whatever the octets are."""
    octets = _LINE_END.sub(b"\r\n", octets[:LARGEST])
    message = Message("", Body(len(octets), octets[:SMALL_BODY], None, b""))
    parts = walk(octets)
    read = text(parts)
    words = tokens(message.fields, parts, read)
    # Copies of one message differ in what servers on the way have put in front of it, and in nothing else.
    told = [field.value.strip() for field in message.fields if field.name in ("message-id", "from", "date")]
    identity = hashlib.blake2b(b"\0".join(told[:10]), digest_size=16, key=secret)
    identity.update(read.plain.encode("utf-8", "replace"))
    return Lesson(identity.digest(), array("q", sorted({number_of(secret, word) for word in words})))
