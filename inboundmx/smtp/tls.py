"""Encryption of what strangers say to us.

Knows how the operator's PEM files become a context for STARTTLS, and which certificate is shown to whom. Does not know
SMTP, nor when encryption begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions, TLSVersion

from inboundmx.model.settings import CertificateSettings, TlsSettings

_MINIMUM = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
_END = b"-----END CERTIFICATE-----"
# What OpenSSL says of keys and signatures that its level of security does not take.
_WEAK = ("too small", "too weak")


class Pem(NamedTuple):
    """What the PEM files of a certificate hold, so that a process which may not open them can be given it."""

    chain: bytes
    key: bytes


def read_pem(settings: TlsSettings) -> tuple[Pem, ...]:
    """One for each of ``settings.certificates``. Raises ValueError with a sentence that names the file when one is
    missing or cannot be read."""
    return tuple(Pem(_read(each.certificate), _read(_key_path(each))) for each in settings.certificates)


def server_options(settings: TlsSettings) -> CertificateOptions | None:
    """The context for STARTTLS; None when no certificate is configured. Raises ValueError with a sentence that names
    the file when one is missing, unreadable or no PEM, or when key and certificate do not belong together."""
    return options_of(read_pem(settings), settings)


def options_of(pem: Sequence[Pem], settings: TlsSettings) -> CertificateOptions | None:
    """The same of what was read from the files."""
    if not pem:
        return None
    made = [_options(*each, settings.minimum) for each in zip(pem, settings.certificates, strict=True)]
    shown: dict[str, SSL.Context] = {}
    for (options, names), configured in zip(made[1:], settings.others, strict=True):
        for name in configured.names or names:
            shown.setdefault(name.lower(), options.getContext())
    first = made[0][0]
    if shown:
        first.getContext().set_tlsext_servername_callback(_Choice(shown))
    return first


class _Choice:
    """Shows whom asks for a name its certificate. Who asks for another, or for none, gets the first (RFC 6066 3)."""

    def __init__(self, contexts: Mapping[str, SSL.Context]) -> None:
        self._contexts = contexts

    def __call__(self, connection: SSL.Connection) -> None:
        name = asked_name(connection)
        context = self._contexts.get(name) or self._contexts.get("*." + name.partition(".")[2])
        if context is not None:
            connection.set_context(context)


def asked_name(connection: Any) -> str:
    """The name that the client asked for (SNI), in small letters; empty when it asked for none, or for what is none."""
    name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
    return name if len(name) <= 255 and name.isascii() and name.isprintable() else ""


def _options(pem: Pem, configured: CertificateSettings, minimum: str) -> tuple[CertificateOptions, Iterable[str]]:
    """With the names in the certificate."""
    path, key_path = configured.certificate, _key_path(configured)
    chain = _chain(pem.chain, path)
    options = CertificateOptions(
        privateKey=_key(pem.key, key_path),
        certificate=chain[0],
        extraCertChain=chain[1:],
        raiseMinimumTo=_MINIMUM[minimum],
    )
    try:
        # Made now, so that what is wrong is known at start and at reload, not in a handshake.
        options.getContext()
    except SSL.Error as error:
        if any(word in str(error) for word in _WEAK):
            raise ValueError(f"the certificate in {path} has a key or a signature that is too weak") from None
        raise ValueError(f"the key in {key_path} does not belong to the certificate in {path}") from None
    return options, _names(chain[0])


def _names(certificate: crypto.X509) -> Iterable[str]:
    try:
        found = certificate.to_cryptography().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return found.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        return ()


def _key_path(configured: CertificateSettings) -> str:
    return configured.private_key or configured.certificate


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _chain(pem: bytes, path: str) -> list[crypto.X509]:
    pieces = pem.split(_END)[:-1]
    if not pieces:
        raise ValueError(f"{path} holds no certificate (PEM)")
    try:
        return [crypto.load_certificate(crypto.FILETYPE_PEM, piece + _END) for piece in pieces]
    except crypto.Error:
        raise ValueError(f"{path} holds a damaged certificate") from None


def _key(pem: bytes, path: str) -> crypto.PKey:
    try:
        # Without a passphrase given here OpenSSL would ask for it on the terminal.
        return crypto.load_privatekey(crypto.FILETYPE_PEM, pem, passphrase=b"")
    except crypto.Error:
        raise ValueError(f"{path} holds no private key (PEM, without a passphrase)") from None
