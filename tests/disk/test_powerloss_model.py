"""The disk that keeps only what it must, by hand: what the tests of power cuts stand on."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from pathlib import Path

from powerloss import Disk
from traces import Call

ROOT = Path("/root/of/it")


class Script:
    """Calls one after the other; a descriptor is a file's name."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._numbers = count()
        self._descriptors: dict[str, int] = {}
        self._do("mkdir", "data")

    def _do(self, name: str, *paths: str, data: bytes = b"", words: str = "", result: int = 0, **more: object) -> None:
        at = next(self._numbers)
        descriptor = self._descriptors.setdefault(paths[0], len(self._descriptors))
        whole = tuple(f"{ROOT}/{path}" for path in paths)
        numbers: tuple[int, ...] = more.get("numbers", ())  # type: ignore[assignment]
        self.calls.append(Call(name, descriptor, whole, data, numbers, words, result, False, at, at))

    def make(self, path: str, octets: bytes) -> None:
        self._do("openat", path, words="O_WRONLY|O_CREAT")
        self._do("write", path, data=octets)

    def write(self, path: str, octets: bytes, at: int) -> None:
        self._do("pwrite64", path, data=octets, numbers=(len(octets), at))

    def sync(self, path: str, *, fails: bool = False) -> None:
        self._do("fsync", path, result=-1 if fails else 0)

    def rename(self, old: str, new: str) -> None:
        self._do("rename", old, new)

    def remove(self, path: str) -> None:
        self._do("unlink", path)

    def cut(self, name: str = "nothing") -> dict[str, bytes]:
        """What the first state of this name holds, at the end."""
        disk = Disk(ROOT, "data")
        for _ in disk.play(self.calls):
            pass
        cut = next(cut for cut in disk.cuts(random.Random(1)) if cut.name.startswith(name))
        return {path: octets for path, octets in disk.after(cut).items() if not path.endswith("/")}


def script(*steps: Callable[[Script], object]) -> Script:
    made = Script()
    made.sync(".")
    for step in steps:
        step(made)
    return made


def test_a_synced_file_without_a_synced_name_is_not_there() -> None:
    made = script(lambda s: s.make("data/a", b"mail"), lambda s: s.sync("data/a"))
    assert made.cut() == {}
    assert made.cut("everything") == {"data/a": b"mail"}
    made.sync("data")
    assert made.cut() == {"data/a": b"mail"}


def test_a_name_without_a_synced_file_is_empty_or_half() -> None:
    made = script(lambda s: s.make("data/a", b"m" * 1000), lambda s: s.sync("data"))
    assert made.cut() == {"data/a": b""}
    assert made.cut("the last of 1") in ({"data/a": b"m" * 512}, {"data/a": b""})


def test_a_folder_that_is_not_synced_takes_what_is_in_it_along() -> None:
    made = Script()
    made.make("data/a", b"mail")
    made.sync("data/a")
    made.sync("data")
    assert made.cut() == {}


def test_what_was_moved_or_removed_may_come_back() -> None:
    made = script(lambda s: s.make("data/a", b"mail"), lambda s: s.sync("data/a"), lambda s: s.sync("data"))
    made.rename("data/a", "data/b")
    assert made.cut() == {"data/a": b"mail"} and made.cut("everything") == {"data/b": b"mail"}
    made.sync("data")
    made.remove("data/b")
    assert made.cut() == {"data/b": b"mail"} and made.cut("everything") == {}


def test_a_write_in_the_middle_may_be_the_one_that_is_missing() -> None:
    made = script(lambda s: s.make("data/a", b"12345678"), lambda s: s.sync("data/a"), lambda s: s.sync("data"))
    made.write("data/a", b"ab", 2)
    made.write("data/a", b"cd", 10)
    assert made.cut() == {"data/a": b"12345678"}
    assert made.cut("all but change 0") == {"data/a": b"12345678\0\0cd"}
    assert made.cut("only change 0") == {"data/a": b"12ab5678"}


def test_after_a_sync_that_failed_another_one_makes_nothing_last() -> None:
    made = script(lambda s: s.make("data/a", b"mail"), lambda s: s.sync("data"))
    made.sync("data/a", fails=True)
    made.sync("data/a")
    assert made.cut() == {"data/a": b""}
    made.write("data/a", b"more", 4)
    made.sync("data/a")
    assert made.cut() == {"data/a": b"\0\0\0\0more"}
