"""Writes docs/performance.md and its plots from the figures of a run: ``python -m benchmarks.report FILE [--to docs]``.

Knows the page. Does not know how anything is measured, nor judges (``judged``) or draws (``drawn``) by itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.drawn import drawings
from benchmarks.figures import ratios
from benchmarks.judged import Outcome, figure_words, judged, number, promised, reached, shortfall, told, verdict
from benchmarks.peers import POSTFIX

HEADER = "<!-- Written by python -m benchmarks.report; what is changed here by hand is gone with the next run. -->"
# Of the tables; others are shown as they come, in scenarios that have none of these.
COLUMNS = {
    "rate": "messages/s",
    "cpu_ms": "CPU, ms a message",
    "mail_p50_ms": "MAIL to 250 p50, ms",
    "mail_p99_ms": "p99, ms",
}
HEADS = COLUMNS | {
    "accepted_rate": "stored/s",
    "kib_each": "KiB each",
    "mib": "MiB",
    "mib_each": "MiB each",
    "list_s": "s to list",
    "receive_mb_s": "MB/s received",
}
UNIMPORTANT = {"accepted_rate", "load_share", "failed", "mail_max_ms", "dot_max_ms", "dot_p50_ms", "dot_p99_ms"}


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], first_left: int = 1) -> str:
    """The first columns are words, the others are figures."""
    rule = ["---"] * first_left + ["---:"] * (len(heads) - first_left)
    return "\n".join([row(heads), row(rule), *map(row, rows)])


def summary(run: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    counted = [outcome for outcome in outcomes if outcome.counts]
    met = [outcome for outcome in counted if outcome.line_met]
    hoped = [outcome for outcome in counted if outcome.promise.reach is not None]
    lines = [
        f"Of {len(outcomes)} promises {len(met)} were met in this run, {len(counted) - len(met)} were not, and "
        f"{len(outcomes) - len(counted)} could not be judged by it. For {len(hoped)} of those measured more was hoped "
        f"for than promised, and {sum(outcome.reach_met for outcome in hoped)} came to that.",
    ]
    short = [outcome for outcome in counted if not outcome.line_met]
    if short:
        lines += ["Where it falls short:", "\n".join(f"- {shortfall(outcome)}" for outcome in short)]
    elif counted:
        lines.append("It falls short nowhere that was measured.")
    unmeasurable = [outcome for outcome in outcomes if outcome.reached and not outcome.counts]
    if unmeasurable:
        told_of = "\n".join(
            f"- {outcome.promise.scenario}, {figure_words(outcome.promise)}: {outcome.reason}. "
            f"{reached(outcome)} was measured all the same."
            for outcome in unmeasurable
        )
        lines += ["What cannot be judged on this machine:", told_of]
    absent = dict.fromkeys(outcome.promise.scenario for outcome in outcomes if outcome.reached is None)
    if absent:
        lines.append(f"Not measured in this run: {', '.join(absent)}.")
    if run["left_out"]:
        lines += ["Left out:", "\n".join(f"- {name}: {why.splitlines()[0]}" for name, why in run["left_out"].items())]
    if run["trouble"]:
        lines += ["What went wrong:", "\n".join(f"- {trouble.splitlines()[0]}" for trouble in run["trouble"])]
    return "\n\n".join(lines)


def renewed(run: Mapping[str, Any], later: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The run with what was measured once more; ``renewed`` says what, when, and of which release."""
    results = {result["scenario"]: result for result in run["results"]}
    again = []
    for other in later:
        results |= {result["scenario"]: result for result in other["results"]}
        names = ", ".join(result["scenario"] for result in other["results"])
        again.append(f"{names}: again {other['taken_at']}, {other['versions']['inboundmx']}.")
    return {**run, "results": [*results.values()], "renewed": again}


def measured_on(run: Mapping[str, Any]) -> str:
    facts = {**run["machine"], **run["versions"]}
    effort = run["effort"]
    kind = "all scenarios" if run["complete"] else "**some of the scenarios only**"
    if effort["repeats"] < 5 or effort["seconds"] < 2:
        kind += ", **shorter than a run is that counts**"
    loads = f"{effort['seconds']:g} s a load, at most {effort['repeats']} repeats"
    return "\n\n".join(
        [
            f"{run['taken_at']}, {kind}, {loads}, {run['seconds'] / 60:.0f} minutes in all. Everything is on loopback: "
            "generator, gateway or peer, and receiving sink share the cores.",
            table(["what", ""], [[name, fact] for name, fact in facts.items()], 2),
            *run.get("renewed", []),
        ]
    )


def promises(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            outcome.promise.scenario,
            figure_words(outcome.promise),
            promised(outcome.promise),
            reached(outcome),
            verdict(outcome),
            told(outcome.promise, outcome.promise.reach) if outcome.promise.reach is not None else "",
        ]
        for outcome in outcomes
    ]
    return table(["scenario", "of inboundmx", "promised", "reached", "", "hoped for"], rows, 6)


def between(spread: Mapping[str, float]) -> str:
    low, high = spread["lowest"], spread["highest"]
    return f"{spread['median']:.2f} ({low:.2f}-{high:.2f})" if low != high else f"{low:.2f}"


