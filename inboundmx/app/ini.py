"""The INI file as sections, keys and lines. Knows the grammar; does not know which sections and keys exist.

A small reader of our own, because ``configparser`` forgets line numbers, stops at the first duplicate and ignores
what follows a ``]``. Everything that is wrong is reported, not the first thing alone.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Problem(NamedTuple):
    """One thing wrong with the settings. ``line`` counts from 1; 0: the file as a whole."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass(frozen=True, slots=True)
class Entry:
    """``key = value``: the key in lower case, the value's lines joined by newlines. ``line`` is the key's."""

    section: str
    key: str
    value: str
    file: str
    line: int

    @property
    def hidden(self) -> bool:
        """Whether the value is a password itself, and not where one is."""
        return bool(_SECRET.search(self.key) and self.value and not self.value.startswith("file:"))

    @property
    def said(self) -> str:
        """What was read, shortened to one line."""
        value = "(hidden)" if self.hidden else " ".join(self.value.split())
        return f"[{self.section}] {self.key} = {value if len(value) <= 70 else value[:67] + '...'}".rstrip()

    def problem(self, wrong: str) -> Problem:
        """One line, even of a value that has several."""
        return Problem(self.file, self.line, f"{self.said}: {wrong}".replace("\n", " "))


@dataclass(slots=True)
class Section:
    """``[name]``, runs of blanks in the name made one space."""

    name: str
    file: str
    line: int
    entries: dict[str, Entry] = field(default_factory=dict)

    def problem(self, wrong: str) -> Problem:
        return Problem(self.file, self.line, f"[{self.name}]: {wrong}")


_HEADER = re.compile(r"\[([^\[\]]*)\](.*)")
# Keys whose values no message repeats, slips of the pen included.
_SECRET = re.compile("pas+w|secret")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029]")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(data: bytes, file: str) -> str | Problem:
    """The octets of a file as text: UTF-8 without a byte order mark."""
    if data.startswith(_UTF16):
        return Problem(file, 1, "the file is UTF-16; save it as UTF-8")
    if data.startswith(codecs.BOM_UTF8):
        return Problem(file, 1, "the file begins with a byte order mark; save it as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Problem(file, line, f"octet 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")


def read(text: str, file: str) -> tuple[list[Section], list[Problem]]:
    """All sections of one file in order, doubles included (``merge`` reports them), and what the grammar refuses."""
    sections: list[Section] = []
    problems: list[Problem] = []
    section: Section | None = None
    key, at = "", 0  # the value being read; no key: an indented line continues nothing
    lines: list[str] = []
    lost = False  # a section header was wrong: its keys have no home, and saying so for each helps nobody

    def finish() -> None:
        nonlocal key
        if key and section is not None:
            entry = Entry(section.name, key, "\n".join(lines).strip(), file, at)
            known = section.entries.setdefault(key, entry)
            if known is not entry:
                problems.append(entry.problem(f"{key} stands in line {known.line} already; keep one of them"))
        key = ""

    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        stripped = line.strip()
        bad = _CONTROL.search(line)
        if bad:
            problems.append(Problem(file, number, f"the character U+{ord(bad[0]):04X} has no place in this file"))
        elif not stripped or stripped[0] in "#;":
            pass
        elif line[0] in " \t":
            if key:
                lines.append(stripped)
            elif not lost:
                problems.append(
                    Problem(file, number, f"{_short(stripped)}: an indented line continues a value, and there is none")
                )
        elif stripped[0] == "[":
            finish()
            section, lost = _header(stripped, file, number, problems), False
            lost = section is None
            if section is not None:
                sections.append(section)
        else:
            finish()
            name, equals, value = stripped.partition("=")
            name = name.strip()
            if not equals:
                shown = "(hidden)" if _SECRET.search(stripped.lower()) else _short(stripped)
                problems.append(Problem(file, number, f"{shown}: no =; write key = value"))
            elif not name:
                problems.append(Problem(file, number, f"{_short(stripped)}: no key before the ="))
            elif section is not None:
                key, lines, at = name.lower(), [value.strip()], number
            elif not lost:
                problems.append(Problem(file, number, f"{_short(stripped)}: stands before any [section]"))
    finish()
    return sections, problems


def _header(line: str, file: str, number: int, problems: list[Problem]) -> Section | None:
    match = _HEADER.fullmatch(line)
    if match is None:
        problems.append(Problem(file, number, f"{_short(line)}: a section is written [name], alone on its line"))
        return None
    name, rest = " ".join(match[1].split()), match[2].strip()
    if not name:
        problems.append(Problem(file, number, "[]: a section needs a name"))
        return None
    if rest:
        problems.append(Problem(file, number, f"[{name}]: {_short(rest)} after the ]; nothing may follow it"))
    return Section(name, file, number)


def merge(sections: Iterable[Section]) -> tuple[dict[str, Section], list[Problem]]:
    """Sections by name. One that stands twice, in one file or two, is a problem that names both places; its keys are
    taken together all the same, so that what is wrong with them is seen too."""
    merged: dict[str, Section] = {}
    problems: list[Problem] = []
    for section in sections:
        first = merged.setdefault(section.name, section)
        if first is section:
            continue
        where = f"line {first.line}" if first.file == section.file else f"{first.file}:{first.line}"
        problems.append(section.problem(f"this section stands in {where} already; make them one"))
        for key, entry in section.entries.items():
            first.entries.setdefault(key, entry)
    return merged, problems


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def glance(path: str, name: str) -> Mapping[str, Entry] | None:
    """The keys of the one section of that name in this file alone; None where that is not plain to see."""
    try:
        with open(path, "rb") as file:
            text = decode(file.read(), path)
    except (OSError, ValueError):
        return None
    if not isinstance(text, str):
        return None
    sections, problems = read(text, path)
    found = [section.entries for section in sections if section.name == name]
    return found[0] if len(found) == 1 and not problems else None
