"""Runs the scenarios, says on stderr how far it is, prints a table, and writes all figures with ``--json FILE``.

A peer that is not there is left out by name. One that fails, or a scenario that does, is told at the end and in the
exit code; the others are measured all the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.catalogue import SCENARIOS, SHARED, Apart, Maker, Scenario
from benchmarks.figures import Figures, medians, ratios
from benchmarks.machine import machine, versions
from benchmarks.peers import OURS, POSTFIX, TUNED, Failed, NotHere, Peer, stopped_on_failure
from benchmarks.scenarios import FULL, QUICK, Effort, introduce, turns


class Run:
    """One run over some scenarios: the peers that are kept, what came of it, and what went wrong."""

    def __init__(self, effort: Effort, folder: Path) -> None:
        self._effort = effort
        self._folder = folder
        self._kept: dict[str, Peer] = {}
        self.results: list[dict[str, Any]] = []
        self.left_out: dict[str, str] = {}
        self.trouble: list[str] = []
        # Those that are not here, and why, and those that did not start: once is enough.
        self._absent: dict[Maker, str] = {}
        self._broken: set[Maker] = set()

    def measure(self, scenario: Scenario | Apart) -> list[dict[str, Any]]:
        """The results, which are kept, too. Never raises an ``Exception``."""
        try:
            found = self._apart(scenario) if isinstance(scenario, Apart) else self._together(scenario)
        except NotHere as reason:
            self.trouble.append(f"{scenario.name}: not measured, {reason}")
            return []
        except Exception as fault:  # noqa: BLE001  Whatever it is, the other scenarios are not to blame.
            self.trouble.append(f"{scenario.name}: {type(fault).__name__}: {fault}")
            return []
        for result in found:
            for name, repeats in result["every"].items():
                if lost := sum(each.get("failed", 0.0) for each in repeats):
                    self.trouble.append(f"{result['scenario']}: {name}: {lost:.0f} messages failed")
        self.results += found
        return found

    def _apart(self, scenario: Apart) -> list[dict[str, Any]]:
        found = scenario.measured(self._effort, self._place())
        for result in found:
            result["compare"] = [pair for pair in result.get("compare", ()) if set(pair) <= set(result["every"])]
            self.left_out |= result.pop("left_out", {})
            self.trouble += [f"{scenario.name}: {trouble}" for trouble in result.pop("trouble", ())]
        return found

    def _together(self, scenario: Scenario) -> list[dict[str, Any]]:
        own: dict[str, Peer] = {}
        every: dict[str, list[Figures]] = {name: [] for name in scenario.peers}
        peers = self._kept if scenario.own is None else own
        try:
            for name in turns(every, min(self._effort.repeats, scenario.at_most)):
                try:
                    every[name].append(self._once(scenario, name, peers))
                except NotHere as reason:
                    self.left_out.setdefault(name, str(reason))
                    del every[name]
                except Exception as fault:  # noqa: BLE001  As above, of a peer.
                    self.trouble.append(f"{scenario.name}: {name}: {type(fault).__name__}: {fault}")
                    del every[name]
                    if name in peers:
                        peers.pop(name).stop()
        finally:
            for peer in own.values():
                peer.stop()
        if not every:
            return []
        pairs = [(OURS, TUNED), *((name, POSTFIX) for name in every if name != POSTFIX)]
        return [
            {
                "scenario": scenario.name,
                "what": scenario.what,
                "figures": medians(every),
                "every": every,
                "compare": [pair for pair in pairs if set(pair) <= set(every)],
            }
        ]

    def _once(self, scenario: Scenario, name: str, peers: dict[str, Peer]) -> Figures:
        maker = (scenario.own or SHARED)[name]
        if not scenario.fresh:
            if name not in peers:
                peers[name] = self._made(maker)
            return scenario.measure(peers[name], self._effort)
        peer = self._made(maker)
        try:
            return scenario.measure(peer, self._effort)
        finally:
            peer.stop()

    def _made(self, maker: Maker) -> Peer:
        if maker in self._absent:
            raise NotHere(self._absent[maker])
        if maker in self._broken:
            raise Failed("did not start before")
        try:
            peer = maker(self._place() / "peer")
        except NotHere as reason:
            self._absent[maker] = str(reason)
            raise
        except Failed:
            self._broken.add(maker)
            raise
        with stopped_on_failure(peer.stop):
            introduce(peer)
        return peer

    def _place(self) -> Path:
        """An empty folder, which the users that some of them become can enter."""
        place = Path(tempfile.mkdtemp(dir=self._folder))
        place.chmod(0o755)
        return place

    def told(self, seconds: float, complete: bool) -> dict[str, Any]:
        """What a report is written from, beside what it was measured on."""
        return {
            "seconds": seconds,
            "complete": complete,
            "left_out": self.left_out,
            "trouble": self.trouble,
            "results": self.results,
        }

    def stop(self) -> None:
        for peer in self._kept.values():
            peer.stop()


def show(result: dict[str, Any]) -> None:
    figures, every = result["figures"], result["every"]
    width = max(12, *map(len, figures)) + 2
    print(f"\n{result['scenario']}: {result['what']}")
    columns = list(dict.fromkeys(key for values in figures.values() for key in values))
    print(f"  {'':{width}}" + "".join(f"{column:>15}" for column in columns))
    for name, values in figures.items():
        print(f"  {name:{width}}" + "".join(f"{values.get(column, float('nan')):15.2f}" for column in columns))
    for one, other in result["compare"]:
        told = ", ".join(
            f"{key} {spread['median']:.2f} ({spread['lowest']:.2f}-{spread['highest']:.2f})"
            for key, spread in ratios(every[one], every[other]).items()
        )
        print(f"  {one} / {other}, more is better for the first: {told}")
    for note in result.get("notes", ()):
        print(f"  {note}")


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


# Of estimates that came true or did not, until they tell how the others will do.
ENOUGH_SECONDS = 60.0
DESCRIPTORS = 32_768


class Progress:
    """How far a run is; what is left is reckoned from how long the others took in comparison with their estimates."""

    def __init__(
        self, chosen: Sequence[Scenario | Apart], guessed: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._chosen = chosen
        self._guessed = guessed
        self._now = now
        self._started = now()

    def elapsed(self) -> float:
        return self._now() - self._started

    def at(self, index: int) -> str:
        done = sum(each.seconds for each in self._chosen[:index])
        left = sum(each.seconds for each in self._chosen[index:])
        elapsed = self.elapsed()
        pace = elapsed / done if done > ENOUGH_SECONDS else self._guessed
        scenario = self._chosen[index]
        return (
            f"{index + 1} of {len(self._chosen)}: {scenario.name} ({scenario.what}); "
            f"{clock(elapsed)} gone, about {clock(left * pace)} to go"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--quick", action="store_true", help="shorter loads and fewer repeats")
    parser.add_argument("--scenario", action="append", choices=names, help="only this one; may be given again")
    parser.add_argument("--only", metavar="A,B", help="only these, or all whose names begin so")
    parser.add_argument("--repeats", type=int, help="how often each is measured at most")
    parser.add_argument("--seconds", type=float, help="how long a load goes on")
    parser.add_argument("--held", type=int, default=0, help="idle connections, in place of 10000")
    parser.add_argument("--json", metavar="FILE", type=Path, help="all figures, every repeat included")
    parser.add_argument("--list", action="store_true", help="names the scenarios")
    return parser.parse_args()


def chosen_of(only: str, named: Sequence[str]) -> list[Scenario | Apart]:
    """All of them where nothing is said; else those that are ``named``, and of the words of ``only``, which commas
    part, whatever has this name, or begins so where nothing has."""
    names = {each.name for each in SCENARIOS}
    wanted = set(named)
    for word in filter(None, only.split(",")):
        wanted |= {word} if word in names else {name for name in names if name.startswith(word)}
    return [each for each in SCENARIOS if each.name in wanted or not (only or named)]


def main() -> int:
    args = arguments()
    chosen = chosen_of(args.only or "", args.scenario or ())
    if args.list or not chosen:
        print("\n".join(f"{each.name:20} {each.what}" for each in SCENARIOS))
        return 0 if args.list else 2
    effort = QUICK if args.quick else FULL
    effort = replace(
        effort, repeats=args.repeats or effort.repeats, seconds=args.seconds or effort.seconds, held=args.held
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        # 10,000 connections take 20,000 and some: more than many a shell is given, but root may have them.
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, max(hard, DESCRIPTORS)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), hard))
    folder = Path(tempfile.mkdtemp(prefix="inboundmx-benchmarks-"))
    folder.chmod(0o755)
    told: dict[str, Any] = {"machine": machine(folder), "versions": versions(), "effort": asdict(effort)}
    told["taken_at"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    run = Run(effort, folder)
    progress = Progress(chosen, 0.25 if args.quick else 1.0)
    # Whoever is told to stop stops all that was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for index, scenario in enumerate(chosen):
            print(progress.at(index), file=sys.stderr, flush=True)
            found = run.measure(scenario)
            if args.json:
                complete = index + 1 == len(SCENARIOS)
                args.json.write_text(json.dumps(told | run.told(progress.elapsed(), complete), indent=1))
            for result in found:
                show(result)
            sys.stdout.flush()
    finally:
        run.stop()
        shutil.rmtree(folder, ignore_errors=True)
    for name, reason in run.left_out.items():
        print(f"without {name}: {reason}", file=sys.stderr)
    for trouble in run.trouble:
        print(f"failed: {trouble}", file=sys.stderr)
    print(f"{len(run.results)} results in {clock(progress.elapsed())}", file=sys.stderr)
    return 1 if run.trouble or not run.results else 0


if __name__ == "__main__":
    sys.exit(main())
