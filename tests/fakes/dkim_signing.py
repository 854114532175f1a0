"""Signs messages for tests: with dkimpy, and by hand where a signer would refuse."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

MAIL = (
    b"Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n"
    b"From: Ann <ann@a.example>\r\n"
    b"To: user@here.example\r\n"
    b"Subject: a \t folded\r\n\tsubject \r\n"
    b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\n"
    b"\r\n"
    b"Hello \t there. \r\n\r\nBye\t\r\n\r\n\r\n"
)
NAMES = (b"from", b"to", b"subject", b"date")
# Libraries use such keys but make none any more.
SMALL_PRIMES = {
    512: (
        0xF9236D7B222A906D2A51AEB7D9FDA865116E7A80FEFB8913B5D1E15822C33309,
        0xED50870FF45927335941DD2679C682793AFE2DD56B063BDA64829CF3E9559193,
    ),
    768: (
        0xF56E21BCA21E511CD08F3F267E4A873F9BA33FCCF239EE1C777BF4E946FCBA9C54CFF7415873F86BEF722B2C98417565,
        0xC4193309E06C2EC09AEEB4317CCC38C28BD151A2133A8E2801AE80F83073DFEDCB3E6AB6B2F05D9F0ED9C55A44C21899,
    ),
}


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    if bits in SMALL_PRIMES:
        p, q = SMALL_PRIMES[bits]
        d = rsa.rsa_recover_private_exponent(exponent, p, q)
        numbers = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
        return rsa.RSAPrivateNumbers(p, q, d, *numbers, rsa.RSAPublicNumbers(exponent, p * q)).private_key()
    return rsa.generate_private_key(exponent, bits)


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def encoded(public: rsa.RSAPublicKey) -> str:
    octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


def rsa_record(key: rsa.RSAPrivateKey, tags: str = "") -> str:
    return f"v=DKIM1; k=rsa; {tags}p={encoded(key.public_key())}"


def ed25519_record() -> str:
    raw = ed25519_key().public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode()}"


def signed(
    mail: bytes = MAIL,
    *,
    selector: str = "s",
    domain: str = "a.example",
    forms: str = "relaxed/relaxed",
    names: tuple[bytes, ...] = NAMES,
    length: bool = False,
    key: rsa.RSAPrivateKey | None = None,
) -> bytes:
    """By dkimpy, rsa-sha256."""
    key = key or rsa_key()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    header, body = (form.encode() for form in forms.split("/"))
    return bytes(
        dkim.sign(
            mail, selector.encode(), domain.encode(), pem, canonicalize=(header, body), include_headers=list(names),
            length=length,
        )
    ) + mail  # fmt: skip


def signed_with(tags: dict[str, str | None], mail: bytes = MAIL, key: object = None) -> bytes:
    """By hand, relaxed/relaxed, whatever the tags say: ``tags`` replace or (None) remove the usual ones."""
    body = _relaxed_body(mail.partition(b"\r\n\r\n")[2])
    usual = {
        "v": "1", "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "a.example", "s": "s", "h": "from:subject",
        "bh": base64.b64encode(hashlib.sha256(body).digest()).decode(), "b": "",
    }  # fmt: skip
    merged = {name: value for name, value in (usual | tags).items() if value is not None}
    field = "DKIM-Signature: " + "; ".join(f"{name}={value}" for name, value in merged.items() if name != "b") + "; b="
    fields = re.findall(rb"([^:\r\n]+):([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n", mail.partition(b"\r\n\r\n")[0] + b"\r\n")
    octets = b""
    for name in merged.get("h", "").split(":"):
        for at in range(len(fields) - 1, -1, -1):
            if fields[at][0].lower() == name.strip().lower().encode():
                octets += _relaxed_field(*fields.pop(at)) + b"\r\n"
                break
    name, _, value = field.encode("latin-1").partition(b":")
    octets += _relaxed_field(name, value)
    if "b" in tags:
        signature = tags["b"] or ""
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        signature = base64.b64encode(key.sign(hashlib.sha256(octets).digest())).decode()
    else:
        assert key is None or isinstance(key, rsa.RSAPrivateKey)
        signature = base64.b64encode((key or rsa_key()).sign(octets, padding.PKCS1v15(), SHA256())).decode()
    return field.encode("latin-1") + signature.encode() + b"\r\n" + mail


def _relaxed_field(name: bytes, value: bytes) -> bytes:
    return name.lower() + b":" + b" ".join(value.split())


def _relaxed_body(body: bytes) -> bytes:
    lines = [re.sub(rb"[ \t]+", b" ", line.rstrip(b" \t")) for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)
