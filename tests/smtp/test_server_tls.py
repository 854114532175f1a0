"""Encryption on real sockets, and the PROXY header; the certificate as the operator's files."""

from __future__ import annotations

import json
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from inboundmx.model.settings import TlsSettings
from inboundmx.smtp.tls import server_options

HERE = Path(__file__).parent
WAIT = 20.0


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pem")
    for name in ("one", "two"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-subj", "/CN=mx.example.net", "-days", "30"),
                *("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")),
            ],
            check=True,
            capture_output=True,
        )
    return folder


class Child:
    def __init__(self, pem: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "server_child.py"), str(pem / "one.pem"), str(pem / "one.key")],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.plain, self.implicit, self.proxied, self.proxied_implicit = json.loads(self.line())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def told(self) -> dict[str, Any]:
        """What the next connection that ended was about."""
        told: dict[str, Any] = json.loads(self.line())
        return told

    def connect(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), WAIT)


@pytest.fixture(scope="module")
def child(pem: Path) -> Iterator[Child]:
    child = Child(pem)
    yield child
    child.process.kill()
    child.process.wait(WAIT)


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def hear(connection: socket.socket, until: bytes) -> bytes:
    heard = b""
    while until not in heard:
        more = connection.recv(4096)
        assert more, f"closed after {heard!r}"
        heard += more
    return heard


def test_starttls(child: Child) -> None:
    with smtplib.SMTP("127.0.0.1", child.plain, "client.example", WAIT) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        client.starttls(context=unverified())
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail("a@client.example", ["b@domain.example"], "Subject: x\r\n\r\n.dot\r\n")
    told = child.told()
    assert told["asked"] == ["connected", "hello", "hello", "mail", "recipient", "data", "content"]
    assert told["contents"] == ["Subject: x\r\n\r\n.dot\r\n"]
    assert told["tls"].startswith("TLSv1.3 TLS_")
    assert told["closed"] == "quit"


def test_implicit_tls(child: Child) -> None:
    with smtplib.SMTP_SSL("127.0.0.1", child.implicit, "client.example", timeout=WAIT, context=unverified()) as client:
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail("a@client.example", ["b@domain.example"], "text\r\n")
    told = child.told()
    assert told["asked"] == ["connected", "hello", "mail", "recipient", "data", "content"]
    assert told["tls"].startswith("TLSv1.3 TLS_")


@pytest.mark.parametrize("behind", [b"RSET\r\n", b"MAIL FROM:<inj@client.example>\r\n", b"NO", b"EHLO x\r\nMAIL"])
def test_what_stands_behind_starttls_is_forgotten(child: Child, behind: bytes) -> None:
    with child.connect(child.plain) as connection:
        hear(connection, b"\r\n")
        connection.sendall(b"EHLO client.example\r\n")
        hear(connection, b"250 ")
        connection.sendall(b"MAIL FROM:<a@client.example>\r\nSTARTTLS\r\n" + behind)
        hear(connection, b"220 2.0.0")
        with unverified().wrap_socket(connection) as secret:
            # One answer a command, and it is this command's: nothing from before is left in any buffer.
            for said, answer in [(b"NOOP", b"250 2.0.0"), (b"RCPT TO:<b@d.example>", b"503"), (b"QUIT", b"221")]:
                secret.sendall(said + b"\r\n")
                assert hear(secret, b"\r\n").startswith(answer)
            assert secret.recv(100) == b""
    assert child.told()["asked"] == ["connected", "hello", "mail"]


def test_a_handshake_that_fails_is_quiet(child: Child) -> None:
    with child.connect(child.plain) as connection:
        hear(connection, b"\r\n")
        connection.sendall(b"EHLO client.example\r\n")
        hear(connection, b"250 ")
        connection.sendall(b"STARTTLS\r\n")
        hear(connection, b"220 2.0.0")
        connection.sendall(b"EHLO still.in.the.clear\r\n")
        while connection.recv(4096):
            pass
    assert child.told()["closed"] == "lost"
    test_starttls(child)


