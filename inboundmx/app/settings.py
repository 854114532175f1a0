"""Reads the INI into ``model.settings``, whole or not at all, and says everything that is wrong with it at once.

Knows which section fills which value and how they depend on each other. Does not know how a text of a kind is read
(``values``), nor the grammar (``ini``), nor whether what is named exists (``checking``).
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields, replace
from typing import Any, TypeVar

from inboundmx.app import ini
from inboundmx.app.addresses import domain_name
from inboundmx.app.effective import fingerprint
from inboundmx.app.ini import Entry, Problem, Section
from inboundmx.app.values import kind, written_span
from inboundmx.app.words import Wrong, nearest, not_there_yet
from inboundmx.checks.api import ALWAYS, Check
from inboundmx.checks.registry import KINDS
from inboundmx.model.settings import (
    BACKUP_RETRY,
    DEFAULT_LEVELS,
    BlockingSettings,
    CheckSettings,
    DeliverySettings,
    DnsSettings,
    DomainSettings,
    GatewaySettings,
    LevelSettings,
    LogSettings,
    RelaySettings,
    Retry,
    Settings,
    SmtpSettings,
    StorageSettings,
    TlsSettings,
)
from inboundmx.model.verdict import Level, Weight

DEFAULT_PATH = "/etc/inboundmx.ini"
LARGEST_FILE = 4 * 2**20

# Sections that stand alone, in the order in which they are written and explained.
PLAIN: Mapping[str, type[Any]] = {
    "gateway": GatewaySettings,
    "smtp": SmtpSettings,
    "tls": TlsSettings,
    "dns": DnsSettings,
    "storage": StorageSettings,
    "log": LogSettings,
    "delivery": DeliverySettings,
    "blocking": BlockingSettings,
    "relay": RelaySettings,
}
NAMED = ("domain", "check", "level")
SECTIONS_TO_COME = frozenset({"lists", "abuse", "greylisting", "console", "backup", "outbound"})
CHECKS_TO_COME = frozenset(
    (
        *("rdns", "early_talker", "dnsbl", "helo", "spf", "blocked", "ratelimit", "recipient", "greylist", "dkim"),
        *("dmarc", "arc", "attachments", "uribl", "bayes", "clamav", "command", "spamassassin", "rspamd"),
    )
)
KEYS_TO_COME = frozenset({("relay", "users")})

_CHECK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

S = TypeVar("S")


class BadSettings(Exception):
    """The file as it stands cannot be used. ``problems`` holds all that is wrong with it, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(path: str, kinds: Mapping[str, type[Check]] = KINDS) -> Settings:
    """The settings in the file ``path`` and those it includes. Raises BadSettings; never anything else for a file."""
    path = os.path.abspath(path)
    sections, problems = _read(path)
    included, more = _included(path, sections)
    merged, doubled = ini.merge(sections + included)
    reading = _Reading(merged, kinds, os.path.dirname(path), problems + more + doubled)
    settings = reading.settings()
    if reading.problems:
        order = {file: place for place, file in enumerate(dict.fromkeys([path, *(s.file for s in included)]))}
        raise BadSettings(sorted(reading.problems, key=lambda p: (order.get(p.file, len(order)), p.line)))
    return settings


def keys_of(section: type[Any]) -> Mapping[str, Field[Any]]:
    """The keys a section of this type has: its fields that say how they are read."""
    return {each.name: each for each in fields(section) if "kind" in each.metadata}


def _read(path: str) -> tuple[list[Section], list[Problem]]:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except IsADirectoryError:
        return [], [Problem(path, 0, "is a folder, not a file")]
    except FileNotFoundError:
        return [], [Problem(path, 0, "there is no such file; inboundmx init writes a first one")]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return [], [Problem(path, 0, f"cannot be read: {reason}")]
    if len(data) > LARGEST_FILE:
        return [], [Problem(path, 0, "is larger than 4MB, which no settings are")]
    text = ini.decode(data, path)
    return ([], [text]) if isinstance(text, Problem) else ini.read(text, path)


def _included(path: str, sections: Iterable[Section]) -> tuple[list[Section], list[Problem]]:
    found: list[Section] = []
    problems: list[Problem] = []
    for section in sections:
        entry = section.entries.get("include") if section.name == "gateway" else None
        for pattern in entry.value.split() if entry else ():
            files = sorted(glob.glob(os.path.join(os.path.dirname(path), pattern)))
            if not files and not glob.has_magic(pattern):
                problems.append(entry.problem(f"there is no file {pattern}"))  # type: ignore[union-attr]
            for file in files:
                more, wrong = _read(file)
                found += more
                problems += wrong
    return found, problems


