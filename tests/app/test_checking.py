"""What stops a start, what an operator is warned of, and how a primary is called."""

import contextlib
import datetime
import os
import pwd
import re
import socket
import ssl
import threading
import time
from collections.abc import Container, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from inboundmx.app import calling, checking
from inboundmx.model.custody import Host
from inboundmx.model.settings import (
    BACKUP_RETRY,
    FORWARD_RETRY,
    BackupSettings,
    CheckSettings,
    DomainSettings,
    GatewaySettings,
    GreylistingSettings,
    LevelSettings,
    LogSettings,
    Retry,
    Settings,
    SmtpSettings,
    TlsSettings,
)
from inboundmx.model.verdict import Action, Level

NOW = datetime.datetime(2030, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def certificate(
    folder: Path,
    name: str,
    *,
    begins: datetime.datetime = NOW - 90 * DAY,
    ends: datetime.datetime = NOW + 90 * DAY,
    key_name: str = "",
) -> None:
    """``NAME.pem`` and ``NAME.key``, for mx1.example.net and *.example.org."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx1.example.net")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("mx1.example.net"), x509.DNSName("*.example.org")]), False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = folder / f"{name}.key"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    secret.chmod(0o600)


@pytest.fixture
def fine(tmp_path: Path) -> Settings:
    """Settings about which there is nothing to say."""
    domain = DomainSettings("example.net", primary=(Host("192.0.2.10"),))
    return Settings(
        gateway=GatewaySettings(
            hostname="mx1.example.net", postmaster="postmaster@example.net", data=str(tmp_path / "a" / "b")
        ),
        domains={"example.net": domain},
        checks=(CheckSettings("spf", "spf"),),
    )


def with_tls(settings: Settings, folder: Path, pem: str, key: str = "") -> Settings:
    return replace(settings, tls=TlsSettings(str(folder / pem), str(folder / key) if key else ""))


def test_nothing_wrong(fine: Settings) -> None:
    assert checking.problems_at_start(fine) == []
    assert checking.warnings(fine, NOW) == []


def test_a_good_certificate(fine: Settings, tmp_path: Path) -> None:
    certificate(tmp_path, "good")
    settings = with_tls(fine, tmp_path, "good.pem", "good.key")
    assert checking.problems_at_start(settings) == []
    assert checking.warnings(settings, NOW) == []


def test_key_and_certificate_in_one_file(fine: Settings, tmp_path: Path) -> None:
    certificate(tmp_path, "good")
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "good.key").read_bytes() + (tmp_path / "good.pem").read_bytes())
    both.chmod(0o600)
    assert checking.problems_at_start(with_tls(fine, tmp_path, "both.pem")) == []


def test_certificates_that_stop_the_start(fine: Settings, tmp_path: Path) -> None:
    certificate(tmp_path, "good")
    certificate(tmp_path, "other")
    (tmp_path / "junk.pem").write_text("junk")
    table = {
        ("absent.pem", "good.key"): "[tls] certificate {}/absent.pem cannot be read: No such file or directory",
        ("good.pem", "absent.key"): "[tls] private_key {}/absent.key cannot be read: No such file or directory",
        ("good.pem", "other.key"): "[tls] private_key {0}/other.key does not belong to certificate {0}/good.pem",
        ("junk.pem", "good.key"): "[tls] certificate {}/junk.pem holds no PEM certificate",
        ("good.pem", "junk.pem"): "[tls] private_key {}/junk.pem holds no PEM private key that can be used",
        ("good.pem", ""): "[tls] private_key {}/good.pem holds no PEM private key that can be used",
    }
    for (pem, key), sentence in table.items():
        settings = with_tls(fine, tmp_path, pem, key)
        assert checking.problems_at_start(settings) == [sentence.format(tmp_path)]


def test_a_key_without_a_certificate(fine: Settings) -> None:
    settings = replace(fine, tls=TlsSettings("", "/x.key"))
    assert checking.problems_at_start(settings) == [
        "[tls] private_key is given and certificate is not; give both, or neither"
    ]


def test_certificates_that_are_warned_of(fine: Settings, tmp_path: Path) -> None:
    certificate(tmp_path, "old", ends=NOW - DAY)
    certificate(tmp_path, "soon", ends=NOW + 5 * DAY)
    old, soon = tmp_path / "old.pem", tmp_path / "soon.pem"
    settings = with_tls(fine, tmp_path, "old.pem", "old.key")
    assert checking.problems_at_start(settings) == []
    assert checking.warnings(settings, NOW) == [f"[tls] certificate {old} expired on 2030-05-31; renew it"]
    settings = with_tls(fine, tmp_path, "soon.pem", "soon.key")
    assert checking.warnings(settings, NOW) == [f"[tls] certificate {soon} expires on 2030-06-06; renew it"]
    assert checking.warnings(settings, NOW - 200 * DAY) == [
        f"[tls] certificate {soon} is valid from 2030-03-03 on only"
    ]
    (tmp_path / "soon.key").chmod(0o644)
    assert checking.warnings(settings, NOW - 30 * DAY) == [
        f"[tls] private_key {tmp_path / 'soon.key'} can be read by everybody here"
    ]


@pytest.mark.parametrize(
    ("hostname", "covered"),
    [("mx1.example.net", True), ("a.example.org", True), ("example.org", False), ("a.b.example.org", False)],
)
def test_which_names_a_certificate_covers(fine: Settings, tmp_path: Path, hostname: str, covered: bool) -> None:
    certificate(tmp_path, "good")
    settings = with_tls(fine, tmp_path, "good.pem", "good.key")
    settings = replace(settings, gateway=replace(settings.gateway, hostname=hostname))
    said = f"[tls] certificate {tmp_path / 'good.pem'} is for mx1.example.net *.example.org, not for {hostname}"
    assert checking.warnings(settings, NOW) == ([] if covered else [said])


def test_folders_and_files_that_cannot_be_used(fine: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = tmp_path / "file"

    def said(data: Path, log: Path | str = "stdout") -> list[str]:
        gateway = replace(fine.gateway, data=str(data))
        return checking.problems_at_start(replace(fine, gateway=gateway, log=LogSettings(to=str(log))))

    assert said(file) == [f"[gateway] data {file} is not a folder"]
    assert said(file / "x") == [f"[gateway] data {file}/x cannot be made: {file} is not a folder"]
    assert said(tmp_path, file) == []
    assert said(tmp_path, tmp_path / "mail.log") == []
    assert said(tmp_path, tmp_path) == [f"[log] to {tmp_path} is a folder"]
    assert said(tmp_path, tmp_path / "no" / "mail.log") == [
        f"[log] to {tmp_path}/no/mail.log cannot be made: there is no folder {tmp_path}/no"
    ]


def test_a_folder_that_may_not_be_written(fine: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may write anywhere
    me = pwd.getpwuid(os.geteuid()).pw_name
    gateway = replace(fine.gateway, data=str(tmp_path))
    settings = replace(fine, gateway=gateway, log=LogSettings(to=str(tmp_path / "mail.log")))
    assert checking.problems_at_start(settings) == [
        f"[gateway] data {tmp_path} cannot be written by {me}",
        f"[log] to {tmp_path}/mail.log cannot be made: {me} may not write in {tmp_path}",
    ]
    assert checking.problems_at_start(fine) == [
        f"[gateway] data {fine.gateway.data} cannot be made: {me} may not write in {tmp_path}"
    ]


def test_an_unknown_user(fine: Settings) -> None:
    settings = replace(fine, gateway=replace(fine.gateway, user="nobody-of-that-name"))
    assert checking.problems_at_start(settings) == ["[gateway] user nobody-of-that-name does not exist on this machine"]


def test_a_user_that_cannot_come_to_the_data(fine: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # As root would see it, whoever runs this test; nothing above is anybody's business here.
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getgrouplist", lambda *_: [4711])
    monkeypatch.setattr(pwd, "getpwnam", lambda _: SimpleNamespace(pw_uid=4711, pw_gid=4711))
    monkeypatch.setattr(checking, "PurePath", lambda _: SimpleNamespace(parents=[closed / "absent", closed]))
    gateway = replace(fine.gateway, user="mail", data=str(closed / "absent" / "data"))
    settings = replace(fine, gateway=gateway)
    assert checking.problems_at_start(settings) == [
        f"[gateway] data {gateway.data} cannot be reached by [gateway] user mail: {closed} is closed to it"
    ]
    closed.chmod(0o711)
    assert checking.problems_at_start(settings) == []


@pytest.mark.parametrize(
    ("retry", "lifetime", "said"),
    [
        (BACKUP_RETRY, 5 * 86400.0, "gives up after 24.5 h (5 attempts)"),
        (FORWARD_RETRY, 5 * 86400.0, "gives up after 5 d"),
        (Retry((60.0,)), 86400.0, "gives up after 1 min (2 attempts)"),
        (Retry((30.0,)), 86400.0, "gives up after 30s (2 attempts)"),
        (Retry((1800.0, 2700.0)), 86400.0, "gives up after 75 min (3 attempts)"),
    ],
)
def test_how_long_a_domain_is_tried(retry: Retry, lifetime: float, said: str) -> None:
    assert checking.patience(DomainSettings("example.net", retry=retry, lifetime=lifetime)) == said


def test_warnings(fine: Settings) -> None:
    domain = DomainSettings(
        "example.com", mode="backup", primary=(Host("127.0.0.1", 2525),), retry=BACKUP_RETRY, when_exhausted="hold"
    )
    settings = replace(
        fine,
        gateway=replace(fine.gateway, hostname="mx1", listen=("tcp:2525:interface=127.0.0.1",)),
        smtp=SmtpSettings(max_message_size=1000),
        domains={"example.com": domain},
    )
    assert checking.warnings(settings, NOW) == [
        "[gateway] hostname mx1 has no dot: others will not take it for a host name",
        "[gateway] postmaster postmaster@example.net: there is no [domain example.net] to deliver it by",
        "[smtp] max_message_size is below 64KB, which RFC 5321 4.5.3.1.7 asks every server to take",
        "[domain example.com] mail is held for an operator after 24.5 h without its primary; RFC 5321 4.5.4.1 advises "
        "4 to 5 days, for example retry = 15/30/60/90/240* with lifetime = 5d",
        "[domain example.com] primary 127.0.0.1:2525 is this gateway itself: mail would go in a circle",
    ]
    assert checking.warnings(replace(fine, domains={}), NOW) == ["there is no [domain …] section: all mail is refused"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "[domain example.net]"),
        ({"checks": (CheckSettings("mine", "dkim"),)}, ""),
        ({"checks": (CheckSettings("lists", "dnsbl"),)}, "[domain example.net]"),
        ({"domains": {}, "backup": BackupSettings((ip_network("192.0.2.0/28"),))}, "[backup]"),
        ({"domains": {"a.test": DomainSettings("a.test", bounce="always")}}, ""),
        ({"domains": {"a.test": DomainSettings("a.test", enabled=False)}}, ""),
        ({"domains": {}, "everything": DomainSettings("*")}, "[domain *]"),
    ],
)
def test_where_no_sender_can_be_verified_nobody_would_be_told(
    fine: Settings, changed: dict[str, Any], said: str
) -> None:
    settings = replace(fine, **({"checks": ()} | changed))
    found = [each for each in checking.warnings(settings, NOW) if "bounce = verified" in each]
    assert [each.partition(" bounce")[0] for each in found] == ([said] if said else [])


@pytest.mark.parametrize(
    ("key", "kind", "said"), [("network", "greylist", 0), ("domain", "greylist", 1), ("domain", "spf", 0)]
)
def test_a_key_that_no_check_could_confirm_is_warned_of(fine: Settings, key: Any, kind: str, said: int) -> None:
    settings = replace(fine, greylisting=GreylistingSettings(key=key), checks=(CheckSettings("mine", kind),))
    found = [each for each in checking.warnings(settings, NOW) if "[greylisting] key = domain" in each]
    assert len(found) == said


def test_a_redirection_that_leads_nowhere_is_said_once(fine: Settings) -> None:
    away, here = (LevelSettings(Level.HIGH, 30.0, (Action("redirect", f"spam@{name}"),)) for name in
                  ("other.example", "example.net"))  # fmt: skip
    said = "there is no [domain other.example]: mail for spam@other.example leaves us as outgoing"
    domain = fine.domains["example.net"]
    for everybody, own, place in (
        ((away,), (away,), "[level high]"),
        ((here,), (away,), "[domain example.net] level.high.action"),
    ):
        settings = replace(fine, levels=everybody, domains={"example.net": replace(domain, levels=own)})
        assert checking.warnings(settings, NOW) == [f"{place}: {said}"]


# --- calling ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def call(server: socket.socket, *said: bytes, protocol: str = "smtp") -> tuple[calling.Call, bytes]:
    """A call to a server that says these things, one after each line it hears, and then hangs up."""
    heard = b""

    def serve() -> None:
        nonlocal heard
        line, _ = server.accept()
        with line, contextlib.suppress(ConnectionError):
            for each in said:
                line.sendall(each)
                heard += line.recv(1000)

    thread = threading.Thread(target=serve)
    thread.start()
    host = Host("127.0.0.1", server.getsockname()[1], protocol)
    result = calling.call_one(host, "mx1.example.net", time.monotonic() + 10)
    thread.join()
    return result, heard


def test_a_primary_that_answers(server: socket.socket) -> None:
    result, heard = call(server, b"220-hello\r\n220 there\r\n", b"250-mx\r\n250-SIZE 99\r\n250 STARTTLS\r\n")
    assert (result.answered, result.detail) == (True, "220-hello")
    assert result.extensions == {"SIZE", "STARTTLS"}
    assert heard == b"EHLO mx1.example.net\r\nQUIT\r\n"


def test_lmtp_is_greeted_in_its_own_word(server: socket.socket) -> None:
    result, heard = call(server, b"220 x\r\n", b"250 x\r\n", protocol="lmtp")
    assert result.answered
    assert heard.startswith(b"LHLO ")


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ((b"554 go away\r\n",), "greets with 554 go away"),
        ((b"220 x\r\n", b"502 no\r\n"), "answers EHLO with 502 no"),
        ((), "closes the connection without an answer"),
        ((b"220 \x1b[2J\r\n", b"421 \xff\r\n"), "answers EHLO with 421 \N{REPLACEMENT CHARACTER}"),
        ((b"220-x\r\n" * 20_000,), "answers without an end"),
    ],
)
def test_a_primary_that_does_not(server: socket.socket, said: tuple[bytes, ...], detail: str) -> None:
    result, _ = call(server, *said)
    assert (result.answered, result.detail) == (False, detail)


def test_a_primary_that_says_nothing_is_given_up(server: socket.socket) -> None:
    ticks = iter([0.0, 4.99, 99.0])
    host = Host("127.0.0.1", server.getsockname()[1])
    result = calling.call_one(host, "mx1.example.net", 5.0, clock=lambda: next(ticks))
    assert (result.answered, result.detail) == (False, "connected, and then no answer in time")


def test_nobody_there_and_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(name: str, *_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    results = calling.call_all([Host("127.0.0.1", port)] * 2, "mx1.example.net")
    assert [(r.answered, r.detail) for r in results.values()] == [(False, "cannot connect: Connection refused")]
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    result = calling.call_one(Host("nowhere.example"), "mx1.example.net", time.monotonic() + 5)
    assert result.detail == "nowhere.example does not resolve: Name or service not known"


# --- whether a primary would relay ------------------------------------------------------------------------------------


class Playing:
    """A server that says ``answers`` by verb, 250 to all else, and remembers what it heard. ``tls``: what it shows
    after STARTTLS, where ``then`` takes the place of ``answers``."""

    def __init__(self, answers: dict[str, bytes], tls: ssl.SSLContext | None, then: dict[str, bytes]) -> None:
        self.heard: list[str] = []
        self._tls, self._answers, self._then = tls, answers, then

    def serve(self, listening: socket.socket) -> None:
        line, _ = listening.accept()
        with contextlib.suppress(OSError):
            line.sendall(b"220 x\r\n")
            self._converse(line, self._answers)
        line.close()

    def _converse(self, line: socket.socket, answers: dict[str, bytes]) -> None:
        reader = line.makefile("rb")
        while said := reader.readline().decode().rstrip():
            self.heard.append(said)
            verb = said.split(" ")[0].split(":")[0]
            line.sendall(answers.get(verb, b"250 ok") + b"\r\n")
            if verb == "STARTTLS" and self._tls:
                with self._tls.wrap_socket(line, server_side=True) as encrypted:
                    self._converse(encrypted, self._then)
                return


def probed(server: socket.socket, playing: Playing) -> calling.Call:
    thread = threading.Thread(target=playing.serve, args=(server,))
    thread.start()
    host = Host("127.0.0.1", server.getsockname()[1])
    result = calling.probe_one(host, "mx1.example.net", time.monotonic() + 10)
    thread.join()
    return result


@pytest.mark.parametrize(
    ("answers", "relays", "detail"),
    [
        ({}, True, "250 ok"),
        ({"RCPT": b"251 forwarded"}, True, "251 forwarded"),
        ({"RCPT": b"550 5.7.1 no relaying"}, False, "550 5.7.1 no relaying"),
        ({"RCPT": b"451 later"}, False, "451 later"),
        ({"MAIL": b"530 STARTTLS first"}, False, "530 STARTTLS first"),
        ({"EHLO": b"502 no"}, False, "answers EHLO with 502 no"),
    ],
)
def test_a_primary_is_tempted_with_a_recipient_that_nobody_has(
    server: socket.socket, answers: dict[str, bytes], relays: bool, detail: str
) -> None:
    playing = Playing(answers, None, {})
    result = probed(server, playing)
    assert (result.answered, result.detail) == (relays, detail)
    assert not any(said.startswith(("DATA", "BDAT")) for said in playing.heard)
    for said in playing.heard:
        assert not said.startswith("RCPT") or re.fullmatch(r"RCPT TO:<([0-9a-f]{16})@\1\.invalid>", said)
    if relays:
        assert [said.split(":")[0] for said in playing.heard] == [
            "EHLO mx1.example.net", "MAIL FROM", "RCPT TO", "RSET", "QUIT",
        ]  # fmt: skip
        assert playing.heard[1] == "MAIL FROM:<>"


def test_a_primary_that_relays_over_tls_alone_is_found_too(server: socket.socket, tmp_path: Path) -> None:
    certificate(tmp_path, "mx")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "mx.pem", tmp_path / "mx.key")
    hello = {"EHLO": b"250-mx\r\n250 STARTTLS"}
    playing = Playing(hello | {"STARTTLS": b"220 go", "MAIL": b"530 STARTTLS first"}, context, {})
    assert probed(server, playing).answered
    playing = Playing(hello | {"STARTTLS": b"454 not now", "RCPT": b"550 no"}, None, {})
    assert not probed(server, playing).answered


def test_encryption_is_looked_at_where_it_is_wanted(server: socket.socket, tmp_path: Path) -> None:
    certificate(tmp_path, "mx")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "mx.pem", tmp_path / "mx.key")
    host = Host("127.0.0.1", server.getsockname()[1])
    hello = {"EHLO": b"250-mx\r\n250 STARTTLS"}

    def called(encrypted: Container[Host], starttls: bytes = b"220 go", tls: ssl.SSLContext | None = context) -> Any:
        playing = Playing(hello | {"STARTTLS": starttls}, tls, {})
        thread = threading.Thread(target=playing.serve, args=(server,))
        thread.start()
        (call,) = calling.call_all([host], "mx1.example.net", encrypted).values()
        thread.join()
        assert call.answered
        return call, playing.heard[-1]

    assert called(()) == (calling.Call(host, True, "220 x", frozenset({"STARTTLS"})), "QUIT")
    call, _ = called({host})
    # Nobody vouches for it.
    assert call.certificate.startswith("its certificate is not valid: ") and not call.encryption
    call, _ = called({host}, b"454 4.7.0 not now", None)
    assert (call.encryption, call.certificate) == ("answers STARTTLS with 454 4.7.0 not now", "")
    # One that has no certificate at all cannot shake hands.
    call, _ = called({host}, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert call.encryption.startswith("no encryption after STARTTLS") and not call.certificate


def test_a_certificate_that_is_trusted_and_names_the_host(
    server: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.datetime.now(datetime.UTC)
    certificate(tmp_path, "mx", begins=today - DAY, ends=today + DAY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "mx.pem", tmp_path / "mx.key")
    trusting = ssl.create_default_context(cafile=tmp_path / "mx.pem")
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    mismatch = "its certificate is not valid: Hostname mismatch"
    for name, wrong in (("mx1.example.net", ""), ("mx2.example.net", mismatch)):
        playing = Playing({"EHLO": b"250-mx\r\n250 STARTTLS", "STARTTLS": b"220 go"}, context, {})
        thread = threading.Thread(target=playing.serve, args=(server,))
        thread.start()
        host = Host("127.0.0.1", server.getsockname()[1], name=name)
        call = calling.call_one(host, "mx1.example.net", time.monotonic() + 10, encrypt=True)
        thread.join()
        assert (call.encryption, call.certificate.partition(",")[0]) == ("", wrong)


def test_open_relays_are_those_that_accept(server: socket.socket) -> None:
    thread = threading.Thread(target=Playing({}, None, {}).serve, args=(server,))
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = Host("127.0.0.1", closed.getsockname()[1])
    host = Host("127.0.0.1", server.getsockname()[1])
    assert list(calling.open_relays([host, nobody], "mx1.example.net")) == [host]
    thread.join()
