"""Reads the keys by which a section says how mail for some recipients is judged: ``level.…``, ``blocking.…``,
``weight.…`` and ``skip_checks``. Knows which checks there are; does not know whose section it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inboundmx.app.ini import Entry, Section
from inboundmx.app.level_sections import LEVELS, level_named
from inboundmx.app.reading import UNREAD, Reading, keys_of
from inboundmx.app.words import nearest
from inboundmx.model.settings import BlockingSettings, LevelSettings, Settings
from inboundmx.model.verdict import Level, Weight

# What of [blocking] some may say for themselves: mail that leaves us is judged by [blocking] alone.
THRESHOLDS = ("incoming_threshold",)
# And of [level].
OF_LEVELS = ("threshold", "action")
JUDGING = ("level.", "blocking.", "weight.")


def _dotted(section: Section, prefix: str) -> Iterable[tuple[Entry, list[str]]]:
    for key, entry in section.entries.items():
        if key.startswith(prefix):
            yield entry, key.removeprefix(prefix).split(".")


def levels_said(reading: Reading, section: Section) -> tuple[dict[Level, dict[str, Any]], dict[Level, Entry]]:
    """What is said of each level, by key, and where its threshold stands."""
    said: dict[Level, dict[str, Any]] = {}
    thresholds: dict[Level, Entry] = {}
    keys = {key: field for key, field in keys_of(LevelSettings).items() if key in OF_LEVELS}
    for entry, parts in _dotted(section, "level."):
        level = level_named(parts[0])
        if level is None or len(parts) != 2 or parts[1] not in keys:
            known = [f"level.{name}.{key}" for name in LEVELS for key in keys]
            reading.unknown(entry, known)
            continue
        value = reading.value(entry, keys[parts[1]].metadata["kind"], UNREAD)
        if value is not UNREAD:
            said.setdefault(level, {})[parts[1]] = value
            if parts[1] == "threshold":
                thresholds[level] = entry
    return said, thresholds


def blocking_said(reading: Reading, section: Section) -> dict[str, Any]:
    said: dict[str, Any] = {}
    keys = {key: field for key, field in keys_of(BlockingSettings).items() if key in THRESHOLDS}
    for entry, parts in _dotted(section, "blocking."):
        if len(parts) != 1 or parts[0] not in keys:
            reading.unknown(entry, [f"blocking.{key}" for key in keys])
            continue
        said[parts[0]] = reading.value(entry, keys[parts[0]].metadata["kind"], 0.0)
    return said


def weights_said(reading: Reading, section: Section, settings: Settings) -> Mapping[tuple[str, str], Weight]:
    found: dict[tuple[str, str], Weight] = {}
    checks = {check.name: check for check in settings.checks}
    for entry, parts in _dotted(section, "weight."):
        check = checks.get(parts[0])
        if parts[0] in reading.unread:
            continue
        if len(parts) != 2:
            word = section.name.partition(" ")[0]
            where = "a domain" if word == "domain" else f"[{word} …]"
            wrong = f"in {where} a weight is written weight.CHECK.OUTCOME"
        elif check is None:
            wrong = f"there is no [check {parts[0]}]{nearest(parts[0], checks)}"
        elif parts[1] not in check.weights:
            wrong = f"the check {parts[0]} has no outcome {parts[1]}{nearest(parts[1], check.weights)}"
        else:
            found[parts[0], parts[1]] = reading.value(entry, "weight", 0.0)
            continue
        reading.problems.append(entry.problem(wrong))
    return found


def skipped_checks(
    reading: Reading, section: Section, names: Iterable[str] | None, settings: Settings
) -> tuple[str, ...]:
    """The checks that the section skips; a name that is none of a check is a problem."""
    known = {check.name for check in settings.checks}
    found = tuple(names or ())
    for name in found:
        if name not in known and name not in reading.unread:
            wrong = f"there is no [check {name}]{nearest(name, known)}"
            reading.problems.append(section.entries["skip_checks"].problem(wrong))
    return found


def not_for(way: str, settings: Settings) -> frozenset[str]:
    """The checks for mail that goes this way alone."""
    return frozenset(check.name for check in settings.checks if check.for_ == way)
