"""AUTH as a server says it (RFC 4954): the command, the lines of an exchange, and what is refused before anything is
asked.

Knows base64, ``=``, ``*`` and when AUTH may come. Does not know what a mechanism says, nor who is who.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import NamedTuple

from inboundmx.model.reply import Reply
from inboundmx.model.session import Session

# RFC 4954 4 and 4.5: what a line of an exchange may have, its CRLF included.
LINE_LIMIT = 12_288

NOT_HERE = Reply(502, "5.5.1", "Command not implemented")
_NO_HELLO = Reply(503, "5.5.1", "Say EHLO first")
_NO_TLS = Reply(538, "5.7.11", "Encryption is required: say STARTTLS first")
_ALREADY = Reply(503, "5.5.1", "You are authenticated already")
_IN_TRANSACTION = Reply(503, "5.5.1", "A transaction is under way")
_NO_MECHANISM = Reply(501, "5.5.4", "AUTH needs a mechanism")
_UNKNOWN = Reply(504, "5.5.4", "Mechanism not offered")
NOT_BASE64 = Reply(501, "5.5.2", "That is no base64")
GIVEN_UP = Reply(501, "5.7.0", "Given up, as you asked")
LINE_TOO_LONG = Reply(500, "5.5.6", "Line too long")


class Begun(NamedTuple):
    """An exchange to begin; ``initial`` is None where the client waits for a challenge."""

    mechanism: str
    initial: bytes | None


def begun(
    session: Session, offered: tuple[str, ...], done: bool, in_transaction: bool, mechanism: str, initial: str | None
) -> Begun | Reply:
    """What an AUTH command begins, or why it does not. ``offered``: the mechanisms there are; ``done``: somebody is
    authenticated already."""
    if not session.submission:
        return NOT_HERE
    if not mechanism:
        return _NO_MECHANISM
    if not session.tls:
        return _NO_TLS
    if not session.extended:
        return _NO_HELLO
    if done:
        return _ALREADY
    if in_transaction:
        return _IN_TRANSACTION
    if mechanism not in offered:
        return _UNKNOWN
    if initial is None:
        return Begun(mechanism, None)
    said = b"" if initial == "=" else decoded(initial.encode())
    return NOT_BASE64 if said is None else Begun(mechanism, said)


def decoded(line: bytes) -> bytes | None:
    """A response, None when it is no base64."""
    try:
        return b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None
