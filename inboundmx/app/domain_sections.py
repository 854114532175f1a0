"""Reads ``[domain …]``. Knows what a domain says for itself and what it takes from everybody; does not know routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from inboundmx.app.addresses import domain_name
from inboundmx.app.ini import Entry, Section
from inboundmx.app.level_sections import LEVELS, Named, ascending, level_named
from inboundmx.app.reading import UNREAD, Reading, keys_of
from inboundmx.app.values import written_span
from inboundmx.app.words import Wrong, nearest, not_there_yet
from inboundmx.model.settings import (
    BACKUP_RETRY,
    BlockingSettings,
    DeliverySettings,
    DomainSettings,
    LevelSettings,
    Retry,
    Settings,
)
from inboundmx.model.verdict import Level, Weight


def read_domains(
    reading: Reading, sections: Named, settings: Settings, delivery: Section
) -> Mapping[str, DomainSettings]:
    """Domains by their A-label name. ``settings`` holds what everybody has, ``delivery`` is its section as written."""
    found: dict[str, DomainSettings] = {}
    for written, section in sections:
        if "*" in written:
            reading.problems.append(section.problem(str(not_there_yet("a domain section for many domains"))))
            continue
        try:
            name = domain_name(written)
        except Wrong as wrong:
            reading.problems.append(section.problem(str(wrong)))
            continue
        if name in found:
            reading.problems.append(section.problem(f"the domain {name} has a section already; make them one"))
            continue
        found[name] = _domain(reading, name, section, settings, delivery)
    return found


def _domain(
    reading: Reading, name: str, section: Section, settings: Settings, delivery: Section
) -> DomainSettings:
    keys = keys_of(DomainSettings)
    shared = keys_of(DeliverySettings)
    values = {key: getattr(settings.delivery, key) for key in keys if key in shared}
    said = reading.values(section, keys, ("level.", "blocking.", "weight."))
    if said.get("mode") == "backup":
        values |= {"retry": BACKUP_RETRY, "when_exhausted": "hold"}
    values |= said
    if not values.get("primary") and ("primary" in said or "primary" not in section.entries):
        wrong = "primary is missing: the real mail server of this domain"
        reading.problems.append(section.problem(wrong))
    domain = DomainSettings(
        name,
        **{keys[key].name: value for key, value in values.items()},
        levels=_domain_levels(reading, section, settings),
        blocking=_domain_blocking(reading, section, settings),
        weights=_domain_weights(reading, section, settings),
    )
    patience(reading, domain.retry, domain.lifetime, section, delivery)
    return domain


def _dotted(section: Section, prefix: str) -> Iterable[tuple[Entry, list[str]]]:
    for key, entry in section.entries.items():
        if key.startswith(prefix):
            yield entry, key.removeprefix(prefix).split(".")


def _domain_levels(reading: Reading, section: Section, settings: Settings) -> tuple[LevelSettings, ...]:
    said: dict[Level, dict[str, Any]] = {}
    thresholds: dict[Level, Entry] = {}
    keys = keys_of(LevelSettings)
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
    return ascending(reading, settings.levels, said, thresholds)


def _domain_blocking(reading: Reading, section: Section, settings: Settings) -> BlockingSettings:
    said: dict[str, Any] = {}
    keys = keys_of(BlockingSettings)
    for entry, parts in _dotted(section, "blocking."):
        if len(parts) != 1 or parts[0] not in keys:
            reading.unknown(entry, [f"blocking.{key}" for key in keys])
            continue
        said[parts[0]] = reading.value(entry, keys[parts[0]].metadata["kind"], 0.0)
    return replace(settings.blocking, **said)


def _domain_weights(reading: Reading, section: Section, settings: Settings) -> Mapping[tuple[str, str], Weight]:
    found: dict[tuple[str, str], Weight] = {}
    checks = {check.name: check for check in settings.checks}
    for entry, parts in _dotted(section, "weight."):
        check = checks.get(parts[0])
        if parts[0] in reading.unread:
            continue
        if len(parts) != 2:
            wrong = "in a domain a weight is written weight.CHECK.OUTCOME"
        elif check is None:
            wrong = f"there is no [check {parts[0]}]{nearest(parts[0], checks)}"
        elif parts[1] not in check.weights:
            wrong = f"the check {parts[0]} has no outcome {parts[1]}{nearest(parts[1], check.weights)}"
        else:
            found[parts[0], parts[1]] = reading.value(entry, "weight", 0.0)
            continue
        reading.problems.append(entry.problem(wrong))
    return found


def patience(reading: Reading, retry: Retry, lifetime: float, *sections: Section) -> None:
    """A repeating list that is over before its first wait would never try again."""
    if not retry.repeat_last or lifetime >= retry.waits[0]:
        return
    for section in sections:
        entry = section.entries.get("lifetime") or section.entries.get("retry")
        if entry is not None:
            wrong = f"lifetime {written_span(lifetime)} is over before the first wait of retry"
            problem = entry.problem(f"{wrong}, {written_span(retry.waits[0])}")
            if problem not in reading.problems:
                reading.problems.append(problem)
            return
