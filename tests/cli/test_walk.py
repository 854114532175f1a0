"""What ``walk`` says of a message, before any comes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from stopped_gateway import StoppedGateway

from inboundmx.cli.main import main

LISTS = "\n[lists]\nbypass_gateways = 203.0.113.0/29\nblacklist = 198.51.100.0/24\n"
MESSAGE = """Received: from gw2.example (gw2.example [203.0.113.2]) by gw1.example (Postfix); date
Received: from evil\x1b.example (mx.b.example [198.51.100.7])
\tby gw2.example (Postfix) with ESMTP id 4Abc; date
Received: from nice.example (nice.example [192.0.2.80]) by mx.b.example; date
Subject: x

body
"""


@pytest.fixture
def letter(tmp_path: Path) -> tuple[str, str]:
    gateway = StoppedGateway(tmp_path)
    gateway.config.write_text(gateway.config.read_text() + LISTS)
    file = tmp_path / "letter.eml"
    file.write_text(MESSAGE)
    return str(gateway.config), str(file)


def test_each_step_is_told_and_what_follows(letter: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    config, file = letter
    assert main(["--config", config, "walk", file, "--from", "203.0.113.1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "at 203.0.113.1 from 203.0.113.2 (HELO gw2.example): a gateway as well, believed",
        "at 203.0.113.2 from 198.51.100.7: no gateway: the client that is judged, believed",
        "judged: 198.51.100.7",
        "on the blacklist: 198.51.100.0/24",
    ]
    assert main(["--config", config, "walk", file, "--from", "203.0.113.1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["gateway"], told["address"], told["helo"], len(told["steps"])) == (True, "198.51.100.7", None, 2)
    assert told["blacklist"] == ["198.51.100.0/24"]


def test_a_stranger_is_judged_himself(
    letter: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(MESSAGE.encode())))
    assert main(["--config", letter[0], "walk", "-", "--from", "192.0.2.9"]) == 0
    assert capsys.readouterr().out.startswith("192.0.2.9 is no bypass gateway")


def test_a_message_without_fields_has_no_client(letter: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    config, file = letter
    Path(file).write_text("Subject: x\n\nbody\n")
    assert main(["--config", config, "walk", file, "--from", "203.0.113.1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no client is found: no address is judged"


@pytest.mark.parametrize(("peer", "file", "status"), [("gw1", "", 2), ("203.0.113.1", "/nowhere.eml", 1)])
def test_what_cannot_be_asked(letter: tuple[str, str], peer: str, file: str, status: int) -> None:
    assert main(["--config", letter[0], "walk", file or letter[1], "--from", peer]) == status
