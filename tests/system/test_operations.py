"""The operator's side: what a wrong start says, reload, TLS, levels and actions, quarantine, the commands."""

from __future__ import annotations

import json
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import (
    DOMAIN,
    HOSTNAME,
    Certificate,
    Gateway,
    RecordingPrimary,
    Stage,
    Wire,
    domain,
    free_port,
    letter,
    need,
    post,
    until,
)


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


# --- a start that cannot be ------------------------------------------------------------------------------------------


def tried(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        gateway.launch_command(), cwd=gateway.folder, capture_output=True, text=True, timeout=20, check=False
    )


def unknown_key(gateway: Gateway) -> str:
    gateway.configure(domain(25) + "[smtp]\nmax_mesage_size = 30MB\n")
    return "max_message_size"


def bare_number(gateway: Gateway) -> str:
    gateway.configure(domain(25) + "[smtp]\nsession_timeout = 15\n")
    return "15m"


def no_such_certificate(gateway: Gateway) -> str:
    tls = "certificate = /nonexistent/fullchain.pem\nprivate_key = /nonexistent/key.pem"
    gateway.configure(f"{domain(25)}[tls]\n{tls}\n")
    return "/nonexistent/fullchain.pem"


def no_such_file(gateway: Gateway) -> str:
    gateway.config.unlink()
    return str(gateway.config)


def port_in_use(gateway: Gateway) -> str:
    taken = socket.socket()
    taken.bind(("127.0.0.1", gateway.port))
    taken.listen()
    # Kept open until the gateway's own end.
    gateway.taken = taken  # type: ignore[attr-defined]
    return str(gateway.port)


def data_folder_is_a_file(gateway: Gateway) -> str:
    gateway.data.write_text("not a folder")
    return str(gateway.data)


def data_folder_below_a_file(gateway: Gateway) -> str:
    gateway.data.write_text("not a folder")
    gateway.data = gateway.data / "data"
    gateway.configure(domain(25))
    return str(gateway.data)


def not_there_yet(gateway: Gateway) -> str:
    gateway.configure(domain(25) + "[storage]\nurl = postgresql://db.example/mail\n")
    return "postgresql"


MISTAKES = [
    *(unknown_key, bare_number, no_such_certificate, no_such_file, port_in_use, data_folder_is_a_file),
    *(data_folder_below_a_file, not_there_yet),
]


