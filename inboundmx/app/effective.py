"""The effective settings as text, in the words of the INI. Knows how values are written and that secrets are not shown;
does not read anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from inboundmx.app.domain_sections import EVERYTHING
from inboundmx.app.judging_keys import OF_LEVELS, THRESHOLDS
from inboundmx.app.reading import keys_of
from inboundmx.app.values import kind
from inboundmx.checks.registry import KINDS
from inboundmx.model.settings import DomainSettings, LevelSettings, RecipientsSettings, Settings
from inboundmx.model.verdict import Weight

Sections = dict[str, dict[str, str]]


def hidden(secret: str) -> str:
    return "(hidden)"


def effective(settings: Settings, secret: Callable[[str], str] = hidden) -> Sections:
    """Every section with every key and its text; an INI written from it reads back as the same settings. What is shown
    of a secret that is given is up to ``secret``."""
    found: Sections = {}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if hasattr(value, "__dataclass_fields__") and not isinstance(value, DomainSettings):
            found[each.name] = _written(value, secret)
    for other in settings.tls.others:
        found[f"tls {other.name}"] = _written(other)
    for level in settings.levels:
        found[f"level {level.level.word}"] = _level(level)
    for check in settings.checks:
        options = {option.name: option.kind for option in KINDS[check.kind].options} if check.kind in KINDS else {}
        found[f"check {check.name}"] = (
            {"use": check.kind}
            | _written(check)
            | _options(check.options, options, secret)
            | {f"weight.{outcome}": kind("weight").write(weight) for outcome, weight in check.weights.items()}
        )
    for outbound in settings.outbound:
        found[f"outbound {outbound.name}"] = _written(outbound, secret)
    for archive in settings.archives:
        found[f"archive {archive.name}"] = _written(archive)
    for rule in settings.abuse:
        found[f"abuse {rule.name}"] = _written(rule)
    for domain in settings.sections:
        found[f"domain {domain.name}"] = _domain(domain, secret)
    for some in settings.recipients:
        found[f"recipients {some.name}"] = _recipients(some)
    return found


def _written(value: Any, secret: Callable[[str], str] = hidden) -> dict[str, str]:
    found = {}
    for key, each in keys_of(type(value)).items():
        text = kind(each.metadata["kind"]).write(getattr(value, each.name))
        found[key] = secret(text) if text and each.metadata["kind"] == "secret" else text
    return found


def _options(values: Mapping[str, Any], kinds: Mapping[str, str], secret: Callable[[str], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        written = kind(kinds.get(name, "text")).write
        if name.endswith(".N"):
            found |= {f"{name[:-1]}{number}": written(each) for number, each in value}
        else:
            text = written(value)
            found[name] = secret(text) if text and kinds.get(name) == "secret" else text
    return found


def _level(level: LevelSettings) -> dict[str, str]:
    """Level none has no threshold."""
    return {key: text for key, text in _written(level).items() if level.level or key != "threshold"}


def _domain(domain: DomainSettings, secret: Callable[[str], str]) -> dict[str, str]:
    found = _written(domain, secret)
    if domain.name != EVERYTHING:
        del found["except"]
    for level in domain.levels:
        found |= {f"level.{level.level.word}.{key}": text for key, text in _level(level).items() if key in OF_LEVELS}
    found |= {f"blocking.{key}": text for key, text in _written(domain.blocking).items() if key in THRESHOLDS}
    return found | _weights(domain.weights)


def _weights(weights: Mapping[tuple[str, str], Weight]) -> dict[str, str]:
    return {f"weight.{check}.{outcome}": kind("weight").write(weight) for (check, outcome), weight in weights.items()}


def _recipients(some: RecipientsSettings) -> dict[str, str]:
    """What is said of them alone, and what stands in files is not written out."""
    found = {key: text for key, text in _written(some).items() if text}
    if some.skip_checks == ():
        found["skip_checks"] = ""
    for level, said in some.levels.items():
        keys = keys_of(LevelSettings)
        found |= {f"level.{level.word}.{key}": kind(keys[key].metadata["kind"]).write(v) for key, v in said.items()}
    found |= {f"blocking.{key}": kind("number").write(value) for key, value in some.blocking.items()}
    return found | _weights(some.weights)


def as_ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    """The sections as a file."""
    parts = []
    for name, keys in sections.items():
        lines = [f"[{name}]", *(f"{key} = {text}".rstrip() for key, text in keys.items())]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def fingerprint(settings: Settings) -> str:
    """12 hexadecimal digits that change when anything effective does."""
    text = json.dumps(effective(settings, _digest), sort_keys=True)
    listed = "".join(map(repr, (some.listed for some in settings.recipients if some.listed)))
    return _digest(text + listed)[:12]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
