"""Reads ``[archive …]``: folders that copies are kept in. Knows what an archive needs; does not write any."""

from __future__ import annotations

from inboundmx.app.level_sections import Named
from inboundmx.app.reading import Reading, keys_of
from inboundmx.model.settings import ArchiveSettings


def read_archives(reading: Reading, sections: Named) -> tuple[ArchiveSettings, ...]:
    keys = keys_of(ArchiveSettings)
    found: dict[str, ArchiveSettings] = {}
    for written, section in sections:
        name = reading.name(written, section, found, "an archive")
        if name is None:
            continue
        said = reading.values(section, keys)
        found[name] = ArchiveSettings(name, **{keys[key].name: value for key, value in said.items()})
        reading.need(section, said, "path", "the folder for the copies")
    return tuple(found.values())
