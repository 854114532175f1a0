"""The command line as a whole: help for everything, exit statuses, and quiet ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import inboundmx
from inboundmx.cli.asking import CannotAsk
from inboundmx.cli.main import COMMANDS, main

VERBS = {
    "spool": ("list", "show", "force", "release", "delete"),
    "quarantine": ("list", "show", "release", "delete"),
    "greylist": ("list", "release", "forget"),
    "recipients": ("list", "forget", "import"),
}


@pytest.mark.parametrize(
    "words",
    [(), *((command,) for command in COMMANDS), *((noun, verb) for noun, verbs in VERBS.items() for verb in verbs)],
)
def test_everything_has_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: inboundmx")


@pytest.mark.parametrize(
    "words",
    [(), ("nonsense",), ("spool",), ("spool", "burn"), ("explain",), ("explain", "a", "b"), ("spool", "list", "--x"),
     ("spool", "show"), ("spool", "list", "--state", "lost"), ("demo", "--port", "0"), ("demo", "--port", "x"),
     ("--config",), ("demo", "--port", "2525", "--primary-port", "2525")],
)  # fmt: skip
def test_wrong_usage_is_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(words)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        status = ended.code
    assert status == 2 and capsys.readouterr().err


@pytest.mark.parametrize(
    ("trouble", "status", "told"),
    [
        (CannotAsk("no such thing"), 1, "inboundmx: no such thing\n"),
        (CannotAsk("one\ntwo", usage=True), 2, "inboundmx: one\ninboundmx: two\n"),
        (KeyboardInterrupt(), 1, ""),
    ],
)
def test_trouble_has_a_status(
    trouble: BaseException, status: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise trouble

    monkeypatch.setattr("inboundmx.cli.version.say", fail)
    assert main(["version"]) == status
    assert capsys.readouterr().err == told


def test_version_names_what_it_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)
    assert versions["inboundmx"] == inboundmx.__version__
    assert set(versions) == {"inboundmx", "Python", "Twisted", "OpenSSL", "SQLite"}
    assert main(["version"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"inboundmx {inboundmx.__version__}"


def test_the_config_comes_from_the_option_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INBOUNDMX_CONFIG", str(tmp_path / "from-environment.ini"))
    assert main(["spool", "list"]) == 2
    assert "from-environment.ini" in capsys.readouterr().err
    assert main(["--config", str(tmp_path / "from-option.ini"), "spool", "list"]) == 2
    assert "from-option.ini" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("version",), ("spool", "--help")])
def test_a_command_loads_only_what_it_needs(words: tuple[str, ...]) -> None:
    program = (
        "import sys; from inboundmx.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = [name for name in sys.modules if name.startswith(('inboundmx.app', 'OpenSSL', 'sqlite_utils'))]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "inboundmx", "version"]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE) as done:
        os.close(writing)
        assert done.communicate()[1] == b""
    assert done.returncode == 1
