"""The lists on the command line, on files and through the socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stopped_gateway import ENTRIES, StoppedGateway

from inboundmx.cli.main import main

LISTS = """
[lists]
whitelist_greylisting = 203.0.113.0/24
blocked_senders =
    *@worse.example
    *@bad.example
"""


@pytest.fixture
def gateway(tmp_path: Path) -> StoppedGateway:
    made = StoppedGateway(tmp_path)
    made.keep(*ENTRIES)
    made.config.write_text(made.config.read_text() + LISTS)
    return made


@pytest.fixture
def ask(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> Any:
    def asked(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["--config", str(gateway.config), "lists", *words])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return asked


def told(gateway: StoppedGateway, ask: Any) -> None:
    """The whole way of entries, whoever answers."""
    status, out = ask("add", "blacklist", "192.0.2.66", "192.0.2.70-192.0.2.79", "--reason", "spam run", "--for", "2h")
    assert status == 0
    assert out.splitlines() == [
        "added: blacklist 192.0.2.66, ends in 2h",
        "added: blacklist 192.0.2.70-192.0.2.79, ends in 2h",
    ]
    assert ask("add", "whitelist", "192.0.2.1", "--spam", "--smtp")[1] == "added: whitelist 192.0.2.1 for smtp spam\n"
    _, out = ask("list")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["LIST", "VALUE", "SPARED", "SINCE", "ENDS", "BY", "REASON"]
    assert rows[1][:5] == ["whitelist", "192.0.2.1", "smtp", "spam", "0s"]
    assert out.splitlines()[2].endswith("spam run")
    assert rows[-2][:2] == ["blocked-sender", "*@bad.example"]
    assert rows[-1] == ["6", "shown,", "3", "of", "them", "of", "the", "INI"]
    assert ask("list", "blacklist", "--matching", "192.0.2.77")[1].splitlines()[1].split()[1] == "192.0.2.70-192.0.2.79"
    assert "the first 2; --limit shows more" in ask("list", "--limit", "2")[1]
    status, out = ask("list", "whitelist", "--json")
    keys = {"kind", "value", "ticks", "reason", "author", "since_at", "until_at", "key"}
    assert [set(row) for row in json.loads(out)] == [keys, keys]
    assert ask("remove", "blacklist", "192.0.2.66", "--dry-run") == (0, "would be removed: blacklist 192.0.2.66\n")
    assert ask("remove", "blacklist", "192.0.2.66") == (0, "removed: blacklist 192.0.2.66\n")
    status, out = ask("remove", "blacklist", "192.0.2.66")
    assert status == 1
    assert "there is no blacklist 192.0.2.66" in out
    status, out = ask("remove", "blocked-sender", "bad.example")
    assert status == 1
    line = gateway.config.read_text().splitlines().index("blocked_senders =") + 1
    assert f"take it out of {gateway.config}:{line}, [lists] blocked_senders, and reload" in out
    status, out = ask("remove", "blocked-sender", "bad.example", "--json")
    assert (status, json.loads(out)[0]["outcome"]) == (1, "written")


def test_on_files(gateway: StoppedGateway, ask: Any) -> None:
    told(gateway, ask)
    events = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert [line["event"] for line in events] == ["list_entry_added"] * 3 + ["list_entry_removed"]
    assert all("uid" in line["asked_by"] for line in events)


def test_through_the_socket_and_then_on_files(gateway: StoppedGateway, ask: Any) -> None:
    with gateway.running():
        told(gateway, ask)
    assert ask("list", "blacklist")[1].splitlines()[1].split()[1] == "192.0.2.70-192.0.2.79"


def test_a_damaged_file_is_told_to_who_asks_and_the_rest_is_there(gateway: StoppedGateway, ask: Any) -> None:
    ask("add", "blacklist", "192.0.2.66")
    ask("add", "blacklist", "192.0.2.67")
    path = gateway.data / "lists.jsonl"
    path.write_bytes(path.read_bytes().replace(b"192.0.2.66", b"192.0.2.00"))
    status, out = ask("list", "blacklist")
    assert status == 0
    assert "lists damaged: 1 of 3 lines" in out
    assert "192.0.2.67" in out
    assert len(list(gateway.data.glob("lists.jsonl.damaged-*"))) == 1
    assert "damaged" not in ask("list")[1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("add", "whitelist", "192.0.2.1"), "say --smtp, --spam, --greylisting; nothing was added"),
        (("add", "blacklist", "192.0.2"), "192.0.2 is no IP address; nothing was added"),
        (("add", "blacklist", "192.0.2.1", "--for", "5"), "--for 5: a bare number has no unit"),
        (("remove", "trusted-sender", "*"), "* would be everybody"),
        (("list", "--limit", "0"), "limit must be a whole number"),
    ],
)
def test_what_makes_no_sense_changes_nothing(ask: Any, words: tuple[str, ...], complaint: str) -> None:
    status, out = ask(*words)
    assert status == 2
    assert complaint in out
    assert "3 of them of the INI" in ask("list")[1]
