"""The wire: certificates by name, domains that want TLS, who may speak for others, early talkers, other protocols."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import DOMAIN, Certificate, Gateway, RecordingPrimary, Stage, Wire, domain, free_port, letter, need, until

SECRET = "secret.example"
SECOND = "mx2.other.example"
# Addresses of this machine that stand for a proxy, and for whoever names its clients by XCLIENT.
PROXY, FRONT = "127.0.0.3", "127.0.0.2"
NAMED = "192.0.2.7"


def make(path: Path, name: str, subject: str) -> None:
    """A certificate for ``name`` with its key in the same file, told apart by its subject."""
    key = path.with_suffix(".key")
    subprocess.run(
        [
            *(need("openssl"), "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", str(key), "-out", str(path), "-days", "2"),
            *("-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{name}"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + key.read_bytes())


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


class Guarded:
    def __init__(self, shared: Stage, primary: RecordingPrimary, folder: Path) -> None:
        first = Certificate(folder)
        self.second = folder / "second.pem"
        make(self.second, SECOND, "second")
        self.behind = free_port()
        self.gateway: Gateway = shared.gateway(
            domain(primary.port)
            + domain(primary.port, SECRET, require_tls="yes")
            + first.section
            + f"[tls second]\ncertificate = {self.second}\n[smtp]\nproxies = {PROXY}\nxclient = {FRONT}\n",
            extra_listen=f"haproxy:tcp:{self.behind}:interface=127.0.0.1",
        )

    def refusals(self, ip: str) -> list[str]:
        return [each["reply"] for each in self.gateway.log_events(event="refused") if each["ip"] == ip]


@pytest.fixture(scope="module")
def guarded(shared: Stage, primary: RecordingPrimary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    yield Guarded(shared, primary, tmp_path_factory.mktemp("wire"))


# --- TLS --------------------------------------------------------------------------------------------------------------


def subject_shown(port: int, *asking: str) -> str:
    done = subprocess.run(
        [need("openssl"), "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{port}", *asking],
        input=b"QUIT\n",
        capture_output=True,
        timeout=20,
        check=False,
    )
    found = re.search(rb"(?m)^subject=.*CN ?= ?(\S+)", done.stdout)
    assert found, done.stdout + done.stderr
    return found[1].decode()


def test_whom_asks_for_a_name_gets_its_certificate_and_a_new_one_after_a_reload(guarded: Guarded) -> None:
    port = guarded.gateway.port
    first = subject_shown(port, "-noservername")
    assert subject_shown(port, "-servername", "unknown.example") == first != "second"
    assert subject_shown(port, "-servername", SECOND.upper()) == "second"
    make(guarded.second, SECOND, "renewed")
    assert subject_shown(port, "-servername", SECOND) == "second"
    guarded.gateway.hangup()
    until("the new certificate", lambda: subject_shown(port, "-servername", SECOND) == "renewed")
    assert subject_shown(port, "-noservername") == first


def swaks(port: int, *arguments: str) -> str:
    done = subprocess.run(
        [need("swaks"), "--server", f"127.0.0.1:{port}", "--helo", "swaks.stranger.example", "--from", "a@b.example",
         *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )  # fmt: skip
    return done.stdout


def test_a_domain_that_wants_tls_refuses_who_speaks_in_the_clear(guarded: Guarded, primary: RecordingPrimary) -> None:
    to = ("--to", f"user@{SECRET}", "--header", "Subject: over TLS")
    said = swaks(guarded.gateway.port, *to)
    assert "550 5.7.10" in said and "STARTTLS" in said, said
    assert "250 2.0.0" in swaks(guarded.gateway.port, "-tls", "--tls-sni", SECOND, *to)
    received = primary.one(b"Subject: over TLS")
    assert "TLSv1.3" in received.field("Received")[0]
    (told,) = until("the event", lambda: [e for e in guarded.gateway.log_events() if e.get("sni") == SECOND])
    assert f"sni {SECOND}" in until("its story", lambda: guarded.gateway.command("explain", told["id"], status=None))


# --- who speaks for whom ----------------------------------------------------------------------------------------------


def test_only_our_proxies_say_who_is_talking(guarded: Guarded) -> None:
    header = b"PROXY TCP4 192.0.2.33 192.0.2.1 4711 25\r\n"
    with Wire(guarded.behind, source=PROXY) as wire:
        wire.send(header)
        wire.hello()
        assert wire.envelope("a@b.example", "user@nowhere.example")[-1].code == 550
    until("on whose behalf", lambda: len(guarded.refusals("192.0.2.33")) == 1)
    before = len(guarded.refusals("127.0.0.1"))
    with Wire(guarded.behind) as wire:
        wire.send(header + b"EHLO x\r\n")
        assert wire.reply().code == 554
        assert wire.rest() == []
    until("one record of it", lambda: len(guarded.refusals("127.0.0.1")) == before + 1)
    assert len(guarded.refusals("192.0.2.33")) == 1


def test_only_who_is_named_for_it_names_its_clients(guarded: Guarded, primary: RecordingPrimary) -> None:
    to = ("--to", f"user@{DOMAIN}", "--header", "Subject: by a front", "--xclient", f"ADDR={NAMED} HELO=real.example")
    assert "250 2.0.0" in swaks(guarded.gateway.port, "--local-interface", FRONT, *to)
    head = primary.one(b"Subject: by a front").field("Received")[0]
    assert NAMED in head and "real.example" in head and FRONT not in head
    with Wire(guarded.gateway.port) as wire:
        assert not any("XCLIENT" in line for line in wire.hello().lines)
        answer = wire.ask(f"XCLIENT ADDR={NAMED}")
    assert answer.code == 550
    until("on record", lambda: guarded.gateway.log_events(event="refused", id=answer.id))


# --- who is no mail client --------------------------------------------------------------------------------------------

SAID = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: here.example\r\nUser-Agent: lured\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a header": b"User-Agent: lured\r\nEHLO x\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a remote desktop": b"\x03\x00\x00\x13\x0e\xe0\x00\x00",
}


@pytest.mark.parametrize("protocol", SAID)
def test_another_protocol_ends_the_session_with_one_record(guarded: Guarded, protocol: str) -> None:
    before = len(guarded.refusals("127.0.0.1"))
    with Wire(guarded.gateway.port) as wire:
        wire.reply()
        wire.send(SAID[protocol])
        (answer,) = wire.rest()
    assert answer.startswith(b"554 5.5.1 ")
    id = answer.split()[-1].decode()
    until("a record", lambda: guarded.gateway.log_events(event="refused", id=id))
    assert len(guarded.refusals("127.0.0.1")) == before + 1


def test_who_does_not_wait_for_the_greeting_is_refused_and_who_waits_is_served(
    shared: Stage, primary: RecordingPrimary
) -> None:
    gateway = shared.gateway(
        domain(primary.port) + "[smtp]\nbanner_delay = 1s\n[check early]\nuse = early_talker\nweight.yes = reject\n"
    )
    with Wire(gateway.port) as wire:
        wire.send(b"EHLO client.stranger.example\r\nMAIL FROM:<a@b.example>\r\n")
        answer = wire.reply()
        assert answer.code == 554
        assert wire.rest() == []
    told = until("its story", lambda: gateway.command("explain", answer.id, status=None))
    assert "spoke before the greeting" in told
    with Wire(gateway.port) as wire:
        wire.hello()
        assert wire.envelope("a@b.example", f"user@{DOMAIN}")[-1].code == 250
        assert wire.content(letter("from a patient one")).code == 250
