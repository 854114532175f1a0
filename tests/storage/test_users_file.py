"""The file of users on a real disk: read when it changed, written whole, and nobody else's to read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from fakes.checks import FakeOffload

from inboundmx.policy.authenticating import FEWEST, made
from inboundmx.ports import Unavailable
from inboundmx.storage.users_file import FileUsers, keep, users_of

KEYS = made("pencil", b"s" * 16, FEWEST)


def names(users: FileUsers) -> list[str]:
    found: list[list[str]] = []
    users.ask(lambda read: sorted(read.keys)).addCallbacks(found.append, lambda failure: failure.raiseException())
    return found[0]


def test_it_is_read_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "users")
    keep(path, {"ann": KEYS})
    users = FileUsers(lambda: path, FakeOffload())
    assert names(users) == ["ann"]
    read: list[str] = []
    monkeypatch.setattr("inboundmx.storage.users_file.users_of", lambda name: read.append(name) or users_of(name))
    assert names(users) == ["ann"] and read == []
    keep(path, {"ann": KEYS, "bob": KEYS})
    assert names(users) == ["ann", "bob"] and read == [path]


def test_its_rights_stay(tmp_path: Path) -> None:
    path = tmp_path / "users"
    keep(str(path), {"ann": KEYS})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    keep(str(path), {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["users"]


@pytest.mark.parametrize("wrong", ["gone", "open to all", "a folder", "garbage", "no text"])
def test_what_cannot_be_read_is_said(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "users"
    if wrong == "a folder":
        path.mkdir()
    elif wrong != "gone":
        path.write_bytes({"garbage": b"ann\n", "no text": b"\xff\n"}.get(wrong, b""))
        path.chmod(0o644 if wrong == "open to all" else 0o600)
    failures: list[Exception] = []
    FileUsers(lambda: str(path), FakeOffload()).ask(lambda users: users).addErrback(lambda f: failures.append(f.value))
    assert isinstance(failures[0], Unavailable) and str(path) in failures[0].reason


def test_a_failed_write_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users"
    keep(str(path), {"ann": KEYS})
    before = path.read_text()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        keep(str(path), {})
    assert path.read_text() == before and os.listdir(tmp_path) == ["users"]
