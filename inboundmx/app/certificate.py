"""The certificate strangers are shown, read beforehand. Knows PEM files; does not speak TLS."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from inboundmx.model.settings import TlsSettings

SOON = datetime.timedelta(days=14)


class Unusable(Exception):
    """The certificate or its key cannot be used; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says: its DNS names, from when and until when (UTC)."""

    path: str
    names: tuple[str, ...]
    begins: datetime.datetime
    ends: datetime.datetime

    def covers(self, hostname: str) -> bool:
        """Whether it is for this name; a wildcard stands for one label (RFC 6125 6.4.3)."""
        parent = hostname.partition(".")[2]
        return any(name.lower() in (hostname, f"*.{parent}") for name in self.names)

    def warnings(self, hostname: str, now: datetime.datetime) -> list[str]:
        found = []
        if now > self.ends:
            found.append(f"[tls] certificate {self.path} expired on {self.ends:%Y-%m-%d}; renew it")
        elif now + SOON > self.ends:
            found.append(f"[tls] certificate {self.path} expires on {self.ends:%Y-%m-%d}; renew it")
        if now < self.begins:
            found.append(f"[tls] certificate {self.path} is valid from {self.begins:%Y-%m-%d} on only")
        if not self.covers(hostname):
            names = " ".join(self.names) or "no name at all"
            found.append(f"[tls] certificate {self.path} is for {names}, not for {hostname}")
        return found


def examine(tls: TlsSettings) -> Shown | None:
    """The certificate of ``[tls]``, None when there is none. Raises Unusable: a file is missing or unreadable, is not
    what it should be, or certificate and key do not belong together."""
    if not tls.certificate:
        if tls.private_key:
            raise Unusable("[tls] private_key is given and certificate is not; give both, or neither")
        return None
    try:
        certificate = x509.load_pem_x509_certificates(_read("certificate", tls.certificate))[0]
    except ValueError:
        raise Unusable(f"[tls] certificate {tls.certificate} holds no PEM certificate") from None
    path = tls.private_key or tls.certificate
    try:
        key = load_pem_private_key(_read("private_key", path), None)
    except TypeError:
        raise Unusable(f"[tls] private_key {path} is protected by a pass phrase; store it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable(f"[tls] private_key {path} holds no PEM private key that can be used") from None
    shape = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*shape) != certificate.public_key().public_bytes(*shape):
        raise Unusable(f"[tls] private_key {path} does not belong to certificate {tls.certificate}")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = tuple(names.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        found = ()
    return Shown(tls.certificate, found, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def exposed(tls: TlsSettings) -> bool:
    """Whether everybody on this machine may read the private key."""
    path = tls.private_key or tls.certificate
    return bool(path) and bool(os.stat(path).st_mode & 0o004)


def _read(key: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(2**20)
    except OSError as error:
        raise Unusable(f"[tls] {key} {path} cannot be read: {error.strerror}") from None
