"""What a peer costs, read from /proc: processor time and memory of a process and everything it started."""

from __future__ import annotations

import os
import re
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields after the command name: [1] is the parent, [11:15] are the four times."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """``root`` and its living descendants."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(_stat(int(entry))[1])
            except OSError:
                continue
    found, grew = {root}, True
    while grew:
        grew = False
        for pid, parent in parents.items():
            if parent in found and pid not in found:
                found.add(pid)
                grew = True
    return sorted(found)


def cpu_seconds(root: int) -> float:
    """User and system time of the tree so far, that of ended and reaped children included."""
    ticks = 0
    for pid in tree(root):
        try:
            ticks += sum(map(int, _stat(pid)[11:15]))
        except OSError:
            continue
    return ticks / TICKS


def pss_kib(root: int) -> int:
    """Memory of the tree, shared pages divided among those who share them."""
    total = 0
    for pid in tree(root):
        try:
            found = re.search(r"(?m)^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return total


def forget_peak(pid: int) -> None:
    """From now on ``peak_kib`` is a new one."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status_kib(pid: int, name: str) -> int:
    found = re.search(rf"(?m)^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def peak_kib(root: int) -> int:
    """The highest resident memory of any one process of the tree."""
    return max(_status_kib(pid, "VmHWM") for pid in tree(root))


def resident_kib(root: int) -> int:
    return max(_status_kib(pid, "VmRSS") for pid in tree(root))
