"""Scanners that are real, beside independent witnesses; and such as lie, hang, stall and die."""

from __future__ import annotations

import base64
import io
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyclamd
import pytest
from programs import DOMAIN, Gateway, Stage, domain, letter, need, post, until
from scanners import EICAR, GTUBE, MARKER, Clamd, Liar, Rspamd, Spamd, asked_of, read_request, read_stream, room

MakeLiar = Callable[[Callable[[socket.socket], object]], Liar]
TRACE = (
    "Received: from client.stranger.example ([192.0.2.9])\r\n\tby mx.gateway.example with ESMTP id x;\r\n"
    "\tSat, 21 Nov 2026 12:00:00 +0000\r\n"
)


def mime(octets: bytes, name: str) -> bytes:
    """A message with an attachment in base64."""
    return letter(
        "with an attachment",
        b"--b\r\nContent-Type: text/plain\r\n\r\nsee there\r\n--b\r\nContent-Type: application/octet-stream\r\n"
        b'Content-Disposition: attachment; filename="%b"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        % name.encode()
        + base64.encodebytes(octets).replace(b"\n", b"\r\n")
        + b"--b--\r\n",
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n',
    )


def zipped(octets: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.txt", octets)
    return made.getvalue()


def large(octets: int, end: bytes = b"") -> bytes:
    """Text of so many octets, ``end`` at its end."""
    line = b"The quick brown fox jumps over the lazy dog, again and again and again.\r\n"
    return (letter("large") + line * (octets // len(line) + 1))[: octets - len(end)] + end


INFECTED = {
    "raw": letter("raw", EICAR + b"\r\n"),
    "base64": mime(EICAR, "eicar.com"),
    "zip": mime(zipped(EICAR), "eicar.zip"),
    "large": large(2_000_000, EICAR + b"\r\n"),
}


# --- clamd ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_our_client_hears_what_pyclamd_hears(clamd: Clamd, tmp_path: Path, transport: str) -> None:
    chunk = 256 * 1024
    bodies = [
        *INFECTED.values(), letter("clean"), b"x", b"", MARKER, mime(zipped(MARKER), "x.zip"), mime(b"harmless", "x"),
        large(chunk), large(chunk + 1), large(chunk, MARKER), large(2 * chunk, MARKER), large(3 * chunk - 1),
    ]  # fmt: skip
    endpoint = f"unix:{clamd.path}" if transport == "unix" else f"tcp:127.0.0.1:{clamd.port}"
    ours = asked_of(tmp_path, "clamd", [endpoint], bodies, side_by_side=True)["outcomes"]
    for octets, name in zip(bodies, ours, strict=True):
        if octets:  # pyclamd leaves an empty stream without an end
            theirs = pyclamd.ClamdUnixSocket(str(clamd.path)).scan_stream(octets)
            assert (theirs or {"stream": ("FOUND", "")})["stream"][1] == name
    assert ours.count("Test.EICAR.NDB.UNOFFICIAL") == 4
    assert ours.count("Test.Marker.NDB.UNOFFICIAL") == 4


def test_what_is_larger_than_clamd_takes_is_neither_clean_nor_an_error(tmp_path: Path) -> None:
    need("clamd")
    with room() as folder:
        clamd = Clamd(folder, "1M").start()
        try:
            bodies = [large(2**20), *[large(4 * 2**20)] * 15, letter("small", MARKER)]
            found = asked_of(tmp_path, "clamd", [f"unix:{clamd.path}"], bodies)
            assert found["outcomes"] == ["", *["TooLarge"] * 15, "Test.Marker.NDB.UNOFFICIAL"]
            found = asked_of(tmp_path, "clamd", [f"unix:{clamd.path}"], bodies[:2], max_size=2**20)
            assert found["outcomes"] == ["", "TooLarge"]
        finally:
            clamd.close()


def test_what_clamd_takes_by_default_is_what_we_send_by_default(clamd: Clamd, tmp_path: Path) -> None:
    bodies = [large(25 * 2**20, MARKER), large(25 * 2**20 + 1, MARKER)]
    found = asked_of(tmp_path, "clamd", [f"unix:{clamd.path}"], bodies)
    assert found["outcomes"] == ["Test.Marker.NDB.UNOFFICIAL", "TooLarge"]
    assert found["lag"] < 0.25


def test_the_second_server_when_the_first_is_not_there(clamd: Clamd, tmp_path: Path) -> None:
    servers = [f"unix:{tmp_path}/nobody", "tcp:127.0.0.1:1", f"tcp:127.0.0.1:{clamd.port}"]
    found = asked_of(tmp_path, "clamd", servers, [MARKER, b"x"])
    assert found["outcomes"] == ["Test.Marker.NDB.UNOFFICIAL", ""]


def hang(line: socket.socket) -> None:
    time.sleep(20)


def never_read(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    time.sleep(20)


def drip(line: socket.socket) -> None:
    read_stream(line)
    for octet in b"stream: OK\0":
        line.sendall(bytes([octet]))
        time.sleep(5)


def die_at_once(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    def act(line: socket.socket) -> None:
        read_stream(line)
        line.sendall(answer)

    return act


def endless(line: socket.socket) -> None:
    read_stream(line)
    while True:
        line.sendall(b"x" * 65536)


CLAMD_LIARS = {
    "hangs": hang,
    "never reads": never_read,
    "drips": drip,
    "dies at once": die_at_once,
    "dies in the middle": saying(b"stream: Eic"),
    "garbage": saying(b"\xff\xfe\0"),
    "OK without NUL": saying(b"stream: OK"),
    "endless": endless,
    "OK too early": lambda line: (line.sendall(b"stream: OK\0"), time.sleep(1)),
}


@pytest.mark.parametrize("liar", CLAMD_LIARS)
def test_a_clamd_that_does_not_do_its_work_gives_no_clean_bill(liars: MakeLiar, tmp_path: Path, liar: str) -> None:
    server = liars(CLAMD_LIARS[liar])
    bodies = [large(3_000_000)] * 2 + ([letter("small")] * 8 if liar != "OK too early" else [])
    found = asked_of(tmp_path, "clamd", [server.endpoint], bodies, side_by_side=True, seconds=2.0)
    assert [outcome.split(": ")[0] for outcome in found["outcomes"]] == ["Unavailable"] * len(bodies)
    assert max(found["seconds"]) < 2.0 + 2.0
    assert found["lag"] < 0.25


# --- spamd ------------------------------------------------------------------------------------------------------------


def test_our_client_hears_what_spamc_hears(spamd: Spamd, tmp_path: Path) -> None:
    spamc = [need("spamc"), "-d", "127.0.0.1", "-p", str(spamd.port), "-s", str(2**20)]
    bodies = [letter("hello"), letter("buy", GTUBE + b"\r\n"), b"no header at all\r\n", large(50_000)]
    found = asked_of(tmp_path, "spamd", [f"tcp:127.0.0.1:{spamd.port}"], bodies, trace=TRACE, side_by_side=True)
    assert [type(outcome) for outcome in found["outcomes"]] == [list] * 4, found
    for octets, (score, rules) in zip(bodies, found["outcomes"], strict=True):
        whole = TRACE.encode() + octets
        checked = subprocess.run([*spamc, "-c"], input=whole, capture_output=True, timeout=60, check=False)
        assert float(checked.stdout.split(b"/")[0]) == pytest.approx(score, abs=0.11)
        listed = subprocess.run([*spamc, "-y"], input=whole, capture_output=True, timeout=60, check=True)
        assert sorted(listed.stdout.decode().strip().split(",")) == sorted(rules)
    assert found["outcomes"][1][0] >= 1000


def test_spamd_believes_our_trace(spamd: Spamd, tmp_path: Path) -> None:
    """Without a Received field that it can read it complains of a message without relays."""
    endpoint = f"tcp:127.0.0.1:{spamd.port}"
    [(_, traced)] = asked_of(tmp_path, "spamd", [endpoint], [letter("hello")], trace=TRACE)["outcomes"]
    [(_, bare)] = asked_of(tmp_path, "spamd", [endpoint], [letter("hello")])["outcomes"]
    assert "NO_RELAYS" in bare and "NO_RELAYS" not in traced
    assert "UNPARSEABLE_RELAY" not in traced


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def act(line: socket.socket) -> None:
        read_request(line)
        line.sendall(answer)

    return act


SPAMD_LIARS = {
    "hangs": hang,
    "dies at once": die_at_once,
    "an error without headers": answering(b"SPAMD/1.0 76 Bad header line\r\n"),
    "nan": answering(b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: True ; nan / 5.0\r\n\r\n"),
    "half": answering(b"SPAMD/1.1 0 EX_OK\r\nContent-length: 90\r\nSpam: True ; 9.0 / 5.0\r\n\r\nA,B"),
}


@pytest.mark.parametrize("liar", SPAMD_LIARS)
def test_a_spamd_that_does_not_do_its_work_gives_no_score(liars: MakeLiar, tmp_path: Path, liar: str) -> None:
    server = liars(SPAMD_LIARS[liar])
    found = asked_of(tmp_path, "spamd", [server.endpoint], [letter("x")] * 4, side_by_side=True, seconds=2.0)
    assert [outcome.split(": ")[0] for outcome in found["outcomes"]] == ["Unavailable"] * 4
    assert max(found["seconds"]) < 2.0 + 2.0


def test_never_more_requests_than_children(liars: MakeLiar, tmp_path: Path) -> None:
    lock = threading.Lock()
    unanswered: list[int] = []
    most: list[int] = []

    def act(line: socket.socket) -> None:
        with lock:
            unanswered.append(1)
            most.append(len(unanswered))
        read_request(line)
        time.sleep(0.02)
        # A child is free once it has answered: our client need not wait until the connection is seen to be closed.
        with lock:
            unanswered.pop()
        line.sendall(b"SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: True ; 9.0 / 5.0\r\n\r\nA")

    server = liars(act)
    found = asked_of(tmp_path, "spamd", [server.endpoint], [letter("x")] * 20, side_by_side=True, at_once=2)
    assert found["outcomes"] == [[9.0, ["A"]]] * 20
    assert (server.asked, max(most)) == (20, 2)


# --- the gateway ------------------------------------------------------------------------------------------------------


def checks(*sections: str) -> str:
    return "\n".join(sections)


def av(endpoint: str, **keys: str) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[check av]\nuse = clamav\nservers = {endpoint}\n{more}"


def sa(endpoint: str, *keys: str) -> str:
    return "\n".join((f"[check sa]\nuse = spamassassin\nservers = {endpoint}", *keys)) + "\n"


WEIGHTS = ("weight.low = 10", "weight.medium = 20", "weight.high = 30")
SUBJECT = "[check subject]\nuse = headers\nheader = Subject\nvalue = forbidden\nweight.match = reject\n"


@pytest.fixture
def scanning(shared: Stage, clamd: Clamd, spamd: Spamd) -> Any:
    primary = shared.recording()
    gateway = shared.gateway(
        domain(primary.port)
        + av(f"unix:{clamd.path}", timeout="20s")
        + sa(f"tcp:127.0.0.1:{spamd.port}", "timeout = 20s", *WEIGHTS)
    )
    return gateway, primary


def test_mail_is_scanned_while_the_stranger_waits(scanning: Any) -> None:
    gateway, primary = scanning
    for name, octets in INFECTED.items():
        answer = post(gateway.port, octets)
        assert (answer.code, answer.enhanced) == (554, "5.7.1"), name
        told = gateway.command("explain", answer.id)
        assert "infected" in told and "Test.EICAR.NDB.UNOFFICIAL" in told
        assert "sa" not in told.split(), "spamd is not asked about what is refused anyway"
    assert post(gateway.port, letter("spam", GTUBE + b"\r\n")).code == 550
    assert post(gateway.port, letter("fine")).code == 250
    [(spam_checks)] = primary.one(b"fine").field("X-Spam-Checks")
    assert spam_checks == "av=clean(0) sa=none(0)"
    assert primary.count() == 1


def test_what_is_infected_may_be_kept_and_goes_on_when_an_operator_names_it_alone(play: Stage, clamd: Clamd) -> None:
    primary = play.recording()
    keys = {"timeout": "20s", "weight.infected": "quarantine"}
    gateway: Gateway = play.gateway(domain(primary.port) + av(f"unix:{clamd.path}", **keys))
    infected, other = post(gateway.port, INFECTED["zip"]), post(gateway.port, INFECTED["raw"])
    assert (infected.code, other.code, post(gateway.port, letter("clean")).code) == (250, 250, 250)
    assert primary.count() == 1 and primary.one(b"clean")
    assert {row["id"] for row in gateway.listed("quarantine", "list", "--cause", "av")} == {infected.id, other.id}
    [shown] = gateway.listed("quarantine", "show", infected.id)
    assert (shown["state"], shown["cause"]) == ("quarantined", "quarantine by av")
    assert "av=infected(quarantine)  Test.EICAR.NDB.UNOFFICIAL" in gateway.command("explain", infected.id)
    # Nothing is sent on by forgetting to say what.
    gateway.command("quarantine", "release", status=2)
    gateway.command("quarantine", "release", "--cause", "av", "--dry-run")
    gateway.command("quarantine", "release", infected.id)
    sent = until("the delivery", lambda: primary.count() == 2 and primary.one(b"with an attachment"))
    assert sent.field("X-Spam-Checks") == ["av=infected(quarantine)"]
    [left] = gateway.listed("quarantine", "list")
    assert left["id"] == other.id


def test_its_own_score_is_added(play: Stage, spamd: Spamd) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port) + sa(f"tcp:127.0.0.1:{spamd.port}", "factor = 1", "timeout = 20s"))
    answer = post(gateway.port, letter("spam", GTUBE + b"\r\n"))
    assert answer.code == 550
    told = gateway.command("explain", answer.id)
    assert "GTUBE" in told and "sa=none" not in told


def heard(told: str) -> set[str]:
    return {word for word in told.split() if word.startswith("HEARD_")}


def test_a_real_rspamd(play: Stage, rspamd: Rspamd) -> None:
    primary = play.recording()
    servers = f"tcp:127.0.0.1:1 tcp:127.0.0.1:{rspamd.port}"
    gateway = play.gateway(
        domain(primary.port) + f"[check rs]\nuse = rspamd\nservers = {servers}\ntimeout = 20s\nfactor = 1\n"
    )
    assert post(gateway.port, letter("fine")).code == 250
    assert primary.one(b"fine").field("X-Spam-Checks") == ["rs=none(0)"]
    assert post(gateway.port, letter("marked")).code == 250
    assert primary.one(b"marked").field("X-Spam-Checks") == ["rs=medium(7.5)"]
    gateway.config.write_text(gateway.config.read_text() + "weight.medium = reject\nweight.high = reject\n")
    gateway.hangup()
    until("the new settings", lambda: gateway.log_events(event="reloaded"))
    answer = post(gateway.port, letter("spam", GTUBE + b"\r\n"))
    assert answer.code == 554 and "GTUBE" in gateway.command("explain", answer.id)
    # Rules that hit say what rspamd took from what it was told.
    answer = post(gateway.port, letter("marked"), recipients=(f"user@{DOMAIN}", f"other@{DOMAIN}"))
    told = gateway.command("explain", answer.id)
    assert heard(told) == {"HEARD_IP", "HEARD_HELO", "HEARD_FROM", "HEARD_TWO"}
    told = gateway.command("explain", post(gateway.port, letter("marked"), sender="").id)
    assert heard(told) == {"HEARD_IP", "HEARD_HELO", "HEARD_NULL"}
    told = gateway.command("check", status=1)
    assert f"127.0.0.1:{rspamd.port}" in told and "HTTP/1.1 200 OK" in told and "Connection refused" in told


def test_spamd_is_spared_when_nothing_it_says_could_matter(play: Stage, liars: MakeLiar) -> None:
    server = liars(answering(b"SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: True ; 9.0 / 5.0\r\n\r\nA"))
    primary = play.recording()
    gateway = play.gateway(domain(primary.port) + SUBJECT + sa(server.endpoint, *WEIGHTS))
    assert post(gateway.port, letter("forbidden")).code == 554
    assert server.asked == 0
    assert post(gateway.port, letter("allowed")).code == 250
    assert server.asked == 1
    assert primary.one(b"allowed").field("X-Spam-Checks") == ["subject=absent(0) sa=medium(20)"]


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "dies in the middle"])
def test_mail_that_cannot_be_scanned_is_put_off(play: Stage, liars: MakeLiar, clamd: Clamd, trouble: str) -> None:
    server = liars(CLAMD_LIARS.get(trouble, hang))
    if trouble == "refuses":
        server.close()
    primary = play.recording()
    gateway: Gateway = play.gateway(domain(primary.port) + av(server.endpoint, timeout="1s"))
    for _ in range(3):
        began = time.monotonic()
        answer = post(gateway.port, letter("now"))
        assert (answer.code, answer.enhanced) == (451, "4.7.1")
        assert time.monotonic() - began < 1.0 + 2.0
    [down] = until("the line in the log", lambda: gateway.log_events(event="service_down"))
    assert down["service"] == f"clamd 127.0.0.1:{server.port}"
    # The answer comes in the end from another server, without a restart.
    gateway.config.write_text(gateway.config.read_text().replace(server.endpoint, f"unix:{clamd.path}"))
    gateway.hangup()
    until("the new settings", lambda: gateway.log_events(event="reloaded"))
    assert post(gateway.port, letter("later")).code == 250


def test_a_scanner_that_comes_back_is_asked_again(play: Stage, liars: MakeLiar) -> None:
    server = liars(die_at_once)
    primary = play.recording()
    gateway: Gateway = play.gateway(domain(primary.port) + av(server.endpoint, timeout="2s"))
    for _ in range(20):
        assert post(gateway.port, letter("now")).code == 451
    assert server.asked <= 6
    server.act = saying(b"stream: OK\0")
    assert until("mail is taken again", lambda: post(gateway.port, letter("later")).code == 250, 15.0)


def test_check_says_which_scanner_answers(scanning: Any, tmp_path: Path) -> None:
    gateway, _ = scanning
    told = gateway.command("check")
    assert "ClamAV " in told and "SPAMD/" in told
    # Ours have none; status says how old they are.
    until("clamd's version", lambda: "definitions without a date" in gateway.command("status"))
    whole = gateway.config.read_text()
    gateway.config.write_text(whole.replace(".sock", ".none"))
    told = gateway.command("check", status=1)
    gateway.config.write_text(whole)
    [line] = [line for line in told.splitlines() if "clamd.none" in line and " no " in line]
    assert line.endswith("cannot connect: No such file or directory")
