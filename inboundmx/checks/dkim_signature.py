"""The DKIM-Signature field (RFC 6376 3.5) as a value.

Knows its tags and what is wrong with them. Does not know keys, nor whether the signature is right.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from dkim.util import InvalidTagValueList, parse_tag_value

from inboundmx.model.message import Field

# Octets of the field, and names in h=, that are read.
FIELD_LIMIT = 16 * 1024
NAMES_LIMIT = 200
# Clocks differ (RFC 6376 3.5 leaves the span open).
SKEW_SECONDS = 300.0

_LABELS = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_NAME = re.compile(r"[!-9;-~]+")
_BLANKS = re.compile(rb"[ \t\r\n]+")
_NUMBER = re.compile(r"[0-9]{1,20}")
# The value of b=, which is left out of what is signed.
_B = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
_REQUIRED = ("v", "a", "b", "bh", "d", "h", "s")


class BadSignature(Exception):
    """``outcome`` is ``fail``, ``neutral`` or ``permerror``; ``reason`` is of our own words. ``domain`` is d= where it
    could be read."""

    def __init__(self, outcome: str, reason: str, domain: str = "") -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.domain = domain


@dataclass(frozen=True, slots=True)
class Signature:
    """Canonical forms are ``simple`` or ``relaxed``; ``names`` are those of h=, in lower case and in order; ``length``
    is l=, None when all of the body is signed; ``identity_domain`` is that of i=."""

    field: Field
    algorithm: str
    domain: str
    selector: str
    header_form: str
    body_form: str
    names: tuple[str, ...]
    body_hash: bytes
    signature: bytes
    length: int | None
    identity_domain: str

    @property
    def key_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def unsigned_value(self) -> bytes:
        return unsigned(self.field.value)


def signature_of(field: Field, now: float) -> Signature:
    """Reads a field. Raises BadSignature."""
    return signature_from(field, tags_of(field), now)


def signature_from(field: Field, tags: dict[str, str], now: float) -> Signature:
    """The signature that a field's ``tags`` make. Raises BadSignature."""
    for tag in _REQUIRED:
        if not tags.get(tag):
            raise BadSignature("neutral", f"{tag}= is missing")
    domain = domain_of(tags)
    try:
        return _signature(field, tags, domain, now)
    except BadSignature as bad:
        bad.domain = domain
        raise


def tags_of(field: Field) -> dict[str, str]:
    """The tags by name. Raises BadSignature."""
    if len(field.value) > FIELD_LIMIT:
        raise BadSignature("neutral", "the field is too long")
    try:
        tags = parse_tag_value(_BLANKS.sub(b" ", field.value))
        return {name.decode("ascii"): value.decode("ascii") for name, value in tags.items()}
    except (InvalidTagValueList, UnicodeDecodeError):
        raise BadSignature("neutral", "the field cannot be read") from None


def domain_of(tags: dict[str, str]) -> str:
    """d= in small letters. Raises BadSignature."""
    domain = tags["d"].lower()
    if len(domain) > 253 or "." not in domain or not _LABELS.fullmatch(domain):
        raise BadSignature("neutral", "d= is no domain")
    return domain


def algorithm_of(tags: dict[str, str]) -> str:
    """a= in small letters. Raises BadSignature."""
    algorithm = tags["a"].lower()
    if algorithm == "rsa-sha1":
        raise BadSignature("fail", "rsa-sha1 proves nothing any more")
    if algorithm not in ("rsa-sha256", "ed25519-sha256"):
        raise BadSignature("neutral", "a= is not known")
    return algorithm


def selector_of(tags: dict[str, str], domain: str) -> str:
    """s= in small letters. Raises BadSignature."""
    selector = tags["s"].lower()
    if not _LABELS.fullmatch(selector) or len(selector) + len(domain) + 12 > 253:
        raise BadSignature("neutral", "s= is no selector")
    return selector


def octets_of(tags: dict[str, str], tag: str) -> bytes:
    """What stands in base64. Raises BadSignature."""
    try:
        # Every run of blanks is one by now; Python counts some control characters as blanks, too.
        return binascii.a2b_base64(tags[tag].replace(" ", ""), strict_mode=True)
    except (binascii.Error, ValueError):
        raise BadSignature("neutral", f"{tag}= cannot be read") from None


def unsigned(value: bytes) -> bytes:
    """A field's value as it is signed by itself: without what stands in b=."""
    return _B.sub(rb"\1", value, count=1)


def _signature(field: Field, tags: dict[str, str], domain: str, now: float) -> Signature:
    if tags["v"] != "1":
        raise BadSignature("neutral", "v= is not 1")
    algorithm, selector = algorithm_of(tags), selector_of(tags, domain)
    header_form, _, body_form = tags.get("c", "simple").lower().partition("/")
    body_form = body_form or "simple"
    if not {header_form, body_form} <= {"simple", "relaxed"}:
        raise BadSignature("neutral", "c= is not known")
    if "dns/txt" not in {method.strip() for method in tags.get("q", "dns/txt").split(":")}:
        raise BadSignature("neutral", "q= is not known")
    _times(tags, now)
    length = number_of(tags, "l")
    return Signature(
        field, algorithm, domain, selector, header_form, body_form, _names(tags["h"]),
        octets_of(tags, "bh"), octets_of(tags, "b"), length, _identity_domain(tags, domain),
    )  # fmt: skip


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip(" ").lower() for name in text.split(":"))
    if len(names) > NAMES_LIMIT or not all(_NAME.fullmatch(name) for name in names):
        raise BadSignature("neutral", "h= is no list of fields")
    if "from" not in names:
        raise BadSignature("permerror", "From is not signed")
    return names


def _times(tags: dict[str, str], now: float) -> None:
    signed_at, expires_at = number_of(tags, "t"), number_of(tags, "x")
    if signed_at is not None and signed_at > now + SKEW_SECONDS:
        raise BadSignature("permerror", "signed in the future")
    if expires_at is not None and (expires_at < now - SKEW_SECONDS or expires_at <= (signed_at or 0)):
        raise BadSignature("permerror", "expired")


def number_of(tags: dict[str, str], tag: str) -> int | None:
    """None where the tag is not there. Raises BadSignature."""
    if tag not in tags:
        return None
    if not _NUMBER.fullmatch(tags[tag]):
        raise BadSignature("neutral", f"{tag}= is no number")
    return int(tags[tag])


def _identity_domain(tags: dict[str, str], domain: str) -> str:
    if "i" not in tags:
        return domain
    identity = tags["i"].rpartition("@")[2].lower()
    if identity != domain and not identity.endswith(f".{domain}"):
        raise BadSignature("permerror", "i= is not of d=")
    return identity
