"""Reads the INI into ``model.settings``, whole or not at all, and says everything that is wrong with it at once.

Knows which section fills which value and how they depend on each other. Does not know how a text of a kind is read
(``values``), nor the grammar (``ini``), nor whether what is named exists (``checking``).
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from inboundmx.app import ini
from inboundmx.app.abuse_sections import read_abuse
from inboundmx.app.addresses import domain_name
from inboundmx.app.archive_sections import read_archives
from inboundmx.app.check_sections import read_checks, with_recipient
from inboundmx.app.credentials import paired
from inboundmx.app.domain_sections import EVERYTHING, asks_who_exists, patience, read_domains, without_section
from inboundmx.app.effective import fingerprint
from inboundmx.app.ini import Problem, Section
from inboundmx.app.level_sections import LEVELS, read_levels
from inboundmx.app.outbound_sections import read_outbound
from inboundmx.app.reading import Reading, keys_of
from inboundmx.app.recipient_sections import read_recipients
from inboundmx.app.tls_sections import read_certificates
from inboundmx.app.words import Wrong, nearest
from inboundmx.checks.api import Check
from inboundmx.checks.registry import KINDS
from inboundmx.model.settings import (
    BackupSettings,
    BlockingSettings,
    CausesSettings,
    CheckSettings,
    ConsoleSettings,
    DeliverySettings,
    DnsSettings,
    GatewaySettings,
    GreylistingSettings,
    ListsSettings,
    LogSettings,
    PrioritySettings,
    RelaySettings,
    Settings,
    SmtpSettings,
    StorageSettings,
    SubmissionSettings,
    TlsSettings,
)

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
    "causes": CausesSettings,
    "backup": BackupSettings,
    "relay": RelaySettings,
    "submission": SubmissionSettings,
    "priority": PrioritySettings,
    "console": ConsoleSettings,
    "greylisting": GreylistingSettings,
    "lists": ListsSettings,
}
NAMED = ("tls", "domain", "recipients", "outbound", "archive", "abuse", "check", "level")

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
    reading = Reading(os.path.dirname(path), problems + more + doubled)
    settings = _settings(reading, merged, kinds)
    if reading.problems:
        order = {file: place for place, file in enumerate(dict.fromkeys([path, *(s.file for s in included)]))}
        raise BadSettings(sorted(reading.problems, key=lambda p: (order.get(p.file, len(order)), p.line)))
    return settings


def open_passwords(path: str) -> list[str]:
    """Sentences about passwords that stand in a file everybody on this machine can read; ``path`` as for ``load``."""
    path = os.path.abspath(path)
    sections, _ = _read(path)
    found = []
    for section in (*sections, *_included(path, sections)[0]):
        for entry in section.entries.values():
            if entry.hidden and _readable_by_all(entry.file):
                found.append(
                    f"[{section.name}] {entry.key} stands in {entry.file}, which everybody here can read: write "
                    f"file:/path instead, or chmod o-r {entry.file}"
                )
    return found


def place_of(path: str, section: str, key: str) -> str:
    """``FILE:LINE, [section] key``, as far as it is to be found; ``path`` as for ``load``."""
    path = os.path.abspath(path)
    sections, _ = _read(path)
    for each in (*sections, *_included(path, sections)[0]):
        entry = each.entries.get(key) if each.name == section else None
        if entry is not None:
            return f"{entry.file}:{entry.line}, [{section}] {key}"
    return f"[{section}] {key}"


def _readable_by_all(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False


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
                if os.path.realpath(file) == os.path.realpath(path):
                    continue  # a pattern such as *.ini names the first file too
                more, wrong = _read(file)
                found += more
                problems += wrong
    return found, problems


def _sorted(sections: Mapping[str, Section], problems: list[Problem]) -> dict[str, list[tuple[str, Section]]]:
    """Sections with a name, by their word; the rest are known, or problems."""
    named: dict[str, list[tuple[str, Section]]] = {word: [] for word in NAMED}
    for section in sections.values():
        word, _, name = section.name.partition(" ")
        if section.name in PLAIN:
            continue
        if word in NAMED and name:
            named[word].append((name, section))
        elif word in NAMED:
            problems.append(section.problem(f"needs a name: [{word} NAME]"))
        elif word in PLAIN:
            problems.append(section.problem(f"takes no name; write [{word}]"))
        else:
            problems.append(section.problem(f"there is no such section{nearest(word, [*PLAIN, *NAMED])}"))
    return named


def _settings(reading: Reading, sections: Mapping[str, Section], kinds: Mapping[str, type[Check]]) -> Settings:
    named = _sorted(sections, reading.problems)
    alone = {name: sections.get(name) or Section(name, "", 0) for name in PLAIN}
    plain = {name: _plain(reading, alone[name], made) for name, made in PLAIN.items()}
    plain["gateway"] = _named_gateway(plain["gateway"])
    _passable(reading, alone["greylisting"], plain["greylisting"])
    for name in ("gateway", "submission", "console"):
        _certified(reading, alone[name], plain[name].listen, plain["tls"].certificate)
    _apart(reading, alone["console"], plain["console"].listen, plain["gateway"].listen)
    _apart(reading, alone["submission"], plain["submission"].listen, plain["gateway"].listen)
    _apart(reading, alone["console"], plain["console"].listen, plain["submission"].listen, "submission")
    _provable(reading, alone["submission"], plain)
    paired(reading, alone["console"])
    plain["tls"] = replace(plain["tls"], others=read_certificates(reading, named["tls"], plain["tls"]))
    levels = read_levels(reading, named["level"])
    checks = read_checks(reading, named["check"], kinds)
    if any(map(asks_who_exists, (section for _, section in named["domain"]))):
        checks = with_recipient(checks, reading.unread, kinds)
    _believed(reading, alone["causes"], plain["causes"], checks)
    patience(reading, plain["delivery"].retry, plain["delivery"].lifetime, alone["delivery"])
    patience(reading, plain["backup"].retry, plain["delivery"].lifetime, alone["backup"])
    outbound, archives = read_outbound(reading, named["outbound"]), read_archives(reading, named["archive"])
    abuse = read_abuse(reading, named["abuse"])
    settings = Settings(**plain, levels=levels, checks=checks, abuse=abuse, outbound=outbound, archives=archives)
    domains = read_domains(reading, named["domain"], settings, alone["delivery"])
    everything = domains.pop(EVERYTHING, None)
    recipients = read_recipients(reading, named["recipients"], settings)
    settings = replace(without_section(settings), domains=domains, everything=everything, recipients=recipients)
    return settings if reading.problems else replace(settings, fingerprint=fingerprint(settings))


def _plain(reading: Reading, section: Section, made: type[S]) -> S:
    keys = keys_of(made)
    values = reading.values(section, keys)
    for key, value in values.items():
        if key in ("data", "to") and not value:
            reading.problems.append(section.entries[key].problem("must not be empty"))
    return made(**{keys[key].name: value for key, value in values.items()})


def _believed(reading: Reading, section: Section, causes: CausesSettings, checks: Iterable[CheckSettings]) -> None:
    """A cause whose name is mistyped would go on being doubted, while its operator takes it for believed."""
    known = {check.name for check in checks} | set(LEVELS[1:])
    for name in causes.except_:
        if name not in known and name not in reading.unread:
            wrong = f"{name} is neither a [check …] nor low, medium or high{nearest(name, known)}"
            reading.problems.append(section.entries["except"].problem(wrong))


def _apart(
    reading: Reading, section: Section, listen: Iterable[str], taken: Iterable[str], by: str = "gateway"
) -> None:
    entry = section.entries.get("listen")
    for each in set(listen) & set(taken):
        if entry:
            reading.problems.append(entry.problem(f"on {each} we hear strangers: [{by}] listen has it too"))


def _provable(reading: Reading, section: Section, plain: Mapping[str, Any]) -> None:
    """Where nobody could ever authenticate, or only in the clear, nobody could send."""
    entry, submission = section.entries.get("listen"), plain["submission"]
    if entry is None or not submission.listen or submission.auth_bypass:
        return
    if not plain["relay"].users:
        reading.problems.append(entry.problem("nobody could authenticate there: [relay] users names no file"))
    if not plain["tls"].certificate and not all("privateKey=" in each for each in submission.listen):
        reading.problems.append(entry.problem("nobody could authenticate there: [tls] certificate is empty"))


def _certified(reading: Reading, section: Section, listen: Iterable[str], certificate: str) -> None:
    entry = section.entries.get("listen")
    for each in listen:
        if entry and not certificate and each.startswith("ssl:") and "privateKey=" not in each:
            reading.problems.append(entry.problem(f"{each} needs [tls] certificate, which is empty"))


def _passable(reading: Reading, section: Section, greylisting: GreylistingSettings) -> None:
    """A retry must come after the block period and before the pass period ends."""
    entry = section.entries.get("pass") or section.entries.get("block")
    if entry is not None and greylisting.pass_ <= greylisting.block:
        reading.problems.append(entry.problem("no retry could ever pass: pass must be longer than block"))


def _named_gateway(gateway: GatewaySettings) -> GatewaySettings:
    """The gateway with the names that follow from the machine's own where none is given."""
    hostname = gateway.hostname or own_name()
    return replace(gateway, hostname=hostname, postmaster=gateway.postmaster or f"postmaster@{hostname}")


@functools.cache  # it may ask the DNS: once, before anything runs, and not again when the file is read anew
def own_name() -> str:
    """What this machine calls itself; without a dot when nobody gave it a domain."""
    names = []
    for name in (socket.getfqdn(), socket.gethostname()):
        with contextlib.suppress(Wrong):
            names.append(domain_name(name))
    # A resolver may call us "localhost" when the machine has a better name.
    return next((name for name in names if "." in name), names[-1] if names else "localhost")
