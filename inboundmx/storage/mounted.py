"""What a folder is on: the file system, its options, the disk's write cache, and what of it makes a sync a lie.

Knows what the kernel tells of mounts and block devices. Does not know what is kept there, nor what a disk really does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_MOUNTS = "/proc/self/mountinfo"
_DISKS = "/sys/dev/block"
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs"})
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "sshfs", "virtiofs"})
_NO_BARRIER = frozenset({"nobarrier", "barrier=0"})
# A platter comes round once in 8 ms (7,200 a minute) or 4 ms (15,000), and a sync takes half of that at the least.
_ROTATION_SECONDS = 0.002
# What the quickest flash with a cache of its own that outlives the power takes.
_LEAST_SECONDS = 0.00002


@dataclass(frozen=True, slots=True)
class Mounted:
    """``device``: what is mounted at ``point``. ``write_cache``: the kernel's words, ``write back`` or ``write
    through``; empty where there is no disk that it knows. ``rotates``: None where that is unknown."""

    point: str
    kind: str
    device: str
    options: tuple[str, ...]
    write_cache: str = ""
    rotates: bool | None = None


class Doubt(NamedTuple):
    """A reason not to believe a sync, in a sentence; ``certain``: it is no sync."""

    certain: bool
    text: str


def mounted(folder: str, mounts: str = _MOUNTS, disks: str = _DISKS) -> Mounted | None:
    """Where an existing folder is; None when the kernel does not tell."""
    try:
        lines = Path(mounts).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = os.path.realpath(folder)
    found: tuple[str, str, str, str, tuple[str, ...]] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        mount, file_system = before.split(" "), after.split(" ")
        if len(mount) < 6 or len(file_system) < 3:
            continue
        point = _unescaped(mount[4])
        # Of two at one place the later one hides the other.
        if os.path.commonpath((point, place)) == point and (found is None or len(point) >= len(found[0])):
            options = tuple(dict.fromkeys([*mount[5].split(","), *file_system[2].split(",")]))
            found = point, file_system[0], _unescaped(file_system[1]), mount[2], options
    if found is None:
        return None
    point, kind, device, number, options = found
    cache, rotates = _disk(os.path.join(disks, _number(device) or number))
    return Mounted(point, kind, device, options, cache, rotates)


def doubts(place: Mounted | None, median_seconds: float, environment: Mapping[str, str] = os.environ) -> list[Doubt]:
    """What can be known without pulling the plug. ``median_seconds``: what a sync of a page takes."""
    found: list[Doubt] = []
    if "eatmydata" in environment.get("LD_PRELOAD", ""):
        found.append(Doubt(True, "LD_PRELOAD holds eatmydata, which makes every sync do nothing"))
    if place is None:
        return [*found, Doubt(False, "the kernel does not tell what file system this is")]
    if place.kind in _MEMORY:
        return [*found, Doubt(True, f"{place.kind} is memory: everything in it is gone when the power is")]
    if place.kind == "overlay":
        found.append(Doubt(False, "overlay is a container's own layer: it goes with the container; mount a volume"))
    if place.kind in _NETWORK or place.kind.startswith("fuse"):
        found.append(Doubt(False, f"{place.kind}: what a sync means is up to a server or program that cannot be seen"))
    for option in place.options:
        if option in _NO_BARRIER:
            found.append(Doubt(True, f"mounted with {option}: a sync does not empty the disk's write cache"))
    if median_seconds < _LEAST_SECONDS or (place.rotates and median_seconds < _ROTATION_SECONDS):
        found.append(
            Doubt(False, "a sync is quicker than such a disk can write: a cache that outlives the power, or a lie")
        )
    elif place.write_cache == "write back":
        found.append(Doubt(False, "the disk has a write cache: a sync tells it to empty that, and it may or may not"))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _number(device: str) -> str:
    """Of a device with a name; file systems of several disks have a number that is none's."""
    try:
        found = os.stat(device).st_rdev if device.startswith("/dev/") else 0
    except OSError:
        return ""
    return f"{os.major(found)}:{os.minor(found)}" if found else ""


def _disk(path: str) -> tuple[str, bool | None]:
    # A partition has the queue of the disk that it is on.
    real = Path(os.path.realpath(path))
    for queue in (real / "queue", real.parent / "queue"):
        try:
            cache, rotational = ((queue / name).read_text().strip() for name in ("write_cache", "rotational"))
        except OSError:
            continue
        return cache, rotational == "1"
    return "", None
