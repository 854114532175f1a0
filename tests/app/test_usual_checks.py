"""The usual checks load, all of them or without the scanners that are not there."""

from pathlib import Path

import pytest

from inboundmx.app.settings import load
from inboundmx.app.usual_checks import CLAMD, SPAMD, USUAL, missing, present, usual_checks


@pytest.mark.parametrize("left_out", [[], ["clamav"], ["clamav", "spamassassin"]])
def test_what_is_left_out_is_there_as_a_comment(tmp_path: Path, left_out: list[str]) -> None:
    ini = tmp_path / "usual.ini"
    ini.write_text(usual_checks(left_out))
    assert [check.name for check in load(str(ini)).checks] == [n for n, _, _ in USUAL if n not in left_out]
    for name in left_out:
        assert f"# [check {name}]" in ini.read_text()


def test_further_lines_belong_to_their_section(tmp_path: Path) -> None:
    ini = tmp_path / "usual.ini"
    ini.write_text(usual_checks(more=lambda name: "skip_for = 127.0.0.0/8" if name == "helo" else ""))
    assert [check.name for check in load(str(ini)).checks if check.skip_for] == ["helo"]


@pytest.mark.parametrize(
    ("running", "names"),
    [({CLAMD, SPAMD}, []), ({SPAMD}, ["clamav"]), ({CLAMD}, ["spamassassin"]), (set(), ["clamav", "spamassassin"])],
)
def test_a_scanner_that_does_not_run_is_named(running: set[str], names: list[str]) -> None:
    assert missing(running.__contains__) == names


def test_nobody_listens_at_a_place_that_is_not_there(tmp_path: Path) -> None:
    assert not present(f"unix:{tmp_path}/none.sock")
    assert not present("tcp:127.0.0.1:1")
