"""``recipients list``, ``forget`` and ``import``: the same on a running gateway and on the file of a stopped one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stopped_gateway import NOW, StoppedGateway

from inboundmx.cli.main import main
from inboundmx.ports import Fact

FACTS = {
    "ann@a.test": Fact((1.0, 1.0, 1.0), NOW - 310, NOW + 3_000_000),
    "Odd'||1@a.test": Fact((0.0, 0.0, 0.7), NOW - 90, NOW + 80_000),
    "old@a.test": Fact((0.0, 0.0, 0.7), NOW - 4000, NOW + 80_000),
    "@a.test": Fact((1.0,), NOW - 7000, NOW + 80_000),
    "gone@a.test": Fact((1.0, 1.0, 1.0), 1.0, 2.0),
}


@pytest.fixture(params=["stopped", "running"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoppedGateway]:
    made = StoppedGateway(tmp_path)
    made.remember(FACTS, "recipients")
    with made.running() if request.param == "running" else contextlib.nullcontext():
        yield made


@pytest.fixture
def tell(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> Any:
    def told(*words: str, status: int = 0) -> str:
        assert main(["--config", str(gateway.config), "recipients", *words]) == status
        said = capsys.readouterr()
        return said.out if status == 0 else said.err

    return told


def addresses(tell: Any, *words: str) -> list[str]:
    return [row["address"] for row in json.loads(tell("list", "--json", *words))]


def test_list_forget_and_import(tell: Any, tmp_path: Path) -> None:
    rows = json.loads(tell("list", "--json"))
    assert [(row["address"], row["state"], row["fresh"]) for row in rows] == [
        ("Odd'||1@a.test", "unknown", True),
        ("ann@a.test", "exists", True),
        ("old@a.test", "unknown", False),
        ("*@a.test", "takes any", True),
    ]
    assert (rows[1]["source"], rows[1]["confidence"], rows[1]["heard_at"]) == ("handover", 1.0, NOW - 310)
    lines = tell("list").splitlines()
    assert lines[0].split() == ["STATE", "SOURCE", "CONFIDENCE", "AGE", "FORGOTTEN", "ADDRESS"]
    assert lines[-1] == "4 shown: 1 exist, 2 do not"
    assert addresses(tell, "'||") == ["Odd'||1@a.test"]
    assert addresses(tell, "ANN@") == ["ann@a.test"]
    assert tell("list", "nobody@nowhere") == "nothing\n"

    assert tell("forget", "--dry-run", "ann@").endswith("dry run: nothing was forgotten\n")
    assert tell("forget", "old@") == "1 forgotten\n"
    assert addresses(tell) == ["Odd'||1@a.test", "ann@a.test", "*@a.test"]

    file = tmp_path / "addresses"
    file.write_text("# those of us\nZoe@A.test\n\n  bob@a.test\nx@elsewhere.example\n")
    assert tell("import", str(file)) == "2 imported\n1 left out: they are of no [domain] here\n"
    (row,) = json.loads(tell("list", "--json", "zoe@a.test"))
    assert (row["address"], row["state"], row["source"], row["confidence"]) == ("zoe@a.test", "exists", "import", 0.9)
    file.write_text("".join(f"user{number}@a.test\n" for number in range(1201)))
    assert json.loads(tell("import", "--json", str(file))) == [{"imported": 1201, "elsewhere": 0}]
    assert len(addresses(tell, "user", "--limit", "5000")) == 1201
    tell("forget", "--all")
    assert tell("list") == "nothing\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no address"),
        (b"ann@a.test\nnonsense\n", "line 2 is no address"),
        (b"@a.test\n", "names all of a.test"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_changes_nothing(tell: Any, tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "addresses"
    file.write_bytes(content)
    before = addresses(tell)
    assert said in tell("import", str(file), status=1)
    assert addresses(tell) == before


@pytest.mark.parametrize("words", [("forget",), ("forget", "--all", "x"), ("list", "--limit", "0")])
def test_wrong_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    gateway = StoppedGateway(tmp_path)
    assert main(["--config", str(gateway.config), "recipients", *words]) == 2
    said = capsys.readouterr().err
    assert "needs a text" in said or "limit must be" in said


def test_changes_are_on_record(tmp_path: Path) -> None:
    gateway = StoppedGateway(tmp_path)
    gateway.remember(FACTS, "recipients")
    (tmp_path / "addresses").write_text("zoe@a.test\n")
    assert main(["--config", str(gateway.config), "recipients", "import", str(tmp_path / "addresses")]) == 0
    assert main(["--config", str(gateway.config), "recipients", "forget", "ann@"]) == 0
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    told = {line["event"]: line for line in lines if line["event"].startswith("recipients_")}
    assert told["recipients_imported"]["count"] == told["recipients_forgotten"]["count"] == 1
    assert all(line["asked_by"] for line in told.values())
