"""A measurement in a network of its own, in which clients are not loopback: checks do not ask lists about loopback.

Knows how a function of a module is called in a process there, and how its result comes back. Does not know what is
measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers import Failed, NotHere, program
from benchmarks.scenarios import Effort
from benchmarks.services import CLIENT

# Whom a load of strangers comes from.
STRANGERS = "198.18.0.0/15"


def in_own_network(measure: Callable[[Effort, Path], dict[str, Any]], effort: Effort, folder: Path) -> dict[str, Any]:
    """What ``measure``, a function at the top of a module, returns there, where CLIENT and all strangers of a load are
    addresses. Raises NotHere and Failed."""
    if os.geteuid() != 0:
        raise NotHere("a network of its own can be made by root only: run the benchmarks as root")
    unshare, ip = program("unshare", "util-linux"), program("ip", "iproute2")
    script = f"{ip} link set lo up && {ip} address add {CLIENT}/32 dev lo && {ip} route add local {STRANGERS} dev lo"
    script += ' && exec "$@"'
    command = [unshare, "--net", "sh", "-c", script, "sh", sys.executable, "-m", "benchmarks.own_network"]
    command += [measure.__module__, measure.__name__, json.dumps(asdict(effort)), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{measure.__module__} ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(module: str, name: str, effort: str, folder: str) -> None:
    measure = getattr(import_module(module), name)
    print(json.dumps(measure(Effort(**json.loads(effort)), Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])
