"""Whatever answers at the control socket, a command says in a sentence what became of its question."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboundmx.cli import asking
from inboundmx.cli.asking import CannotAsk, NotRunning, act_as_owner, ask_gateway, read, user_name


@contextlib.contextmanager
def answering(data: Path, answer: bytes, close: bool = True) -> Iterator[list[bytes]]:
    """Something that hears one line, says ``answer`` and hangs up."""
    heard: list[bytes] = []
    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(data / "control.sock"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as lines:
                heard.append(lines.readline())
                connection.sendall(answer)
                if not close:
                    over.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        over.set()
        thread.join()



def test_a_request_is_a_line_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    with answering(tmp_path, b'{"row":{"id":"e1"}}\n{"end":true}\n') as heard:
        assert list(ask_gateway(str(tmp_path), "spool.list", {"ids": ["e1"]})) == [b'{"id":"e1"}']
    assert json.loads(heard[0]) == {"operation": "spool.list", "arguments": {"ids": ["e1"]}, "on_behalf_of": "ann"}


@pytest.mark.parametrize(
    ("answer", "told", "usage"),
    [
        (b"", "ended the conversation", False),
        (b'{"row":{"id":"e1"}}\n', "ended the conversation", False),
        (b'{"row":{"id":"e1"}}\n{"en', "ended the conversation", False),
        (b"\xff\xfe\n", "ended the conversation", False),
        (b'{"row":{"id":"e1"}}\n{"error":"it is late"}\n', "it is late", False),
        (b'{"error":"no such thing","usage":true}\n', "no such thing", True),
    ],
)
def test_an_answer_that_is_none_is_said(tmp_path: Path, answer: bytes, told: str, usage: bool) -> None:
    with answering(tmp_path, answer), pytest.raises(CannotAsk, match=told) as trouble:
        list(ask_gateway(str(tmp_path), "spool.list", {}))
    assert trouble.value.usage is usage


def test_no_answer_in_time_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_ANSWER_SECONDS", 0.05)
    with answering(tmp_path, b"", close=False), pytest.raises(CannotAsk, match="did not answer within"):
        list(ask_gateway(str(tmp_path), "spool.list", {}))


def test_rows_are_read_all_or_none() -> None:
    assert list(read([])) == [] and list(read([b'{"id":"e1"}', b'{"id":"e2"}'])) == [{"id": "e1"}, {"id": "e2"}]
    with pytest.raises(CannotAsk, match="ended the conversation"):
        list(read([b'{"id":"e1"}', b'{"id":']))


def test_nobody_there_is_not_an_error_yet(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        list(ask_gateway(str(tmp_path), "status", {}))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    with pytest.raises(NotRunning):
        list(ask_gateway(str(tmp_path), "status", {}))


def test_a_socket_that_is_no_socket_is_like_nobody(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("")
    with pytest.raises(NotRunning):
        list(ask_gateway(str(tmp_path), "status", {}))


def test_users_have_names_where_they_have(tmp_path: Path) -> None:
    assert user_name(0) == "root (uid 0)" and user_name(3_999_999_999) == "uid 3999999999"
    before = os.geteuid()
    act_as_owner(tmp_path)
    assert os.geteuid() == before
