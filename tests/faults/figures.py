"""What was measured, beside what is promised: figures, how they are shown, and the file they are kept in.

Knows figures and JSON. Does not know how anything is measured.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "docs" / "reliability" / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """``what`` was measured, and came to ``value`` ``unit``. The promise: at most ``most``, at least ``least``.
    ``timed``: it depends on how busy the machine is, and no test should insist on it."""

    what: str
    value: float
    unit: str = ""
    most: float | None = None
    least: float | None = None
    timed: bool = False

    @property
    def met(self) -> bool:
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)

    @property
    def promise(self) -> str:
        if self.most is not None and self.most == self.least:
            return f"{self.most:g}"
        bounds = (("at least", self.least), ("at most", self.most))
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)

    def __str__(self) -> str:
        promise = f" ({self.promise})" if self.promise else ""
        return f"{'' if self.met else 'NOT MET: '}{self.what}: {shown(self.value)} {self.unit}".rstrip() + promise


def shown(value: float) -> str:
    """Short, and without decimals that say nothing."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def exactly(what: str, value: float, expected: float) -> Figure:
    return Figure(what, value, most=expected, least=expected)


def machine() -> str:
    kernel, (_, load, _) = platform.release().partition("-")[0], os.getloadavg()
    python = platform.python_version()
    return f"{os.cpu_count()} processors with a load of {load:.0f}, Linux {kernel}, Python {python}"


def keep(name: str, command: str, found: dict[str, Sequence[Figure]]) -> None:
    """Writes the results of ``command``, by the fault they belong to, where the page takes them from; faults that were
    not tried this time keep what was found of them last."""
    path = RESULTS / f"{name}.json"
    before: dict[str, Any] = json.loads(path.read_text())["faults"] if path.exists() else {}
    faults = {**before, **{fault: [asdict(figure) for figure in figures] for fault, figures in found.items()}}
    value = {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "faults": faults,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> dict[str, list[Figure]]:
    return {
        fault: [Figure(**figure) for figure in figures]
        for fault, figures in json.loads(path.read_text())["faults"].items()
    }
