"""Macros read by the real oletools in a real process, which may be slow, crash or say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from requiring import needed

from inboundmx.net import macros
from inboundmx.net.macros import MacroProcess
from inboundmx.ports import Unavailable

# Longer than it takes on a machine that is busy with other tests.
SECONDS = 60.0
HARMFUL = b'Attribute VB_Name = "M"\r\nSub AutoOpen()\r\nShell "cmd.exe /c calc"\r\nEnd Sub\r\n'
HARMLESS = b'Attribute VB_Name = "M"\r\nSub Add()\r\nRange("A1").Value = 2\r\nEnd Sub\r\n'


def test_what_macros_would_do() -> None:
    needed("oletools")
    assert MacroProcess().read(HARMFUL, SECONDS) == ("AutoOpen", "Shell")


def test_harmless_ones_have_no_words() -> None:
    needed("oletools")
    assert MacroProcess().read(HARMLESS, SECONDS) == ()


@pytest.mark.parametrize(
    ("program", "seconds", "reason"),
    [
        ("import time\ntime.sleep(60)", 0.3, "in time"),
        ("raise SystemExit(3)", SECONDS, "could not read"),
        ("print('no json')", SECONDS, "could not read"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", SECONDS, "could not read"),
        ("", 0.0, "no time"),
    ],
)
def test_a_process_that_does_not_answer(
    program: str, seconds: float, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    child.write_text(program)
    monkeypatch.setattr(macros, "CHILD", child)
    with pytest.raises(Unavailable, match=reason):
        MacroProcess().read(b"x" * 1_000_000, seconds)


def test_no_program_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macros.sys, "executable", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="cannot be run"):
        MacroProcess().read(b"x", SECONDS)
