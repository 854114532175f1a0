"""Run by test_client_tls in a process of its own: the real client against a small server, on real sockets.

Prints one JSON object: scenario → what happened.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import json
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor as untyped_reactor
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver

from inboundmx.model.address import Address
from inboundmx.model.custody import Content, Host, Parcel, Terms
from inboundmx.model.message import Body
from inboundmx.net.clock import ReactorClock
from inboundmx.ports import Refused
from inboundmx.smtp.client import SmtpTransmitter

reactor: Any = untyped_reactor

# What servers heard that must not be heard by everybody.
heard: list[str] = []
PLAIN = b"AUTH PLAIN " + base64.b64encode(b"\0gateway\0secret")


def certificate(names: list[x509.GeneralName], issuer: tuple[x509.Certificate, Any] | None, ca: bool = False) -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test " + ("authority" if ca else "server"))])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def options(pair: tuple[x509.Certificate, Any]) -> ssl.CertificateOptions:
    pem = pair[0].public_bytes(serialization.Encoding.PEM) + pair[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ssl.PrivateCertificate.loadPEM(pem).options()


class Server(LineReceiver):
    """Takes mail. ``after_starttls`` says what follows the 220: ``tls``, ``noise`` or ``silence``."""

    def __init__(self, context: Any, after_starttls: str) -> None:
        self.context = context
        self.after_starttls = after_starttls
        self.encrypted = False
        self.in_data = False
        self.lines: list[bytes] = []

    def connectionMade(self) -> None:
        self.sendLine(b"220 server.test")

    def lineReceived(self, line: bytes) -> None:
        if self.in_data:
            if line == b".":
                self.in_data = False
                digest = hashlib.sha256(b"".join(taken + b"\r\n" for taken in self.lines)).hexdigest()
                self.sendLine(f"250 {digest} {'encrypted' if self.encrypted else 'clear'}".encode())
            else:
                self.lines.append(line[1:] if line.startswith(b".") else line)
        elif line.startswith(b"EHLO"):
            offers = [b"250-server.test", b"250-PIPELINING", b"250-AUTH LOGIN PLAIN CRAM-MD5"]
            offers += [] if self.encrypted else [b"250-STARTTLS"]
            self.transport.writeSequence([b"\r\n".join([*offers, b"250 8BITMIME"]), b"\r\n"])
        elif line == b"STARTTLS":
            self.sendLine(b"220 go")
            if self.after_starttls == "tls":
                self.encrypted = True
                self.transport.startTLS(self.context)
            elif self.after_starttls == "noise":
                reactor.callLater(0.05, self.transport.write, b"250 this is no handshake\r\n")
        elif line == b"DATA":
            self.in_data, self.lines = True, []
            self.sendLine(b"354 go")
        elif line.startswith(b"AUTH "):
            heard.append(line.decode())
            self.sendLine(b"235 in" if line == PLAIN else b"535 5.7.8 not you: " + line)
        elif line == b"QUIT":
            self.transport.loseConnection()
        else:
            self.sendLine(b"250 ok")

    def lineLengthExceeded(self, line: bytes) -> None:
        self.transport.abortConnection()


class ServerFactory(Factory):
    noisy = False

    def __init__(self, context: Any, after_starttls: str = "tls") -> None:
        self.context, self.after_starttls = context, after_starttls

    def buildProtocol(self, addr: object) -> Server:
        return Server(self.context, self.after_starttls)


async def deliver(
    transmitter: SmtpTransmitter,
    host: Host,
    tls: str,
    octets: bytes,
    path: str | None,
    password: str = "",
    in_the_clear: bool = False,
    **how: Any,
) -> Any:
    heard.clear()
    terms = Terms(tls, "gateway" if password else "", password, in_the_clear)
    try:
        connection: Any = await transmitter.connect(host, terms=terms, **{"seconds": 5.0, **how})
    except Refused as refused:
        return {"refused": refused.trouble, "phase": refused.phase, "auth": list(heard), "detail": refused.detail}
    body = Body(len(octets), octets[: 256 * 1024], path, hashlib.sha256(octets).digest())
    results = []
    for _ in range(2):
        parcel = Parcel("id1", None, (Address("ann", "b.example"),), Content(b"", 0, body))
        attempt = await connection.transmit(parcel, answer_seconds=5.0, dot_seconds=5.0).done
        results.append([attempt.delivered, attempt.trouble, str(attempt.replies[0][1])])
    no_delay = bool(connection.transport.getTcpNoDelay())
    connection.close()
    await connection.gone
    return {"tls": connection.tls, "results": results, "no_delay": no_delay, "auth": list(heard)}


async def main(folder: Path) -> None:
    authority = certificate([], None, ca=True)
    address, name = x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")
    good = options(certificate([address, name], authority))
    wrong = options(certificate([x509.DNSName("other.test")], authority))
    nameless = options(certificate([], authority))
    stranger = options(certificate([address, name], None))
    root = ssl.trustRootFromCertificates(
        [ssl.Certificate.loadPEM(authority[0].public_bytes(serialization.Encoding.PEM))]
    )
    transmitter = SmtpTransmitter(reactor, ReactorClock(reactor), "gateway.test", str(folder), root)

    small = b"Subject: x\r\n\r\n.hello\r\n"
    large = (b"Subject: x\r\n\r\n" + b".dots and words\r\n" * 200_000)[:3_000_001] + b"\r\n"
    (folder / "large").write_bytes(large)

    ports: list[Any] = []

    def listen(context: Any, after_starttls: str = "tls") -> Host:
        ports.append(reactor.listenTCP(0, ServerFactory(context, after_starttls), interface="127.0.0.1"))
        return Host("127.0.0.1", ports[-1].getHost().port)

    closed = listen(good)
    await ports.pop().stopListening()
    trusted = listen(good)
    by_name = Host("localhost", trusted.port)
    named, misnamed = Host("127.0.0.1", trusted.port, name="localhost"), Host("127.0.0.1", trusted.port, name="x.test")
    other, plain, unknown = listen(wrong), listen(nameless), listen(stranger)
    noise, silence = listen(good, "noise"), listen(good, "silence")
    report: dict[str, Any] = {"small": hashlib.sha256(small).hexdigest(), "large": hashlib.sha256(large).hexdigest()}
    for title, host, tls, more in [
        ("none", trusted, "none", {}),
        ("opportunistic", unknown, "opportunistic", {}),
        ("required", unknown, "required", {}),
        ("verified", trusted, "verified", {}),
        ("verified by name", by_name, "verified", {}),
        ("verified by the name it was looked up for", named, "verified", {}),
        ("verified another name", misnamed, "verified", {}),
        ("verified wrong name", other, "verified", {}),
        ("verified no name", plain, "verified", {}),
        ("verified stranger", unknown, "verified", {}),
        ("opportunistic noise", noise, "opportunistic", {}),
        ("required noise", noise, "required", {}),
        ("opportunistic silence", silence, "opportunistic", {"seconds": 0.5}),
        ("closed", closed, "opportunistic", {}),
        ("from an address", trusted, "none", {"source": "127.0.0.1"}),
        ("from an address not ours", trusted, "none", {"source": "192.0.2.1"}),
        ("password", unknown, "opportunistic", {"password": "secret"}),
        ("password verified", trusted, "verified", {"password": "secret"}),
        ("password wrong", trusted, "required", {"password": "wrong password"}),
        ("password noise", noise, "opportunistic", {"password": "secret"}),
        ("password noise in the clear", noise, "opportunistic", {"password": "secret", "in_the_clear": True}),
    ]:
        report[title] = await deliver(transmitter, host, tls, small, None, **more)
    report["large clear"] = await deliver(transmitter, trusted, "none", large, "large")
    report["large encrypted"] = await deliver(transmitter, trusted, "verified", large, "large")
    for port in ports:
        await port.stopListening()
    report["timers"] = len([call for call in reactor.getDelayedCalls() if "_timer_fired" in str(call)])
    print(json.dumps(report))


react(lambda _, folder: Deferred.fromCoroutine(main(Path(folder))), sys.argv[1:])
