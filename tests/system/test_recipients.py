"""Who exists behind the gateway, with a primary that says so: asked, learned, listed, and away."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from programs import DOMAIN, Answer, Gateway, RecordingPrimary, Stage, Wire, domain, letter, post, until

ANN, BOB, EVE = (f"{name}@{DOMAIN}" for name in ("ann", "bob", "eve"))
POSTMASTER = f"postmaster@{DOMAIN}"
ASKED = "learned callout"


@pytest.fixture
def primary(play: Stage) -> RecordingPrimary:
    made = play.recording()
    made.script(known=[ANN, BOB, POSTMASTER])
    return made


def rcpt(gateway: Gateway, *recipients: str) -> list[Answer]:
    with Wire(gateway.port) as wire:
        wire.hello()
        return wire.envelope("someone@stranger.example", *recipients)[1:]


def known_by(primary: RecordingPrimary) -> list[str]:
    """Whom it was asked about, the gateway's own stranger and postmaster aside."""
    return [each for each in primary.asked() if each != POSTMASTER and len(each.partition("@")[0]) != 20]


def without_id(answer: Answer) -> str:
    return str(answer).rpartition(" ")[0] if answer.code >= 400 else str(answer)


# --- the primary is asked ---------------------------------------------------------------------------------------------


def test_a_harvest_is_cut_off_and_learns_nothing_but_what_is_so(play: Stage, primary: RecordingPrimary) -> None:
    gateway = play.gateway(domain(primary.port, recipients=ASKED))
    names = [f"user{number:03}@{DOMAIN}" for number in range(200)]
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.ask("MAIL FROM:<someone@stranger.example>")
        wire.send("".join(f"RCPT TO:<{name}>\r\n" for name in names).encode())
        said = wire.rest()
    assert sum(line.startswith(b"550 5.1.1 ") for line in said) == 20
    assert said[-1].startswith(b"421 "), said[-1]
    assert sorted(known_by(primary)) == names[:20]
    # Asked again it says the same, and the primary hears nothing of it.
    fresh, again = rcpt(gateway, EVE, EVE)
    assert without_id(fresh) == without_id(again) == "550 5.1.1 there is no such recipient here"
    assert {without_id(answer) for answer in rcpt(gateway, *names[:5])} == {without_id(fresh)}
    assert {without_id(answer) for _ in range(2) for answer in rcpt(gateway, ANN)} == {"250 2.1.5 recipient ok"}
    assert known_by(primary)[20:] == [EVE, ANN]
    [row] = [row for row in gateway.listed("recipients", "list", "eve") if row["address"] == EVE]
    assert (row["state"], row["source"], row["fresh"]) == ("unknown", "callout", True)
    assert "recipient=unknown(reject)" in gateway.command("explain", fresh.id)
    assert primary.count() == 0


def test_mail_teaches_and_operators_correct(play: Stage, primary: RecordingPrimary, tmp_path: Path) -> None:
    gateway = play.gateway(domain(primary.port, recipients=ASKED), gateway_keys="workers = 2\n")
    assert post(gateway.port, letter("one"), recipients=[ANN]).code == 250
    asked = len(primary.asked())

    def learned() -> list[dict[str, Any]]:
        return [row for row in gateway.listed("recipients", "list", ANN) if row["source"] == "handover"]

    [row] = until("the other worker's word is on the disk", learned)
    assert (row["state"], row["confidence"]) == ("exists", 1.0)
    assert rcpt(gateway, ANN)[0].code == 250
    assert len(primary.asked()) == asked

    [refused] = rcpt(gateway, EVE)
    assert refused.code == 550
    primary.script(known=[ANN, BOB, EVE, POSTMASTER])
    assert "1 forgotten" in gateway.command("recipients", "forget", EVE)
    assert rcpt(gateway, EVE)[0].code == 250

    (tmp_path / "list").write_text(f"# ours\nzoe@{DOMAIN}\nzoe@elsewhere.test\n")
    assert "1 imported" in gateway.command("recipients", "import", str(tmp_path / "list"))
    until("every worker takes its word", lambda: rcpt(gateway, f"zoe@{DOMAIN}")[0].code == 250)
    assert until("it is told", lambda: gateway.log_events(event="recipients_imported"))[0]["count"] == 1


