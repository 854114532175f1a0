"""Faults, one after the other, on the real program, with their figures: ``make faults [NAMES=…]``.

Each is a promise in docs/reliability.md. The tests run the same code with smaller numbers; ``--keep`` writes the
figures into that page.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "system"), str(HERE)]

from clocks import jumps  # noqa: E402
from crowds import backlog, few_descriptors, full_house, harvest, held_octets, many_large, slow_crowd  # noqa: E402
from figures import Figure, exactly, keep  # noqa: E402
from helpers import black_hole, scanners  # noqa: E402
from lab import Lab  # noqa: E402
from nasty import bombs  # noqa: E402
from page import rewrite  # noqa: E402
from programs import stage  # noqa: E402
from receivers import greylisting, nothing_leaks, one_of_three  # noqa: E402

FAULTS: dict[str, Callable[[Lab], list[Figure]]] = {
    "scanners": scanners,
    "black-hole": black_hole,
    "greylisting-primary": greylisting,
    "one-of-three": one_of_three,
    "hostile-primaries": nothing_leaks,
    "clock-jumps": jumps,
    "memory": many_large,
    "descriptors": few_descriptors,
    "backlog": backlog,
    "slow-crowd": slow_crowd,
    "full-house": full_house,
    "held-octets": held_octets,
    "harvest": harvest,
    "bombs": bombs,
}


def tried(name: str, scale: float) -> list[Figure]:
    """The figures of one fault, and that nothing went wrong inside meanwhile."""
    with stage() as play:
        lab = Lab(play, scale)
        try:
            figures = FAULTS[name](lab)
            return [*figures, exactly("faults and tracebacks of the gateway", lab.faults(), 0)]
        finally:
            lab.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FAULTS)}; none: all")
    parser.add_argument("--scale", type=float, default=1.0, help="less than 1: the short form, as the tests have it")
    parser.add_argument("--json", action="store_true", help="prints the figures as JSON")
    parser.add_argument("--keep", action="store_true", help="writes them into docs/reliability.md")
    asked = parser.parse_args()
    found: dict[str, list[Figure]] = {}
    failed: list[str] = []
    for name in asked.names or FAULTS:
        began = time.monotonic()
        print(f"{name}:", file=sys.stderr, flush=True)
        try:
            found[name] = tried(name, asked.scale)
        except BaseException as trouble:
            if isinstance(trouble, KeyboardInterrupt):
                raise
            failed.append(name)
            print(f"  ended with {trouble!r}", file=sys.stderr)
            continue
        for figure in found[name]:
            print(f"  {figure}", file=sys.stderr)
        print(f"  ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
        if asked.keep:
            keep("faults", "make faults", {name: found[name]})
            rewrite()
    if asked.json:
        print(json.dumps({name: [asdict(figure) for figure in figures] for name, figures in found.items()}, indent=1))
    unmet = [f"{name}: {figure}" for name, figures in found.items() for figure in figures if not figure.met]
    print(*unmet, *(f"{name} could not be tried" for name in failed), sep="\n", file=sys.stderr)
    return 1 if unmet or failed else 0


if __name__ == "__main__":
    sys.exit(main())
