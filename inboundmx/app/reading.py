"""Reads the keys of one section, and collects what is wrong with them.

Knows a key's kind, its hints and the nearest known key. Does not know what a section is for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import Field, fields
from typing import Any

from inboundmx.app.credentials import secret
from inboundmx.app.ini import Entry, Problem, Section
from inboundmx.app.values import NAME, kind
from inboundmx.app.words import Wrong, nearest

UNREAD = object()


def keys_of(section: type[Any]) -> Mapping[str, Field[Any]]:
    """The keys a section of this type has: its fields that say how they are read."""
    return {each.name.removesuffix("_"): each for each in fields(section) if "kind" in each.metadata}


class Reading:
    """One reading of a file and those it includes. Relative paths start at ``folder``. ``unread`` are checks that have
    a section and could not be read, and ``outbound NAME`` where the mode could not: what a domain says of them is not
    wrong for that."""

    def __init__(self, folder: str, problems: list[Problem]) -> None:
        self.problems = problems
        self.unread: set[str] = set()
        self._folder = folder

    def value(self, entry: Entry, kind_name: str, default: Any) -> Any:
        """The value, or ``default`` when the text is none of its kind, which is then a problem."""
        try:
            value = kind(kind_name).read(entry.value)
            if kind_name == "secret":
                value = secret(value, self._folder)
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
        if kind_name == "users_file":
            return os.path.normpath(os.path.join(self._folder, value)) if value else value
        if kind_name in ("recipients", "matches"):
            return tuple(map(self._file, value))
        return value

    def _file(self, source: str) -> str:
        """A source of recipients that is a file, by its whole path."""
        word, colon, path = source.partition("file:")
        return source if word or not colon else f"file:{os.path.normpath(os.path.join(self._folder, path))}"

    def values(self, section: Section, keys: Mapping[str, Field[Any]], extra: Iterable[str] = ()) -> dict[str, Any]:
        """What the section says, by key. Keys that are neither in ``keys`` nor among the prefixes in ``extra``
        (ending in a dot) are problems."""
        found: dict[str, Any] = {}
        for key, entry in section.entries.items():
            if key in keys:
                value = self.value(entry, keys[key].metadata["kind"], UNREAD)
                if value is not UNREAD:
                    found[key] = value
            elif not any(key.startswith(prefix) for prefix in extra):
                self.unknown(entry, [*keys, *extra])
        return found

    def need(self, section: Section, said: Mapping[str, Any], key: str, what: str) -> None:
        """A key that is not there, or empty, is a problem; one whose value could not be read is one already."""
        if not said.get(key) and (key in said or key not in section.entries):
            self.problems.append(section.problem(f"{key} is missing: {what}"))

    def name(self, written: str, section: Section, taken: Container[str], what: str) -> str | None:
        """The name of a section as it is known by, in small letters; None when it is none, or taken."""
        name = written.lower()
        if not NAME.fullmatch(name):
            wrong = f"{written} cannot be the name of {what}: letters, digits, - and _, at most 40"
        elif name in taken:
            wrong = f"{what} named {name} stands here already"
        else:
            return name
        self.problems.append(section.problem(wrong))
        return None

    def unknown(self, entry: Entry, known: Iterable[str]) -> None:
        """A key that does not exist."""
        self.problems.append(entry.problem(f"there is no key {entry.key} here{nearest(entry.key, known)}"))
