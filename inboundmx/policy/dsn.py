"""What a sender asked to be told, and the names he gave for it (RFC 3461, RFC 6533).

Knows the words of NOTIFY and the encodings of ENVID and ORCPT. Does not know how they are told apart on the wire
(``smtp.commands`` has settled that), nor how a notice is written.
"""

from __future__ import annotations

import re

from inboundmx.model.address import Address

_ENCODED = re.compile(r"\+([0-9A-Fa-f]{2})")
_NAMED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def hears_of_failure(notify: str) -> bool:
    """Whoever said nothing is told of failure (RFC 3461 4.1)."""
    return not notify or "FAILURE" in notify.split(",")


def hears_of_delay(notify: str) -> bool:
    return not notify or "DELAY" in notify.split(",")


def hears_of_success(notify: str) -> bool:
    return "SUCCESS" in notify


def without_success(notify: str) -> str:
    """The other wishes. Whoever asked for success alone wants no other notice either."""
    words = [word for word in notify.split(",") if word != "SUCCESS"]
    return ",".join(words) or "NEVER"


def decoded(xtext: str) -> str:
    """What xtext stands for (RFC 3461 4). What is none stands for itself."""
    return _ENCODED.sub(lambda found: chr(int(found[1], 16)), xtext)


def original_recipient(original: str) -> tuple[str, str]:
    """The type of address and the address itself that an ORCPT names; both empty when it names none."""
    kind, semicolon, encoded = original.partition(";")
    if not semicolon:
        return "", ""
    if kind.lower() != "utf-8":
        return kind, decoded(encoded)
    return kind, _NAMED.sub(lambda found: _character(found[1]), encoded)


def _character(digits: str) -> str:
    point = int(digits, 16)
    return chr(point) if point <= 0x10FFFF else "?"


def typed(kind: str, text: str, utf8: bool) -> str:
    """An address with its type as a notice shows it. One that is not ASCII is of type utf-8, written as it is where
    ``utf8``, else as utf-8-addr-xtext (RFC 6533 3), which is ASCII."""
    if text.isascii():
        return f"{kind}; {text}"
    if utf8:
        return f"utf-8; {text}"
    return "utf-8; " + "".join(
        char if "!" <= char <= "~" and char not in "\\+=" else f"\\x{{{ord(char):X}}}" for char in text
    )


def written(address: Address, utf8: bool) -> str:
    """A mailbox as ``typed`` writes it."""
    return typed("rfc822", str(address), utf8)
