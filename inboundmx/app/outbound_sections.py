"""Reads ``[outbound …]``: the servers that mail leaves by. Knows what such a server needs; does not know which of them
a message takes."""

from __future__ import annotations

from inboundmx.app.credentials import paired
from inboundmx.app.ini import Section
from inboundmx.app.level_sections import Named
from inboundmx.app.reading import Reading, keys_of
from inboundmx.model.settings import OutboundSettings


def read_outbound(reading: Reading, sections: Named) -> tuple[OutboundSettings, ...]:
    found: dict[str, OutboundSettings] = {}
    for written, section in sections:
        name = reading.name(written, section, found, "an outbound")
        if name is not None:
            found[name] = _outbound(reading, name, section)
    return tuple(found.values())


def _outbound(reading: Reading, name: str, section: Section) -> OutboundSettings:
    keys = keys_of(OutboundSettings)
    said = reading.values(section, keys)
    made = OutboundSettings(name, **{keys[key].name: value for key, value in said.items()})
    if "mode" in section.entries and "mode" not in said:
        reading.unread.add(f"outbound {name}")
    reading.need(section, said, "server", "where its mail goes")
    for host in made.server:
        if host.protocol == "lmtp":
            wrong = f"{host}: LMTP is for primaries; mail leaves by SMTP (RFC 2033 5)"
            reading.problems.append(section.entries["server"].problem(wrong))
    paired(reading, section)
    paired(reading, section, "status_username", "status_password")
    if made.username and made.tls == "none" and not made.auth_without_tls:
        wrong = "it could never authenticate: with tls = none that takes auth_without_tls = yes"
        reading.problems.append(section.entries["username"].problem(wrong))
    return made
