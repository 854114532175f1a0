"""Greylisting over the real state store when its file is really locked, and its disk really full: an outcome that the
INI weighs, delay at the worst, and it heals by itself."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import TestClock
from programs import need
from requiring import impossible

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.greylist import Greylist
from inboundmx.checks.runner import Runner
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Stage
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, Settings
from inboundmx.policy.judging import judge_early
from inboundmx.policy.scoring import score
from inboundmx.storage import state, state_file
from inboundmx.storage.state import SqliteStateStore
from inboundmx.storage.writer import InlineLane, at_once

MINUTE = 60.0


class Desk:
    def __init__(self, folder: Path) -> None:
        self.clock = TestClock()
        self.reports: list[str] = []
        self.store = SqliteStateStore(
            str(folder), self.clock, at_once, lambda event, _: self.reports.append(event), lambda _: InlineLane()
        )
        nothing: Any = None
        tools = Tools(Settings(), self.clock, nothing, self.store, nothing, nothing, nothing, nothing)
        self._check = Greylist({}, tools)

    def ask(self, sender: str, error: Any = 0.0) -> str:
        """The outcome and the code of the answer, as the runner and the verdict make them."""
        named = CheckSettings("grey", "greylist", weights={"new": "defer", "early": "defer", "error": error})
        case = Case(Session("s", "192.0.2.1", 1, "192.0.2.25", 0.0), Envelope(Address(sender, "a.example")),
                    Address("bob", "here.example"))  # fmt: skip
        with pytest.raises(StopIteration) as stop:
            Runner([(named, self._check)], self.clock).run(Stage.RECIPIENT, case).send(None)
        verdict = judge_early(score(stop.value.value, {"grey": named}), 30.0)
        reply = None if verdict is None else verdict.reply
        return f"{stop.value.value[0].finding.outcome} {250 if reply is None else reply.code}"

    def wait(self, minutes: float) -> None:
        self.clock.task.advance(minutes * MINUTE)


def test_a_file_that_another_process_keeps_for_itself_is_an_error_that_is_weighed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "_BUSY_SECONDS", 0.0)
    first = Desk(tmp_path)
    first.ask("ann")
    first.wait(20)
    assert first.ask("ann") == "passed 250"
    first.store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        desk = Desk(tmp_path)
        assert desk.reports == ["state_failing"]
        assert desk.ask("eve") == "error 250"
        assert desk.ask("eve", error="defer") == "error 451"
        holder.execute("ROLLBACK")
    desk.wait(state.RETRY_SECONDS / MINUTE)
    assert desk.reports == ["state_failing", "state_recovered"]
    assert (desk.ask("ann"), desk.ask("eve")) == ("known 250", "new 451")
    desk.store.close()


def test_a_file_that_cannot_be_written_for_an_hour_puts_nobody_off_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "_BUSY_SECONDS", 0.0)
    desk = Desk(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert desk.ask("ann") == "new 451"
        desk.wait(20)
        assert desk.ask("ann") == "passed 250"
        desk.wait(40)
        assert desk.ask("ann") == "known 250"
        assert desk.reports == ["state_failing"]
        holder.execute("ROLLBACK")
    desk.wait(1)
    desk.store.close()
    again = Desk(tmp_path)
    assert again.ask("ann") == "known 250"
    again.store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A megabyte in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        [need("mount"), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        impossible("no tmpfs can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def filled(folder: Path) -> Path:
    ballast = folder / "somebody else's"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


@pytest.mark.root
def test_a_full_disk_costs_delay_at_most_and_heals(small_disk: Path) -> None:
    desk = Desk(small_disk)
    desk.ask("ann")
    desk.wait(1)
    ballast = filled(small_disk)
    for number in range(2000):
        # More than fits into what the file has room for already.
        assert desk.ask(f"stranger.{chr(97 + number % 26)}{'x' * (number // 26)}") == "new 451"
    desk.wait(20)
    assert "state_failing" in desk.reports
    assert desk.ask("ann") == "passed 250"
    assert desk.ask("stranger.a") == "passed 250"
    ballast.unlink()
    desk.wait(1)
    assert desk.reports[-1] == "state_recovered"
    desk.store.close()
    again = Desk(small_disk)
    assert (again.ask("ann"), again.ask("stranger.a")) == ("known 250", "known 250")
    again.store.close()


@pytest.mark.root
def test_a_start_on_a_full_disk_is_an_error_until_there_is_room(small_disk: Path) -> None:
    ballast = filled(small_disk)
    desk = Desk(small_disk)
    assert desk.reports == ["state_failing"]
    assert (desk.ask("ann"), desk.ask("ann", error="defer")) == ("error 250", "error 451")
    ballast.unlink()
    desk.wait(state.RETRY_SECONDS / MINUTE)
    assert desk.ask("ann") == "new 451"
    desk.store.close()
