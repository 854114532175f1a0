"""Days of a gateway in a hostile world, one for each seed. A seed that fails prints itself and replays exactly."""

from __future__ import annotations

import pytest
from world import INI, World

from inboundmx.app.settings import load

SEEDS = 60


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    file = tmp_path_factory.mktemp("simulation") / "inboundmx.ini"
    file.write_text(INI.replace("workers = 0", f"workers = 0\ndata = {file.parent}"))
    return load(str(file))


@pytest.mark.parametrize("batch", range(6))
def test_nothing_is_lost_altered_or_doubled_without_a_reason(settings, batch):
    for seed in range(batch, SEEDS, 6):
        world = World(seed, settings)
        world.live()
        assert world.verdict() == [], f"seed {seed}"
