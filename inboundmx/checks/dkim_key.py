"""Key records (RFC 6376 3.6.1) and what they can verify.

Knows the record's tags, and which keys are too small, too large or not meant for mail. Does not know where a record
comes from, nor what was signed.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import load_der_public_key
from dkim.util import InvalidTagValueList, parse_tag_value

# RFC 8301 3.2: a smaller key proves nothing. A larger one than LARGEST costs more than a stranger may ask for.
SMALLEST = 1024
LARGEST = 8192
EXPONENT_LIMIT = 2**64
# Octets of a key of LARGEST bits, and of a record that holds one with notes: beyond, neither is read.
KEY_OCTETS = 1100
RECORD_OCTETS = 4096


class BadKey(Exception):
    """Says why a record is of no use, in words of ours."""


@dataclass(frozen=True, slots=True)
class Key:
    """``bits`` of an RSA key, 0 for ed25519. ``testing``: t=y; ``strict``: t=s, i= must be of d= itself."""

    public: RSAPublicKey | Ed25519PublicKey
    bits: int
    testing: bool
    strict: bool

    @property
    def algorithm(self) -> str:
        return "rsa-sha256" if self.bits else "ed25519-sha256"

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        try:
            if isinstance(self.public, RSAPublicKey):
                self.public.verify(signature, signed, PKCS1v15(), SHA256())
            else:
                digest = Hash(SHA256())
                digest.update(signed)
                self.public.verify(signature, digest.finalize())
        except InvalidSignature:
            return False
        return True


def key_of(rows: Sequence[bytes]) -> Key:
    """The key that the TXT rows at a selector hold. Raises BadKey; two keys are as useless as none (RFC 6376 3.6.2.2).
    Rows that are no key record, such as a wildcard's, are passed over."""
    if len(rows) > 1:
        rows = [row for row in rows if b"p=" in row[:RECORD_OCTETS]]
    if not rows:
        raise BadKey("no key")
    if len(rows) > 1:
        raise BadKey("two keys at one selector")
    found = _key(rows[0])
    if isinstance(found, str):
        raise BadKey(found)
    return found


@lru_cache(maxsize=256)
def _key(record: bytes) -> Key | str:
    """The key, or why there is none."""
    if len(record) > RECORD_OCTETS:
        return "the key record is too large"
    try:
        tags = parse_tag_value(record)
    except InvalidTagValueList:
        return "the key record cannot be read"
    if "p" not in (names := {name.decode("latin-1"): value.decode("latin-1") for name, value in tags.items()}):
        return "the key record holds no key"
    if names.get("v", "DKIM1") != "DKIM1":
        return "the key record is of another version"
    if not {"*", "email"} & _words(names.get("s", "*")):
        return "the key is not for mail"
    if "h" in names and "sha256" not in _words(names["h"]):
        return "the key is not for sha256"
    flags = _words(names.get("t", ""))
    encoded = "".join(names["p"].split())
    if not encoded:
        return "the key is revoked"
    try:
        octets = binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError):
        return "the key cannot be read"
    public = _public(names.get("k", "rsa"), octets)
    if isinstance(public, str):
        return public
    bits = public.key_size if isinstance(public, RSAPublicKey) else 0
    return Key(public, bits, "y" in flags, "s" in flags)


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(":")}


def _public(kind: str, octets: bytes) -> RSAPublicKey | Ed25519PublicKey | str:
    if len(octets) > KEY_OCTETS:
        return "the key is too large"
    try:
        if kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(octets)
        public = load_der_public_key(octets)
        if kind != "rsa" or not isinstance(public, RSAPublicKey):
            return "the key is of a kind that is not known"
        if public.key_size > LARGEST or public.public_numbers().e >= EXPONENT_LIMIT:
            return "the key is too large"
    except (ValueError, UnsupportedAlgorithm):
        return "the key cannot be read"
    return public
