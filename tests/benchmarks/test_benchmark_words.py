"""The figures of the Bayesian filter come from what it does with real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.words import Half, halves, main


def letters(words: str, count: int) -> list[bytes]:
    return [
        f"Message-ID: <{words[0]}{number}@x.example>\r\n\r\n{words} {number}\r\n".encode() for number in range(count)
    ]


HAM, SPAM = letters("garden cake minutes recipe meeting", 12), letters("casino pills jackpot winner viagra", 8)


def test_each_half_is_judged_by_the_other() -> None:
    assert list(halves((HAM, SPAM), 2)) == [Half(6, 4, 0, 4, 0, 0)] * 4
    mixed = [*HAM[:-1], b"Message-ID: <x@x.example>\r\n\r\ncasino pills jackpot winner viagra 99\r\n"]
    assert sum(half.false for half in halves((mixed, SPAM), 2)) == 2


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, several in (("ham", HAM), ("spam", SPAM)):
        (tmp_path / name).mkdir()
        for number, octets in enumerate(several):
            (tmp_path / name / str(number)).write_bytes(octets)
    assert main([str(tmp_path / "ham"), str(tmp_path / "spam"), "--seeds", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[3].split() == ["12", "0", "0", "8", "100.0%", "0"]
    assert "words known" in said[4]
