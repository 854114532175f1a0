"""Runs the scenarios, prints a table, or JSON with ``--json``."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import backlog, checks, greylist, lag, scanners
from benchmarks.peers import NotHere, Ours, Peer, Postfix
from benchmarks.scenarios import FULL, QUICK, SCENARIOS, Effort, Figures, Scenario, forward, measure, medians

MAKERS: dict[str, Callable[[Path], Peer]] = {
    "postfix": Postfix,
    "cut-through": lambda folder: Ours(folder, "cut-through"),
    "spool": lambda folder: Ours(folder, "spool"),
}
# Measured only when named: each starts what it needs, and hands back its results ready made.
APART: dict[str, Callable[[Effort, Path], list[dict[str, Any]]]] = {
    "checks": checks.measured,
    "scanners": scanners.measured,
    "lag": lag.measured,
    "greylist": greylist.measured,
    "backlog": backlog.measured,
}
# Divided so that more than 1 is better for us.
HIGHER_IS_BETTER = ("rate", "accepted_rate")
LOWER_IS_BETTER = ("cpu_ms", "mail_p50_ms", "mail_p99_ms", "dot_p50_ms", "kib_each", "list_s")


def ratios(ours: list[Figures], theirs: list[Figures]) -> dict[str, dict[str, float]]:
    """Repeat by repeat: median, lowest, highest."""
    found = {}
    for name in (*HIGHER_IS_BETTER, *LOWER_IS_BETTER):
        pairs = [
            (mine[name], other[name])
            for mine, other in zip(ours, theirs, strict=True)
            if mine.get(name) and other.get(name)
        ]
        if pairs:
            each = [mine / other if name in HIGHER_IS_BETTER else other / mine for mine, other in pairs]
            found[name] = {"median": statistics.median(each), "lowest": min(each), "highest": max(each)}
    return found


def fresh(name: str, scenario: Scenario, effort: Effort, folder: Path) -> Figures:
    peer = MAKERS[name](Path(tempfile.mkdtemp(dir=folder)) / name)
    try:
        return measure(scenario, peer, effort)
    finally:
        peer.stop()


def run(scenario: Scenario, peers: dict[str, Peer], effort: Effort, folder: Path) -> dict[str, Any]:
    """All peers of a scenario, one after the other, as often as the effort says."""
    measured: dict[str, list[Figures]] = {name: [] for name in scenario.peers if name in peers}
    for repeat in range(effort.repeats):
        # Taking turns at going first.
        names = list(measured) if repeat % 2 == 0 else list(reversed(measured))
        for name in names:
            figures = (
                fresh(name, scenario, effort, folder) if scenario.fresh else measure(scenario, peers[name], effort)
            )
            measured[name].append(figures)
            print(".", end="", file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "scenario": scenario.name,
        "what": scenario.what,
        "figures": medians(measured),
        "every": measured,
    }
    if "postfix" in measured:
        result["ratios"] = {
            name: ratios(every, measured["postfix"]) for name, every in measured.items() if name != "postfix"
        }
    return result


def apart(name: str, effort: Effort, folder: Path) -> list[dict[str, Any]]:
    """The results of one that is measured by itself; ``compare`` names pairs of which the ratios are wanted."""
    results = APART[name](effort, folder)
    for result in results:
        every = result["every"]
        result["compared"] = {
            f"{one} / {other}": ratios(every[one], every[other])
            for one, other in result.pop("compare", ())
            if one in every and other in every
        }
    return results


def show(result: dict[str, Any]) -> None:
    figures = result["figures"]
    compared = {f"{name} / postfix": found for name, found in result.get("ratios", {}).items()}
    compared |= result.get("compared", {})
    width = max(12, *map(len, figures)) + 2
    print(f"\n{result['scenario']}: {result['what']}")
    columns = list(dict.fromkeys(key for values in figures.values() for key in values))
    print(f"  {'':{width}}" + "".join(f"{column:>15}" for column in columns))
    for name, values in figures.items():
        print(f"  {name:{width}}" + "".join(f"{values.get(column, float('nan')):15.2f}" for column in columns))
    for name, found in compared.items():
        told = ", ".join(
            f"{key} {spread['median']:.2f} ({spread['lowest']:.2f}-{spread['highest']:.2f})"
            for key, spread in found.items()
        )
        print(f"  {name}, more is better for the first: {told}")
    for note in result.get("notes", ()):
        print(f"  {note}")


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer messages and repeats: under a minute")
    names = [*(scenario.name for scenario in SCENARIOS), *APART]
    told = f"only this one; may be given again ({', '.join(APART)}: only when named)"
    arguments.add_argument("--scenario", action="append", choices=names, help=told)
    arguments.add_argument("--repeats", type=int, help="how often each pair is measured")
    arguments.add_argument("--peer", action="append", choices=list(MAKERS), help="only this one; may be given again")
    arguments.add_argument("--json", action="store_true", help="figures as JSON, every repeat included")
    args = arguments.parse_args()
    effort = QUICK if args.quick else FULL
    if args.repeats:
        effort = Effort(effort.scale, args.repeats)
    chosen = [scenario for scenario in SCENARIOS if not args.scenario or scenario.name in args.scenario]
    wanted = [name for name in MAKERS if any(name in scenario.peers for scenario in chosen)]
    wanted = [name for name in wanted if not args.peer or name in args.peer]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    folder = Path(tempfile.mkdtemp(prefix="inboundmx-benchmarks-"))
    folder.chmod(0o755)
    peers: dict[str, Peer] = {}
    results: list[dict[str, Any]] = []
    missing = False
    try:
        for name in wanted:
            try:
                peers[name] = MAKERS[name](folder / name)
            except NotHere as reason:
                print(f"without {name}: {reason}", file=sys.stderr)
        for peer in peers.values():
            forward(peer, 5, 100)
        for scenario in chosen:
            if any(name in peers for name in scenario.peers):
                results.append(run(scenario, peers, effort, folder))
                if not args.json:
                    show(results[-1])
        for name in args.scenario or ():
            if name not in APART:
                continue
            try:
                found = apart(name, effort, folder)
            except NotHere as reason:
                print(f"without {name}: {reason}", file=sys.stderr)
                missing = True
                continue
            results += found
            if not args.json:
                for result in found:
                    show(result)
    finally:
        for peer in peers.values():
            peer.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        print(json.dumps(results, indent=1))
    return 0 if results and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
