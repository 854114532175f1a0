"""docs/reliability.md says what the results say, and names nothing that is not there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "faults"))
sys.path.append(str(Path(__file__).parent / "system"))

from faults import FAULTS
from figures import RESULTS, read
from page import PAGE, table, written

ROOT = Path(__file__).parent.parent
TEXT = PAGE.read_text()


def test_the_tables_are_those_of_the_results() -> None:
    assert written(TEXT) == TEXT, "make reliability writes them anew"
    for name in ("faults", "soak"):
        for figures in read(RESULTS / f"{name}.json").values():
            assert table(figures) in TEXT


def test_every_trial_has_its_place() -> None:
    assert read(RESULTS / "faults.json").keys() == FAULTS.keys()
    for name in FAULTS:
        assert f"NAMES={name}`" in TEXT or f"<!-- figures faults {name} -->" in TEXT
    assert set(re.findall(r"NAMES=([\w-]+)`", TEXT)) <= FAULTS.keys()


def test_every_test_and_command_that_is_named_is_there() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for name in re.findall(r"`(test_\w+)`", TEXT):
        assert f"def {name}(" in tests or name in files, name
    for path in re.findall(r"`((?:tests|benchmarks)/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)", TEXT):
        assert f"\n{target}:" in makefile, target


def test_the_faults_planted_are_as_many_as_it_says() -> None:
    planted = (ROOT / "tests" / "simulation" / "test_planted.py").read_text()
    listed = planted.partition("FAULTS = [\n")[2].partition("]")[0].count(",")
    worlds = re.search(r"SEEDS, BATCHES = (\d+)", (ROOT / "tests" / "simulation" / "test_worlds.py").read_text())
    assert worlds is not None
    assert f"gateway in {listed} classic ways" in TEXT
    assert f"{worlds[1]} such worlds of nine days ({int(worlds[1]) * 9:,} days)" in TEXT
