"""What an operation was asked with, taken out of the values that came over a socket or the command line.

Knows how an argument that is wrong is refused. Does not know what any operation does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inboundmx.app.answers import NotUnderstood

# Rows told when nobody says how many, and at most: a table of a million helps nobody.
USUAL_LIMIT = 1000
LARGEST_LIMIT = 10_000


def only(arguments: Mapping[str, Any], known: set[str]) -> None:
    """Raises NotUnderstood when there are others."""
    if unknown := sorted(set(arguments) - known):
        raise NotUnderstood(f"this takes no {unknown[0]!r}")


def text(arguments: Mapping[str, Any], name: str) -> str:
    """Empty when it was left out. Raises NotUnderstood."""
    given = arguments.get(name) or ""
    if not isinstance(given, str):
        raise NotUnderstood(f"{name} must be text")
    return given


def row_limit(arguments: Mapping[str, Any]) -> int:
    """How many rows are to be told. Raises NotUnderstood."""
    limit = arguments.get("limit", USUAL_LIMIT)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= LARGEST_LIMIT:
        raise NotUnderstood(f"limit must be a whole number from 1 to {LARGEST_LIMIT}")
    return limit


def matching(arguments: Mapping[str, Any], known: set[str]) -> tuple[str, int]:
    """``matching`` and ``limit`` of what takes no others than ``known``. Raises NotUnderstood."""
    only(arguments, known)
    return text(arguments, "matching"), row_limit(arguments)
