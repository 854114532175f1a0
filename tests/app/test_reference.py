"""The shipped INI and the reference say what the program says."""

from pathlib import Path

import pytest

from inboundmx.app import reference
from inboundmx.app.reading import keys_of
from inboundmx.app.settings import PLAIN, load
from inboundmx.app.usual_checks import OPTIONAL, RULES, USUAL, usual_checks, usual_rules
from inboundmx.checks.registry import KINDS
from inboundmx.model.custody import Host
from inboundmx.model.settings import (
    ArchiveSettings,
    CheckSettings,
    DomainSettings,
    LevelSettings,
    OutboundSettings,
)

SHIPPED = reference.ROOT / reference.INI


@pytest.mark.parametrize(
    ("path", "text"),
    [(reference.INI, reference.shipped_ini()), (reference.MANUAL, reference.manual())],
    ids=["etc/inboundmx.ini", "docs/reference.md"],
)
def test_the_file_is_as_generated(path: Path, text: str) -> None:
    assert (reference.ROOT / path).read_text(encoding="utf-8") == text, "run python -m inboundmx.app.reference"


def test_the_shipped_file_is_the_defaults_and_the_usual_rules_and_checks(tmp_path: Path) -> None:
    checks_alone = tmp_path / "checks.ini"
    checks_alone.write_text(usual_rules() + usual_checks())
    settings = load(str(SHIPPED))
    assert settings == load(str(checks_alone))
    assert [check.name for check in settings.checks] == [name for name, _, _ in USUAL]
    optional = {lines.splitlines()[0].removeprefix("use = ") for _, _, lines in OPTIONAL}
    assert {check.kind for check in settings.checks} == set(KINDS) - {"headers", "recipient", "ratelimit"} - optional
    assert [rule.name for rule in settings.abuse] == [name for name, _, _ in RULES]


def test_the_examples_in_the_shipped_file_load_when_their_sign_is_taken_away(tmp_path: Path) -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    live = tmp_path / "live.ini"
    live.write_text("\n".join(line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in lines))
    settings = load(str(live))
    assert list(settings.domains) == ["example.com"]
    assert [check.name for check in settings.checks] == [
        *("offers", *(name for name, _, _ in (*USUAL, *OPTIONAL)), "recipient")
    ]
    assert settings.domains["example.com"].weights == {("offers", "match"): 5.0}
    assert settings.everything is not None
    assert settings.everything.except_ == ("example.org", "example.net")
    assert settings.outbound == (OutboundSettings("relay-a", server=(Host("smtp.relay.example", 587),)),)
    assert settings.archives == (ArchiveSettings("everything", path="/var/lib/inboundmx/archive"),)


def test_every_key_stands_in_both() -> None:
    ini, manual = reference.shipped_ini(), reference.manual()
    for made in (*PLAIN.values(), DomainSettings, OutboundSettings, ArchiveSettings, LevelSettings, CheckSettings):
        for key in keys_of(made):
            assert f"\n{key} =" in ini or f"\n#{key} =" in ini, (made, key)
            assert f"`{key}`" in manual, (made, key)


def test_check_finds_a_file_that_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    for folder in ("etc", "docs"):
        (tmp_path / folder).mkdir()
    assert reference.main(["--check"]) == 1
    assert capsys.readouterr().out == "out of date: etc/inboundmx.ini docs/reference.md\n"
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    (tmp_path / reference.INI).write_text("[smtp]\n")
    assert reference.main(["--check"]) == 1
    assert capsys.readouterr().out.endswith("out of date: etc/inboundmx.ini\n")
