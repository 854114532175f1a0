"""The demonstration: its primary saves what it is given, octet for octet, and a port in use is said plainly."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from inboundmx.app import demo
from inboundmx.app.settings import load
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.ports import StorageFull

SESSION = Session("0session", "127.0.0.1", 9999, "127.0.0.1", 0.0)


def now(answer: Any) -> Reply:
    assert isinstance(answer, Deferred) and isinstance(answer.result, Reply)
    return answer.result


def test_each_message_is_a_file_of_its_own(tmp_path: Path) -> None:
    arrived: list[tuple[str, str, list[str]]] = []
    reception = demo.SavingReception(tmp_path, lambda path, sender, to, body: arrived.append((path.name, sender, to)))
    conversation = reception.conversation(SESSION)
    assert now(conversation.connected()).code == 220
    for sender, octets in ((Address("ann", "sender.example"), b"Subject: x\r\n\r\n\x00\xff.\r\n"), (None, b"")):
        assert now(conversation.mail(Envelope(sender))).positive
        assert now(conversation.recipient(Address("bob", "example.test"))).positive
        assert now(conversation.data()).code == 354
        draft = conversation.draft()
        for octet in octets:
            draft.write(bytes([octet]))
        assert now(conversation.content(draft.finish())).code == 250
        conversation.reset()
    assert arrived == [
        ("0session-1.eml", "ann@sender.example", ["bob@example.test"]),
        ("0session-2.eml", "<>", ["bob@example.test"]),
    ]
    assert (tmp_path / "0session-1.eml").read_bytes() == b"Subject: x\r\n\r\n\x00\xff.\r\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0session-1.eml", "0session-2.eml"]


def test_a_file_has_the_id_that_the_gateway_gave(tmp_path: Path) -> None:
    conversation = demo.SavingReception(tmp_path, lambda *_: None).conversation(SESSION)
    draft = conversation.draft()
    draft.write(b"Received: from a ([192.0.2.1])\r\n\tby gw with ESMTP id 1m808vk2twmmdfg; now\r\n\r\nx\r\n")
    assert "1m808vk2twmmdfg.eml" in now(conversation.content(draft.finish())).text


def test_a_message_beyond_all_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LARGEST", 10)
    draft = demo.MemoryDraft()
    draft.write(b"x" * 10)
    with pytest.raises(StorageFull):
        draft.write(b"y")


def test_what_arrived_is_one_harmless_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft = demo.MemoryDraft()
    draft.write(b"Subject: =?utf-8?q?caf=C3=A9=1B[31m?=\r\n\r\n")
    demo._tell(tmp_path / "a.eml", "ann@sender.example", ["bob@example.test", "carl@example.test"], draft.finish())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert "from ann@sender.example to bob@example.test and 1 more: café" in line and line.endswith("a.eml")


def test_its_ini_is_accepted_wherever_the_folder_is(tmp_path: Path) -> None:
    config = tmp_path / "a folder" / "inboundmx.ini"
    config.parent.mkdir()
    config.write_text(demo._INI.format(folder=config.parent, port=2525, primary_port=2526))
    settings = load(str(config))
    assert settings.gateway.data == str(config.parent / "data")
    assert [check.name for check in settings.checks] == ["offer", "lottery"]
    assert str(settings.domains["example.test"].primary[0]) == "127.0.0.1:2526"


@pytest.mark.parametrize("taken", ["--port", "--primary-port"])
def test_a_port_in_use_is_said(tmp_path: Path, taken: str) -> None:
    with socket.socket() as other, socket.socket() as free:
        for one in (other, free):
            one.bind(("127.0.0.1", 0))
        other.listen()
        ports = {"--port": free.getsockname()[1], "--primary-port": free.getsockname()[1]}
        ports[taken] = other.getsockname()[1]
        free.close()
        words = [str(word) for option in ports.items() for word in option]
        command = [sys.executable, "-m", "inboundmx", "demo", "--folder", str(tmp_path / "demo"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert f"127.0.0.1:{ports[taken]}" in done.stderr or f"tcp:{ports[taken]}" in done.stderr
    assert taken in done.stderr and "Traceback" not in done.stderr


def test_a_second_one_leaves_the_first_its_ini(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "inboundmx.ini").write_text("the first one's")
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(tmp_path / "data" / "control.sock"))
        first.listen()
        command = [sys.executable, "-m", "inboundmx", "demo", "--folder", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and "another gateway is running" in done.stderr
    assert (tmp_path / "inboundmx.ini").read_text() == "the first one's"


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "inboundmx", "demo", "--folder", str(tmp_path / "file" / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and "give another with --folder" in done.stderr
