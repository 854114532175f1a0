"""Programs of an operator's in the gateway: a script that judges and scores, and the real clamscan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from programs import DOMAIN, Gateway, Stage, Wire, domain, letter, need, post, until
from scanners import MARKER, Clamd

SCRIPT = """#!/bin/sh
grep -q "^Received: from client.stranger.example" "$1" || exit 9
case "$(grep '^Subject:' "$1")" in
  *virus*) echo "$1: Home.Made FOUND"; exit 1 ;;
  *spam*) printf 'X-Declude-Score: 2.5\\r\\n' | cat - "$1" > new; mv new "$1"; exit 2 ;;
  *slow*) echo $$ > "${2}.new"; mv "${2}.new" "$2"; sleep 1000 & sleep 1000 ;;
  *breaks*) kill -9 $$ ;;
  *sender*) echo "from $3"; exit 1 ;;
  *words*) printf '\\r%%s"},{\\033[2J\\000\\377 \\342\\200\\250more'; exit 1 ;;
esac
exit 0
"""


def command(path: Path, pid: Path, *keys: str) -> str:
    lines = (
        f"[check av]\nuse = command\ncommand = {path} %filepath {pid} %sender",
        *("exit.0 = clean", "exit.1 = infected", "exit.2 = scored", "score_header = X-Declude-Score", *keys),
    )
    return "\n".join(lines) + "\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "judge"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


def copies(gateway: Gateway) -> list[str]:
    return [name for _, folders, files in os.walk(gateway.data / "scratch" / "0") for name in folders + files]


def test_a_program_judges(play: Stage, script: Path, tmp_path: Path) -> None:
    primary = play.recording()
    gateway: Gateway = play.gateway(
        domain(primary.port) + command(script, tmp_path / "pid", "timeout = 20s", "weight.error = 1"),
        gateway_keys="workers = 1\n",
    )

    def judged(subject: str, headers: bytes = b"") -> str:
        assert post(gateway.port, letter(subject, headers=headers)).code == 250
        [found] = primary.one(f"Subject: {subject}\r\n".encode()).field("X-Spam-Checks")
        return found

    def refused(*arguments: Any, **more: Any) -> str:
        answer = post(gateway.port, *arguments, **more)
        assert (answer.code, answer.enhanced) == (554, "5.7.1")
        return gateway.command("explain", answer.id)

    assert judged("fine") == "av=clean(0)"
    assert "exit 1 message.eml: Home.Made FOUND" in refused(letter("virus"))
    assert judged("breaks") == "av=error(1)"
    # Nobody writes his own score, and nobody gets out of his argument.
    assert judged("mine", b"X-Declude-Score: -100\r\n") == "av=clean(0)"
    hostile = "-x'$`{id}@stranger.example"
    assert f"from <{hostile}>" in refused(letter("sender"), sender=hostile)
    # Nor does what it says get out of its line.
    told = refused(letter("words"))
    assert "exit 1" in told and '%s"},{' in told and all(line.isprintable() for line in told.split("\n"))
    assert gateway.output.read_text("utf-8").replace("\n", "").isprintable()
    large = letter("large") + b"The quick brown fox jumps over the lazy dog.\r\n" * 30_000
    assert post(gateway.port, large).code == 250
    # What a program does to its copy changes no message; its number counts.
    assert post(gateway.port, letter("spam")).code == 250
    mail = primary.one(b"Subject: spam\r\n")
    assert mail.field("X-Spam-Checks") == ["av=scored(2.5)"] and mail.field("X-Declude-Score") == []
    assert copies(gateway) == []
    assert "can be run" in gateway.command("check")


def test_a_program_that_does_not_end_is_killed(play: Stage, script: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    primary = play.recording()
    gateway: Gateway = play.gateway(
        domain(primary.port) + command(script, pid, "timeout = 1s", "weight.error = defer")
    )
    answer = post(gateway.port, letter("slow"))
    assert (answer.code, answer.enhanced) == (451, "4.7.1")
    until("it is gone", lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
    until("its copy is gone", lambda: copies(gateway) == [])
    assert post(gateway.port, letter("fine")).code == 250
    # Nor does it outlive the gateway.
    pid.unlink()
    gateway.config.write_text(gateway.config.read_text().replace("timeout = 1s", "timeout = 60s"))
    gateway.hangup()
    until("the new settings", lambda: gateway.log_events(event="reloaded"))
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.envelope("someone@stranger.example", f"user@{DOMAIN}")
        assert wire.ask("DATA").code == 354
        wire.send(letter("slow") + b".\r\n")
        until("it runs", pid.exists)
        leader = pid.read_text().strip()
        gateway.stop()
    until("it is gone", lambda: not Path(f"/proc/{leader}").exists())


def test_the_real_clamscan(play: Stage, clamd: Clamd) -> None:
    clamscan = need("clamscan")
    primary = play.recording()
    gateway = play.gateway(
        domain(primary.port) + "[check av]\nuse = command\nexit.0 = clean\nexit.1 = infected\ntimeout = 60s\n"
        f"command = {clamscan} --database={clamd.folder}/db --no-summary --infected %filepath\n"
    )
    assert post(gateway.port, letter("fine")).code == 250
    answer = post(gateway.port, letter("bad", MARKER + b"\r\n"))
    assert answer.code == 554
    assert "message.eml: Test.Marker.NDB.UNOFFICIAL FOUND" in gateway.command("explain", answer.id)
