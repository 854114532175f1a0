"""``inboundmx train``: what is learned, forgotten and reported, on files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inboundmx.cli.main import main

INI = (
    "[gateway]\nhostname = mx.gateway.example\ndata = {data}\n"
    "[domain here.example]\nprimary = 127.0.0.1\nrecipients = any\n"
)
BAYES = "[check bayes]\nuse = bayes\nmax_memory = 1MB\n"


class Site:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.config = folder / "inboundmx.ini"
        (folder / "data").mkdir()
        self.config.write_text(INI.format(data=folder / "data") + BAYES)
        self._capsys = capsys

    def mail(self, name: str, words: str, count: int) -> str:
        folder = self.folder / name
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.eml").write_text(f"Subject: {name} {number}\n\n{words} {number}\n")
        return str(folder)

    def train(self, *arguments: str, status: int = 0) -> str:
        assert main(["--config", str(self.config), "train", *arguments]) == status
        said = self._capsys.readouterr()
        return said.out + said.err

    def json(self, *arguments: str) -> object:
        return json.loads(self.train(*arguments, "--json"))


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def test_what_is_learned_counts_once_and_can_be_taken_back(site: Site) -> None:
    spam, ham = site.mail("spam", "casino pills", 3), site.mail("ham", "garden cake", 2)
    assert site.train("spam", spam) == (
        "3 messages: 3 learned\nknown now: 3 messages of spam, 0 of ham; it judges from 100 of each on\n"
    )
    assert site.json("ham", ham, f"{spam}/0.eml") == {"messages": 3, "learned": 2, "moved": 1, "spam": 2, "ham": 3}
    assert "3 messages: 3 known already" in site.train("ham", ham, f"{spam}/0.eml")
    assert site.json("forget", ham) == {"messages": 2, "forgotten": 2, "spam": 2, "ham": 1}
    assert "2 not known" in site.train("forget", ham)


def test_a_report_says_how_well_it_judges(site: Site) -> None:
    site.train("spam", site.mail("spam", "casino pills jackpot viagra winner", 20))
    assert "takes two of each" in site.train("report", status=1)
    site.train("ham", site.mail("ham", "garden cake minutes recipe meeting", 10))
    told = site.train("report")
    assert [line.split() for line in told.splitlines()[1:3]] == [
        ["spam", "20", "20", "(100.0%)", "0", "(0.0%)", "0", "(0.0%)"],
        ["ham", "10", "0", "(0.0%)", "0", "(0.0%)", "10", "(100.0%)"],
    ]
    assert site.json("report") == {
        "spam": 20,
        "ham": 10,
        "tried": {"spam": {"spam": 20, "unsure": 0, "ham": 0}, "ham": {"spam": 0, "unsure": 0, "ham": 10}},
    }


def test_the_model_is_made_anew(site: Site) -> None:
    site.train("spam", site.mail("spam", "casino", 1))
    model = site.folder / "data" / "bayes.model"
    before = model.read_bytes()
    model.unlink()
    assert "3 words" in site.train("renew")
    assert model.read_bytes() == before


def test_what_cannot_be_done_is_said(site: Site) -> None:
    assert "no such file or folder; nothing was learned" in site.train("ham", str(site.folder / "none"), status=2)
    empty = site.folder / "empty"
    empty.mkdir()
    assert "0 messages" in site.train("ham", str(empty), status=1)
    site.config.write_text(INI.format(data=site.folder / "data"))
    assert "no [check …] with use = bayes yet" in site.train("ham", site.mail("ham", "cake", 1))
    site.config.write_text(INI.format(data=site.folder / "nowhere") + BAYES)
    assert "the gateway has never run" in site.train("renew", status=1)
