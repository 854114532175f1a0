"""Many more days than the tests live through, on all processors: ``make simulate SEEDS=10000``.

Each seed that fails is printed with what was wrong and replays exactly: ``make simulate FROM=4711 SEEDS=1``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from world import INI, World  # noqa: E402

from inboundmx.app.settings import load  # noqa: E402

# Told of one seed.
LINES = 5
# Seeds handed to a process at once, and between two lines about how far it came.
PART, PROGRESS = 5, 100


def settings_in(folder):
    file = Path(folder) / "inboundmx.ini"
    file.write_text(INI.replace("workers = 0", f"workers = 0\ndata = {folder}"))
    return load(str(file))


def lived(seed, settings):
    """What was wrong with the day of this seed, in words."""
    world = World(seed, settings)
    try:
        world.live()
    except Exception:
        return [*world.wrong, traceback.format_exc()]
    return world.verdict()


@cache
def _settings():
    with tempfile.TemporaryDirectory() as folder:
        return settings_in(folder)


def _one(seed):
    return seed, lived(seed, _settings())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("seeds", type=int, help="how many")
    parser.add_argument("first", type=int, nargs="?", default=0, help="the first one")
    asked = parser.parse_args()
    began, bad = time.monotonic(), []
    seeds = range(asked.first, asked.first + asked.seeds)
    with ProcessPoolExecutor() as processes:
        for done, (seed, wrong) in enumerate(processes.map(_one, seeds, chunksize=PART), 1):
            if wrong:
                bad.append(seed)
                print(f"seed {seed}:", *wrong[:LINES], sep="\n  ", flush=True)
            if done % PROGRESS == 0 or done == len(seeds):
                seconds = time.monotonic() - began
                print(f"{done} of {len(seeds)} days, {len(bad)} wrong, {seconds:.0f} s", flush=True)
    if bad:
        print("failing seeds:", *bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