def test_a_primary_that_takes_anybody_is_found_out(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port, recipients=ASKED))
    assert [answer.code for answer in rcpt(gateway, ANN, EVE, f"nobody@{DOMAIN}")] == [250, 250, 250]
    assert len(primary.asked()) == 1
    [told] = until("it is told", lambda: gateway.log_events(event="takes_anybody"))
    assert told["domain"] == DOMAIN
    [process] = json.loads(gateway.command("status", "--json"))["processes"]
    services = process["services"]
    assert [row["state"] for row in services if row["service"] == f"recipients of {DOMAIN}"] == ["down"]


# --- while the primary is away ----------------------------------------------------------------------------------------


def test_an_outage_from_the_first_question_to_the_last(play: Stage, primary: RecordingPrimary) -> None:
    sections = "[delivery]\nretry = 10/10*\n[greylisting]\nblock = 15m\n" + domain(
        primary.port, recipients=ASKED, bounce="always"
    )
    gateway = play.gateway(sections, launcher="warped")
    assert post(gateway.port, letter("known"), recipients=[ANN]).code == 250
    assert rcpt(gateway, EVE)[0].code == 550
    primary.stop()
    assert post(gateway.port, letter("down"), recipients=[ANN]).code == 250
    until("the primary is known to be down", lambda: gateway.log_events(event="host_down"))

    def codes() -> list[int]:
        return [answer.code for answer in rcpt(gateway, ANN, EVE, BOB, f"mallory@{DOMAIN}")]

    # Known good, known bad, and two of whom nothing is known: these come again after a while.
    assert codes() == [250, 550, 450, 450]
    gateway.pass_time(16 * 60)
    assert codes() == [250, 450, 250, 250]
    answers = {name: post(gateway.port, letter(name), recipients=[f"{name}@{DOMAIN}"]) for name in ("bob", "mallory")}
    assert [answer.code for answer in answers.values()] == [250, 250]
    shown = gateway.command("spool", "show", answers["mallory"].id)
    assert "unverified" in shown
    assert "taken unverified" in gateway.command("explain", answers["mallory"].id)

    primary.start()
    gateway.pass_time(60)
    until("who exists has the mail", lambda: primary.subjects()["bob"] == 1)
    [entry] = until("who does not is quarantined", lambda: gateway.listed("quarantine", "list"))
    assert (entry["id"], entry["state"]) == (answers["mallory"].id, "quarantined")
    [row] = json.loads(gateway.command("quarantine", "show", entry["id"], "--json"))
    assert (row["cause"], row["unverified"]) == ("unverified recipient", True)
    assert row["expires_at"] is not None
    assert "5.1.1" in row["recipients"][0]["last_reply"]
    assert [gateway.log_events(event=event) for event in ("bounced", "delay_notified")] == [[], []]
    assert "quarantined" in gateway.command("explain", answers["mallory"].id)
    # What the deliveries said is known now.
    assert [answer.code for answer in rcpt(gateway, BOB, f"mallory@{DOMAIN}")] == [250, 550]


@pytest.mark.parametrize("up", [True, False])
def test_five_hundred_forged_mails_make_no_bounce(play: Stage, primary: RecordingPrimary, up: bool) -> None:
    sections = "[delivery]\nretry = 60*\n" + domain(
        primary.port, recipients=ASKED, recipients_unreachable="accept", bounce="always"
    )
    gateway = play.gateway(sections + "[smtp]\nmax_bad_recipients = 1000\n")
    if not up:
        primary.stop()
    last = "RSET" if up else "DATA"
    for first in range(0, 500, 5):
        with Wire(gateway.port) as wire:
            wire.hello()
            for number in range(first, first + 5):
                sender = f"victim{number}@{DOMAIN if number % 2 else 'stranger.example'}"
                wire.send(f"MAIL FROM:<{sender}>\r\nRCPT TO:<none{number}@{DOMAIN}>\r\n{last}\r\n".encode())
                codes = [wire.reply().code for _ in range(3)]
                if not up:
                    wire.send(letter(f"forged{number}") + b".\r\n")
                    codes.append(wire.reply().code)
                assert codes == ([250, 550, 250] if up else [250, 250, 354, 250])
    if not up:
        primary.start()
        gateway.command("spool", "force", "--domain", DOMAIN)
        until("each is quarantined", lambda: len(gateway.log_events(event="quarantined")) == 500, 60.0)
        assert {row["state"] for row in gateway.listed("spool", "list")} == {"quarantined"}
    assert gateway.log_events(event="bounced") == []
    assert primary.count() == 0


