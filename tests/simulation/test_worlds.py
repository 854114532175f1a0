"""Nine days of a gateway in a hostile world, one for each seed, of which the last eight heal. A seed that fails prints
itself and replays exactly. The other half is in ``test_more_worlds``, so that two processors share them.
"""

from __future__ import annotations

import pytest
from simulate import lived

SEEDS, BATCHES = 260, 13


@pytest.mark.parametrize("batch", range(BATCHES))
def test_nothing_is_lost_altered_or_doubled_without_a_reason(settings, batch):
    for seed in range(batch * 2, SEEDS, BATCHES * 2):
        assert lived(seed, settings) == [], f"seed {seed}"
