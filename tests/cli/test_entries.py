"""The commands on the spool and the quarantine, on files and through the socket: the same answer either way."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from stopped_gateway import ENTRIES, HELD, MAIL, QUARANTINED, StoppedGateway, entry

from inboundmx.cli.main import main
from inboundmx.cli.querying import listed, shown
from inboundmx.model.address import Address
from inboundmx.model.custody import State

CONTRACT = {
    "id", "sender", "recipients", "size", "state", "priority", "attempts", "next_attempt_at", "age_seconds", "domain",
    "route",
}  # fmt: skip


@pytest.fixture
def gateway(tmp_path: Path) -> StoppedGateway:
    made = StoppedGateway(tmp_path)
    made.keep(*ENTRIES)
    return made


class Answer:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def ask(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> Any:
    def asked(*words: str) -> Answer:
        capsys.readouterr()
        status = main(["--config", str(gateway.config), *words])
        return Answer(status, *capsys.readouterr())

    return asked


def without_age(value: Any) -> Any:
    return [{k: v for k, v in row.items() if k not in ("age_seconds", "oldest_seconds")} for row in value]


def test_list_as_json_keeps_its_promise(ask: Any) -> None:
    answer = ask("spool", "list", "--json")
    assert answer.status == 0
    assert [row["id"] for row in answer.json] == ["entry0active", "entry2quarantined", "entry1held"]
    assert all(set(row) == CONTRACT for row in answer.json)
    assert answer.json[0]["route"] == "127.0.0.1:2526" and answer.json[2]["sender"] is None


ALIKE = [
    ("spool", "list", "--json"),
    ("spool", "list", "--state", "held", "--older", "30s", "--json"),
    ("quarantine", "list", "--json"),
    ("spool", "show", "entry0active", "mentry1held", "--json"),
    ("spool", "delete", "--domain", "a.test", "--dry-run", "--json"),
    ("spool", "release", "nosuchid", "--json"),
    ("spool", "hold", "--recipient", "bob@a.test", "--dry-run", "--json"),
    ("spool", "reset-retries", "mentry0active", "--dry-run", "--json"),
    ("spool", "priority", "7", "entry0active", "--dry-run", "--json"),
    ("spool", "bounce", "--domain", "a.test", "--dry-run", "--json"),
]


@pytest.mark.parametrize("live", [False, True])
def test_a_list_may_be_cut(gateway: StoppedGateway, ask: Any, live: bool) -> None:
    with gateway.running() if live else contextlib.nullcontext():
        oldest = ask("spool", "list", "--limit", "1")
        assert oldest.out.splitlines()[1].startswith("entry0active") and "entry1held" not in oldest.out
        assert oldest.out.endswith("the oldest 1; a greater --limit may show more\n")
        assert [row["id"] for row in ask("spool", "list", "--limit", "9", "--state", "held", "--json").json] == [
            "entry1held"
        ]


def test_a_running_gateway_is_asked_whatever_else_is_wrong_with_the_ini(gateway: StoppedGateway, ask: Any) -> None:
    """What the file says may be work in progress: mail must be seen to all the same."""
    with gateway.running():
        gateway.config.write_text(gateway.config.read_text() + "[delivery]\nretry = often\n")
        assert ask("spool", "list", "--json").status == 0
        assert ask("spool", "release", "entry1held").status == 0
    assert ask("spool", "list").status == 2


def test_running_and_stopped_gateways_answer_alike(gateway: StoppedGateway, ask: Any) -> None:
    stopped = [ask(*words) for words in ALIKE]
    with gateway.running():
        running = [ask(*words) for words in ALIKE]
    for words, one, other in zip(ALIKE, stopped, running, strict=True):
        assert (one.status, without_age(one.json), one.err) == (
            other.status, without_age(other.json), other.err,
        ), words  # fmt: skip
    assert [len(answer.json) for answer in stopped] == [3, 1, 1, 2, 3, 0, 1, 1, 1, 2]


def test_changes_through_the_socket_are_the_owners_and_on_record(gateway: StoppedGateway, ask: Any) -> None:
    with gateway.running() as server:
        assert ask("quarantine", "release", "entry2quarantined").status == 0
        assert ask("spool", "release", "--sender", "<>").status == 0
        assert ask("spool", "delete", "mentry0active").status == 0
        assert server.stdout is not None
        told = [server.stdout.readline().split(maxsplit=2) for _ in range(3)]
    assert [line[:2] for line in told] == [
        ["released", "mentry2quarantined"], ["released", "mentry1held"], ["deleted", "mentry0active"],
    ]  # fmt: skip
    assert all(f"uid {os.getuid()}" in line[2] for line in told)
    kept = gateway.kept()
    assert set(kept) == {"entry1held", "entry2quarantined"}
    assert all(entry.state is State.ACTIVE for entry in kept.values())


def test_changes_to_files_are_written_and_on_record(gateway: StoppedGateway, ask: Any) -> None:
    answer = ask("spool", "delete", "entry0active")
    assert answer.status == 0 and answer.out.startswith("entry0active deleted (from ann@sender.example to bob@a.test)")
    assert set(gateway.kept()) == {"entry1held", "entry2quarantined"}
    (line,) = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert (line["event"], line["id"]) == ("deleted", "mentry0active") and f"uid {os.getuid()}" in line["asked_by"]
    assert "deleted by" in ask("explain", "mentry0active").out


@pytest.mark.parametrize("live", [False, True])
def test_bounce_leaves_a_notice_in_place_of_the_mail(gateway: StoppedGateway, ask: Any, live: bool) -> None:
    ann = Address("ann", "a.test")
    gateway.keep(entry("entry4told", may_notify=True, sender=ann))
    with gateway.running() if live else contextlib.nullcontext():
        answer = ask("spool", "bounce", "entry4told", "entry0active")
    assert answer.status == 0
    assert "entry4told bounced (" in answer.out and "entry0active held (" in answer.out
    kept = gateway.kept()
    (notice,) = (entry for entry in kept.values() if entry.notice)
    assert notice.sender is None and [r.address for r in notice.recipients] == [ann]
    assert "entry4told" not in kept and kept["entry0active"].cause == "undeliverable"


@pytest.mark.parametrize("live", [False, True])
def test_export_writes_what_would_be_transmitted(
    gateway: StoppedGateway, ask: Any, tmp_path: Path, live: bool
) -> None:
    folder = tmp_path / "out" / "mail"
    with gateway.running() if live else contextlib.nullcontext():
        assert ask("spool", "export", "--domain", "a.test", "--to", str(folder), "--dry-run").status == 0
        assert not folder.exists()
        answer = ask("spool", "export", "--domain", "a.test", "--to", str(folder), "--json")
        again = ask("spool", "export", "entry0active", "nosuchid", "--to", str(folder))
        nothing = ask("spool", "export", "--to", str(folder))
    assert answer.status == 0 and [row["id"] for row in answer.json] == [e.id for e in (*ENTRIES[::2], ENTRIES[1])]
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["entry0active.eml", "entry1held.eml", "entry2quarantined.eml"]
    assert {file.read_bytes() for file in files} == {MAIL}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert again.status == 1 and "File exists; not written" in again.err and "there is no nosuchid" in again.err
    assert nothing.status == 2 and "needs ids or a query" in nothing.err
    assert set(gateway.kept()) == {entry.id for entry in ENTRIES}


@pytest.mark.root
def test_root_exports_where_the_gateway_s_user_may_not_write(gateway: StoppedGateway, tmp_path: Path) -> None:
    for path in (gateway.data, *gateway.data.rglob("*")):
        os.chown(path, 65534, 65534)
    open_way_to(gateway.data)
    folder = tmp_path / "roots"
    folder.mkdir(mode=0o700)
    command = [sys.executable, "-m", "inboundmx", "--config", str(gateway.config), "spool", "export", "--older", "1s"]
    done = subprocess.run([*command, "--to", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(folder.iterdir())) == 3 and {path.stat().st_uid for path in folder.iterdir()} == {0}
    assert {path.stat().st_uid for path in gateway.data.rglob("*")} == {65534}


def test_a_dry_run_changes_nothing(gateway: StoppedGateway, ask: Any) -> None:
    answer = ask("spool", "delete", "--older", "1s", "--dry-run")
    assert answer.status == 0 and answer.out.count("would be deleted") == 3
    assert len(gateway.kept()) == 3 and gateway.log.read_text() == ""


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("spool", "delete"), 2, "needs ids or a query"),
        (("quarantine", "release", "--dry-run"), 2, "needs ids or a query"),
        (("spool", "priority", "7"), 2, "needs ids or a query"),
        (("spool", "hold", "entry1held"), 1, "left alone: it is held already"),
        (("spool", "reset-retries", "entry0active"), 0, "entry0active retries reset ("),
        (("spool", "priority", "7", "entry0active"), 0, "entry0active prioritised ("),
        (("spool", "list", "--older", "5"), 2, "--older 5: a bare number has no unit"),
        (("quarantine", "list", "--since", "yesterday"), 2, "--since yesterday: is no span"),
        (("quarantine", "list", "--since", "2h", "--cause", "level"), 0, "entry2quarantined"),
        (("quarantine", "list", "--since", "5m"), 0, "nothing"),
        (("quarantine", "list", "--since", "2026-01-01T00:00"), 0, "entry2quarantined"),
        (("quarantine", "release", "--cause", "nosuch"), 0, "nothing meets the query"),
        (("spool", "delete", "nosuchid"), 1, "there is no nosuchid in the spool"),
        (("quarantine", "show", "entry0active"), 1, "there is no entry0active in quarantine"),
        (("spool", "release", "entry2quarantined"), 1, "left alone: it is quarantined; use quarantine release"),
        (("spool", "force", "entry1held"), 1, "left alone: it is held; release it first"),
        (("spool", "delete", "--domain", "b.test"), 0, "nothing meets the query"),
        (("spool", "list", "--domain", "b.test"), 0, "nothing"),
    ],
)
def test_what_is_not_done_is_said(ask: Any, words: tuple[str, ...], status: int, told: str) -> None:
    answer = ask(*words)
    assert answer.status == status and told in answer.out + answer.err


def test_show_reads_the_content(ask: Any) -> None:
    answer = ask("spool", "show", "mentry0active")
    assert answer.status == 0
    assert "Subject: hello\nFrom: ann@sender.example\n\nA first line.\n" in answer.out


def test_files_that_another_process_holds_are_left_alone(gateway: StoppedGateway, ask: Any) -> None:
    with gateway.spool():
        answer = ask("spool", "list")
    assert answer.status == 1 and "it is just starting or stopping" in answer.err


def test_a_command_that_finds_the_spool_damaged_says_what_it_did(gateway: StoppedGateway, ask: Any) -> None:
    (file,) = (gateway.data / "spool" / "0").glob("spool*.sqlite")
    file.write_bytes(b"no database at all" * 1000)
    answer = ask("spool", "list")
    assert answer.status == 0
    assert answer.err.startswith(f"inboundmx: spool damaged: {file}: ")
    assert f"set aside as {file}.damaged-" in answer.err
    assert ask("spool", "list").err == ""


def test_a_folder_that_never_was_is_named(gateway: StoppedGateway, ask: Any) -> None:
    gateway.config.write_text(gateway.config.read_text().replace(str(gateway.data), "/nonexistent/data"))
    answer = ask("spool", "list")
    assert answer.status == 1 and "there is no /nonexistent/data" in answer.err


def test_everything_wrong_with_the_ini_is_told(gateway: StoppedGateway, ask: Any) -> None:
    gateway.config.write_text("[gateway]\nhostnam = x\n[smpt]\n")
    answer = ask("spool", "list")
    assert answer.status == 2 and "hostnam" in answer.err and "smpt" in answer.err


def open_way_to(folder: Path) -> None:
    """So that another user gets as far as it."""
    temporary = Path(tempfile.gettempdir())
    for parent in folder.parents:
        if parent.is_relative_to(temporary) and parent != temporary:
            parent.chmod(0o755)


@pytest.mark.root
@pytest.mark.parametrize("socket_there", [True, False])
def test_who_may_not_is_told_what_to_do(gateway: StoppedGateway, socket_there: bool) -> None:
    """In a process of its own, which gives up root."""
    gateway.config.chmod(0o644)
    open_way_to(gateway.data)
    gateway.data.chmod(0o755 if socket_there else 0o700)
    program = (
        "import os, sys\n"
        # All is loaded as root: the interpreter may lie where only root can read.
        "from inboundmx.app import settings; from inboundmx.cli import files, main, spool\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main.main(sys.argv[1:]))"
    )
    with socket.socket(socket.AF_UNIX) as owner:
        if socket_there:
            owner.bind(str(gateway.data / "control.sock"))
            (gateway.data / "control.sock").chmod(0o600)
            owner.listen()
        command = [sys.executable, "-c", program, "--config", str(gateway.config), "spool", "list"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "(uid 65534) may not use" in done.stderr and "run this as root or as the user of the gateway" in done.stderr


@pytest.mark.root
def test_root_leaves_no_file_of_its_own(gateway: StoppedGateway) -> None:
    for path in (gateway.data, *gateway.data.rglob("*")):
        os.chown(path, 65534, 65534)
    open_way_to(gateway.data)
    command = [sys.executable, "-m", "inboundmx", "--config", str(gateway.config), "spool", "force", "entry0active"]
    gateway.config.write_text(gateway.config.read_text().replace(f"to = {gateway.log}", "to = stdout"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in gateway.data.rglob("*")} == {65534}


# --- how it looks -----------------------------------------------------------------------------------------------------


def row(**facts: Any) -> dict[str, Any]:
    recipient = {"address": "bob@a.test", "status": "pending", "attempts": 1, "last_reply": "451 busy"}
    return {
        "id": "03cxk9g5a4q7m2z", "sender": "ann@sender.example", "recipients": [recipient], "size": 4300,
        "state": "active", "priority": 5, "attempts": 2, "next_attempt_at": 1540.0, "age_seconds": 7250.0,
        "domain": "a.test", "route": "127.0.0.1:2526",
    } | facts  # fmt: skip


def test_a_list_is_a_table_that_fits() -> None:
    told = {
        "id": ["03cxk9g5a4q7m2z", "03cxk9g5a4q7m30", "03cxk9g5a4q7m31"],
        "state": ["active", "quarantined", "active"],
        "age": [7250, 7250, 5],
        "size": [4300, 31_000_000, 4300],
        "attempts": [2, 2, 2],
        "due": [540, None, -1],
        "domain": ["a.test"] * 3,
        "sender": ["ann@sender.example", "x" * 90 + "\x1b[31m@sender.example", ""],
        "recipient": ["bob@a.test"] * 3,
        "recipients": [1, 2, 1],
        "delivered": [0, 1, 0],
    }  # fmt: skip
    # Whatever comes together, columns are as wide for all.
    parts = [{name: column[:1] for name, column in told.items()}, {name: column[1:] for name, column in told.items()}]
    lines = listed(parts, 1000.0)
    assert lines == listed([told], 1000.0)
    assert lines[:2] == [
        "ID               STATE        AGE    SIZE  TRIES  NEXT   SENDER                        DONE  RECIPIENT",
        "03cxk9g5a4q7m2z  active        2h   4.2KB      2  in 9m  ann@sender.example            0/1   bob@a.test",
    ]
    assert lines[2].endswith("1/2   bob@a.test +1") and "29.6MB" in lines[2] and "  -  " in lines[2]
    assert "  now    <>" in lines[3] and lines[-1] == "3 entries, 29.6MB"
    assert all(len(line) <= 120 and line.isprintable() for line in lines)


def test_a_shown_entry_cannot_move_the_cursor() -> None:
    told = row(
        message_id="03cxk9g5a4q7m2y", cause="level", received_at=0.0, expires_at=1000.0 + 86400 * 30, level="high",
        peer_ip="192.0.2.7", hello="mx\x1b[2J.example", notice=False, may_notify=True, eight_bit=False, utf8=False,
        headers=[["Subject", "red \x1b[31m"]], body_head="one\n\ttwo\r\n", body_cut=True, damaged=None,
    )  # fmt: skip
    lines = shown(told, 1000.0)
    assert all(line.isprintable() for line in lines)
    assert "kept        30d more" in lines and lines[-1] == "[...]"
    damaged = shown(told | {"damaged": "hash is wrong"}, 1000.0)
    assert damaged[-1] == "the content cannot be shown: hash is wrong"


def test_the_fixture_holds_what_it_says(gateway: StoppedGateway) -> None:
    assert gateway.kept()["entry1held"] == entry("entry1held", **HELD, received_at=ENTRIES[1].received_at, sender=None)
    assert QUARANTINED["state"] is State.QUARANTINED and MAIL.endswith(b"\r\n")
