"""Encryption of what strangers say to us.

Knows how the operator's PEM files become a context for STARTTLS. Does not know SMTP, nor when encryption begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions, TLSVersion

from inboundmx.model.settings import TlsSettings

_MINIMUM = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
_END = b"-----END CERTIFICATE-----"


class Pem(NamedTuple):
    """What the PEM files of ``[tls]`` hold, so that a process which may not open them can be given it."""

    chain: bytes
    key: bytes


def read_pem(settings: TlsSettings) -> Pem | None:
    """None when no certificate is configured. Raises ValueError with a sentence that names the file when one is missing
    or cannot be read."""
    if not settings.certificate:
        return None
    return Pem(_read(settings.certificate), _read(settings.private_key or settings.certificate))


def server_options(settings: TlsSettings) -> CertificateOptions | None:
    """The context for STARTTLS; None when no certificate is configured. Raises ValueError with a sentence that names
    the file when one is missing, unreadable or no PEM, or when key and certificate do not belong together."""
    return options_of(read_pem(settings), settings)


def options_of(pem: Pem | None, settings: TlsSettings) -> CertificateOptions | None:
    """The same of what was read from the files."""
    if pem is None:
        return None
    chain = _chain(pem.chain, settings.certificate)
    key_path = settings.private_key or settings.certificate
    key = _key(pem.key, key_path)
    options = CertificateOptions(
        privateKey=key,
        certificate=chain[0],
        extraCertChain=chain[1:],
        raiseMinimumTo=_MINIMUM[settings.minimum],
    )
    try:
        # Made now, so that what is wrong is known at start and at reload, not in a handshake.
        options.getContext()
    except SSL.Error:
        sentence = f"the key in {key_path} does not belong to the certificate in {settings.certificate}"
        raise ValueError(sentence) from None
    return options


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
