"""``users`` on a file, with passwords that are never an argument."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from stopped_gateway import StoppedGateway

from inboundmx.cli.main import main
from inboundmx.policy import authenticating


@pytest.fixture
def users(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(authenticating, "ITERATIONS", authenticating.FEWEST)
    gateway = StoppedGateway(tmp_path)
    gateway.config.write_text(f"{gateway.config.read_text()}\n[relay]\nusers = file:{tmp_path / 'users'}\n")

    def run(*words: str, said: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        status = main(["--config", str(gateway.config), "users", *words])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def test_the_whole_way_of_a_user(users: Any, tmp_path: Path) -> None:
    assert "there is no file" in users("list")[1]
    assert users("add", "ann", said="pen cil\r\n") == (0, "added: ann\n")
    assert users("add", "bob@here.example", said="other\n")[0] == 0
    assert users("list")[1].splitlines() == ["ann", "bob@here.example", "2 users"]
    assert json.loads(users("list", "--json")[1]) == ["ann", "bob@here.example"]
    assert [users("verify", "ann", said=f"{word}\n")[0] for word in ("pen cil", "pen", "")] == [0, 1, 1]
    assert users("verify", "eve", said="pen cil\n")[0] == 1
    assert users("add", "ann", said="new\n")[0] == 0
    assert users("verify", "ann", said="new\n") == (0, "right\n")
    assert users("remove", "ann") == (0, "removed: ann\n")
    assert users("remove", "ann") == (1, "inboundmx: there is no user ann\n")
    assert (tmp_path / "users").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("name", "said", "status"), [("a b", "x\n", 2), ("a:b", "x\n", 2), ("ann", "\n", 1)])
def test_what_cannot_be_added(users: Any, name: str, said: str, status: int) -> None:
    assert users("add", name, said=said)[0] == status
    assert users("list")[0] == 1
