"""Reads ``[abuse …]``: limits on what a client may do, and what follows. Knows which rules make sense; does not know
how anything is counted."""

from __future__ import annotations

from inboundmx.app.ini import Section
from inboundmx.app.level_sections import Named
from inboundmx.app.reading import Reading, keys_of
from inboundmx.app.words import nearest
from inboundmx.model.settings import AbuseSettings

_KEYS = keys_of(AbuseSettings)
_USES = tuple(_KEYS["use"].metadata["kind"].removeprefix("word:").split())


def read_abuse(reading: Reading, sections: Named) -> tuple[AbuseSettings, ...]:
    found: dict[str, AbuseSettings] = {}
    for written, section in sections:
        name = reading.name(written, section, found, "a rule")
        if name is not None:
            found[name] = _rule(reading, name, section)
    return tuple(found.values())


def _rule(reading: Reading, name: str, section: Section) -> AbuseSettings:
    said = reading.values(section, _KEYS)
    if "use" not in section.entries:
        if name not in _USES:
            wrong = f"there is no kind of rule {name}: give it use{nearest(name, _USES)}"
            reading.problems.append(section.problem(wrong))
        said["use"] = name
    reading.need(section, said, "limit", "how many are suffered in a window")
    rule = AbuseSettings(name, **said)
    if rule.use == "same-size" and rule.block:
        wrong = "who sends for others is not blocked for the size of a message: notify tells somebody"
        reading.problems.append(section.entries["block"].problem(wrong))
    elif rule.use == "same-size" and not rule.notify and "notify" not in section.entries:
        reading.problems.append(section.problem(f"notify is missing: {_KEYS['notify'].metadata['help']}"))
    elif rule.use != "same-size" and not (rule.block or rule.notify) and not {"block", "notify"} & {*section.entries}:
        reading.problems.append(section.problem("nothing would follow: give it block or notify"))
    return rule


