"""Reads ``[check …]``. Knows that a kind brings its own keys, outcomes and weights; does not know what a kind does."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from inboundmx.app.ini import Entry, Section
from inboundmx.app.level_sections import Named
from inboundmx.app.reading import Reading, keys_of
from inboundmx.app.words import nearest
from inboundmx.checks.api import ALWAYS, Check
from inboundmx.model.settings import CheckSettings
from inboundmx.model.verdict import Weight

Kinds = Mapping[str, type[Check]]

RECIPIENT = "recipient"
# Longer than a primary may think about a question, so that its silence has a name.
RECIPIENT_SECONDS = 15.0

# A key of which there are many, told apart by a number such as an exit status.
_NUMBERED = re.compile(r"([a-z_]+)\.(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])", re.ASCII)


def read_checks(reading: Reading, sections: Named, kinds: Kinds) -> tuple[CheckSettings, ...]:
    found: dict[str, CheckSettings] = {}
    for written, section in sections:
        name = reading.name(written, section, found, "a check")
        if name is None:
            continue
        check = _check(reading, kinds, name, section)
        if check is None:
            reading.unread.add(name)
        else:
            found[name] = check
    return tuple(found.values())


def with_recipient(
    checks: tuple[CheckSettings, ...], taken: Collection[str], kinds: Kinds
) -> tuple[CheckSettings, ...]:
    """With the check that asks who exists, which needs no section where a domain says who is to be asked."""
    made = kinds.get(RECIPIENT)
    if made is None or any(check.kind == RECIPIENT for check in checks):
        return checks
    names = {check.name for check in checks} | set(taken)
    name = next(name for name in (RECIPIENT, f"{RECIPIENT}-exists", f"{RECIPIENT}-is-there") if name not in names)
    weights: dict[str, Weight] = dict.fromkeys(sorted(made.outcomes | ALWAYS), 0.0) | dict(made.weights)
    return (*checks, CheckSettings(name, RECIPIENT, RECIPIENT_SECONDS, weights=weights))


def _check(reading: Reading, kinds: Kinds, name: str, section: Section) -> CheckSettings | None:
    use = section.entries.get("use")
    if use is None:
        reading.problems.append(section.problem(f"use is missing: which kind of check{nearest('', kinds)}"))
        return None
    made = kinds.get(use.value)
    if made is None:
        reading.problems.append(use.problem(f"there is no kind of check {use.value}{nearest(use.value, kinds)}"))
        return None
    before = len(reading.problems)
    common = keys_of(CheckSettings)
    values: dict[str, Any] = {}
    options = {option.name: option.default for option in made.options}
    option_kinds = {option.name: option.kind for option in made.options}
    numbered = {key: member for key in section.entries if (member := _member(key, options))}
    for key, entry in section.entries.items():
        if key in numbered:
            family, number = numbered[key]
            word = reading.value(entry, option_kinds[family], "")
            options[family] = (*options[family], (number, word))
        elif key in options:
            options[key] = reading.value(entry, option_kinds[key], options[key])
    # Options may name outcomes: only now is it known which there are.
    weights: dict[str, Weight] = dict.fromkeys(sorted(made.words(options) | ALWAYS), 0.0)
    weights.update({outcome: weight for outcome, weight in made.weights.items() if outcome in weights})
    for key, entry in section.entries.items():
        if key == "use" or key in options or key in numbered:
            pass
        elif key.startswith("weight."):
            _weight(reading, entry, key.removeprefix("weight."), weights)
        elif key in common:
            values[common[key].name] = reading.value(entry, common[key].metadata["kind"], None)
        else:
            reading.unknown(entry, ["use", *common, *options, *(f"weight.{outcome}" for outcome in weights)])
    given = {numbered[key][0] if key in numbered else key for key, entry in section.entries.items() if entry.value}
    for option in made.options:
        if option.required and option.name not in given:
            reading.problems.append(section.problem(f"{option.name} is missing: {option.help}"))
    if len(reading.problems) > before:
        # Known by name all the same, so that what a domain says of it is not called unknown.
        return CheckSettings(name, use.value, weights=weights)
    try:
        made(options)
    except ValueError as error:
        reading.problems.append(section.problem(str(error)))
    return CheckSettings(name, use.value, weights=weights, options=options, **values)


def _member(key: str, options: Collection[str]) -> tuple[str, int] | None:
    """``exit.2`` is one of the keys ``exit.N``, and 2 is its number; None for a key that is no such."""
    match = _NUMBERED.fullmatch(key)
    return (f"{match[1]}.N", int(match[2])) if match and f"{match[1]}.N" in options else None


def _weight(reading: Reading, entry: Entry, outcome: str, weights: dict[str, Weight]) -> None:
    if outcome not in weights:
        reading.problems.append(entry.problem(f"the check has no outcome {outcome}{nearest(outcome, weights)}"))
    else:
        weights[outcome] = reading.value(entry, "weight", 0.0)
