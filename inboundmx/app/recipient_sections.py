"""Reads ``[recipients …]``: what is different for some recipients of our domains. Knows the files that hold their
addresses; does not know whom mail is for."""

from __future__ import annotations

from inboundmx.app import addresses
from inboundmx.app.ini import Entry, Section
from inboundmx.app.judging_keys import JUDGING, blocking_said, levels_said, skipped_checks, weights_said
from inboundmx.app.level_sections import Named, ascending
from inboundmx.app.reading import Reading, keys_of
from inboundmx.app.words import Wrong
from inboundmx.model.settings import RecipientsSettings, Settings
from inboundmx.model.verdict import Level
from inboundmx.policy.listing import MOST_LOOSE, is_loose
from inboundmx.policy.overriding import FILE

LARGEST_FILE = 16 * 2**20


def read_recipients(reading: Reading, sections: Named, settings: Settings) -> tuple[RecipientsSettings, ...]:
    """In the order of the file, which decides. ``settings`` holds the checks and what everybody has."""
    found: dict[str, RecipientsSettings] = {}
    for written, section in sections:
        name = reading.name(written, section, found, "a section of recipients")
        if name is not None:
            found[name] = _recipients(reading, name, section, settings)
    loose = sum(is_loose(each) for made in found.values() for each in (*made.match, *made.listed))
    if loose > MOST_LOOSE:
        wrong = f"{loose} patterns have a * inside a name, of all [recipients …]; at most {MOST_LOOSE}"
        reading.problems.append(next(iter(sections))[1].problem(wrong))
    return tuple(found.values())


def _recipients(reading: Reading, name: str, section: Section, settings: Settings) -> RecipientsSettings:
    said = reading.values(section, keys_of(RecipientsSettings), JUDGING)
    reading.need(section, said, "match", "whom it is about")
    levels, thresholds = levels_said(reading, section)
    # How they stand to those of a domain that says otherwise does not matter: the highest that is reached holds.
    compared = (level for level in settings.levels if level.level is Level.NONE or level.level in thresholds)
    ascending(reading, compared, levels, thresholds)
    skipped_checks(reading, section, said.get("skip_checks"), settings)
    match = said.pop("match", ())
    files = [each.removeprefix(FILE) for each in match if each.startswith(FILE)]
    listed = tuple(dict.fromkeys(each for path in files for each in _listed(reading, section.entries["match"], path)))
    return RecipientsSettings(
        name,
        match,
        **said,
        levels=levels,
        blocking=blocking_said(reading, section),
        weights=weights_said(reading, section, settings),
        listed=listed,
    )


def _listed(reading: Reading, entry: Entry, path: str) -> list[str]:
    """The patterns in a file, one a line; what begins with # is for people."""
    try:
        with open(path, "rb") as file:
            octets = file.read(LARGEST_FILE + 1)
        if len(octets) > LARGEST_FILE:
            raise Wrong("is larger than 16MB")
        lines = octets.decode().splitlines()
    except OSError as error:
        reading.problems.append(entry.problem(f"{path} cannot be read: {error.strerror or error}"))
        return []
    except (ValueError, Wrong) as error:
        wrong = str(error) if isinstance(error, Wrong) else "is no UTF-8"
        reading.problems.append(entry.problem(f"{path} {wrong}"))
        return []
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            try:
                found.append(addresses.sender(text))
            except Wrong as wrong:
                reading.problems.append(entry.problem(f"{path}:{number}: {wrong}"))
                return []
    return found
