"""The soak of ``make soak``, a few hundred messages long: mixed mail, a world that changes, and every promise kept."""

from __future__ import annotations

import sys
from pathlib import Path

from programs import Stage

sys.path.append(str(Path(__file__).parent.parent / "faults"))

from soak import World, run


def test_mixed_mail_in_a_changing_world_is_all_accounted_for(play: Stage, tmp_path: Path) -> None:
    world = World(play, tmp_path, workers=1, messages=500)
    try:
        figures = run(world, 0.0, quiet=False)
    finally:
        world.close()
    assert [str(figure) for figure in figures if not figure.met] == []
    assert world.events["outage"] and world.events["reload"]
