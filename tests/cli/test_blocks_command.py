"""Blocks and connections on the command line, on files and through the socket."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from stopped_gateway import ENTRIES, StoppedGateway

from inboundmx.cli.connections import listed
from inboundmx.cli.main import main
from inboundmx.ports import Fact


@pytest.fixture
def gateway(tmp_path: Path) -> StoppedGateway:
    made = StoppedGateway(tmp_path)
    made.keep(*ENTRIES)
    return made


@pytest.fixture
def ask(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> Any:
    def asked(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["--config", str(gateway.config), *words])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return asked


def told(ask: Any) -> None:
    assert ask("blocks", "list") == (0, "nobody is blocked\n")
    status, out = ask("blocks", "add", "192.0.2.7", "2001:db8::/64", "--for", "2h", "--reason", "spam run")
    assert (status, out) == (0, "blocked: 192.0.2.7, ends in 2h\nblocked: 2001:db8::/64, ends in 2h\n")
    lines = ask("blocks", "list")[1].splitlines()
    assert lines[0].split() == ["ADDRESS", "SINCE", "ENDS", "BY", "REASON"]
    assert lines[2].split()[0] == "192.0.2.7" and lines[2].endswith("spam run")
    assert lines[-1] == "2 shown, 0 by rules"
    [row] = json.loads(ask("blocks", "list", "--matching", "192.0.2.7", "--json")[1])
    assert set(row) == {"value", "reason", "author", "since_at", "until_at"}
    assert ask("blocks", "remove", "2001:db8::77", "--dry-run") == (0, "would be unblocked: 2001:db8::/64\n")
    assert ask("blocks", "remove", "2001:db8::77") == (0, "unblocked: 2001:db8::/64\n")
    status, out = ask("blocks", "remove", "192.0.2.8")
    assert status == 1 and "192.0.2.8 is not blocked" in out
    [row] = json.loads(ask("blocks", "add", "192.0.2.9", "--json")[1])
    assert row["outcome"] == "added" and row["until_at"] - row["since_at"] == pytest.approx(3600)


def test_on_files(gateway: StoppedGateway, ask: Any) -> None:
    told(ask)
    events = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert {(line["event"], line["kind"]) for line in events} == {
        ("list_entry_added", "block"), ("list_entry_removed", "block")
    }  # fmt: skip
    assert all("uid" in line["asked_by"] for line in events)
    assert ask("lists", "list")[1] == "nothing\n", "they are kept apart"


def test_through_the_socket_and_then_on_files(gateway: StoppedGateway, ask: Any) -> None:
    with gateway.running():
        told(ask)
    assert ask("blocks", "list")[1].splitlines()[-1] == "2 shown, 0 by rules"


def test_what_makes_no_sense_changes_nothing(ask: Any) -> None:
    status, out = ask("blocks", "add", "nobody")
    assert status == 2 and "nobody is no IP address; nothing was added" in out
    assert ask("blocks", "add", "192.0.2.1", "--for", "5")[0] == 2
    assert ask("blocks", "list")[1] == "nobody is blocked\n"


def test_nobody_is_connected_to_a_stopped_gateway(ask: Any) -> None:
    for words in (("connections",), ("connections", "end", "x")):
        status, out = ask(*words)
        assert status == 1 and "the gateway is not running: nobody is connected" in out


def test_how_connections_look() -> None:
    row = {
        "id": "abc0123456", "address": "192.0.2.7", "name": None, "helo": "x\x1b[2J", "tls": "TLSv1.3 AES",
        "user": None, "since_at": 100.0, "stage": "mail", "messages": 2, "worker": "0",
    }  # fmt: skip
    lines = listed([row, row | {"tls": None}], 160.0)
    assert lines[1].split() == ["abc0123456", "192.0.2.7", "-", "x\ufffd[2J", "TLSv1.3", "60s", "mail", "2", "0"]
    assert lines[-1] == "2 connected, from 1 addresses"


def test_with_a_block_what_was_counted_goes(gateway: StoppedGateway, ask: Any) -> None:
    now = time.time()
    keys = [f"{rule} {who} " for rule in ("connections", "bad-sessions") for who in ("192.0.2.7", "192.0.2.77")]
    gateway.remember({key: Fact((41.0,), now, now + 600) for key in keys}, "abuse")
    ask("blocks", "add", "192.0.2.7")
    assert ask("blocks", "remove", "192.0.2.7", "--dry-run")[0] == 0
    assert len(counted(gateway)) == 4
    assert ask("blocks", "remove", "192.0.2.7")[0] == 0
    assert counted(gateway) == {"connections 192.0.2.77 ", "bad-sessions 192.0.2.77 "}


def counted(gateway: StoppedGateway) -> set[str]:
    with contextlib.closing(sqlite3.connect(gateway.data / "state.sqlite")) as database:
        return {key for (key,) in database.execute("SELECT key FROM fact WHERE space = 'abuse'")}
