"""What XCLIENT says (Postfix): who the client is that a trusted host speaks for.

Knows the attributes and how their values are written. Does not know who may say them, nor what follows from them.
"""

from __future__ import annotations

import re

from inboundmx.model.ip import ip_of
from inboundmx.model.record import record

# As we offer it. NAME and LOGIN change nothing: names we look up ourselves, and nobody is let in by hearsay.
OFFER = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN"
# Of NAME, HELO and LOGIN (Postfix, too, takes 255).
VALUE_LIMIT = 255

_UNAVAILABLE = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
# RFC 3461 4.
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+", re.IGNORECASE)
_ENCODED = re.compile(r"\+([0-9A-F]{2})", re.IGNORECASE)


@record(frozen=True, slots=True)
class Named:
    """``ip``, ``port`` and ``hello`` are None where they were not said, else as in a Session: empty, 0 and empty when
    they were said to be unknown."""

    ip: str | None = None
    port: int | None = None
    hello: str | None = None


def named(text: str) -> Named | None:
    """What stands behind XCLIENT; None where it is not what Postfix writes: a name we do not know, one that is said
    twice, a value that cannot be one."""
    ip: str | None = None
    port: int | None = None
    hello: str | None = None
    said: set[str] = set()
    for word in text.split(" "):
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name in said or not _XTEXT.fullmatch(value):
            return None
        said.add(name)
        value = _ENCODED.sub(lambda found: chr(int(found[1], 16)), value)
        known = value.upper() not in _UNAVAILABLE
        if len(value) > VALUE_LIMIT or not value.isascii() or not value.isprintable() or " " in value:
            return None
        if name == "ADDR":
            address = ip_of(value[5:] if value.upper().startswith("IPV6:") else value) if known else None
            if known and (address is None or "%" in value):
                return None
            ip = "" if address is None else str(address)
        elif name == "PORT":
            if known and not (value.isdigit() and len(value) <= 5 and 0 < int(value) < 65536):
                return None
            port = int(value) if known else 0
        elif name == "PROTO":
            if known and value.upper() not in ("SMTP", "ESMTP"):
                return None
        elif name == "HELO":
            hello = value if known else ""
        elif name not in ("NAME", "LOGIN"):
            return None
    return Named(ip, port, hello) if said else None
