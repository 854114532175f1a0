"""What ``inboundmx check`` hears from scanners."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from inboundmx.app.calling_scanners import call_scanners
from inboundmx.model.settings import CheckSettings


def check(kind: str, *servers: str) -> CheckSettings:
    return CheckSettings(f"my-{kind}", kind, options={"servers": servers})


def serve(listening: socket.socket, *answers: bytes) -> list[bytes]:
    """Answers so many questions, and keeps them."""
    asked: list[bytes] = []

    def run() -> None:
        for answer in answers:
            line, _ = listening.accept()
            with line:
                asked.append(line.recv(100))
                line.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return asked


@pytest.mark.parametrize(
    ("kind", "question", "answer", "answered", "detail"),
    [
        ("clamav", b"zVERSION\0", b"ClamAV 1.4.6/27000\0", True, "ClamAV 1.4.6/27000"),
        ("spamassassin", b"PING SPAMC/1.5\r\n\r\n", b"SPAMD/1.5 0 PONG\r\n", True, "SPAMD/1.5 0 PONG"),
        ("rspamd", b"GET /ping HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", True, "HTTP/1.1 200 OK"),
        ("rspamd", b"GET /ping HTTP/1.0\r\n\r\n", b"HTTP/1.1 404 Not\r\n", False, "answers 'HTTP/1.1 404 Not'"),
        ("spamassassin", b"PING SPAMC/1.5\r\n\r\n", b"\x1b[2J\xff\n", False, "answers '?[2J?'"),
        ("spamassassin", b"PING SPAMC/1.5\r\n\r\n", b"", False, "closes without an answer"),
    ],
)
def test_what_is_heard(kind: str, question: bytes, answer: bytes, answered: bool, detail: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = serve(listening, answer)
        server = f"tcp:127.0.0.1:{listening.getsockname()[1]}:timeout=3"
        [call] = call_scanners([check(kind, server), check("headers")])
    assert asked == [question]
    assert (call.check, call.server, call.answered, call.detail) == (f"my-{kind}", server, answered, detail)


@pytest.mark.parametrize(
    ("version", "ping", "detail"),
    [
        (b"COMMAND UNAVAILABLE\0", b"PONG\0", "PONG; definitions unknown: answers 'COMMAND UNAVAILABLE' to VERSION"),
        (b"", b"PONG\0", "PONG; definitions unknown: closes without an answer to VERSION"),
        (b"SPAMD/1.0 76 Bad\r\n", b"SPAMD/1.0 76 Bad\r\n", "answers 'SPAMD/1.0 76 Bad'"),
        (b"", b"", "closes without an answer"),
    ],
)
def test_a_clamd_that_does_not_tell_its_version_answers_all_the_same(version: bytes, ping: bytes, detail: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = serve(listening, version, ping)
        [call] = call_scanners([check("clamav", f"tcp:127.0.0.1:{listening.getsockname()[1]}")])
    assert asked == [b"zVERSION\0", b"zPING\0"]
    assert (call.answered, call.detail) == (ping == b"PONG\0", detail)


@pytest.mark.parametrize("words", ["unix:{}", "unix:path={}"])
def test_a_unix_socket(tmp_path: Path, words: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "clamd"))
        listening.listen()
        serve(listening, b"ClamAV 1\0")
        [call] = call_scanners([check("clamav", words.format(tmp_path / "clamd"))])
    assert call.answered


def test_nobody_there_and_nothing_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = (f"unix:{tmp_path}/none", "tcp:host=127.0.0.1:port=1", f"tcp:127.0.0.1:{silent.getsockname()[1]}")
        calls = call_scanners([check("clamav", *servers)], 0.2)
    assert [call.answered for call in calls] == [False] * 3
    assert [call.detail for call in calls] == [
        "cannot connect: No such file or directory", "cannot connect: Connection refused", "no answer in time",
    ]  # fmt: skip
