"""Reads ``[domain …]``, and makes what holds for mail whose domain has no section. Knows what a domain says for itself
and what it takes from everybody; does not know routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from inboundmx.app.addresses import domain_name
from inboundmx.app.amounts import written_span
from inboundmx.app.credentials import paired
from inboundmx.app.ini import Entry, Section
from inboundmx.app.level_sections import LEVELS, Named, ascending, level_named
from inboundmx.app.reading import UNREAD, Reading, keys_of
from inboundmx.app.words import Wrong, nearest
from inboundmx.model.settings import (
    ANY,
    ARCHIVING,
    BACKED_UP,
    BACKUP_RETRY,
    OUTGOING,
    BlockingSettings,
    DeliverySettings,
    DomainSettings,
    LevelSettings,
    Retry,
    Settings,
)
from inboundmx.model.verdict import Level, Weight

EVERYTHING = "*"


def read_domains(
    reading: Reading, sections: Named, settings: Settings, delivery: Section
) -> dict[str, DomainSettings]:
    """Domains by their A-label name, and EVERYTHING. ``settings`` holds what everybody has, ``delivery`` is its section
    as written."""
    found: dict[str, DomainSettings] = {}
    for written, section in sections:
        try:
            name = _name(written)
        except Wrong as wrong:
            reading.problems.append(section.problem(str(wrong)))
            continue
        if name in found:
            reading.problems.append(section.problem(f"the domain {name} has a section already; make them one"))
            continue
        found[name] = _domain(reading, name, section, settings, delivery)
    return found


def asks_who_exists(section: Section) -> bool:
    """Whether a domain's section, as it is written, says whose recipients are asked about."""
    entry = section.entries.get("recipients")
    return (entry.value.split() if entry is not None else list(DomainSettings("").recipients)) != list(ANY)


def without_section(settings: Settings) -> Settings:
    """The settings with what holds for mail that leaves us, for domains we are backup of by their MX set, and for
    copies on their way to an archive."""
    everybody = {**_of_everybody(settings), "levels": settings.levels, "blocking": settings.blocking}
    backup = {name: getattr(settings.backup, name) for name in ("retry", "when_exhausted", "greylisting")}
    return replace(
        settings,
        outgoing=replace(OUTGOING, **(everybody | {"handover": "spool"})),
        backed_up=replace(BACKED_UP, **(everybody | backup)),
        # Nobody who wrote to us has anything to do with our archives.
        archiving=replace(ARCHIVING, **(everybody | {"handover": "spool", "bounce": "never"})),
    )


def _of_everybody(settings: Settings) -> dict[str, Any]:
    """What a domain takes from ``[delivery]``, by key."""
    shared = keys_of(DeliverySettings)
    return {key: getattr(settings.delivery, key) for key in keys_of(DomainSettings) if key in shared}


def _name(written: str) -> str:
    if written == EVERYTHING:
        return written
    if "*" in written:
        parent = written.removeprefix("*.")
        advice = "" if "*" in parent else f"; for all names below {parent} write subdomains = yes in [domain {parent}]"
        raise Wrong(f"* stands alone: [domain *] is every domain{advice}")
    return domain_name(written)


def _domain(
    reading: Reading, name: str, section: Section, settings: Settings, delivery: Section
) -> DomainSettings:
    keys = keys_of(DomainSettings)
    values = _of_everybody(settings)
    said = reading.values(section, keys, ("level.", "blocking.", "weight."))
    if said.get("mode") == "backup":
        values |= {"retry": BACKUP_RETRY, "when_exhausted": "hold"}
    values |= said
    reading.need(section, said, "primary", "the real mail server of this domain")
    domain = DomainSettings(
        name,
        **{keys[key].name: value for key, value in values.items()},
        levels=_domain_levels(reading, section, settings),
        blocking=_domain_blocking(reading, section, settings),
        weights=_domain_weights(reading, section, settings),
    )
    patience(reading, domain.retry, domain.lifetime, section, delivery)
    paired(reading, section, "recipients_username", "recipients_password")
    _everything(reading, domain, section)
    _outbound(reading, domain, section, settings)
    if domain.require_tls and not settings.tls.certificate:
        wrong = "all its mail would be refused: STARTTLS needs [tls] certificate, which is empty"
        reading.problems.append(section.entries["require_tls"].problem(wrong))
    return domain


def _everything(reading: Reading, domain: DomainSettings, section: Section) -> None:
    if domain.name == EVERYTHING and domain.subdomains:
        wrong = "[domain *] is every name already; leave it out"
        reading.problems.append(section.entries["subdomains"].problem(wrong))
    if domain.name != EVERYTHING and domain.except_:
        wrong = f"only [domain *] has exceptions; a name below {domain.name} has a section of its own"
        reading.problems.append(section.entries["except"].problem(wrong))


def _outbound(reading: Reading, domain: DomainSettings, section: Section, settings: Settings) -> None:
    """``outbound`` names a server that is taken only by whom it names."""
    if not domain.outbound or f"outbound {domain.outbound}" in reading.unread:
        return
    known = {outbound.name: outbound for outbound in settings.outbound}
    server = known.get(domain.outbound)
    if server is None:
        wrong = f"there is no [outbound {domain.outbound}]{nearest(domain.outbound, known)}"
    elif server.mode != "domains":
        wrong = f"[outbound {server.name}] takes turns for everybody; give it mode = domains"
    else:
        return
    reading.problems.append(section.entries["outbound"].problem(wrong))


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
