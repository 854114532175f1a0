"""A chain of ARC sets (RFC 8617): what each who passed the mail on has sealed, as values.

Knows the three fields of a set, what a seal covers, and what a sealer says it saw. Does not know keys, nor whom to
trust.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inboundmx.checks.dkim_content import relaxed_field
from inboundmx.checks.dkim_signature import (
    FIELD_LIMIT,
    BadSignature,
    Signature,
    algorithm_of,
    domain_of,
    number_of,
    octets_of,
    selector_of,
    signature_from,
    tags_of,
    unsigned,
)
from inboundmx.model.message import Field, Message

# RFC 8617 4.2.1: more is no chain.
SETS = 50
RESULTS, SIGNATURE, SEAL = "arc-authentication-results", "arc-message-signature", "arc-seal"
NAMES = (RESULTS, SIGNATURE, SEAL)
# What a sealer saw pass, by the properties of RFC 8601 that name a domain.
PROPERTIES = {"dmarc": ("header.from",), "dkim": ("header.d", "header.i"), "spf": ("smtp.mailfrom",)}

_INSTANCE = re.compile(r"0*([1-9][0-9]?)")
_RESULTS_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*0*([1-9][0-9]?)[ \t\r\n]*;")
# Pieces of a results field: a quoted string, a quoted pair, what opens, closes or ends, anything else.
_PIECES = re.compile(r'"(?:[^"\\]|\\.)*+"|\\.|[();]|[^"\\();]++|.', re.DOTALL)
_WORD = re.compile(r'[ \t]*+([A-Za-z0-9._-]++)[ \t]*+(?:/[ \t]*+[0-9]++[ \t]*+)?=[ \t]*+("[^"\\]*+"|[^\s";]++)[ \t]*+')
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})+")


class BadChain(Exception):
    """Says in words of ours why there is a chain that proves nothing."""


class Seal(NamedTuple):
    """Of a sealer who found the chain right as far as it went."""

    field: Field
    algorithm: str
    domain: str
    selector: str
    signature: bytes

    @property
    def key_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


class Link(NamedTuple):
    """One set: the field with what its sealer saw, its signature of the message, and its seal."""

    results: Field
    signature: Field
    seal: Seal


def chain_of(message: Message) -> list[Link]:
    """The sets from the first on; none when there are none. Raises BadChain when they are not whole (5.2)."""
    found: dict[str, dict[int, Field]] = {name: {} for name in NAMES}
    for field in message.fields:
        if field.name in found:
            number = _instance(field)
            if number in found[field.name]:
                raise BadChain(f"two sets are number {number}")
            found[field.name][number] = field
            if len(found[field.name]) > SETS:
                raise BadChain(f"more than {SETS} sets")
    results, signatures, seals = (found[name] for name in NAMES)
    if not results.keys() == signatures.keys() == seals.keys() == set(range(1, len(seals) + 1)):
        raise BadChain("the sets are not complete")
    return [
        Link(results[number], signatures[number], _seal(seals[number], number)) for number in range(1, len(seals) + 1)
    ]


def _instance(field: Field) -> int:
    if field.name == RESULTS:
        began = _RESULTS_INSTANCE.match(field.value)
        text = began[1].decode() if began else ""
    else:
        text = _tags(field).get("i", "")
    found = _INSTANCE.fullmatch(text)
    if found is None or int(found[1]) > SETS:
        raise BadChain("a set has no number")
    return int(found[1])


def _tags(field: Field) -> dict[str, str]:
    try:
        return tags_of(field)
    except BadSignature as bad:
        raise BadChain(bad.reason) from None


def _seal(field: Field, number: int) -> Seal:
    tags = _tags(field)
    if "h" in tags or "bh" in tags:
        raise BadChain("a seal names fields")
    for tag in ("a", "b", "cv", "d", "s"):
        if not tags.get(tag):
            raise BadChain(f"{tag}= is missing in a seal")
    try:
        domain = domain_of(tags)
        status = tags["cv"].lower()
        if status == "fail":
            raise BadChain(f"{domain} found it broken")
        if status != ("pass" if number > 1 else "none"):
            raise BadChain(f"cv= of set {number} is wrong")
        number_of(tags, "t")
        return Seal(field, algorithm_of(tags), domain, selector_of(tags, domain), octets_of(tags, "b"))
    except BadSignature as bad:
        raise BadChain(f"seal {number}: {bad.reason}") from None


def message_signature_of(link: Link, now: float) -> Signature:
    """The signature of the message in a set (4.1.2): as in DKIM, but i= is the set's number. Raises BadChain."""
    tags = {name: value for name, value in _tags(link.signature).items() if name not in ("i", "v")}
    try:
        signature = signature_from(link.signature, tags | {"v": "1"}, now)
    except BadSignature as bad:
        raise BadChain(bad.reason) from None
    if SEAL in signature.names:
        raise BadChain("a seal is signed as part of the message")
    return signature


def sealed(links: Sequence[Link]) -> Iterator[bytes]:
    """What each seal signs (5.1.1), from the first on: all sets up to its own, itself without b=."""
    before = bytearray()
    for results, signature, seal in links:
        for field in (results, signature):
            before += relaxed_field(field.name, field.value) + b"\r\n"
        own = seal.field
        yield bytes(before) + relaxed_field(own.name, unsigned(own.value))
        before += relaxed_field(own.name, own.value) + b"\r\n"


def passed(results: Field) -> list[tuple[str, str]]:
    """What a sealer says it saw pass: method and domain. What is not written as RFC 8601 asks says nothing."""
    if len(results.value) > FIELD_LIMIT:
        return []
    found: dict[tuple[str, str], None] = {}
    for clause in _clauses(results.text())[2:]:
        words = _words(clause)
        if not words or words[0][1].lower() != "pass":
            continue
        method = words[0][0].lower()
        for name, value in words[1:]:
            if name.lower() in PROPERTIES.get(method, ()):
                domain = value.strip('"').rpartition("@")[2].lower()
                if _DOMAIN.fullmatch(domain):
                    found[method, domain] = None
                    break
    return list(found)


def _clauses(text: str) -> list[str]:
    """The text cut at semicolons, without comments; nothing when those are not balanced."""
    clauses = [""]
    depth = 0
    for piece in _PIECES.findall(text):
        if piece == "(":
            depth += 1
        elif piece == ")":
            depth -= 1
            if depth < 0:
                return []
        elif depth:
            continue
        elif piece == ";":
            clauses.append("")
        else:
            clauses[-1] += piece
    return [] if depth else clauses


def _words(clause: str) -> list[tuple[str, str]]:
    """``name=value`` and nothing else, else nothing at all: what is quoted or missing is not to be guessed at."""
    words: list[tuple[str, str]] = []
    at = 0
    while at < len(clause):
        match = _WORD.match(clause, at)
        if match is None:
            return []
        words.append((match[1], match[2]))
        at = match.end()
    return words
