"""Kills, stops and reloads of the real program under load, with books: ``make crash KILLS=100 MESSAGES=10000 SEED=1``.

Prints a table; with ``--json FILE`` the same figures go there, with ``--keep`` into docs/reliability.md. The exit
status is 1 when anything does not add up.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE), *(str(HERE.parent / name) for name in ("", "system", "faults"))]

from boundaries import LIVES, boundaries  # noqa: E402
from campaigns import Report, drops, kills, reloads, stops  # noqa: E402
from figures import RESULTS, machine  # noqa: E402
from page import rewrite  # noqa: E402

# Workers, handover, victim.
KILLED = (
    (0, "cut-through", "gateway"),
    (0, "spool", "gateway"),
    (1, "spool", "gateway"),
    (2, "cut-through", "gateway"),
    (2, "cut-through", "worker"),
    (2, "spool", "worker"),
)
PARTS = ("kills", "boundaries", "stops", "reloads", "drops")
COLUMNS = ("promised", "arrived", "lost", "altered", "unexplained_copies", "resent_by_strangers", "delivered_again")


def share(whole: int, parts: int, number: int) -> int:
    """Of ``whole``, in ``parts`` as equal as can be."""
    return whole * (number + 1) // parts - whole * number // parts


Campaign = Callable[[], Report]


def campaigns(asked: argparse.Namespace, tell: Callable[[str], object]) -> Iterator[Campaign]:
    parts = asked.parts or PARTS
    if "kills" in parts:
        for number, (workers, handover, victim) in enumerate(KILLED):
            times, messages = (share(whole, len(KILLED), number) for whole in (asked.kills, asked.messages))
            yield partial(kills, workers, handover, victim, times, messages, asked.seed, tell)
    if "boundaries" in parts:
        for life in LIVES:
            yield partial(boundaries, life, asked.every, tell)
    if "stops" in parts:
        yield partial(stops, 0, "cut-through", 10, asked.seed, tell)
        yield partial(stops, 2, "spool", 10, asked.seed, tell)
    if "reloads" in parts:
        yield partial(reloads, 0, "cut-through", 25, 30, asked.seed, tell)
        yield partial(reloads, 2, "spool", 25, 30, asked.seed, tell)
    if "drops" in parts:
        for handover in ("cut-through", "spool"):
            yield partial(drops, handover, 300, asked.seed, tell)


def run(campaign: Campaign) -> tuple[dict[str, Any], list[str]]:
    """Its figures, and what was wrong: a campaign that came to no end does not keep the others from theirs."""
    try:
        report = campaign()
    except pytest.skip.Exception as missing:
        return {"campaign": f"left out: {missing}"}, []
    except (Exception, pytest.fail.Exception):
        return {"campaign": "did not end"}, [traceback.format_exc()]
    return report.figures(), report.verdict()


def keep(summary: dict[str, Any]) -> None:
    """Into the page; campaigns that were not tried this time keep what was found of them last."""
    path = RESULTS / "crash.json"
    before = json.loads(path.read_text())["campaigns"] if path.exists() else []
    found = {each["campaign"]: each for each in [*before, *summary["campaigns"]] if "promised" in each}
    path.write_text(json.dumps({**summary, "campaigns": list(found.values())}, indent=1) + "\n")
    rewrite()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them, unless some are named")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="of the system calls, every so many-th boundary")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--keep", action="store_true", help="write the figures into docs/reliability.md")
    asked = parser.parse_args()
    terminal = sys.stderr.isatty()

    def tell(progress: str) -> None:
        print(
            f"\r\x1b[K{progress}" if terminal else progress, end="" if terminal else "\n", file=sys.stderr, flush=True
        )

    began, done, failed = time.monotonic(), [], 0
    for campaign in campaigns(asked, tell):
        figures, wrong = run(campaign)
        done.append(figures)
        failed += bool(wrong)
        if terminal:
            tell("")
        shown = (f"{figures[column]} {column.replace('_', ' ')}" for column in COLUMNS if column in figures)
        print(
            f"{figures['campaign']}: {', '.join(shown)}", *(f"  WRONG: {each}" for each in wrong), sep="\n", flush=True
        )
    summary = {
        "command": "make crash",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "seed": asked.seed,
        "seconds": round(time.monotonic() - began),
        "failed": failed,
        "campaigns": done,
    }
    if asked.json:
        asked.json.write_text(json.dumps(summary, indent=2) + "\n")
    if asked.keep:
        keep(summary)
    print(f"{len(done)} campaigns in {summary['seconds']} s, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
