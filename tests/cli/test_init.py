"""``inboundmx init``: what it writes loads, and nothing is overwritten or left half written."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from inboundmx.app.settings import load
from inboundmx.cli import init
from inboundmx.model.custody import Host


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command; ``answers`` are what is typed at a terminal, without any there is no terminal."""
    monkeypatch.setattr(init, "own_name", lambda: "mx7.example.net")

    def run(*arguments: str, answers: list[str] | None = None) -> int:
        typed = iter(answers or [])

        def answer(_: str) -> str:
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", answer)
        monkeypatch.setattr("sys.stdin.isatty", lambda: answers is not None, raising=False)
        parser = argparse.ArgumentParser()
        parser.add_argument("--config")
        init.register(parser.add_subparsers())
        args = parser.parse_args(arguments)
        status: int = args.run(args)
        return status

    return run


def test_by_options(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.ini"
    assert run(
        *("init", "--config", str(path), "--domain", "example.com", "--primary", "192.0.2.10 [2001:db8::1]:26"),
        *("--hostname", "mx1.example.com", "--data", str(tmp_path / "data"), "--listen", "tcp:2525"),
        *("--postmaster", "me@example.com"),
    ) == 0  # fmt: skip
    settings = load(str(path))
    assert settings.gateway.hostname == "mx1.example.com"
    assert settings.gateway.postmaster == "me@example.com"
    assert settings.gateway.listen == ("tcp:2525",)
    assert "connections" in {rule.name for rule in settings.abuse}
    assert settings.gateway.data == str(tmp_path / "data")
    assert settings.domains["example.com"].primary == (Host("192.0.2.10"), Host("2001:db8::1", 26))
    assert f"inboundmx --config {path} check" in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir()] == ["in.ini"]


def test_domain_and_primary_are_enough(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "in.ini"
    assert run("--config", str(path), "init", "--domain", "bücher.example", "--primary", "192.0.2.10") == 0
    settings = load(str(path))
    assert list(settings.domains) == ["xn--bcher-kva.example"]
    assert settings.gateway.hostname == "mx7.example.net"
    assert settings.gateway.postmaster == "postmaster@xn--bcher-kva.example"
    assert settings.gateway.data == "/var/lib/inboundmx"


def test_backup(run: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "in.ini")
    assert run("--config", path, "init", "--domain", "a.example", "--primary", "192.0.2.10", "--backup") == 0
    assert load(path).domains["a.example"].mode == "backup"
    assert run("--config", path, "init", "--domain", "a.example", "--primary", "192.0.2.10", "--force") == 0
    assert load(path).domains["a.example"].mode == "forward"


def test_by_asking_until_the_answer_is_one(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.ini"
    answers = ["", "a_b.example", "a.example", "192.0.2.999", "192.0.2.9:26", "", "", "tcp:26", ""]
    assert run("init", "--config", str(path), answers=answers) == 0
    settings = load(str(path))
    assert settings.domains["a.example"].primary == (Host("192.0.2.9", 26),)
    assert settings.gateway.listen == ("tcp:26",)
    said = capsys.readouterr().out
    assert "this must be answered" in said
    assert "192.0.2.999 is neither an IP address nor a domain name" in said


def test_no_answer_writes_nothing(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "--config", str(tmp_path / "in.ini"), answers=["a.example"]) == 2
    assert capsys.readouterr().err == "inboundmx: no answer, nothing written\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--domain", "a.example"), "--primary is missing: its real mail server (name or address, :port if not 25)"),
        (("--domain", "a_b", "--primary", "192.0.2.1"),
         "--domain a_b: a_b is no domain name: 'a_b' is no label of letters, digits and inner hyphens"),
        (("--domain", "a.example", "--primary", "192.0.2.1", "--listen", "25"),
         "--listen 25: 25 is no endpoint; write it like tcp:25"),
        (("--domain", "a.example", "--primary", "192.0.2.1", "--data", "/x\n[smtp]"),
         "--data /x\N{REPLACEMENT CHARACTER}[smtp]: must stand on one line"),
    ],
)  # fmt: skip
def test_wrong_options(
    run: Any, tmp_path: Path, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("init", "--config", str(tmp_path / "in.ini"), *options) == 2
    assert capsys.readouterr().err == f"inboundmx: {said}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays_without_force(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.ini"
    path.write_text("[smtp]\n")
    options = ("init", "--config", str(path), "--domain", "a.example", "--primary", "192.0.2.1")
    assert run(*options) == 2
    assert path.read_text() == "[smtp]\n"
    assert "--force replaces it" in capsys.readouterr().err
    assert run(*options, "--force") == 0
    assert list(load(str(path)).domains) == ["a.example"]


def test_what_would_not_load_is_not_written(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--domain", "a.example", "--primary", "192.0.2.1", "--listen", "ssl:465")
    assert run("init", "--config", str(tmp_path / "in.ini"), *options) == 2
    assert "[gateway] listen = ssl:465: ssl:465 needs [tls] certificate" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "no" / "in.ini"
    assert run("init", "--config", str(path), "--domain", "a.example", "--primary", "192.0.2.1") == 2
    assert capsys.readouterr().err == f"inboundmx: {path} cannot be written: No such file or directory\n"