def figures_of(result: Mapping[str, Any]) -> str:
    figures, every = result["figures"], result["every"]
    names = dict.fromkeys(key for values in figures.values() for key in values)
    # Where the primary is down, what is stored a second is not what is sent.
    hidden = UNIMPORTANT - ({"accepted_rate"} if "list_s" in names else set())
    columns = [key for key in (*COLUMNS, *(key for key in names if key not in COLUMNS)) if key in names.keys() - hidden]
    heads = {key: HEADS.get(key, key.replace("_", " ")) for key in columns}
    compared = POSTFIX in figures
    rows = []
    for name, values in figures.items():
        cells = [number(values[key]) if key in values else "-" for key in columns]
        if name == POSTFIX:
            cells += ["1", "1"]
        elif compared:
            found = ratios(every[name], every[POSTFIX])
            cells += [between(found[key]) if key in found else "-" for key in ("rate", "cpu_ms")]
        rows.append([name, *cells])
    beside = ["rate to Postfix", "Postfix's CPU to it"] if compared else []
    told_of = [
        f"### {result['scenario']}",
        f"{result['what'][:1].upper()}{result['what'][1:]}.",
        table(["", *heads.values(), *beside], rows),
    ]
    if result.get("not_measurable"):
        told_of.append(f"Not measurable here: {result['not_measurable']}.")
    if result.get("notes"):
        told_of.append("\n".join(f"- {note}" for note in result["notes"]))
    return "\n\n".join(told_of)


def generator(run: Mapping[str, Any]) -> str:
    """Whether it was the peers that were measured, and not whoever loads them."""
    figures = next((result["figures"] for result in run["results"] if result["scenario"] == "50x1"), {})
    shares = {name: values["load_share"] for name, values in figures.items() if "load_share" in values}
    if not shares:
        return ""
    told_of = ", ".join(f"{share * 100:.0f} % for {name}" for name, share in shares.items())
    limit = " It is near its limit where that is above 80 %." if max(shares.values()) > 0.8 else ""
    return f"The load generator is one process; at 50x1 it used of a core: {told_of}.{limit}"


def page(run: Mapping[str, Any], outcomes: Sequence[Outcome], drawn: Mapping[str, str]) -> str:
    """``drawn``: what each plot shows, by the name of its file."""
    alt = {name: words.replace("[", "(").replace("]", ")").replace("\n", " ") for name, words in drawn.items()}
    images = [f"![{words}](performance/{name})" for name, words in alt.items()]
    parts = [
        HEADER,
        "# Performance",
        "inboundmx beside stock peers in one run on one machine. What counts are the ratios, taken repeat by repeat: "
        "absolute rates are those of this machine, and of loopback. `NxM` is N sessions of M messages a connection. "
        "In all of it headers are stamped, the policy decides, the log and the memory of decisions are written and "
        "greylisting is on; scanners are off where nothing else is said.",
        "## In short",
        summary(run, outcomes),
        "## Promised, and reached",
        "Ratios are medians, with the lowest and the highest repeat; a part such as 1/3.5 is of the other's cost.",
        promises(outcomes),
        *images,
        "## Measured on",
        measured_on(run),
        "## How it is measured",
        HOW,
        generator(run),
        "## Every scenario",
        "Medians of all repeats. The last columns are ratios to Postfix of the same repeat, lowest and highest in "
        "brackets: more than 1 is better than Postfix.",
        *map(figures_of, run["results"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


HOW = """    make bench                  # all of it, about 30 minutes
    make bench QUICK=1          # shorter and fewer, about 6 minutes
    make bench ONLY=50x1,idle   # these

Run it as root, for Postfix and for checks, and on a machine that does nothing else. Only the first of them writes this
page; the others write theirs beside the figures, in `.cache`.

- **Peers** are as their packages have them. Postfix is Debian's master.cf with a main.cf that says only where it
  listens and for whom; `tuned` adds in_flow_delay = 0. Haraka is npm's, once with `queue/smtp_forward` (proxy), which
  answers when the primary has answered, and once with its own queue. rspamd is Debian's as a milter of Postfix with two
  workers, without Redis and without what would ask the network; it and the gateway ask the same nsd.
- **inboundmx** is one process; `2 workers` says `workers = 2` and has a process for each of two cores, as Postfix has.
- **Turns**: a repeat measures every peer of a scenario, one after the other, and the next repeat begins at the other
  end. A ratio is that of two figures of the same repeat.
- **Rate** is end to end: the clock stops when the sink has the last message. Where the primary is dead, and for
  refusals, it is the rate of answers. **CPU** is user and system time of all processes of a peer. A message has 4 KB,
  half of it header fields; commands are not pipelined, as smtp-source does not. Latencies are the client's.
- **Not shown**: TLS, a network with its own latency, disks that are slow in other ways than each sync being 2 ms
  longer, and days of running."""


def write(run: Mapping[str, Any], folder: Path) -> list[Path]:
    """The page and those plots for which there are figures."""
    outcomes = judged(run["results"])
    (folder / "performance").mkdir(parents=True, exist_ok=True)
    drawn = drawings(run["results"], outcomes)
    written = []
    for name, (svg, _) in drawn.items():
        written.append(folder / "performance" / name)
        written[-1].write_text(svg, encoding="utf-8")
    written.append(folder / "performance.md")
    written[-1].write_text(page(run, outcomes, {name: words for name, (_, words) in drawn.items()}), encoding="utf-8")
    return written


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("figures", type=Path, metavar="FILE", help="what --json of a run has written")
    parser.add_argument(
        "later", type=Path, metavar="LATER", nargs="*",
        help="of later runs of some scenarios, which take the place of the same ones",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, default=Path("docs"), metavar="FOLDER")
    args = parser.parse_args()
    run, *later = (json.loads(file.read_text(encoding="utf-8")) for file in (args.figures, *args.later))
    for path in write(renewed(run, later), args.to):
        print(path)


if __name__ == "__main__":
    main()
