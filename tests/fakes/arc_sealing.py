"""Seals messages for tests by hand (RFC 8617), so that a set can say whatever a test wants it to say."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from fakes.dkim_signing import NAMES, rsa_key

_FIELD = re.compile(rb"([^:\r\n]+):([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n")
_OF_A_SET = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")


def sealed_by(
    domain: str,
    mail: bytes,
    results: str = "dmarc=pass header.from=a.example",
    *,
    number: int = 0,
    key: Any = None,
    signature: dict[str, str | None] | None = None,
    seal: dict[str, str | None] | None = None,
) -> bytes:
    """One more set above the message. ``signature`` and ``seal`` replace tags of these fields, None takes one away;
    ``number`` that of the set."""
    key = key or rsa_key()
    head, _, body = mail.partition(b"\r\n\r\n")
    fields = [(name.lower(), value) for name, value in _FIELD.findall(head + b"\r\n")]
    earlier = [each for each in fields if each[0] in _OF_A_SET]
    number = number or len(earlier) // 3 + 1
    names = [name.decode() for name in NAMES]
    told = f" i={number}; {domain}; {results}"
    tags = {
        "i": str(number), "a": "rsa-sha256", "c": "relaxed/relaxed", "d": domain, "s": "s", "h": ":".join(names),
        "bh": base64.b64encode(hashlib.sha256(_body(body)).digest()).decode(),
    } | (signature or {})  # fmt: skip
    written = _written(tags)
    left = list(fields)
    signed = b""
    for name in (tags["h"] or "").split(":"):
        for at in range(len(left) - 1, -1, -1):
            if left[at][0] == name.lower().encode():
                signed += _relaxed(*left.pop(at)) + b"\r\n"
                break
    message_signature = written + tags.get("b", _b(key, signed + _relaxed(b"arc-message-signature", written.encode())))
    tags = {
        "i": str(number), "a": "rsa-sha256", "cv": "pass" if number > 1 else "none", "d": domain, "s": "s",
    } | (seal or {})  # fmt: skip
    written = _written(tags)
    sets = [earlier[at : at + 3][::-1] for at in range(0, len(earlier), 3)][::-1]
    covered = [field for each in sets for field in each]
    covered += [(b"arc-authentication-results", told.encode()), (b"arc-message-signature", message_signature.encode())]
    text = b"".join(_relaxed(*field) + b"\r\n" for field in covered) + _relaxed(b"arc-seal", written.encode())
    own = written + tags.get("b", _b(key, text))
    return (
        f"ARC-Seal:{own}\r\nARC-Message-Signature:{message_signature}\r\nARC-Authentication-Results:{told}\r\n"
    ).encode() + mail


def _written(tags: dict[str, Any]) -> str:
    return "".join(f" {name}={value};" for name, value in tags.items() if value is not None and name != "b") + " b="


def _b(key: Any, text: bytes) -> str:
    return base64.b64encode(key.sign(text, padding.PKCS1v15(), SHA256())).decode()


def _relaxed(name: bytes, value: bytes) -> bytes:
    return name + b":" + b" ".join(value.split())


def _body(body: bytes) -> bytes:
    lines = [re.sub(rb"[ \t]+", b" ", line.rstrip(b" \t")) for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)
