"""The certificates strangers are shown, read beforehand. Knows PEM files; does not speak TLS."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.dsa import DSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from inboundmx.model.settings import CertificateSettings, TlsSettings

# NIST SP 800-131A, and the default of OpenSSL 3.2.
LEAST_BITS = 2048
SOON = datetime.timedelta(days=14)


class Unusable(Exception):
    """The certificate or its key cannot be used; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says: its DNS names, from when and until when (UTC). ``section`` is where it is configured,
    ``asked`` the names it is shown for; None for the one that is shown to everybody else."""

    section: str
    asked: tuple[str, ...] | None
    path: str
    names: tuple[str, ...]
    begins: datetime.datetime
    ends: datetime.datetime

    def covers(self, hostname: str) -> bool:
        """Whether it is for this name; a wildcard stands for one label (RFC 6125 6.4.3)."""
        parent = hostname.partition(".")[2]
        return any(name.lower() in (hostname, f"*.{parent}") for name in self.names)

    def unmet(self, hostname: str) -> list[str]:
        """Names it is shown for and does not have."""
        return [name for name in ((hostname,) if self.asked is None else self.asked) if not self.covers(name)]

    def warnings(self, hostname: str, now: datetime.datetime) -> list[str]:
        found = []
        if now > self.ends:
            found.append(f"{self.section} certificate {self.path} expired on {self.ends:%Y-%m-%d}; renew it")
        elif now + SOON > self.ends:
            found.append(f"{self.section} certificate {self.path} expires on {self.ends:%Y-%m-%d}; renew it")
        if now < self.begins:
            found.append(f"{self.section} certificate {self.path} is valid from {self.begins:%Y-%m-%d} on only")
        if unmet := self.unmet(hostname):
            names = " ".join(self.names) or "no name at all"
            found.append(f"{self.section} certificate {self.path} is for {names}, not for {' '.join(unmet)}")
        return found


def problems(tls: TlsSettings) -> list[str]:
    """Sentences about what keeps any of them from being used."""
    if tls.private_key and not tls.certificate:
        return ["[tls] private_key is given and certificate is not; give both, or neither"]
    found = []
    for each in tls.certificates:
        try:
            examine(each)
        except Unusable as trouble:
            found.append(str(trouble))
    return found


def warnings(tls: TlsSettings, hostname: str, now: datetime.datetime) -> list[str]:
    """Sentences about those that can be used, and may still not be meant so."""
    found = []
    for each in tls.certificates:
        try:
            shown = examine(each)
        except Unusable:
            continue
        found += shown.warnings(hostname, now)
        path = each.private_key or each.certificate
        if os.stat(path).st_mode & 0o004:
            found.append(f"{shown.section} private_key {path} can be read by everybody here")
    return found


def examine(configured: CertificateSettings) -> Shown:
    """Raises Unusable: a file is missing or unreadable, is not what it should be, the key is too weak for anybody to
    trust it, or certificate and key do not belong together."""
    section = f"[tls {configured.name}]" if configured.name else "[tls]"
    try:
        certificate = x509.load_pem_x509_certificates(_read(section, "certificate", configured.certificate))[0]
    except ValueError:
        raise Unusable(f"{section} certificate {configured.certificate} holds no PEM certificate") from None
    path = configured.private_key or configured.certificate
    try:
        key = load_pem_private_key(_read(section, "private_key", path), None)
    except TypeError:
        raise Unusable(f"{section} private_key {path} is protected by a pass phrase; store it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable(f"{section} private_key {path} holds no PEM private key that can be used") from None
    shape = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*shape) != certificate.public_key().public_bytes(*shape):
        raise Unusable(f"{section} private_key {path} does not belong to certificate {configured.certificate}")
    if isinstance(key, RSAPrivateKey | DSAPrivateKey) and key.key_size < LEAST_BITS:
        raise Unusable(
            f"{section} private_key {path} has {key.key_size} bits, and others refuse less than {LEAST_BITS}: make "
            f"another, and a certificate for it"
        )
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = tuple(names.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        found = ()
    asked = configured.names if configured.name else None
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Shown(section, asked, configured.certificate, found, begins, ends)


def _read(section: str, key: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(2**20)
    except OSError as error:
        raise Unusable(f"{section} {key} {path} cannot be read: {error.strerror}") from None
