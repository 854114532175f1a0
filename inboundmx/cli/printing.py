"""How answers look on a terminal: aligned columns, ages, sizes, and nothing in them that a terminal would obey.

Knows text only; does not know what an answer means.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_OCTETS = ((2**30, "GB"), (2**20, "MB"), (2**10, "KB"))


def safe(text: str) -> str:
    """Text of strangers with everything replaced that could move a cursor, colour a screen or break a line."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def span(seconds: float) -> str:
    """``45s``, ``9m``, ``5h``, ``3d``: the largest unit of which there are two, so 90 seconds are ``90s``."""
    if seconds < 120.0:
        return f"{int(seconds)}s"
    if seconds < 7200.0:
        return f"{int(seconds // 60.0)}m"
    return f"{int(seconds // 3600.0)}h" if seconds < 172800.0 else f"{int(seconds // 86400.0)}d"


def left(seconds: float) -> str:
    """As ``span``, of what is still to come: the nearest, for a moment of it has passed already when it is read."""
    seconds = math.ceil(seconds)
    unit = 1.0 if seconds < 120.0 else 60.0 if seconds < 7200.0 else 3600.0 if seconds < 172800.0 else 86400.0
    return span(seconds + unit / 2 if unit > 1.0 else seconds)


def due(at: float | None, now: float) -> str:
    """When something happens next: ``in 9m``, ``now``, or ``-`` for never."""
    if at is None:
        return "-"
    return "now" if at <= now else f"in {left(at - now)}"


@lru_cache(maxsize=1024)
def size(octets: int) -> str:
    for factor, unit in _OCTETS:
        if octets >= factor:
            return f"{octets / factor:.1f}{unit}"
    return f"{octets}B"


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Columns as wide as their widest cell; those in ``right`` are aligned there."""
    made = Table(heads, right)
    made.add(list(zip(*rows, strict=True)))
    return made.lines()


class Table:
    """The same of columns that come some rows at a time. Lines are made as they come, and once more when a later part
    turns out to have a wider cell, which it seldom has."""

    def __init__(self, heads: Sequence[str], right: Sequence[int] = ()) -> None:
        self._right = right
        self._widths = [0] * len(heads)
        self._parts: list[tuple[list[tuple[str, ...]], list[int], list[str]]] = []
        self.add([(head,) for head in heads])

    def add(self, columns: Sequence[Sequence[str]]) -> None:
        if columns:
            widest = [max(map(len, cells), default=0) for cells in columns]
            self._widths = [max(pair) for pair in zip(self._widths, widest, strict=True)]
            rows = list(zip(*columns, strict=True))
            self._parts.append((rows, self._widths, self._lines(rows)))

    def lines(self) -> list[str]:
        found: list[str] = []
        for rows, widths, lines in self._parts:
            found += lines if widths == self._widths else self._lines(rows)
        return found

    def _lines(self, rows: Sequence[tuple[str, ...]]) -> list[str]:
        right = self._right
        pattern = "  ".join(f"%{'' if at in right else '-'}{width}s" for at, width in enumerate(self._widths))
        lines = [(pattern % row).rstrip() for row in rows]
        # What is made safe stays as long as it was.
        return lines if "".join(lines).isprintable() else list(map(safe, lines))


def say(*lines: str) -> None:
    """To standard output."""
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")


def complain(*lines: str) -> None:
    """To standard error, in the program's name."""
    for line in lines:
        sys.stderr.write(f"inboundmx: {line}\n")


def say_rows(rows: Sequence[bytes]) -> None:
    """A JSON list of values that are JSON text already, one a line: a hundred thousand of them are only copied."""
    sys.stdout.write("[\n" + b",\n".join(rows).decode("ascii") + "\n]\n" if rows else "[]\n")


def say_json(value: Any) -> None:
    """One JSON value, for scripts: ASCII, so that no pipe's encoding matters."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
