"""A dear check is asked only where what it says could change what becomes of somebody's mail, and that is on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gate import ANN, BOB, MAIL, Gate

from inboundmx.app.settings import load
from inboundmx.checks.api import Case
from inboundmx.checks.clamav import ClamAV
from inboundmx.checks.spamassassin import SpamAssassin
from inboundmx.ledger.explaining import Event, tell
from inboundmx.model.finding import Finding

INI = """
[gateway]
hostname = mx.example.net
[domain a.example]
primary = 192.0.2.10
recipients = any
[check words]
use = headers
header = Subject
value = hello
[check viruses]
use = clamav
[check sa]
use = spamassassin
weight.low = 10
weight.high = 30
"""
WHY = "nothing it could say would change the verdict"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scanners that were asked; ClamAV finds something in what says so."""
    names: list[str] = []

    async def scan(_: Any, case: Case) -> Finding:
        names.append("clamav")
        return Finding("infected" if case.message is not None and b"virus" in case.message.body.head else "clean")

    async def score(_: Any, case: Case) -> Finding:
        names.append("spamassassin")
        return Finding("low")

    monkeypatch.setattr(ClamAV, "examine", scan)
    monkeypatch.setattr(SpamAssassin, "examine", score)
    return names


def sent(folder: Path, more: str, *recipients: Any, content: bytes = MAIL) -> dict[str, Any]:
    """What is on record of it last."""
    path = folder / "in.ini"
    path.write_text(INI + more)
    made = Gate(load(str(path)))
    made.send(content, *recipients)
    fields: dict[str, Any] = made.journal.events[-1][2]
    return fields


def said(fields: dict[str, Any], check: str) -> list[Any]:
    return [line[1:] for line in fields["checks"] if line[0] == check]


def test_what_is_infected_is_not_weighed_as_spam_as_well(tmp_path: Path, asked: list[str]) -> None:
    fields = sent(tmp_path, "", ANN, content=MAIL + b"virus\r\n")
    assert asked == ["clamav"]
    assert said(fields, "sa") == [["skipped", 0.0, WHY]]
    story = "\n".join(tell("id", [Event(0.0, "refused", fields)], (), 0.0))
    assert f"sa=skipped(0)  {WHY}" in story


def test_what_is_delivered_or_kept_is_always_scanned_for_viruses(tmp_path: Path, asked: list[str]) -> None:
    """The level is the highest there is, so that no score changes anything."""
    for action in ("deliver", "hold", "quarantine"):
        asked.clear()
        fields = sent(tmp_path, f"[level high]\naction = {action}\nthreshold = 30\n[check more]\nuse = headers\n"
                      "header = Subject\nvalue = hello\nweight.match = 60\n", ANN)  # fmt: skip
        assert asked == ["clamav"] and said(fields, "viruses")[0][0] == "clean"
        assert said(fields, "sa") == [["skipped", 0.0, WHY]]


HEAVY = "[check heavy]\nuse = headers\nheader = Subject\nvalue = hello\nweight.match = 30\n"


@pytest.mark.parametrize(
    ("section", "recipients", "wanted"),
    [
        ("", (ANN,), False),
        ("[recipients x]\nmatch = bob@a.example\nweight.heavy.match = 5\n", (ANN,), False),
        ("[recipients x]\nmatch = bob@a.example\nweight.heavy.match = 5\n", (ANN, BOB), True),
        ("[recipients x]\nmatch = bob@a.example\nskip_checks = heavy\n", (ANN, BOB), True),
        ("[recipients x]\nmatch = bob@a.example\nskip_checks = heavy sa\n", (ANN, BOB), False),
        ("[recipients x]\nmatch = bob@a.example\nweight.sa.low = -9\n", (ANN, BOB), True),
        ("[recipients x]\nmatch = bob@a.example\nlevel.high.threshold = 40\n", (BOB,), True),
    ],
)
def test_it_is_asked_for_the_sake_of_any_recipient(
    tmp_path: Path, asked: list[str], section: str, recipients: tuple[Any, ...], wanted: bool
) -> None:
    sent(tmp_path, HEAVY + section, *recipients)
    assert ("spamassassin" in asked) is wanted


def test_what_all_skip_is_not_even_told_as_skipped(tmp_path: Path, asked: list[str]) -> None:
    fields = sent(tmp_path, "[recipients x]\nmatch = a.example\nskip_checks = sa viruses\n", ANN, BOB)
    assert asked == [] and said(fields, "sa") == said(fields, "viruses") == []