# --- lists ------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_again_when_it_changes(play: Stage, primary: RecordingPrimary, tmp_path: Path) -> None:
    file = tmp_path / "who"
    file.write_text(f"# people\n{ANN}\n")
    sections = domain(primary.port, recipients=f"file:{file}") + domain(
        primary.port, "all.example", recipients=f"file:{file}"
    )
    gateway = play.gateway(sections, launcher="warped")
    assert [answer.code for answer in rcpt(gateway, ANN.upper(), BOB, "x@all.example")] == [250, 550, 550]
    file.write_text(f"{BOB}\n*@all.example\n")
    gateway.pass_time(5)
    assert [answer.code for answer in rcpt(gateway, BOB, ANN, "x@all.example")] == [250, 550, 250]
    # Whoever writes it anew empties it first: nobody is refused for that.
    file.write_text("")
    gateway.pass_time(5)
    assert [answer.code for answer in rcpt(gateway, BOB, ANN)] == [250, 550]
    [told] = until("trouble is told", lambda: gateway.log_events(event="service_down"))
    assert told["detail"] == "holds no address; what it held before is used"
    file.write_text(f"{ANN}\n")
    gateway.hangup()
    until("the settings are read", lambda: gateway.log_events(event="reloaded"))
    assert [answer.code for answer in rcpt(gateway, BOB, ANN)] == [550, 250]
    assert primary.asked() == []


class People(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        content = f"{ANN}\r\n{BOB}\r\n" if self.path == "/list" else "yes" if "ann@" in self.path else "no"
        gone = self.path.startswith("/ask/eve")
        self.send_response(404 if gone else 200)
        octets = b"" if gone else content.encode()
        if self.path == "/list":
            self.send_header("Transfer-Encoding", "chunked")
            octets = b"".join(b"1\r\n%c\r\n" % octet for octet in octets) + b"0\r\n\r\n"
        else:
            self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def people() -> Iterator[int]:
    People.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), People)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_service_is_asked(play: Stage, primary: RecordingPrimary, people: int, tmp_path: Path) -> None:
    sections = domain(
        primary.port,
        recipients=f"http://127.0.0.1:{people}/ask/{{address}}?x=1",
        recipients_username="me",
        recipients_password="of the service",
    ) + domain(primary.port, "list.example", recipients=f"http://127.0.0.1:{people}/list")
    gateway = play.gateway(sections)
    assert [answer.code for answer in rcpt(gateway, ANN, EVE, f"odd+?name@{DOMAIN}")] == [250, 550, 550]
    assert [path for path, _ in People.asked] == [
        f"/ask/ann@{DOMAIN}?x=1", f"/ask/eve@{DOMAIN}?x=1", f"/ask/odd%2B%3Fname@{DOMAIN}?x=1",
    ]  # fmt: skip
    assert {who for _, who in People.asked} == {"Basic bWU6b2YgdGhlIHNlcnZpY2U="}
    rcpt(gateway, ANN, EVE)
    assert len(People.asked) == 3
    assert [answer.code for answer in rcpt(gateway, "x@list.example", "y@list.example")] == [550, 550]
    assert [path for path, _ in People.asked[3:]] == ["/list"]
    assert "of the service" not in gateway.command("check", "--offline")


def test_a_web_service_that_is_away_gets_the_declared_answer(play: Stage, primary: RecordingPrimary) -> None:
    away = play.recording(start=False).port
    sections = "".join(
        domain(
            primary.port, f"{policy}.example", recipients=f"http://127.0.0.1:{away}/list", recipients_unreachable=policy
        )
        for policy in ("hold", "accept", "defer")
    )
    gateway = play.gateway(sections)
    said = [rcpt(gateway, f"ann@{policy}.example")[0].code for policy in ("hold", "accept", "defer")]
    assert said == [450, 250, 450]
