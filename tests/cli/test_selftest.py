"""``inboundmx selftest durability``: finds that a promise is kept, and finds it out when one is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from inboundmx.app import durability
from inboundmx.app.trial_mail import Books
from inboundmx.cli import selftest
from inboundmx.cli.main import main
from inboundmx.storage.mounted import Doubt, Mounted

FORGETFUL = Path(__file__).with_name("forgetful_gateway.py")


def tried(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    status = main(["selftest", "durability", "--spool", str(folder), *words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_gateway_that_is_killed_keeps_its_promises(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # What lies in the folder that an operator happens to be in is not executed.
    here = tmp_path_factory.mktemp("here")
    (here / "inboundmx.py").write_text("raise SystemExit('not ours')\n")
    monkeypatch.chdir(here)
    status, told = tried(tmp_path, capsys, "--messages", "60", "--kills", "2")
    assert (told["lost"], told["altered"], told["waiting"], told["dead"]) == (0, 0, 0, "")
    assert told["promised"] >= 60 and told["kills"] == 2 and told["ready_seconds"] > 0
    assert told["syncs"]["count"] > 0 and told["syncs"]["median"] <= told["syncs"]["p99"]
    # A file system of memory is told as such, wherever the tests run.
    assert status == (1 if any(doubt["certain"] for doubt in told["doubts"]) else 0)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize("how", ["loses", "alters", "dead"])
def test_one_that_does_not_is_found_out(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        durability._Trial, "_command", lambda trial: [sys.executable, str(FORGETFUL), str(trial._config), how]
    )
    monkeypatch.setattr(durability, "_QUIET_SECONDS", 0.2)
    status, told = tried(tmp_path, capsys, "--messages", "12", "--kills", "1")
    assert status == 1
    assert (told["lost"] > 0, told["altered"] > 0, bool(told["dead"])) == (
        how == "loses",
        how == "alters",
        how == "dead",
    )
    assert [str(path) for path in tmp_path.iterdir()] == [told["kept_at"]], "what went wrong can be looked at"
    assert "it does not feel well" in told["dead"] or how != "dead"


def test_one_that_does_not_even_start_is_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(durability._Trial, "_command", lambda trial: [sys.executable, "-c", "raise SystemExit('no')"])
    assert main(["selftest", "durability", "--spool", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("the gateway of the trial does not serve: no\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--spool", "/no/such/folder"], "/no/such/folder is no folder"),
        (["--messages", "0"], "is no number from 1"),
        (["--seconds", "soon"], "is no number from 1"),
    ],
)
def test_wrong_usage_is_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: Any = main(["selftest", "durability", *words])
    except SystemExit as ended:
        status = ended.code
    assert status == 2 and told in capsys.readouterr().err


def test_without_a_folder_it_is_the_configured_spool_that_is_tried(tmp_path: Path) -> None:
    config = tmp_path / "inboundmx.ini"
    config.write_text(f"[gateway]\ndata = {tmp_path}/data\n")
    (tmp_path / "data").mkdir()
    assert selftest._configured(str(config)) == tmp_path / "data"
    (tmp_path / "data" / "spool").mkdir()
    assert selftest._configured(str(config)) == tmp_path / "data" / "spool"


def test_the_books_know_what_is_missing_altered_or_twice() -> None:
    books = Books()
    mails = [books.offer() for _ in range(5)]
    for serial, _ in mails[:4]:
        books.promise(serial)
    assert (books.offered, books.promised) == (5, 4)
    octets = [octets for _, octets in mails]
    books.arrive(b"Received: by us\r\n" + octets[0])
    books.arrive(octets[0])
    books.arrive(octets[1] + b"more\r\n")
    books.arrive(octets[4])
    books.arrive(b"Subject: somebody else's\r\n\r\n")
    assert (books.missing, books.altered, books.copies) == ({2, 3}, {1}, 1)


def test_the_report_says_what_it_cannot_know() -> None:
    report = durability.Report(
        "/spool", Mounted("/", "ext4", "/dev/sda1", ("rw",), "write back", True), durability.Syncs(500, 0.008, 0.02),
        (Doubt(False, "it has a cache"),), 1010, 1000, 0, 0, 0, 3, 10, 0.71, 312.4, "", "",
    )  # fmt: skip
    text = "\n".join(selftest._lines(report))
    for words in (
        "ext4 on /dev/sda1 (rw), write cache: write back", "takes 8 ms", "takes 20 ms", "312 messages a second",
        "1000 messages promised, 10 times killed: 0 lost", "Doubt: it has a cache.", "pulling the plug",
    ):  # fmt: skip
        assert words in text
