"""Writes the tables of docs/reliability.md from the results that trials left: ``make reliability``.

Knows the page's markers. Between ``<!-- figures FILE FAULT -->`` and ``<!-- end -->`` stands the table of one fault,
between ``<!-- measured FILE -->`` and that where and when its figures came about, between ``<!-- campaigns FILE -->``
and that the books of ``make crash``. All else is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE)]

from figures import RESULTS, Figure, read, shown  # noqa: E402

PAGE = RESULTS.parents[1] / "reliability.md"
_MARKED = re.compile(r"(<!-- (figures|measured|campaigns) ([\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(figures: Sequence[Figure]) -> str:
    rows = ["| measured | figure | promised |", "|---|---|---|"]
    for figure in figures:
        what = figure.what[:1].upper() + figure.what[1:]
        missed = "" if figure.met else " (**not met**)"
        rows.append(f"| {what} | {shown(figure.value)} {figure.unit}".rstrip() + f"{missed} | {figure.promise} |")
    return "\n".join(rows) + "\n"


def measured(path: Path) -> str:
    told = json.loads(path.read_text())
    return f"Measured by `{told['command']}` on {told['date']}: {told['machine']}.\n"


def campaigns(path: Path) -> str:
    """One row for each: how often, what was promised, and what came of it."""
    rows = [
        "| campaign | cuts | promised | lost | altered | copies unexplained | explained | ready, median and worst |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in json.loads(path.read_text())["campaigns"]:
        cuts = sum(each.get(name, 0) for name in ("kills", "primary_kills", "stops", "reloads", "dropped"))
        explained = sum(each[why] for why in ("resent_by_strangers", "delivered_again", "not_answered_by_the_primary"))
        ready = f"{each['ready_ms_median'] / 1000:.1f} s, {each['ready_ms_worst'] / 1000:.1f} s"
        told = (cuts, each["promised"], each["lost"], each["altered"], each["unexplained_copies"], explained)
        rows.append(f"| {each['campaign']} | {' | '.join(f'{value:,}' for value in told)} | {ready} |")
    return "\n".join(rows) + "\n"


def written(page: str) -> str:
    """The page with all between its markers made anew."""

    def made(found: re.Match[str]) -> str:
        before, kind, names, after = found.groups()
        file, *faults = names.split()
        path = RESULTS / f"{file}.json"
        if kind == "figures":
            text = table(read(path)[faults[0]])
        else:
            text = measured(path) if kind == "measured" else campaigns(path)
        return f"{before}\n{text}\n{after}"

    return _MARKED.sub(made, page)


def rewrite() -> None:
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    rewrite()
