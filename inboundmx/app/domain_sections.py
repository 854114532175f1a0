"""Reads ``[domain …]``, and makes what holds for mail whose domain has no section. Knows what a domain says for itself
and what it takes from everybody; does not know routes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inboundmx.app.addresses import domain_name
from inboundmx.app.amounts import written_span
from inboundmx.app.credentials import paired
from inboundmx.app.ini import Section
from inboundmx.app.judging_keys import JUDGING, blocking_said, levels_said, not_for, skipped_checks, weights_said
from inboundmx.app.level_sections import Named, ascending
from inboundmx.app.reading import Reading, keys_of
from inboundmx.app.words import Wrong, nearest
from inboundmx.model.settings import (
    ANY,
    ARCHIVING,
    BACKED_UP,
    BACKUP_RETRY,
    OUTGOING,
    DeliverySettings,
    DomainSettings,
    Retry,
    Settings,
)

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
    incoming = {"skips": not_for("outgoing", settings)}
    levels = tuple(replace(level, action=level.outgoing_action or level.action) for level in settings.levels)
    outgoing = {"handover": "spool", "skips": not_for("incoming", settings), "levels": levels}
    backup = {name: getattr(settings.backup, name) for name in ("retry", "when_exhausted", "greylisting")}
    return replace(
        settings,
        outgoing=replace(OUTGOING, **(everybody | outgoing)),
        backed_up=replace(BACKED_UP, **(everybody | incoming | backup)),
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
    said = reading.values(section, keys, JUDGING)
    if said.get("mode") == "backup":
        values |= {"retry": BACKUP_RETRY, "when_exhausted": "hold"}
    values |= said
    reading.need(section, said, "primary", "the real mail server of this domain")
    levels, thresholds = levels_said(reading, section)
    skipped = skipped_checks(reading, section, said.get("skip_checks"), settings)
    domain = DomainSettings(
        name,
        **{keys[key].name: value for key, value in values.items()},
        levels=ascending(reading, settings.levels, levels, thresholds),
        blocking=replace(settings.blocking, **blocking_said(reading, section)),
        weights=weights_said(reading, section, settings),
        skips=frozenset(skipped) | not_for("outgoing", settings),
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