class _Reading:
    """One reading of all sections; ``problems`` collects what is wrong on the way."""

    def __init__(
        self, sections: Mapping[str, Section], kinds: Mapping[str, type[Check]], folder: str, problems: list[Problem]
    ) -> None:
        self.problems = problems
        self._kinds = kinds
        self._folder = folder
        self._sections = sections
        self._named: dict[str, list[tuple[str, Section]]] = {word: [] for word in NAMED}
        for section in sections.values():
            self._sort(section)

    def _sort(self, section: Section) -> None:
        word, _, name = section.name.partition(" ")
        if section.name in PLAIN:
            return
        if word in NAMED and name:
            self._named[word].append((name, section))
        elif word in NAMED:
            self.problems.append(section.problem(f"needs a name: [{word} NAME]"))
        elif word in SECTIONS_TO_COME:
            self.problems.append(section.problem(str(not_there_yet("this section", "leave it out"))))
        elif word in PLAIN:
            self.problems.append(section.problem(f"takes no name; write [{word}]"))
        else:
            known = [*PLAIN, *NAMED]
            self.problems.append(section.problem(f"there is no such section{nearest(word, known)}"))

    def settings(self) -> Settings:
        plain = {name: self._plain(name, made) for name, made in PLAIN.items()}
        plain["gateway"] = _named_gateway(plain["gateway"])
        self._certified(plain["gateway"].listen, plain["tls"].certificate)
        levels = self._levels()
        checks = self._checks()
        delivery = self._section("delivery")
        self._patience(plain["delivery"].retry, plain["delivery"].lifetime, delivery, delivery)
        settings = Settings(**plain, levels=levels, checks=checks)
        settings = replace(settings, domains=self._domains(settings))
        return settings if self.problems else replace(settings, fingerprint=fingerprint(settings))

    # --- one key -------------------------------------------------------------------------------------------------

    def _value(self, entry: Entry, kind_name: str, default: Any) -> Any:
        try:
            value = kind(kind_name).read(entry.value)
        except Wrong as wrong:
            hint = ""
            if re.search(r"\s[#;]", entry.value):
                hint = " (a comment stands on a line of its own)"
            elif "\n" in entry.value:
                hint = " (an indented line continues the value before it)"
            self.problems.append(entry.problem(f"{wrong}{hint}"))
            return default
        if kind_name == "path" or (kind_name == "log_file" and value != "stdout"):
            return os.path.normpath(os.path.join(self._folder, value)) if value else value
        return value

    def _section(self, name: str) -> Section:
        return self._sections.get(name) or Section(name, "", 0)

    def _values(self, section: Section, keys: Mapping[str, Field[Any]], extra: Iterable[str] = ()) -> dict[str, Any]:
        """What the section says, by key. Keys that are neither in ``keys`` nor among the prefixes in ``extra``
        (ending in a dot) are problems."""
        found: dict[str, Any] = {}
        for key, entry in section.entries.items():
            if key in keys:
                value = self._value(entry, keys[key].metadata["kind"], _UNREAD)
                if value is not _UNREAD:
                    found[key] = value
            elif not any(key.startswith(prefix) for prefix in extra):
                self._unknown(entry, [*keys, *extra])
        return found

    def _unknown(self, entry: Entry, known: Iterable[str]) -> None:
        if (entry.section, entry.key) in KEYS_TO_COME:
            self.problems.append(entry.problem(str(not_there_yet("this key", "leave it out"))))
        else:
            self.problems.append(entry.problem(f"there is no key {entry.key} here{nearest(entry.key, known)}"))

    def _plain(self, name: str, made: type[S]) -> S:
        section = self._section(name)
        values = self._values(section, keys_of(made))
        for key, value in values.items():
            if key in ("data", "to") and not value:
                self.problems.append(section.entries[key].problem("must not be empty"))
        return made(**values)

    def _certified(self, listen: Iterable[str], certificate: str) -> None:
        entry = self._section("gateway").entries.get("listen")
        for each in listen:
            if entry and not certificate and each.startswith("ssl:") and "privateKey=" not in each:
                self.problems.append(entry.problem(f"{each} needs [tls] certificate, which is empty"))

    # --- levels --------------------------------------------------------------------------------------------------

    def _levels(self) -> tuple[LevelSettings, ...]:
        said: dict[Level, dict[str, Any]] = {}
        thresholds: dict[Level, Entry] = {}
        for name, section in self._named["level"]:
            level = self._level(name)
            if level is None:
                self.problems.append(section.problem(f"there is no level {name}{nearest(name, _LEVELS)}"))
                continue
            said[level] = self._values(section, keys_of(LevelSettings))
            if "threshold" in section.entries:
                thresholds[level] = section.entries["threshold"]
        return self._ascending(DEFAULT_LEVELS, said, thresholds)

    def _level(self, name: str) -> Level | None:
        return Level[name.upper()] if name in _LEVELS else None

    def _ascending(
        self,
        levels: Iterable[LevelSettings],
        said: Mapping[Level, Mapping[str, Any]],
        thresholds: Mapping[Level, Entry],
    ) -> tuple[LevelSettings, ...]:
        """The levels with what was said of them, their thresholds checked against each other."""
        made = tuple(replace(level, **said.get(level.level, {})) for level in levels)
        if Level.NONE in thresholds:
            wrong = "none is what remains below low and has no threshold"
            self.problems.append(thresholds[Level.NONE].problem(wrong))
        for lower, upper in itertools.pairwise(made[1:]):
            if lower.threshold <= upper.threshold:
                continue
            entry = thresholds.get(upper.level) or thresholds.get(lower.level)
            if entry is not None:
                self.problems.append(
                    entry.problem(
                        f"thresholds must ascend, and {lower.level.word} begins at {lower.threshold:g}, "
                        f"{upper.level.word} at {upper.threshold:g}"
                    )
                )
        return made

    # --- checks --------------------------------------------------------------------------------------------------

    def _checks(self) -> tuple[CheckSettings, ...]:
        found: dict[str, CheckSettings] = {}
        for name, section in self._named["check"]:
            if not _CHECK_NAME.fullmatch(name.lower()):
                self.problems.append(
                    section.problem(f"{name} cannot be the name of a check: letters, digits, - and _, at most 40")
                )
            elif name.lower() in found:
                self.problems.append(section.problem(f"a check named {name.lower()} stands here already"))
            else:
                check = self._check(name.lower(), section)
                if check is not None:
                    found[check.name] = check
        return tuple(found.values())

    def _check(self, name: str, section: Section) -> CheckSettings | None:
        use = section.entries.get("use")
        if use is None:
            self.problems.append(section.problem(f"use is missing: which kind of check{nearest('', self._kinds)}"))
            return None
        made = self._kinds.get(use.value)
        if made is None:
            wrong = f"there is no kind of check {use.value}{nearest(use.value, self._kinds)}"
            if use.value in CHECKS_TO_COME:
                wrong = str(not_there_yet(f"the kind of check {use.value}"))
            self.problems.append(use.problem(wrong))
            return None
        before = len(self.problems)
        common = keys_of(CheckSettings)
        values: dict[str, Any] = {}
        options = {option.name: option.default for option in made.options}
        kinds = {option.name: option.kind for option in made.options}
        weights: dict[str, Weight] = dict.fromkeys(sorted(made.outcomes | ALWAYS), 0.0)
        weights.update(made.weights)
        for key, entry in section.entries.items():
            if key == "use":
                pass
            elif key.startswith("weight."):
                self._weight(entry, key.removeprefix("weight."), weights)
            elif key in common:
                values[key] = self._value(entry, common[key].metadata["kind"], None)
            elif key in options:
                options[key] = self._value(entry, kinds[key], options[key])
            else:
                self._unknown(entry, ["use", *common, *options, *(f"weight.{outcome}" for outcome in weights)])
        for option in made.options:
            if option.required and (option.name not in section.entries or section.entries[option.name].value == ""):
                self.problems.append(section.problem(f"{option.name} is missing: {option.help}"))
        if len(self.problems) > before:
            # Known by name all the same, so that what a domain says of it is not called unknown.
            return CheckSettings(name, use.value, weights=weights)
        try:
            made(options)
        except ValueError as error:
            self.problems.append(section.problem(str(error)))
        return CheckSettings(name, use.value, weights=weights, options=options, **values)

    def _weight(self, entry: Entry, outcome: str, weights: dict[str, Weight]) -> None:
        if outcome not in weights:
            self.problems.append(entry.problem(f"the check has no outcome {outcome}{nearest(outcome, weights)}"))
        else:
            weights[outcome] = self._value(entry, "weight", 0.0)

    # --- domains -------------------------------------------------------------------------------------------------

    def _domains(self, settings: Settings) -> Mapping[str, DomainSettings]:
        found: dict[str, DomainSettings] = {}
        for written, section in self._named["domain"]:
            if "*" in written:
                self.problems.append(section.problem(str(not_there_yet("a domain section for many domains"))))
                continue
            try:
                name = domain_name(written)
            except Wrong as wrong:
                self.problems.append(section.problem(str(wrong)))
                continue
            if name in found:
                self.problems.append(section.problem(f"the domain {name} has a section already; make them one"))
                continue
            found[name] = self._domain(name, section, settings)
        return found

    def _domain(self, name: str, section: Section, settings: Settings) -> DomainSettings:
        keys = keys_of(DomainSettings)
        shared = keys_of(DeliverySettings)
        values = {key: getattr(settings.delivery, key) for key in keys if key in shared}
        said = self._values(section, keys, ("level.", "blocking.", "weight."))
        if said.get("mode") == "backup":
            values |= {"retry": BACKUP_RETRY, "when_exhausted": "hold"}
        values |= said
        if not values.get("primary") and ("primary" in said or "primary" not in section.entries):
            wrong = "primary is missing: the real mail server of this domain"
            self.problems.append(section.problem(wrong))
        domain = DomainSettings(
            name,
            **values,
            levels=self._domain_levels(section, settings),
            blocking=self._domain_blocking(section, settings),
            weights=self._domain_weights(section, settings),
        )
        self._patience(domain.retry, domain.lifetime, section, self._section("delivery"))
        return domain

    def _dotted(self, section: Section, prefix: str) -> Iterable[tuple[Entry, list[str]]]:
        for key, entry in section.entries.items():
            if key.startswith(prefix):
                yield entry, key.removeprefix(prefix).split(".")

    def _domain_levels(self, section: Section, settings: Settings) -> tuple[LevelSettings, ...]:
        said: dict[Level, dict[str, Any]] = {}
        thresholds: dict[Level, Entry] = {}
        keys = keys_of(LevelSettings)
        for entry, parts in self._dotted(section, "level."):
            level = self._level(parts[0])
            if level is None or len(parts) != 2 or parts[1] not in keys:
                known = [f"level.{name}.{key}" for name in _LEVELS for key in keys]
                self._unknown(entry, known)
                continue
            value = self._value(entry, keys[parts[1]].metadata["kind"], _UNREAD)
            if value is not _UNREAD:
                said.setdefault(level, {})[parts[1]] = value
                if parts[1] == "threshold":
                    thresholds[level] = entry
        return self._ascending(settings.levels, said, thresholds)

    def _domain_blocking(self, section: Section, settings: Settings) -> BlockingSettings:
        said: dict[str, Any] = {}
        keys = keys_of(BlockingSettings)
        for entry, parts in self._dotted(section, "blocking."):
            if len(parts) != 1 or parts[0] not in keys:
                self._unknown(entry, [f"blocking.{key}" for key in keys])
                continue
            said[parts[0]] = self._value(entry, keys[parts[0]].metadata["kind"], 0.0)
        return replace(settings.blocking, **said)

    def _domain_weights(self, section: Section, settings: Settings) -> Mapping[tuple[str, str], Weight]:
        found: dict[tuple[str, str], Weight] = {}
        checks = {check.name: check for check in settings.checks}
        for entry, parts in self._dotted(section, "weight."):
            check = checks.get(parts[0])
            if len(parts) != 2:
                wrong = "in a domain a weight is written weight.CHECK.OUTCOME"
            elif check is None:
                wrong = f"there is no [check {parts[0]}]{nearest(parts[0], checks)}"
            elif parts[1] not in check.weights:
                wrong = f"the check {parts[0]} has no outcome {parts[1]}{nearest(parts[1], check.weights)}"
            else:
                found[parts[0], parts[1]] = self._value(entry, "weight", 0.0)
                continue
            self.problems.append(entry.problem(wrong))
        return found

    def _patience(self, retry: Retry, lifetime: float, *sections: Section) -> None:
        """A repeating list that is over before its first wait would never try again."""
        if not retry.repeat_last or lifetime >= retry.waits[0]:
            return
        for section in sections:
            entry = section.entries.get("lifetime") or section.entries.get("retry")
            if entry is not None:
                wrong = f"lifetime {written_span(lifetime)} is over before the first wait of retry"
                problem = entry.problem(f"{wrong}, {written_span(retry.waits[0])}")
                if problem not in self.problems:
                    self.problems.append(problem)
                return


_UNREAD = object()
_LEVELS = tuple(level.word for level in Level)


def _named_gateway(gateway: GatewaySettings) -> GatewaySettings:
    """The gateway with the names that follow from the machine's own where none is given."""
    hostname = gateway.hostname or own_name()
    return replace(gateway, hostname=hostname, postmaster=gateway.postmaster or f"postmaster@{hostname}")


def own_name() -> str:
    """What this machine calls itself; without a dot when nobody gave it a domain."""
    names = []
    for name in (socket.getfqdn(), socket.gethostname()):
        with contextlib.suppress(Wrong):
            names.append(domain_name(name))
    # A resolver may call us "localhost" when the machine has a better name.
    return next((name for name in names if "." in name), names[-1] if names else "localhost")
