"""Those who send out and show who they are: real clients, every mechanism, and what nobody gets."""

from __future__ import annotations

import base64
import os
import smtplib
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from programs import Certificate, Gateway, RecordingPrimary, Stage, Wire, domain, free_port, letter, need, until
from scramp import ScramClient

ABROAD = "someone@abroad.example"
ANN, PASSWORD = "ann@here.example", "pass wörd, with a comma"
SCRAM = "SCRAM-SHA-256"


class Submitting:
    """A gateway with a port for strangers and two for those who authenticate, and a smart host behind it."""

    def __init__(self, play: Stage, certificate: Certificate, folder: Path, more: str = "", keys: str = "") -> None:
        self.smart_host: RecordingPrimary = play.recording()
        self.starttls, self.implicit = free_port(), free_port()
        self.users = folder / "users"
        self.users.touch(0o600)
        self.certificate = certificate
        self.gateway: Gateway = play.gateway(
            f"[outbound world]\nserver = 127.0.0.1:{self.smart_host.port}\n[relay]\nusers = file:{self.users}\n"
            f"[submission]\nlisten = tcp:{self.starttls}:interface=127.0.0.1 ssl:{self.implicit}:interface=127.0.0.1\n"
            f"{more}{certificate.section}{domain(free_port())}",
            gateway_keys=keys,
        )

    def add(self, name: str, password: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "inboundmx", "--config", str(self.gateway.config), "users", "add", name],
            input=f"{password}\n", text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert password not in done.stdout + self.users.read_text()

    def context(self) -> ssl.SSLContext:
        context = self.certificate.trusting()
        # smtplib knows it by its address.
        context.check_hostname = False
        return context

    def wire(self, *, tls: bool = True) -> Wire:
        wire = Wire(self.starttls)
        wire.hello()
        if tls:
            assert wire.ask("STARTTLS").code == 220
            wire.starttls(self.context())
            wire.ask("EHLO client.example")
        return wire


@pytest.fixture
def submitting(play: Stage, certificate: Certificate, tmp_path: Path) -> Submitting:
    made = Submitting(play, certificate, tmp_path)
    made.add(ANN, PASSWORD)
    return made


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def by_scram(wire: Wire, name: str, password: str) -> int:
    client = ScramClient([SCRAM], name, password)
    first = wire.ask(f"AUTH {SCRAM} {b64(client.get_client_first())}")
    assert first.code == 334, first
    client.set_server_first(base64.b64decode(first.text).decode())
    final = wire.ask(b64(client.get_client_final()))
    if final.code != 334:
        return final.code
    client.set_server_final(base64.b64decode(final.text).decode())
    return wire.ask("").code