def test_who_is_refused_anyway_gets_no_handshake(child: Child) -> None:
    context = ssl.create_default_context()
    with (
        pytest.raises((ConnectionError, ssl.SSLEOFError)),
        socket.create_connection(("127.0.0.1", child.implicit), 20, ("127.0.0.66", 0)) as connection,
    ):
        context.wrap_socket(connection, server_hostname="mx.example.net")
    with socket.create_connection(("127.0.0.1", child.plain), 20, ("127.0.0.66", 0)) as connection:
        hear(connection, b"220 ")
    assert child.told()["ip"] == "127.0.0.66"


@pytest.mark.parametrize("together", [True, False])
def test_the_proxy_header_says_who_is_talking(child: Child, together: bool) -> None:
    header, hello = b"PROXY TCP4 192.0.2.7 192.0.2.25 1234 25\r\n", b"EHLO client.example\r\n"
    with child.connect(child.proxied) as connection:
        connection.sendall(header + hello if together else header)
        heard = hear(connection, b"\r\n")
        if not together:
            connection.sendall(hello)
        if b"250 " not in heard:
            hear(connection, b"250 ")
        connection.sendall(b"STARTTLS\r\n")
        hear(connection, b"220 2.0.0")
        with unverified().wrap_socket(connection) as secret:
            secret.sendall(b"EHLO client.example\r\n")
            hear(secret, b"250 ")
            secret.sendall(b"QUIT\r\n")
            hear(secret, b"221 ")
    told = child.told()
    assert told["ip"] == "192.0.2.7"
    assert told["tls"].startswith("TLSv1.3 ")
    assert told["asked"] == ["connected", "hello", "hello"]


def test_the_proxy_header_before_implicit_tls_says_who_is_talking(child: Child) -> None:
    with child.connect(child.proxied_implicit) as connection:
        connection.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.25 1234 465\r\n")
        with unverified().wrap_socket(connection) as secret:
            hear(secret, b"220 ")
            secret.sendall(b"EHLO client.example\r\n")
            hear(secret, b"250 ")
            secret.sendall(b"QUIT\r\n")
            hear(secret, b"221 ")
    told = child.told()
    assert told["ip"] == "192.0.2.7"
    assert told["tls"].startswith("TLSv1.3 ")


@pytest.mark.parametrize(("minimum", "spoken"), [("1.2", True), ("1.3", False)])
def test_the_oldest_version_spoken(pem: Path, minimum: str, spoken: bool) -> None:
    options = server_options(TlsSettings(str(pem / "one.pem"), str(pem / "one.key"), minimum))
    assert options is not None
    server = SSL.Connection(options.getContext(), None)
    server.set_accept_state()
    context = unverified()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    server.bio_write(to_server.read())
    with pytest.raises(SSL.WantReadError if spoken else SSL.Error) as refusal:
        server.do_handshake()
    assert spoken or "unsupported protocol" in str(refusal.value)


def test_no_certificate_no_starttls() -> None:
    assert server_options(TlsSettings()) is None


def test_a_chain_and_a_key_in_one_file(pem: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join((pem / name).read_bytes() for name in ("one.pem", "two.pem", "one.key")))
    options = server_options(TlsSettings(str(both), "", "1.3"))
    assert options is not None
    assert len(options.extraCertChain) == 1


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("absent.pem", "one.key", "absent.pem cannot be read: No such file"),
        ("one.pem", "absent.key", "absent.key cannot be read: No such file"),
        ("one.key", "one.key", "one.key holds no certificate"),
        ("one.pem", "one.pem", "one.pem holds no private key"),
        ("one.pem", "two.key", "does not belong to the certificate"),
        ("damaged.pem", "one.key", "damaged.pem holds a damaged certificate"),
        ("one.pem", "", "one.pem holds no private key"),
    ],
)
def test_what_is_wrong_is_said(pem: Path, certificate: str, key: str, words: str) -> None:
    (pem / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    settings = TlsSettings(str(pem / certificate), str(pem / key) if key else "")
    with pytest.raises(ValueError, match=words):
        server_options(settings)
