"""Pausing and resuming deliveries, on files and through the socket, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stopped_gateway import ENTRIES, StoppedGateway

from inboundmx.cli.main import main


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
    """The whole way of a pause, whoever answers."""
    status, out = ask("spool", "pause", "A.test.", "--reason", "new server", "--for", "2h")
    assert status == 0 and "deliveries of a.test are paused since 0s, resumes in " in out and ": new server" in out
    _, out = ask("spool", "list")
    assert out.splitlines()[1].split()[5] == "paused" and out.splitlines()[-1].endswith(": new server")
    assert "paused       deliveries of a.test are paused since" in ask("status")[1]
    status, out = ask("spool", "force", "entry0active")
    assert status == 1 and "is of a domain whose deliveries are paused" in out
    status, out = ask("spool", "pause", "--json")
    (row,) = json.loads(out)
    assert status == 0 and set(row) == {"domain", "reason", "asked_by", "since_at", "until_at", "outcome"}
    assert (row["domain"], row["until_at"], row["outcome"]) == (None, None, "paused")
    assert ask("spool", "resume") == (0, "deliveries of everything go on\n")
    assert ask("spool", "resume") == (1, "deliveries of everything were not paused as such\n")
    assert ask("spool", "resume", "a.test")[0] == 0
    assert ask("spool", "list")[1].splitlines()[-1].startswith("3 entries")


def test_on_files(gateway: StoppedGateway, ask: Any) -> None:
    told(ask)
    events = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert [line["event"] for line in events] == ["paused", "paused", "resumed", "resumed"]
    assert all("uid" in line["asked_by"] for line in events)


def test_through_the_socket(gateway: StoppedGateway, ask: Any) -> None:
    with gateway.running():
        told(ask)
        ask("spool", "pause", "--reason", "night")
    assert "deliveries of everything are paused" in ask("status")[1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nosuch.test",), "there is no [domain nosuch.test] in the configuration; nothing was paused"),
        (("--for", "5"), "--for 5: a bare number has no unit"),
        (("--for", "0s"), "for must be more than no time"),
        (("--reason", "two\nlines"), "a reason is one line"),
        (("--reason", "x" * 201), "a reason is one line"),
    ],
)
def test_what_makes_no_sense_pauses_nothing(ask: Any, words: tuple[str, ...], complaint: str) -> None:
    status, out = ask("spool", "pause", *words)
    assert status == 2 and complaint in out
    assert "paused" not in ask("spool", "list")[1]