def test_every_mechanism_sends_out_and_the_stamp_says_so(submitting: Submitting) -> None:
    for mechanism in ("PLAIN", "LOGIN"):
        with smtplib.SMTP_SSL("127.0.0.1", submitting.implicit, context=submitting.context(), timeout=60) as client:
            client.ehlo()
            assert client.esmtp_features["auth"].split() == [SCRAM, "PLAIN", "LOGIN"]
            # smtplib itself takes ASCII alone.
            code, said = client.docmd("AUTH", mechanism)
            if mechanism == "LOGIN":
                assert base64.b64decode(said) == b"Username:"
                assert base64.b64decode(client.docmd(b64(ANN))[1]) == b"Password:"
                code, _ = client.docmd(b64(PASSWORD))
            else:
                assert code == 334
                code, _ = client.docmd(b64(f"\0{ANN}\0{PASSWORD}"))
            assert code == 235
            client.sendmail("ann@here.example", [ABROAD], letter(f"by {mechanism}"))
    with submitting.wire() as wire:
        assert by_scram(wire, ANN, PASSWORD) == 235
        assert "AUTH" not in " ".join(wire.ask("EHLO client.example").lines)
        assert wire.ask("AUTH PLAIN").code == 503
        assert [answer.code for answer in wire.envelope("ann@here.example", ABROAD)] == [250, 250]
    swaks = subprocess.run(
        [need("swaks"), "--server", f"127.0.0.1:{submitting.starttls}", "--tls", "--auth", "LOGIN", "--auth-user", ANN,
         "--auth-password", PASSWORD, "--from", "ann@here.example", "--to", ABROAD, "--silent", "2"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert swaks.returncode == 0, swaks.stdout + swaks.stderr
    submitting.gateway.drain()
    mails = submitting.smart_host.received()
    assert len(mails) == 3
    assert all(b"with ESMTPSA" in mail.content for mail in mails)
    names = {event["user"] for event in submitting.gateway.log_events(event="authenticated")}
    assert names == {ANN}


def test_nothing_goes_without_authentication_and_nothing_in_the_clear(submitting: Submitting) -> None:
    with submitting.wire(tls=False) as wire:
        assert wire.ask("AUTH PLAIN " + b64(f"\0{ANN}\0{PASSWORD}")).code == 538
        assert str(wire.ask("MAIL FROM:<ann@here.example>")).startswith("530 5.7.0 ")
        assert "AUTH" not in " ".join(wire.ask("EHLO x.example").lines)
    with Wire(submitting.gateway.port) as strangers:
        strangers.hello()
        assert strangers.ask("STARTTLS").code == 220
        strangers.starttls(submitting.context())
        assert "AUTH" not in " ".join(strangers.ask("EHLO x.example").lines)
        assert strangers.ask("AUTH PLAIN " + b64(f"\0{ANN}\0{PASSWORD}")).code == 502
        assert strangers.envelope("ann@here.example", ABROAD)[1].code == 550
    with submitting.wire() as wire:
        assert wire.envelope("ann@here.example", "user@here.example")[0].code == 530


def test_what_is_no_authentication(submitting: Submitting) -> None:
    wrong = [f"\0{ANN}\0wrong", f"\0nobody\0{PASSWORD}"]
    with submitting.wire() as wire:
        answers = [wire.ask("AUTH PLAIN " + b64(said)) for said in wrong]
        assert {str(answer).rpartition(" ")[0] for answer in answers} == {"535 5.7.8 Name or password is wrong"}
        assert wire.ask("AUTH PLAIN =").code == 501
        assert wire.ask("AUTH PLAIN").code == 334
        assert wire.ask("*").code == 501
        assert wire.ask("NOOP").code == 250
    with submitting.wire() as wire:
        assert wire.ask("AUTH LOGIN").code == 334
        assert wire.ask("not base64!").code == 501
        assert wire.ask("AUTH CRAM-MD5").code == 504
        assert wire.ask("AUTH PLAIN " + "A" * 12_288).code == 500
        assert wire.ask("AUTH LOGIN").code == 334
        assert wire.ask("A" * 12_288).code == 500
        wire.send(b"AUTH LOGIN\r\nYW\nFu\r\n")
        assert [wire.reply().code, wire.reply().code] == [334, 500]
    with submitting.wire() as wire:
        assert by_scram(wire, "nobody", PASSWORD) == 535

    def wrong_ones() -> list[str]:
        failures = submitting.gateway.log_events(event="authentication_failed")
        return [event["user"] for event in failures if event["reply"].startswith("535")]

    until("all three are in the log", lambda: wrong_ones() == [ANN, "nobody", "nobody"])
    assert submitting.gateway.command("explain", answers[0].id)
    log = submitting.gateway.output.read_text()
    assert PASSWORD not in log and b64(f"\0{ANN}\0wrong") not in log


def test_users_come_and_go_while_it_runs(submitting: Submitting) -> None:
    plain = "AUTH PLAIN " + b64("\0bob\0secret")
    with submitting.wire() as wire:
        assert wire.ask(plain).code == 535
    submitting.add("bob", "secret")
    with submitting.wire() as wire:
        assert wire.ask(plain).code == 235
    assert submitting.gateway.command("users", "list").split() == [ANN, "bob", "2", "users"]
    submitting.gateway.command("users", "remove", "bob")
    with submitting.wire() as wire:
        assert wire.ask(plain).code == 535
    os.chmod(submitting.users, 0o644)
    with submitting.wire() as wire:
        assert str(wire.ask(plain)).startswith("454 4.7.0 ")


def test_workers_and_clients_that_need_no_name(play: Stage, certificate: Certificate, tmp_path: Path) -> None:
    both = Submitting(play, certificate, tmp_path, "auth_login = no\nauth_bypass = 127.0.0.9\n", "workers = 2\n")
    both.add(ANN, PASSWORD)
    with both.wire() as wire:
        assert f"AUTH {SCRAM} PLAIN" in wire.ask("EHLO x.example").lines
        assert wire.ask("AUTH LOGIN").code == 504
        assert by_scram(wire, ANN, PASSWORD) == 235
    with Wire(both.starttls, source="127.0.0.9") as printer:
        printer.hello()
        assert [answer.code for answer in printer.envelope("printer@here.example", ABROAD)] == [250, 250]
    with Wire(both.gateway.port, source="127.0.0.9") as printer:
        printer.hello()
        assert printer.envelope("printer@here.example", ABROAD)[1].code == 550
