"""The openspf.org test suite of RFC 7208 (tests/data/rfc7208, with its licence), read as cases and zones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from inboundmx.ports import Unavailable

SUITE = Path(__file__).parent.parent / "data" / "rfc7208" / "rfc7208-tests.yml"
SILENCE = Unavailable("silence")
TYPES = ("A", "AAAA", "MX", "TXT", "PTR", "CNAME")


class Case(NamedTuple):
    """``results``: the outcomes the suite permits, the preferred one first. ``explanation``: None where it says
    nothing."""

    name: str
    zone: dict[str, Any]
    ip: str
    sender: str
    hello: str
    results: tuple[str, ...]
    explanation: str | None


@cache
def cases() -> tuple[Case, ...]:
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for scenario in yaml.safe_load_all(SUITE.read_text()):
        zone = {name.lower(): _rows(rows) for name, rows in scenario["zonedata"].items()}
        for name, test in scenario["tests"].items():
            result = test["result"]
            yield Case(
                f"{name}@{scenario['description']}",
                zone,
                test["host"],
                test["mailfrom"] or "",
                test["helo"] or "",
                (result,) if isinstance(result, str) else tuple(result),
                test.get("explanation"),
            )


def _rows(rows: list[Any]) -> dict[str, Any]:
    """By type; a record of type SPF stands for one of type TXT where there is none."""
    found: dict[str, Any] = {}
    silent = False
    published = any(isinstance(row, dict) and "TXT" in row for row in rows)
    for row in rows:
        if row == "TIMEOUT":
            silent = True
            continue
        ((type, value),) = row.items()
        if type == "SPF":
            if published:
                continue
            type = "TXT"
        if value == "NONE":
            continue
        if value == "TIMEOUT":
            found[type] = SILENCE
        elif type == "TXT":
            found.setdefault(type, []).append("".join([value] if isinstance(value, str) else value).encode())
        elif type == "MX":
            found.setdefault(type, []).append((int(value[0]), value[1]))
        else:
            found.setdefault(type, []).append(value.removesuffix("."))
    if silent:
        found = {type: found.get(type, SILENCE) for type in TYPES}
    return found
