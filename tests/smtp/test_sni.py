"""Several certificates: whom asks for a name is shown its own, whom asks for none or another the first."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL

from inboundmx.model.settings import CertificateSettings, TlsSettings
from inboundmx.smtp.tls import asked_name, options_of, read_pem, server_options

NOW = datetime.datetime.now(datetime.UTC)


def write(folder: Path, name: str, *names: str, key: Any = None) -> str:
    """A certificate for these names, with its key in the same file."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=30))
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    path.write_bytes(pem + secret)
    return str(path)


@pytest.fixture
def settings(tmp_path: Path) -> TlsSettings:
    return TlsSettings(
        write(tmp_path, "first", "mx.example.net"),
        others=(
            CertificateSettings("two", write(tmp_path, "two", "MX2.example.org", "*.wild.example")),
            CertificateSettings("three", write(tmp_path, "three", "unasked.example"), names=("said.example",)),
            CertificateSettings("late", write(tmp_path, "late", "mx2.example.org")),
        ),
    )


def shown(options: Any, name: str | None) -> tuple[str, str]:
    """Whose certificate a client gets that asks for a name, and what the server heard of it."""
    server = SSL.Connection(options.getContext(), None)
    server.set_accept_state()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(3):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        if said := to_server.read():
            server.bio_write(said)
        with contextlib.suppress(SSL.WantReadError):
            server.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            to_client.write(server.bio_read(65536))
    der = client.getpeercert(binary_form=True)
    assert der is not None
    (subject,) = x509.load_der_x509_certificate(der).subject
    return str(subject.value), asked_name(server)


@pytest.mark.parametrize(
    ("asked", "certificate"),
    [
        ("mx.example.net", "first"),
        (None, "first"),
        ("unknown.example", "first"),
        ("mx2.example.org", "two"),
        ("MX2.EXAMPLE.ORG", "two"),
        ("a.wild.example", "two"),
        ("a.b.wild.example", "first"),
        ("wild.example", "first"),
        ("said.example", "three"),
        ("unasked.example", "first"),
    ],
)
def test_which_certificate_is_shown(settings: TlsSettings, asked: str | None, certificate: str) -> None:
    assert shown(server_options(settings), asked) == (certificate, (asked or "").lower())


def test_a_process_without_the_files_shows_the_same(settings: TlsSettings) -> None:
    read = read_pem(settings)
    for each in settings.certificates:
        Path(each.certificate).unlink()
    assert shown(options_of(read, settings), "mx2.example.org")[0] == "two"
    with pytest.raises(ValueError, match=r"first\.pem cannot be read"):
        server_options(settings)


def test_one_that_cannot_be_used_is_named(settings: TlsSettings) -> None:
    Path(settings.others[1].certificate).write_text("junk")
    with pytest.raises(ValueError, match=r"three\.pem holds no certificate"):
        server_options(settings)


def test_a_key_that_is_too_weak_is_told_apart_from_one_of_another(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(ValueError, match=r"weak\.pem has a key or a signature that is too weak"):
        server_options(TlsSettings(write(tmp_path, "weak", "mx.example.net", key=weak)))


@pytest.mark.parametrize(
    ("said", "name"),
    [(None, ""), (b"MX.example", "mx.example"), (b"\xff.example", ""), (b"a\nb", ""), (b"x" * 256, "")],
)
def test_what_was_asked_for_is_a_name_or_nothing(said: bytes | None, name: str) -> None:
    class Connection:
        def get_servername(self) -> bytes | None:
            return said

    assert asked_name(Connection()) == name
