"""docs/scoring.md says what the program does: its INI is read, and every line of its table is worked out anew."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboundmx.app.settings import load
from inboundmx.model.address import Address
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.reply import Reply
from inboundmx.model.settings import Settings
from inboundmx.model.verdict import written_weight
from inboundmx.policy.grouping import counted
from inboundmx.policy.judging import blocking_threshold, judge, judge_early
from inboundmx.policy.overriding import Overrides
from inboundmx.policy.scoring import score

TEXT = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
INI = TEXT.partition("```ini\n")[2].partition("```")[0]


def rows() -> Iterator[tuple[str, ...]]:
    """domain or address, stage, what was said, and what is claimed to come of it."""
    table = TEXT.partition("| for | after |")[2].splitlines()[2:]
    for line in table:
        if not line.startswith("|"):
            return
        yield tuple(cell.strip() for cell in line.strip("|").split("|"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = tmp_path_factory.mktemp("docs") / "scoring.ini"
    path.write_text(INI)
    return load(str(path))


def worked_out(settings: Settings, whom: str, stage: str, said: str) -> tuple[str, str, str]:
    """Filtering, blocking, and what becomes of it."""
    local, _, name = whom.rpartition("@")
    domain = settings.domain(name)
    assert domain is not None
    if local:
        domain = Overrides(settings).of(Address(local, name), domain)
    checks = {check.name: check for check in settings.checks}
    results = []
    for word in said.replace("`", "").split():
        name, _, outcome = word.partition("=")
        assert outcome in (*checks[name].weights, "skipped"), f"{name} never says {outcome}"
        results.append(CheckResult(name, checks[name].kind, Stage.MESSAGE, Finding(outcome)))
    total = score(counted(results, domain), checks, domain.weights)
    threshold = blocking_threshold(domain) if stage in ("RCPT", "the dot") else math.inf
    verdict = judge(total, domain.levels, threshold) if stage == "the dot" else judge_early(total, threshold)
    if verdict is None:
        becomes = "it goes on"
    elif verdict.reply is not None:
        becomes = answered(verdict.reply)
    else:
        becomes = f"level {verdict.level.word}: `{', '.join(map(str, verdict.actions))}`"
    return written_weight(total.filtering), written_weight(total.blocking), becomes


def answered(reply: Reply) -> str:
    return f"`{reply.code} {reply.enhanced} {reply.text}`"


ROWS = list(rows())


def test_there_are_examples() -> None:
    assert len(ROWS) >= 10


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2].replace("`", ""))
def test_an_example_is_true(row: tuple[str, ...], settings: Settings) -> None:
    domain, stage, said, filtering, blocking, becomes = row
    assert (filtering, blocking, becomes) == worked_out(settings, domain, stage, said)