@pytest.mark.parametrize("launcher", ["run", "twistd"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_start_that_cannot_be_says_why(play: Stage, mistake: Callable[[Gateway], str], launcher: str) -> None:
    gateway = play.gateway(domain(25), launcher=launcher, start=False)
    named = mistake(gateway)

    done = tried(gateway)

    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "Traceback" not in said
    assert named in said
    assert len(said.splitlines()) <= 6, said


def test_everything_wrong_is_said_at_once(play: Stage) -> None:
    wrong = "[smpt]\nx = 1\n[smtp]\nmax_hop_count = many\n[domain here.example]\nmode = forwards\n"
    gateway = play.gateway(wrong, start=False)

    done = tried(gateway)

    said = done.stdout + done.stderr
    assert done.returncode == 2
    for line, wrong in ((7, "smpt"), (10, "many"), (12, "forwards")):
        assert wrong in said
        assert f"{gateway.config}:{line}" in said or f"line {line}" in said, said


@pytest.mark.root
def test_started_as_root_it_drops_to_the_user(play: Stage, primary: RecordingPrimary) -> None:
    room = play.gateway(domain(primary.port), gateway_keys="user = nobody\n", start=False)
    room.start()

    status = Path(f"/proc/{room.pid}/status").read_text()
    (uids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
    assert "0" not in uids
    assert post(room.port, letter("as nobody"), recipients=[f"user@{DOMAIN}"]).code == 250
    primary.one(b"as nobody")
    assert room.data.stat().st_mode & 0o777 == 0o700


# --- signals ----------------------------------------------------------------------------------------------------------


def test_a_reload_takes_the_whole_or_nothing(play: Stage, primary: RecordingPrimary) -> None:
    gateway = play.gateway(domain(primary.port))
    with Wire(gateway.port) as wire:
        wire.hello()
        assert post(gateway.port, b"", recipients=["user@new.example"]).code == 550

        gateway.configure(domain(primary.port) + domain(primary.port, "new.example"))
        gateway.hangup()
        until("the new domain", lambda: post(gateway.port, letter("x"), recipients=["user@new.example"]).code == 250)

        gateway.configure("[domain new.example]\nmode = forwards\n")
        gateway.hangup()

        def refused() -> list[object]:
            return [e for e in gateway.log_events() if e["level"] == "error" and "forwards" in json.dumps(e)]

        until("a line that says what is wrong", refused)
        assert post(gateway.port, letter("still there"), recipients=["user@new.example"]).code == 250
        assert post(gateway.port, letter("still there"), recipients=[f"user@{DOMAIN}"]).code == 250
        # The session from before any of it goes on.
        assert wire.ask("NOOP").code == 250
    assert gateway.stop() == 0


def test_a_reload_may_name_another_log(play: Stage, primary: RecordingPrimary) -> None:
    gateway = play.gateway(domain(primary.port))
    other = gateway.folder / "other.log"

    gateway.configure(domain(primary.port) + f"[log]\nto = {other}\n")
    gateway.hangup()
    until("the other log", other.exists)
    assert post(gateway.port, letter("logged elsewhere")).code == 250

    until("a line there", lambda: '"handed_over"' in other.read_text())
    assert not gateway.log_events(event="handed_over")

    gateway.configure(domain(primary.port) + f"[log]\nto = {gateway.folder}/none/other.log\n")
    gateway.hangup()
    until("a line that says what is wrong", lambda: "reload_refused" in other.read_text())


# twistd ends itself by the signal it was given.
@pytest.mark.parametrize(("launcher", "status"), [("run", 0), ("twistd", -signal.SIGTERM)])
def test_asking_again_while_it_stops_is_no_fault(play: Stage, launcher: str, status: int) -> None:
    gateway = play.gateway(domain(play.recording().port), launcher=launcher)
    assert gateway.process is not None
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.envelope("someone@stranger.example", f"user@{DOMAIN}")
        assert wire.ask("DATA").code == 354
        gateway.process.send_signal(signal.SIGTERM)
        until("it stops", lambda: gateway.log_events(event="stopping"))
        for again in (signal.SIGTERM, signal.SIGINT):
            gateway.process.send_signal(again)
        wire.send(letter("the last one") + b".\r\n")
        assert wire.reply().code == 250
    assert gateway.process.wait(20) == status
    assert gateway.errors.read_text() == ""


def test_a_stop_finishes_the_message_on_its_way_and_says_421_to_the_rest(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port))
    with Wire(gateway.port) as idle, Wire(gateway.port) as busy:
        idle.hello()
        busy.hello()
        busy.envelope("a@stranger.example", f"user@{DOMAIN}")
        assert busy.ask("DATA").code == 354
        busy.send(letter("finished in time")[:-2])
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        assert [line[:3] for line in idle.rest()] == [b"421"]
        busy.send(b"\r\n.\r\n")
        answer = busy.reply()
    assert gateway.process.wait(20) == 0
    assert answer.code in {250, 421, 451}, answer
    if answer.code == 250:
        gateway.start()
        gateway.drain()
        primary.one(b"finished in time")


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(shared: Stage, primary: RecordingPrimary, certificate: Certificate) -> Gateway:
    own, tls = free_port(), free_port()
    implicit = (
        f"ssl:{own}:privateKey={certificate.key}:certKey={certificate.certificate}:interface=127.0.0.1 "
        f"ssl:{tls}:interface=127.0.0.1"
    )
    gateway = shared.gateway(domain(primary.port) + certificate.section, extra_listen=implicit)
    gateway.tls_ports = {"keys of its own": own, "keys of [tls]": tls}  # type: ignore[attr-defined]
    return gateway


def test_openssl_sends_a_message_after_starttls(secure: Gateway, primary: RecordingPrimary) -> None:
    talk = subprocess.Popen(
        [
            *(need("openssl"), "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{secure.port}"),
            *("-servername", HOSTNAME, "-quiet", "-crlf"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    lines = (
        *("EHLO openssl.stranger.example", "MAIL FROM:<a@stranger.example>", f"RCPT TO:<user@{DOMAIN}>", "DATA"),
        *("Subject: by openssl", "", "Hello", ".", "QUIT", ""),
    )
    said, _ = talk.communicate("\n".join(lines).encode(), timeout=20)

    assert b"\n221 " in said, said
    assert "TLSv1.3" in primary.one(b"Subject: by openssl").field("Received")[0]


def test_smtplib_speaks_starttls_with_a_verified_certificate(
    secure: Gateway, primary: RecordingPrimary, certificate: Certificate
) -> None:
    with smtplib.SMTP("127.0.0.1", secure.port, local_hostname="python.stranger.example") as client:
        # smtplib compares the certificate with the name it was told to connect to.
        client._host = HOSTNAME  # type: ignore[attr-defined]
        client.starttls(context=certificate.trusting())
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail("a@stranger.example", [f"user@{DOMAIN}"], "Subject: by smtplib\r\n\r\nHello\r\n")

    assert "with ESMTPS" in primary.one(b"Subject: by smtplib").field("Received")[0]


@pytest.mark.parametrize("endpoint", ["keys of its own", "keys of [tls]"])
def test_tls_from_the_first_octet(secure: Gateway, certificate: Certificate, endpoint: str) -> None:
    with Wire(secure.tls_ports[endpoint]) as wire:  # type: ignore[attr-defined]
        wire.starttls(certificate.trusting())
        assert "STARTTLS" not in wire.hello().lines


def test_what_was_said_before_tls_is_forgotten(secure: Gateway, certificate: Certificate) -> None:
    with Wire(secure.port) as wire:
        assert "STARTTLS" in wire.hello().lines
        wire.ask("MAIL FROM:<a@stranger.example>")
        assert wire.ask("STARTTLS").code == 220
        wire.starttls(certificate.trusting())
        assert wire.ask(f"RCPT TO:<user@{DOMAIN}>").code == 503
        hello = wire.ask("EHLO again.stranger.example")
        assert "STARTTLS" not in hello.lines
        assert wire.ask("STARTTLS").code in {502, 503, 554}


@pytest.mark.parametrize("behind", [b"RSET\r\n", b"NOOP\r\nNOOP\r\n", b"MAIL FR"], ids=repr)
def test_what_stands_behind_starttls_in_the_clear_is_dropped(
    secure: Gateway, certificate: Certificate, behind: bytes
) -> None:
    with Wire(secure.port) as wire:
        wire.hello()
        wire.send(b"STARTTLS\r\n" + behind)
        answer = wire.reply()
        if answer.code != 220:
            assert answer.code >= 500
            return
        try:
            wire.starttls(certificate.trusting())
        except (ssl.SSLError, ConnectionError):
            return
        # Nothing was queued: the first answer is to the first thing said inside.
        assert wire.ask("EHLO inside.stranger.example").lines[0].startswith(HOSTNAME)


def test_an_old_protocol_is_refused(secure: Gateway, certificate: Certificate) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Wire(secure.port) as wire:
        wire.hello()
        assert wire.ask("STARTTLS").code == 220
        with pytest.raises((ssl.SSLError, ConnectionError)):
            wire.starttls(context)


# --- checks, score, level, action -------------------------------------------------------------------------------------

CHECKS = """
[check low]
use = headers
header = Subject
value = lowish
weight.match = 10

[check medium]
use = headers
header = Subject
pattern = (?i)medium\\s+rare
weight.match = 20

[check high]
use = headers
header = X-Bulk
value = yes
weight.match = 30

[check never]
use = headers
header = Subject
value = forbidden
weight.match = reject

[check later]
use = headers
header = Subject
value = come back
weight.match = defer

[level low]
threshold = 10
action = tag "[SPAM-LOW]", header "X-Low: yes"

[level medium]
threshold = 20
action = quarantine

[level high]
threshold = 30
action = reject "not today"
"""


@pytest.fixture(scope="module")
def scoring(shared: Stage, primary: RecordingPrimary) -> Gateway:
    return shared.gateway(
        domain(primary.port) + domain(primary.port, "lenient.example", **{"weight.high.match": "15"}) + CHECKS
    )


def test_a_low_score_is_tagged(scoring: Gateway, primary: RecordingPrimary) -> None:
    assert post(scoring.port, letter("lowish 1a")).code == 250

    mail = primary.one(b"lowish 1a")
    assert mail.field("Subject") == ["[SPAM-LOW] lowish 1a"]
    assert mail.field("X-Low") == ["yes"]
    assert mail.field("X-Spam-Level") == ["LOW"]
    assert mail.field("X-Spam-Score") == ["10"]
    assert "low=match(10)" in mail.field("X-Spam-Checks")[0]


def test_a_high_score_is_refused_and_explained(scoring: Gateway) -> None:
    answer = post(scoring.port, letter("x", headers=b"X-Bulk: yes\r\n"))

    assert (answer.code, answer.enhanced[:4]) == (550, "5.7."), answer
    assert "not today" in answer.text
    told = until("an explanation", lambda: scoring.command("explain", answer.id, status=None))
    for fact in ("high", "match", "30"):
        assert fact in told, told


@pytest.mark.parametrize(("subject", "code"), [("forbidden", 554), ("come back", 451)])
def test_a_weight_that_decides(scoring: Gateway, subject: str, code: int) -> None:
    assert post(scoring.port, letter(subject)).code == code


def test_recipients_judged_differently_each_get_their_own(scoring: Gateway, primary: RecordingPrimary) -> None:
    """High for one domain, low for the other: nobody's verdict is another's."""
    content = letter("two opinions", headers=b"X-Bulk: yes\r\n")

    answer = post(scoring.port, content, recipients=["user@lenient.example"])

    assert answer.code == 250, answer
    assert primary.one(b"two opinions").field("X-Spam-Score") == ["15"]


def test_quarantine_list_show_release(scoring: Gateway, primary: RecordingPrimary) -> None:
    sent = letter("Medium rare 2b")

    answer = post(scoring.port, sent)

    assert answer.code == 250, answer
    assert scoring.listed("spool", "list", "--state", "active") == []
    (held,) = scoring.listed("quarantine", "list")
    assert (held["state"], held["sender"]) == ("quarantined", "someone@stranger.example")
    assert held["next_attempt_at"] is None
    scoring.command("quarantine", "show", held["id"])
    assert not [mail for mail in primary.received() if b"Medium rare" in mail.content]

    scoring.command("quarantine", "release", held["id"])

    mail = primary.one(b"Medium rare 2b")
    assert mail.content.endswith(sent)
    assert mail.field("X-Spam-Level") == ["MEDIUM"]
    until("an empty quarantine", lambda: scoring.listed("quarantine", "list") == [])
    told = scoring.command("explain", answer.id)
    assert "quarantined" in told
    assert "delivered" in told


# --- commands ---------------------------------------------------------------------------------------------------------


def test_check_prints_what_will_be_done(play: Stage) -> None:
    gateway = play.gateway(domain(25) + CHECKS, start=False)

    told = gateway.command("check", "--offline")

    for fact in (DOMAIN, "gives up after", "high", "match", "30"):
        assert fact in told, told


def test_the_shipped_file_is_accepted(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "", gateway_keys="", extra_listen="", launcher="run")
    shipped = Path(__file__).parents[2] / "etc" / "inboundmx.ini"
    gateway.config.write_text(shipped.read_text())

    gateway.command("check", "--offline")


def test_init_writes_a_file_that_is_accepted(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "", gateway_keys="", extra_listen="", launcher="run")
    gateway.config.unlink()

    answers = {"domain": DOMAIN, "primary": "192.0.2.10", "hostname": HOSTNAME, "postmaster": f"admin@{DOMAIN}"}
    answers |= {"listen": f"tcp:{gateway.port}", "data": str(gateway.data)}
    gateway.command("init", *(f"--{flag}={value}" for flag, value in answers.items()))

    assert f"[domain {DOMAIN}]" in gateway.config.read_text()
    gateway.command("check", "--offline")


def test_held_and_deleted_by_query(play: Stage) -> None:
    gateway = play.gateway(domain(free_port()))
    for number in range(3):
        post(gateway.port, letter(f"x{number}"), sender=f"s{number}@stranger.example")

    by_sender = gateway.listed("spool", "list", "--sender", "s1@stranger.example")
    assert [entry["sender"] for entry in by_sender] == ["s1@stranger.example"]
    told = gateway.command("spool", "delete", "--sender", "s1@stranger.example", "--dry-run")
    assert by_sender[0]["id"] in told
    assert len(gateway.listed("spool", "list")) == 3
    gateway.command("spool", "delete", "--sender", "s1@stranger.example")
    assert len(gateway.listed("spool", "list", "--domain", DOMAIN)) == 2
    assert gateway.listed("spool", "list", "--domain", "other.example") == []
    gateway.command("spool", "show", "0000000000zzzzz", status=1)


def test_demo_takes_a_message_and_ends_with_ctrl_c(play: Stage) -> None:
    demo = play.gateway("", start=False)
    folder = demo.folder / "demo"
    ports = ("--port", str(demo.port), "--primary-port", str(free_port()))
    demo.spawn([sys.executable, "-m", "inboundmx", "demo", *ports, "--folder", str(folder)])
    demo.wait_for_banner(demo.port)
    told = until("what to type next", lambda: demo.output.read_text() if "swaks" in demo.output.read_text() else "")
    assert str(demo.port) in told
    assert "smtplib" in told

    answer = post(demo.port, letter("demonstration"), recipients=["newcomer@example.test"])

    assert answer.code == 250, answer
    (saved,) = until("a file", lambda: list((folder / "primary").glob("*.eml")))
    assert b"Subject: demonstration\r\n" in saved.read_bytes()
    until("where it went", lambda: saved.name in demo.output.read_text())
    assert demo.end(signal.SIGINT) == 0
    demo.output.unlink()
