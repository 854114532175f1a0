"""docs/checks has a page for each kind of check, and its tables are true."""

from __future__ import annotations

import re

import pytest

from inboundmx.app import reference
from inboundmx.app.values import kind
from inboundmx.checks.api import ALWAYS
from inboundmx.checks.registry import KINDS
from inboundmx.model.verdict import written_weight

PAGES = reference.ROOT / "docs" / "checks"


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def table(name: str, heading: str) -> tuple[list[str], list[list[str]]]:
    """The headings and the rows of the table that begins with this heading."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    if found is None:
        return [], []
    headings, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()]
    return headings, rows


def test_each_kind_has_a_page_and_each_page_a_kind() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(KINDS)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_outcomes_and_default_weights(name: str) -> None:
    made = KINDS[name]
    headings, rows = table(name, "outcome")
    told = [word for row in rows if not row[0].startswith("words in") for word in words(row[0])]
    assert sorted(told) == sorted(made.outcomes | ALWAYS)
    if "weight" not in headings[-1]:
        assert made.weights == {}
        return
    for row in rows:
        for word in words(row[0]):
            assert row[-1].strip("`") == written_weight(made.weights.get(word, 0.0)), word


@pytest.mark.parametrize("name", sorted(KINDS))
def test_keys_and_their_defaults(name: str) -> None:
    options = {option.name: option for option in KINDS[name].options}
    headings, rows = table(name, "key")
    told = {word: row[1] for row in rows for word in words(row[0]) if word != "timeout"}
    assert set(told) == set(options)
    if "default" not in headings:
        return
    for row in rows:
        keys = [word for word in words(row[0]) if word != "timeout"]
        for key, default in zip(keys, words(row[1]), strict=False):
            assert default == kind(options[key].kind).write(options[key].default), key
