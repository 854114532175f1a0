"""The other half of ``test_worlds``: the odd seeds."""

from __future__ import annotations

import pytest
from simulate import lived
from test_worlds import BATCHES, SEEDS


@pytest.mark.parametrize("batch", range(BATCHES))
def test_nothing_is_lost_altered_or_doubled_without_a_reason(settings, batch):
    for seed in range(batch * 2 + 1, SEEDS, BATCHES * 2):
        assert lived(seed, settings) == [], f"seed {seed}"
