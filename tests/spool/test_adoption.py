"""Mail of a worker that is no more: taken over at the start, all of it, once."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import NOW, Custody, a_deposit, add

from inboundmx.model.custody import Change, Content
from inboundmx.model.message import SMALL_BODY
from inboundmx.spool import adoption, schema
from inboundmx.spool.bodies import BodyFiles
from inboundmx.spool.locking import take_lock
from inboundmx.spool.sqlite import SqliteSpool

LARGE = os.urandom(SMALL_BODY + 77)


class Worker(Custody):
    """One of several with the same data folder."""

    def __init__(self, data: Path, number: int) -> None:
        super().__init__(data)
        self.folder = data / "spool" / str(number)
        self.number = number
        self.keep_off: tuple[str, ...] = ()

    def open(self, **how: Any) -> SqliteSpool:
        """Worker 0 adopts what others left."""
        return super().open(adopt=self.number == 0, keep_off=self.keep_off, **how)


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Custody]:
    custody = Worker(tmp_path / "data", 0)
    custody.open()
    custody.commit(add(a_deposit("ours00000001")))
    custody.close()
    yield custody
    if not custody.spool._closing:
        custody.close()


@pytest.fixture
def other(tmp_path: Path, ours: Custody) -> Custody:
    """Stopped, with mail small and large."""
    custody = Worker(tmp_path / "data", 1)
    custody.open()
    large = custody.large("large0000001", LARGE)
    one, two = (a_deposit(f"entry000000{n}", large, body_id="large0000001") for n in (1, 2))
    custody.commit(add(one, two, a_deposit("small0000001")))
    custody.close()
    return custody


EVERYTHING = ["entry0000001", "entry0000002", "ours00000001", "small0000001"]


def adopted(ours: Custody) -> None:
    assert ours.ids == EVERYTHING
    for id in EVERYTHING:
        content = ours.content(id)
        assert isinstance(content, Content)
        if content.body.path is not None:
            assert content.body.path == "spool/0/bodies/large0000001"
            assert (ours.data / content.body.path).read_bytes() == LARGE


def test_it_is_taken_over_and_nothing_is_left_behind(ours: Custody, other: Custody) -> None:
    ours.open()
    adopted(ours)
    assert ours.journal.names == ["spool_adopted"]
    assert "3 entries taken over" in str(ours.journal.events[0][1]["done"])
    assert os.listdir(ours.data / "spool") == ["0"]
    ours.commit(Change(remove=("entry0000001",)))
    ours.reopen()
    assert ours.ids == [id for id in EVERYTHING if id != "entry0000001"]
    ours.commit(Change(remove=("entry0000002",)))
    assert ours.files() == []


@pytest.mark.parametrize("step", ["share", "salvage", "remove_file", "sync_folder", "remove"])
@pytest.mark.parametrize("after", [False, True])
def test_interrupted_it_is_taken_over_at_the_next_start(
    ours: Custody, other: Custody, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Power goes before or after each step."""

    class PowerLoss(BaseException):
        pass

    owner = {"share": BodyFiles, "remove": BodyFiles, "remove_file": schema}.get(step, adoption)
    real = getattr(owner, step)

    def lose(*arguments: object) -> object:
        if after:
            real(*arguments)
        raise PowerLoss

    with monkeypatch.context() as patch, pytest.raises(PowerLoss):
        patch.setattr(owner, step, lose)
        ours.open()
    ours.open()
    adopted(ours)
    ours.reopen()
    adopted(ours)


def test_what_a_living_worker_holds_is_its_own(ours: Custody, other: Custody) -> None:
    lock = take_lock(str(other.folder))
    ours.open()
    assert ours.ids == ["ours00000001"] and ours.journal.names == []
    os.close(lock)
    ours.reopen()
    adopted(ours)


def test_whose_owner_is_only_away_is_not_taken_over(ours: Custody, other: Custody) -> None:
    assert isinstance(ours, Worker)
    ours.keep_off = ("0", other.folder.name)
    ours.open()
    assert ours.ids == ["ours00000001"]
    assert schema.live_file(str(other.folder))[1] is not None
    ours.close()
    ours.keep_off = ("0",)
    ours.open()
    assert ours.ids == EVERYTHING


def test_a_newer_file_is_left_untouched_and_does_not_keep_us_from_starting(ours: Custody, other: Custody) -> None:
    path = other.folder / "spool.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    before = path.read_bytes()
    ours.open()
    assert ours.ids == ["ours00000001"] and path.read_bytes() == before
    (event,) = ours.journal.events
    assert event[0] == "spool_not_adopted" and "newer release" in str(event[1]["what"])


def test_of_a_damaged_one_the_readable_is_taken_and_the_file_is_kept(ours: Custody, other: Custody) -> None:
    with contextlib.closing(sqlite3.connect(other.folder / "spool.sqlite")) as connection, connection:
        connection.execute("UPDATE entry SET facts = '{}' WHERE id = 'small0000001'")
    ours.open()
    assert ours.ids == ["entry0000001", "entry0000002", "ours00000001"]
    aside = f"{other.folder}/spool.sqlite.damaged-{int(NOW)}"
    assert os.path.exists(aside) and aside in str(ours.journal.events[0][1]["done"])
    ours.reopen()
    assert len(ours.journal.events) == 1


def test_the_same_id_in_both_is_ours(ours: Custody, other: Custody) -> None:
    ours.open()
    adopted(ours)
    ours.close()
    again = Worker(ours.data, 1)
    again.folder.mkdir()
    (again.folder / "spool.sqlite").write_bytes((ours.folder / "spool.sqlite").read_bytes())
    ours.open()
    adopted(ours)


def test_what_is_no_worker_s_folder_is_nobody_s_business(ours: Custody, other: Custody) -> None:
    spool = ours.folder.parent
    other.folder.rename(spool / "1.before")
    (spool / "2").symlink_to("1.before")
    (spool / "3").write_text("")
    ours.open()
    assert ours.ids == ["ours00000001"] and ours.journal.names == []


def test_an_empty_folder_goes(ours: Custody) -> None:
    (ours.folder.parent / "5" / "incoming").mkdir(parents=True)
    ours.open()
    assert os.listdir(ours.folder.parent) == ["0"] and ours.journal.names == []


def test_bodies_that_share_a_file_share_it_here(tmp_path: Path, ours: Custody, other: Custody) -> None:
    ids = tuple(f"packed00000{number}" for number in range(4))
    octets = {id: os.urandom(90_000) for id in ids}
    other.open()
    other.commit(add(*(a_deposit(id, octets[id]) for id in ids)))
    other.close()
    ours.open()
    for gone in range(4):
        assert all(ours.content(id).body.head == octets[id] for id in ids[gone:])
        assert ids[0] in ours.files()
        ours.commit(Change(remove=(ids[gone],)))
    ours.reopen()
    assert ours.files() == ["large0000001"]
    assert os.listdir(ours.data / "spool") == ["0"]
