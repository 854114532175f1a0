"""A list of recipients as text: one address a line, ``@domain`` or ``*@domain`` for all of a domain, ``#`` and ``;``
comments; or the same texts as JSON.

Knows the lines, and that a list without any address is none. Does not know where it comes from.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from inboundmx.model.address import Address
from inboundmx.ports import Unavailable

# Octets of a list.
LARGEST = 64 * 2**20
# RFC 5321 4.5.3.1: a local part, an at sign and a domain.
_LONGEST = 64 + 1 + 255


class Listed(NamedTuple):
    """``addresses`` and ``domains`` in lower case."""

    addresses: frozenset[str]
    domains: frozenset[str]

    def holds(self, address: Address) -> bool:
        return str(address).lower() in self.addresses or address.domain in self.domains


def listed(octets: bytes) -> Listed:
    """Lines, or a JSON list of texts. Raises Unavailable where it is no list or holds nobody: whoever writes a list
    anew may have emptied it just now, and mail is not refused for that."""
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unavailable(f"is not UTF-8 at octet {error.start}") from None
    found: Any = text.splitlines()
    if text.lstrip()[:1] in ("[", "{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise Unavailable("is no JSON list of addresses")
    addresses: set[str] = set()
    domains: set[str] = set()
    for number, line in enumerate(found, 1):
        word = line.strip().lower()
        if not word or word[0] in "#;":
            continue
        local, at, domain = word.rpartition("@")
        if not at or not domain or not word.isprintable() or len(word) > _LONGEST:
            raise Unavailable(f"line {number} is no address")
        if local in ("", "*"):
            domains.add(domain)
        else:
            addresses.add(word)
    if not addresses and not domains:
        raise Unavailable("holds no address")
    return Listed(frozenset(addresses), frozenset(domains))
