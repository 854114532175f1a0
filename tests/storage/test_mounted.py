"""What the kernel tells of a folder's file system and disk, and what of it is reason to doubt a sync."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inboundmx.storage.mounted import Mounted, doubts, mounted

MOUNTS = """\
21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/none1 rw,errors=remount-ro
30 21 0:23 / {0}/with\\040space rw - tmpfs tmpfs rw,size=8m
31 21 254:1 /sub {0}/spool rw,noatime shared:7 master:2 - xfs /dev/none2 rw,nobarrier
32 21 0:99 / {0}/spool rw - btrfs /dev/none3 rw,ssd
33 21 0:50 / {0}/spoo rw - nfs4 server:/spool rw,vers=4
no mount at all
"""


@pytest.fixture
def kernel(tmp_path: Path) -> tuple[str, str]:
    """Files as the kernel shows them: mounts, and a disk with a partition."""
    root = tmp_path / "root"
    for name in ("with space", "spool/data", "spoo"):
        (root / name).mkdir(parents=True)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(root))
    disks = tmp_path / "disks"
    partition = tmp_path / "devices" / "sda" / "sda1"
    (partition.parent / "queue").mkdir(parents=True)
    partition.mkdir()
    (partition.parent / "queue" / "write_cache").write_text("write back\n")
    (partition.parent / "queue" / "rotational").write_text("1\n")
    disks.mkdir()
    (disks / "254:1").symlink_to(partition)
    return str(mounts), str(disks)


@pytest.mark.parametrize(
    ("folder", "kind", "device", "option", "cache", "rotates"),
    [
        ("", "ext4", "/dev/none1", "errors=remount-ro", "write back", True),
        ("with space", "tmpfs", "tmpfs", "size=8m", "", None),
        ("spool/data", "btrfs", "/dev/none3", "ssd", "", None),
        ("spoo", "nfs4", "server:/spool", "vers=4", "", None),
    ],
)
def test_the_file_system_is_the_innermost_and_the_latest(
    kernel: tuple[str, str], tmp_path: Path, folder: str, kind: str, device: str, option: str, cache: str,
    rotates: bool | None,
) -> None:  # fmt: skip
    found = mounted(str(tmp_path / "root" / folder), *kernel)
    assert found is not None
    assert (found.kind, found.device, found.write_cache, found.rotates) == (kind, device, cache, rotates)
    assert option in found.options


def test_a_kernel_that_tells_nothing_is_a_doubt(tmp_path: Path) -> None:
    assert mounted(str(tmp_path), str(tmp_path / "absent")) is None
    (doubt,) = doubts(None, 0.005, {})
    assert not doubt.certain


def test_this_machine_tells_something() -> None:
    found = mounted(os.path.dirname(__file__))
    assert found is not None and found.kind and found.point.startswith("/")


@pytest.mark.parametrize(
    ("place", "median", "preload", "expected"),
    [
        (Mounted("/", "ext4", "/dev/sda1", ("rw",), "write through", False), 0.001, "", []),
        (Mounted("/", "ext4", "/dev/sda1", ("rw",), "write back", False), 0.001, "", [(False, "write cache")]),
        (Mounted("/", "tmpfs", "tmpfs", ("rw",)), 0.000001, "", [(True, "tmpfs is memory")]),
        (Mounted("/", "xfs", "/dev/sda1", ("rw", "nobarrier")), 0.001, "", [(True, "nobarrier")]),
        (Mounted("/", "ext4", "/dev/sda1", ("barrier=0",)), 0.001, "", [(True, "barrier=0")]),
        (Mounted("/", "overlay", "overlay", ()), 0.001, "", [(False, "container")]),
        (Mounted("/", "nfs4", "a:/b", ()), 0.001, "", [(False, "server")]),
        (Mounted("/", "fuse.sshfs", "a:/b", ()), 0.001, "", [(False, "server or program")]),
        (Mounted("/", "ext4", "/dev/sda1", (), "write back", True), 0.0005, "", [(False, "quicker")]),
        (Mounted("/", "ext4", "/dev/sda1", (), "write through", True), 0.009, "", []),
        (Mounted("/", "ext4", "/dev/nvme0", (), "write through", False), 0.000004, "", [(False, "quicker")]),
        (Mounted("/", "ext4", "/dev/sda1", (), "", None), 0.001, "/usr/lib/libeatmydata.so", [(True, "eatmydata")]),
    ],
)
def test_what_makes_a_sync_a_lie(place: Mounted, median: float, preload: str, expected: list[tuple[bool, str]]) -> None:
    found = doubts(place, median, {"LD_PRELOAD": preload})
    assert [doubt.certain for doubt in found] == [certain for certain, _ in expected]
    assert all(words in doubt.text for doubt, (_, words) in zip(found, expected, strict=True))
