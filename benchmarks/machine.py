"""What a run was made on, told in a few words: the machine, the peers' versions, and what was measured of ours."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.haraka import PACKAGE

VERSIONS: dict[str, Sequence[str]] = {
    "Postfix": ("postconf", "-hd", "mail_version"),
    "rspamd": ("dpkg-query", "-W", "-f", "${Version}", "rspamd"),
    "nsd": ("dpkg-query", "-W", "-f", "${Version}", "nsd"),
    "clamd": ("dpkg-query", "-W", "-f", "${Version}", "clamav-daemon"),
    "spamd": ("dpkg-query", "-W", "-f", "${Version}", "spamd"),
    "node": ("node", "--version"),
}


def said(command: Sequence[str]) -> str:
    """The first line of it, empty where it cannot be asked."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=20, env=os.environ | {"PATH": path}
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def found(path: str, pattern: str) -> str:
    try:
        match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match[1].strip() if match else ""


def machine(folder: Path) -> dict[str, str]:
    """``folder``: where the peers keep their mail."""
    memory = int(found("/proc/meminfo", r"^MemTotal:\s+(\d+)") or 0) / 2**20
    return {
        "processor": found("/proc/cpuinfo", r"^model name\s*:(.*)$") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GB",
        "system": found("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)'),
        "kernel": platform.release().partition("-")[0],
        "file system": said(["stat", "-f", "-c", "%T", str(folder)]),
        "Python": platform.python_version(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def versions() -> dict[str, str]:
    told = {name: said(command) for name, command in VERSIONS.items()}
    told["Haraka"] = str(PACKAGE["dependencies"]["Haraka"])  # type: ignore[index]
    commit = said(["git", "-C", str(Path(__file__).parent), "log", "-1", "--format=%h of %cs"])
    changed = said(["git", "-C", str(Path(__file__).parent.parent), "status", "--porcelain", "--untracked-files=no"])
    told["inboundmx"] = f"commit {commit}{' with changes' if changed else ''}" if commit else ""
    return {name: version for name, version in told.items() if version}
