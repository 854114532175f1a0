"""In which order the checks of a stage run.

Knows which kinds read the results of which. Does not know what a check does, nor how it is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from inboundmx.model.finding import Stage


class Position(NamedTuple):
    """A configured check: its name, its kind, the stage it runs at and the kinds whose results it reads. A ``dear`` one
    is asked last, so that it can be spared."""

    name: str
    kind: str
    stage: Stage
    after: frozenset[str] = frozenset()
    dear: bool = False


def tiers(stage: Stage, positions: Sequence[Position]) -> tuple[tuple[str, ...], ...]:
    """The names of the checks of ``stage``, in tiers: those of one tier may run side by side, each as early as what it
    reads allows, in the order of ``positions``; dear ones when nothing else is left that could run. A kind that is not
    configured, or runs at another stage, is not waited for. Raises ValueError naming checks that wait for one another.
    """
    left = [position for position in positions if position.stage is stage]
    ordered: list[tuple[str, ...]] = []
    while left:
        waiting = {position.kind for position in left}
        tier = [position for position in left if not position.after & waiting]
        if not tier:
            raise ValueError(f"checks wait for one another: {' '.join(position.name for position in left)}")
        tier = [position for position in tier if not position.dear] or tier
        ordered.append(tuple(position.name for position in tier))
        left = [position for position in left if position not in tier]
    return tuple(ordered)
