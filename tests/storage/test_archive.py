"""Copies in archives: whole and for good or not there, one for each entry, and never in anybody's way."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute

from inboundmx.model.address import Address
from inboundmx.model.custody import Content, SpoolEntry, SpoolRecipient
from inboundmx.model.message import SMALL_BODY
from inboundmx.model.settings import ArchiveSettings, Settings
from inboundmx.ports import Damaged, StorageFull, Unavailable
from inboundmx.spool.bodies import BodyContents, SpoolBodies
from inboundmx.storage.archive import FileArchive, envelope_fields

ID, ENTRY, OTHER = "0123456789abcde", "0123456789abcdf", "0123456789abcdg"
# 2026-11-22 00:00:10 UTC, which is still the day before in half of the world.
RECEIVED_AT = 1795305610.0
DAY = "2026-11-22"
MAIL = b"Subject: hello\r\n\r\nhello\r\n.dot\r\n"
FIELDS = b"X-Envelope-From: <ann@a.example>\r\nX-Envelope-To: <bob@b.example>,\r\n <eve@b.example>\r\n"


def an_entry(id: str = ENTRY, *recipients: str, domain: str = "books", message_id: str = ID) -> SpoolEntry:
    to = recipients or ("bob", "eve")
    return SpoolEntry(
        id, message_id, message_id, RECEIVED_AT, Address("ann", "a.example"),
        tuple(SpoolRecipient(Address(local, "b.example")) for local in to), 100, domain, via="archive",
    )  # fmt: skip


class Shelf:
    """An archive, and the spool its copies come from. ``run`` makes it threads that work at once."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.path = folder / "kept" / "mail"
        self.settings = Settings(
            archives=(ArchiveSettings("books", path=str(self.path)), ArchiveSettings("more", path=str(self.path)))
        )
        self.bodies = SpoolBodies(str(self.data / "spool/0"), str(self.data))
        self.archive = FileArchive(lambda: self.settings, self, BodyContents(str(self.data)))
        self.content = self.made(MAIL)

    def run(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        return execute(work, *arguments)

    def made(self, octets: bytes, prefix: bytes = b"Received: by us\r\n", skip: int = 0) -> Content:
        draft = self.bodies.draft(os.urandom(8).hex())
        draft.write(octets)
        return Content(prefix, skip, draft.finish())

    def keep(self, entry: SpoolEntry | None = None, content: Content | None = None) -> str:
        outcome: list[Any] = []
        self.archive.keep(entry or an_entry(), content or self.content).addBoth(outcome.append)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return str(outcome[0])

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_copy(shelf: Shelf) -> None:
    place = Path(shelf.keep())
    assert place == shelf.path / DAY / f"{ID}.eml"
    assert place.read_bytes() == FIELDS + b"Received: by us\r\n" + MAIL
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == shelf.path.stat().st_mode & 0o777 == 0o700
    assert shelf.files() == [f"{DAY}/{ID}.eml"]


def test_a_folder_that_is_there_keeps_its_mode(shelf: Shelf) -> None:
    shelf.path.mkdir(parents=True)
    shelf.path.chmod(0o750)
    shelf.keep()
    assert shelf.path.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("size", [SMALL_BODY, SMALL_BODY + 1, 5_000_000])
@pytest.mark.parametrize("skip", [0, 16, SMALL_BODY])
def test_a_large_copy(shelf: Shelf, size: int, skip: int) -> None:
    octets = os.urandom(size)
    place = Path(shelf.keep(content=shelf.made(octets, b"Subject: changed\r\n", skip)))
    assert place.read_bytes() == FIELDS + b"Subject: changed\r\n" + octets[skip:]


def test_a_large_copy_is_not_held_in_memory(shelf: Shelf) -> None:
    content = shelf.made(bytes(20_000_000))
    tracemalloc.start()
    try:
        shelf.keep(content=content)
        shelf.keep(content=content)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert shelf.files() == [f"{DAY}/{ID}.eml"]


def test_the_same_entry_twice_is_one_copy(shelf: Shelf) -> None:
    assert shelf.keep() == shelf.keep()
    again = Shelf(shelf.path.parent.parent)
    assert again.keep(content=shelf.content) == shelf.keep()
    assert shelf.files() == [f"{DAY}/{ID}.eml"]


def test_other_copies_of_the_message_stand_beside_it(shelf: Shelf) -> None:
    first = shelf.keep()
    second = shelf.keep(an_entry(OTHER, "bob", domain="more"))
    assert second == shelf.keep(an_entry(OTHER, "bob", domain="more")) and first == shelf.keep()
    assert shelf.files() == [f"{DAY}/{ID}-{OTHER}.eml", f"{DAY}/{ID}.eml"]
    assert b"X-Envelope-To: <bob@b.example>\r\n" in Path(second).read_bytes()


def test_copies_of_one_message_at_the_same_time(shelf: Shelf) -> None:
    entries = [an_entry(f"0123456789abc{number:02}", f"user{number}") for number in range(20)]
    places: list[str] = []
    threads = [threading.Thread(target=lambda e=entry: places.append(shelf.keep(e))) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(places)) == 20
    assert sorted(Path(place).read_bytes() for place in places) == sorted(
        envelope_fields(entry) + b"Received: by us\r\n" + MAIL for entry in entries
    )


def test_two_archives_of_one_folder_keep_one_copy_of_what_is_the_same(shelf: Shelf) -> None:
    content = shelf.made(os.urandom(3_000_000))
    entries = [an_entry(f"0123456789abc{number:02}", domain=("books", "more")[number % 2]) for number in range(8)]
    threads = [threading.Thread(target=shelf.keep, args=(entry, content)) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shelf.files() == [f"{DAY}/{ID}.eml"]


@pytest.mark.parametrize("damage", [b"", MAIL, b"x"])
def test_what_is_there_and_is_not_the_copy_stays(shelf: Shelf, damage: bytes) -> None:
    place = Path(shelf.keep())
    whole = place.read_bytes()
    place.write_bytes(damage or whole[:-1])
    other = Path(shelf.keep())
    assert (other.name, other.read_bytes()) == (f"{ID}-{ENTRY}.eml", whole)
    assert place.read_bytes() == (damage or whole[:-1])
    other.write_bytes(whole + b"x")
    with pytest.raises(Unavailable, match="is there"):
        shelf.keep()
    assert len(shelf.files()) == 2


def test_what_a_crash_left_is_written_anew(shelf: Shelf) -> None:
    (shelf.path / DAY).mkdir(parents=True)
    (shelf.path / DAY / f".{ID}-{ENTRY}.new").write_bytes(b"x" * 10_000)
    shelf.keep()
    assert shelf.files() == [f"{DAY}/{ID}.eml"]
    assert (shelf.path / DAY / f"{ID}.eml").read_bytes() == FIELDS + b"Received: by us\r\n" + MAIL


def test_whole_and_for_good_before_it_is_said(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    def told(name: str) -> None:
        real: Any = getattr(os, name)

        def call(*arguments: Any) -> Any:
            target = arguments[0]
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
            did.append(f"{name} {os.path.relpath(path, shelf.path)}")
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    told("fsync")
    told("rename")
    shelf.keep()
    fresh = f"{DAY}/.{ID}-{ENTRY}.new"
    assert did == ["fsync .", "fsync ..", f"fsync {fresh}", f"rename {fresh}", f"fsync {DAY}"]
    did.clear()
    shelf.keep()
    assert did == [f"fsync {DAY}"]


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir", "open"])
@pytest.mark.parametrize("number, full", [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False),
                                          (errno.EROFS, False), (errno.EACCES, False)])  # fmt: skip
def test_trouble_with_the_disk(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, call: str, number: int, full: bool
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        with pytest.raises(Unavailable) as raised:
            shelf.keep()
    assert isinstance(raised.value, StorageFull) == full
    assert os.strerror(number) in raised.value.reason
    assert not shelf.path.exists() or shelf.files() == []
    assert shelf.keep().endswith(f"{ID}.eml")


def test_no_room_in_the_middle(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    real = os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda path, *rest: full if path.endswith(".new") else real(path, *rest))
        with pytest.raises(StorageFull):
            shelf.keep()
    assert shelf.files() == []
    shelf.keep()


def test_where_a_folder_should_be_is_a_file(shelf: Shelf) -> None:
    shelf.path.parent.mkdir()
    shelf.path.write_text("")
    with pytest.raises(Unavailable):
        shelf.keep()


def test_a_folder_that_was_removed_is_made_again(shelf: Shelf) -> None:
    shelf.keep()
    shutil.rmtree(shelf.path)
    with pytest.raises(Unavailable):
        shelf.keep()
    shelf.keep()
    assert shelf.files() == [f"{DAY}/{ID}.eml"]


@pytest.mark.parametrize("how", ["short", "gone"])
def test_a_body_that_cannot_be_read_whole(shelf: Shelf, how: str) -> None:
    content = shelf.made(b"x" * (3 * SMALL_BODY))
    assert content.body.path is not None
    stored = shelf.data / content.body.path
    if how == "short":
        stored.write_bytes(b"x" * (2 * SMALL_BODY))
    else:
        stored.unlink()
    with pytest.raises(Damaged if how == "short" else Unavailable):
        shelf.keep(content=content)
    assert shelf.files() == []


def test_an_archive_that_is_not_there_any_more(shelf: Shelf) -> None:
    with pytest.raises(Unavailable, match=r"no \[archive gone\]"):
        shelf.keep(an_entry(domain="gone"))


@pytest.mark.parametrize("id", ["", ".", "../../etc/cron.d/x", "a/b", "a\0b", "a b", "caf\u00e9", "a" * 65, "a\n"])
def test_names_are_ours_alone(shelf: Shelf, id: str) -> None:
    for entry in (an_entry(message_id=id), an_entry(id)):
        with pytest.raises(Damaged):
            shelf.keep(entry)
    assert not shelf.path.exists()


# --- the envelope -----------------------------------------------------------------------------------------------------


def test_the_null_sender() -> None:
    assert envelope_fields(replace(an_entry(ENTRY, "bob"), sender=None)) == (
        b"X-Envelope-From: <>\r\nX-Envelope-To: <bob@b.example>\r\n"
    )


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_nothing_can_be_injected(locals: list[str]) -> None:
    written = envelope_fields(an_entry(ENTRY, *locals))
    first, *to, last = written.decode().split("\r\n")
    assert first == "X-Envelope-From: <ann@a.example>" and last == ""
    assert len(to) == len(locals)
    assert all(line.startswith(("X-Envelope-To: <", " <")) for line in to)
    assert "\r" not in "".join(to) and "\n" not in "".join(to)
