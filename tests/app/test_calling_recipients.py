"""How the lists of recipients are asked that domains name, and that the command does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from fakes.clock import FakeClock
from twisted.internet.defer import Deferred

from inboundmx.app.calling_recipients import AT_ONCE, RecipientsCall, ask_all
from inboundmx.model.address import Address
from inboundmx.model.settings import DomainSettings, GatewaySettings, Settings
from inboundmx.ports import Unavailable

HTTP = "http://192.0.2.9/list"


class Lists:
    """``ports.Sources``: each says what ``said`` has of it; of whom it has nothing is silent."""

    def __init__(self, **said: Any) -> None:
        self.said = said
        self.asked: list[tuple[str, str]] = []

    async def holds(self, source: str, address: Address, domain: DomainSettings) -> bool:
        self.asked.append((source, str(address)))
        said = self.said.get(source.partition(":")[0], Deferred())
        if isinstance(said, Exception):
            raise said
        return bool(await said if isinstance(said, Deferred) else said)


def asked(lists: Any, *domains: DomainSettings, everything: DomainSettings | None = None) -> list[RecipientsCall]:
    clock: Any = FakeClock()
    settings = Settings(
        gateway=GatewaySettings(hostname="mx.example.net"),
        domains={each.name: each for each in domains},
        everything=everything,
    )
    came: list[Any] = []
    Deferred.fromCoroutine(ask_all(settings, lists, clock, 20.0)).addBoth(came.append)
    if not came:
        clock.advance(20.0)
    found: list[RecipientsCall] = came[0]
    return found


def test_each_is_asked_once_about_postmaster() -> None:
    lists = Lists(file=True, http=False)
    one = DomainSettings("a.example", recipients=("learned", "file:/a", HTTP))
    same = DomainSettings("b.example", recipients=("file:/a", "callout"))
    other = DomainSettings("c.example", recipients=("file:/a",), recipients_username="me", recipients_password="x")
    off = DomainSettings("d.example", recipients=("file:/d",), enabled=False)
    star = DomainSettings("*", recipients=("file:/star",))
    assert asked(lists, one, same, other, off, DomainSettings("e.example"), everything=star) == [
        RecipientsCall("a.example", "file:/a", True, "knows postmaster@a.example"),
        RecipientsCall("a.example", HTTP, True, "does not know postmaster@a.example"),
        RecipientsCall("c.example", "file:/a", True, "knows postmaster@c.example"),
        RecipientsCall("*", "file:/star", True, "knows postmaster@mx.example.net"),
    ]


def test_trouble_and_silence_are_told() -> None:
    lists = Lists(file=Unavailable("/a cannot be read"))
    assert asked(lists, DomainSettings("a.example", recipients=("file:/a", HTTP))) == [
        RecipientsCall("a.example", "file:/a", False, "/a cannot be read"),
        RecipientsCall("a.example", HTTP, False, "no answer within 20 s"),
    ]


def test_few_are_asked_at_a_time() -> None:
    lists = Lists()
    many = tuple(f"http://192.0.2.9/{number}" for number in range(AT_ONCE + 1))
    clock: Any = FakeClock()
    settings = Settings(domains={"a.example": DomainSettings("a.example", recipients=many)})
    asking = Deferred.fromCoroutine(ask_all(settings, lists, clock, 20.0))  # type: ignore[arg-type]
    assert len(lists.asked) == AT_ONCE
    clock.advance(20.0)
    assert len(lists.asked) == AT_ONCE + 1
    clock.advance(20.0)
    assert asking.called


def serve(listening: socket.socket) -> None:
    line, _ = listening.accept()
    with line:
        line.recv(4096)
        line.sendall(b"HTTP/1.1 200 OK\r\n\r\nann@a.example\n")


def test_the_command_asks_them(tmp_path: Path) -> None:
    people = tmp_path / "people"
    people.write_text("postmaster@a.example\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        source = f"http://127.0.0.1:{listening.getsockname()[1]}/list"
        config = tmp_path / "in.ini"
        config.write_text(
            "[gateway]\nhostname = mx1.example.net\ndata = data\n"
            f"[domain a.example]\nprimary = 127.0.0.1:1\nrecipients = file:{people} {source}\n"
        )
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        done = subprocess.run(
            [sys.executable, "-m", "inboundmx", "--config", str(config), "check", "--json"],
            capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONWARNINGS": ""},
        )  # fmt: skip
        thread.join(10)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["recipients"] == [
        {"domain": "a.example", "list": f"file:{people}", "answers": True, "detail": "knows postmaster@a.example"},
        {"domain": "a.example", "list": source, "answers": False,
         "detail": f"recipients {source.removesuffix('/list')} gives an answer without a length"},
    ]  # fmt: skip
