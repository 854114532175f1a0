"""Reads ``[level …]`` and ``level.…`` of a domain. Knows that thresholds ascend; does not know what mail scores."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from inboundmx.app.ini import Entry, Section
from inboundmx.app.reading import Reading, keys_of
from inboundmx.app.words import nearest
from inboundmx.model.settings import DEFAULT_LEVELS, LevelSettings
from inboundmx.model.verdict import Level

# Sections of one word, with the name after it.
Named = Iterable[tuple[str, Section]]

LEVELS = tuple(level.word for level in Level)


def read_levels(reading: Reading, sections: Named) -> tuple[LevelSettings, ...]:
    said: dict[Level, dict[str, Any]] = {}
    thresholds: dict[Level, Entry] = {}
    for name, section in sections:
        level = level_named(name)
        if level is None:
            reading.problems.append(section.problem(f"there is no level {name}{nearest(name, LEVELS)}"))
            continue
        said[level] = reading.values(section, keys_of(LevelSettings))
        if "threshold" in section.entries:
            thresholds[level] = section.entries["threshold"]
    return ascending(reading, DEFAULT_LEVELS, said, thresholds)


def level_named(name: str) -> Level | None:
    return Level[name.upper()] if name in LEVELS else None


def ascending(
    reading: Reading,
    levels: Iterable[LevelSettings],
    said: Mapping[Level, Mapping[str, Any]],
    thresholds: Mapping[Level, Entry],
) -> tuple[LevelSettings, ...]:
    """The levels with what was said of them, their thresholds checked against each other."""
    made = tuple(replace(level, **said.get(level.level, {})) for level in levels)
    if Level.NONE in thresholds:
        wrong = "none is what remains below low and has no threshold"
        reading.problems.append(thresholds[Level.NONE].problem(wrong))
    for lower, upper in itertools.pairwise(made[1:]):
        if lower.threshold <= upper.threshold:
            continue
        entry = thresholds.get(upper.level) or thresholds.get(lower.level)
        if entry is not None:
            reading.problems.append(
                entry.problem(
                    f"thresholds must ascend, and {lower.level.word} begins at {lower.threshold:g}, "
                    f"{upper.level.word} at {upper.threshold:g}"
                )
            )
    return made
