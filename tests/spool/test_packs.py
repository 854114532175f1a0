"""Bodies that share a file: written together, read alone, gone when the last of them is."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import Custody, a_deposit, add

from inboundmx.model.custody import Change
from inboundmx.ports import Damaged, StorageFull, Unavailable
from inboundmx.spool import packs
from inboundmx.spool.bodies import place_of
from inboundmx.spool.packs import FULL_OCTETS, LEAST_OCTETS, PACKED_BODY, SPARE_PACKS
from inboundmx.spool.sqlite import VACUUM_SECONDS

IDS = tuple(f"packed00000{number}" for number in range(1, 5))


def octets_of(id: str, size: int = 100_000) -> bytes:
    return random.Random(id).randbytes(size)


@pytest.fixture
def custody(tmp_path: Path) -> Iterator[Custody]:
    custody = Custody(tmp_path / "data")
    custody.open()
    yield custody
    if not custody.spool._closing:
        custody.close()


def together(custody: Custody, *sizes: int, ids: tuple[str, ...] = IDS) -> list[Any]:
    return custody.commit(add(*(a_deposit(id, octets_of(id, size)) for id, size in zip(ids, sizes, strict=True))))


def paths(custody: Custody) -> list[str | None]:
    connection = custody.spool._file._connection
    assert connection is not None
    return [path for (path,) in connection.execute("SELECT path FROM body ORDER BY id")]


def whole(custody: Custody, *ids: str, size: int = 100_000) -> bool:
    return all(custody.content(id).body.head == octets_of(id, size) for id in ids)


def test_what_comes_together_is_in_one_file_until_the_last_of_it_goes(custody: Custody) -> None:
    assert together(custody, 100_000, 100_000, 100_000, 100_000) == [None]
    assert paths(custody) == [f"spool/0/bodies/{IDS[0]}#{start}" for start in (0, 100_000, 200_000, 300_000)]
    assert (custody.folder / "bodies" / IDS[0]).stat().st_mode & 0o777 == 0o600
    for gone in range(4):
        assert whole(custody, *IDS[gone:])
        assert custody.content(IDS[3]).body.path is None, "as if it had been in its row"
        assert custody.files() == [IDS[0]]
        if gone % 2:
            custody.reopen()
        custody.commit(Change(remove=(IDS[gone],)))
    custody.reopen()
    assert custody.files() == []


def test_where_mail_comes_and_goes_the_same_files_are_written_over(custody: Custody) -> None:
    others = tuple(f"others00000{number}" for number in range(4))
    for number in range(6):
        ids = tuple(f"round{number}00000{which}" for which in range(4))
        assert together(custody, *(90_000 + 1000 * which for which in range(4)), ids=ids) == [None]
        if number == 2:
            assert together(custody, 100_000, 100_000, 100_000, 100_000, ids=others) == [None]
        assert all(custody.content(id).body.head == octets_of(id, 90_000 + 1000 * n) for n, id in enumerate(ids))
        custody.commit(Change(remove=ids))
    assert custody.files() == [others[0], "round0000000"]
    assert whole(custody, *others)


def test_no_more_files_than_some_are_kept_to_be_written_over(custody: Custody) -> None:
    packs_of = [tuple(f"pack{pack:02}00000{which}" for which in range(4)) for pack in range(SPARE_PACKS + 3)]
    for ids in packs_of:
        together(custody, 100_000, 100_000, 100_000, 100_000, ids=ids)
    for ids in packs_of:
        custody.commit(Change(remove=ids))
    assert len(custody.files()) == SPARE_PACKS
    custody.clock.task.advance(VACUUM_SECONDS)
    assert custody.files() == [], "nor for long"
    together(custody, 100_000, 100_000, 100_000, 100_000)
    custody.commit(Change(remove=IDS))
    custody.close()
    assert custody.files() == [], "nor past the end"


def test_one_that_was_to_be_written_over_and_is_gone_costs_nobody_his_mail(custody: Custody) -> None:
    together(custody, 100_000, 100_000, 100_000, 100_000)
    custody.commit(Change(remove=IDS))
    (custody.folder / "bodies" / IDS[0]).unlink()
    ids = tuple(f"after000000{number}" for number in range(4))
    assert [type(answer) for answer in together(custody, 100_000, 100_000, 100_000, 100_000, ids=ids)] == [Unavailable]
    assert together(custody, 100_000, 100_000, 100_000, 100_000, ids=ids) == [None]
    assert whole(custody, *ids)


def test_it_is_shared_like_any_body(custody: Custody) -> None:
    together(custody, 100_000, 100_000, 100_000, 100_000)
    again = a_deposit("again0000001", custody.content(IDS[1]).body, body_id=IDS[1])
    custody.commit(add(again))
    custody.commit(Change(remove=IDS))
    assert custody.files() == [IDS[0]]
    assert custody.content("again0000001").body.head == octets_of(IDS[1])
    custody.commit(Change(remove=("again0000001",)))
    custody.reopen()
    assert custody.files() == []


@pytest.mark.parametrize(
    "sizes",
    [(LEAST_OCTETS // 2, LEAST_OCTETS // 2), (LEAST_OCTETS,), (PACKED_BODY - 1,) * 9],
)
def test_few_or_small_ones_stay_in_their_rows(custody: Custody, sizes: tuple[int, ...]) -> None:
    ids = tuple(f"packed00000{number}" for number in range(len(sizes)))
    assert together(custody, *sizes, ids=ids) == [None]
    assert set(paths(custody)) == {None}
    assert custody.files() == []


def test_a_pack_that_is_full_is_followed_by_another_and_what_is_left_over_stays_in_its_row(custody: Custody) -> None:
    size, fill = 200_000, -(-FULL_OCTETS // 200_000)
    ids = tuple(f"packed0000{number:02}" for number in range(2 * fill + 1))
    assert together(custody, *[size] * len(ids), ids=ids) == [None]
    assert custody.files() == [ids[0], ids[fill]]
    assert [path is None for path in paths(custody)] == [False] * 2 * fill + [True]
    custody.reopen()
    assert whole(custody, *ids, size=size)


def test_what_was_not_committed_leaves_no_file_and_takes_none_away(custody: Custody) -> None:
    connection = custody.spool._file._connection
    assert connection is not None
    together(custody, 100_000, 100_000, 100_000, 100_000)
    connection.execute("PRAGMA max_page_count=1")
    ids = tuple(f"refused0000{number}" for number in range(5))
    (answer,) = together(custody, *[100_000] * 4, PACKED_BODY - 1, ids=ids)
    assert isinstance(answer, StorageFull)
    assert custody.files() == [IDS[0]]
    assert whole(custody, *IDS)


def test_a_file_that_is_there_already_is_never_written_to(custody: Custody) -> None:
    for id in IDS[:3]:
        (custody.folder / "bodies" / id).write_bytes(b"somebody else's")
    assert together(custody, 100_000, 100_000, 100_000, 100_000) == [None]
    assert custody.files() == sorted(IDS)
    assert {(custody.folder / "bodies" / id).read_bytes() for id in IDS[:3]} == {b"somebody else's"}
    assert whole(custody, *IDS)


def test_where_every_name_is_taken_nothing_is_promised(custody: Custody) -> None:
    for id in IDS:
        (custody.folder / "bodies" / id).write_bytes(b"somebody else's")
    (answer,) = together(custody, 100_000, 100_000, 100_000, 100_000)
    assert isinstance(answer, Unavailable)
    assert {(custody.folder / "bodies" / id).read_bytes() for id in IDS} == {b"somebody else's"}


def test_a_message_that_comes_again_is_in_its_place_and_leaves_none_behind(custody: Custody) -> None:
    together(custody, 100_000, 100_000, 100_000, 100_000)
    ids = ("again0000001", *(f"others00000{number}" for number in range(3)))
    deposits = [a_deposit(id, octets_of(id)) for id in ids[1:]]
    again = a_deposit(ids[0], custody.content(IDS[0]).body, body_id=IDS[0])
    assert custody.commit(add(again, *deposits)) == [None]
    custody.commit(Change(remove=IDS))
    assert custody.content(ids[0]).body.head == octets_of(IDS[0])
    assert whole(custody, *ids[1:])
    custody.commit(Change(remove=ids))
    custody.reopen()
    assert custody.files() == []


def test_where_rows_are_missing_a_pack_stays_until_the_next_start(custody: Custody) -> None:
    together(custody, 100_000, 100_000, 100_000, 100_000)
    custody.close()
    with contextlib.closing(sqlite3.connect(custody.folder / "spool.sqlite")) as connection:
        connection.execute("UPDATE entry SET facts = 'none' WHERE id = ?", (IDS[3],))
        connection.execute("UPDATE body SET digest = 'none' WHERE id = ?", (IDS[3],))
        connection.commit()
    custody.open()
    custody.commit(Change(remove=IDS[:3]))
    together(custody, 100_000, 100_000, 100_000, ids=("others000001", "others000002", "others000003"))
    assert custody.files() == ["others000001", IDS[0]], "it is not written over"
    custody.close()
    assert custody.files() == ["others000001", IDS[0]]


def test_a_pack_that_nobody_speaks_of_is_swept_away_and_one_of_which_a_part_is_needed_is_not(custody: Custody) -> None:
    together(custody, 100_000, 100_000, 100_000, 100_000)
    custody.commit(Change(remove=IDS[:3]))
    custody.close()
    (custody.folder / "bodies" / "halfwritten1").write_bytes(b"when the power went")
    custody.open()
    assert custody.files() == [IDS[0]]
    assert whole(custody, IDS[3])


@pytest.mark.parametrize("harm", ["altered", "cut", "gone"])
def test_harm_is_found_out_and_is_that_of_whom_it_befell(custody: Custody, harm: str) -> None:
    together(custody, 100_000, 100_000, 100_000, 100_000)
    pack = custody.folder / "bodies" / IDS[0]
    octets = pack.read_bytes()
    if harm == "gone":
        pack.unlink()
    else:
        pack.write_bytes(octets[:399_999] + (b"" if harm == "cut" else bytes([octets[-1] ^ 1])))
    assert isinstance(custody.content(IDS[3]), Damaged)
    if harm != "gone":
        assert whole(custody, *IDS[:3])


def test_a_write_that_stops_half_way_is_gone_on_with(custody: Custody, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, bodies: real(descriptor, [bodies[0], bodies[1][:777]]))
    assert together(custody, 100_000, 100_000, 100_000, 100_000) == [None]
    assert whole(custody, *IDS)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["writev", "fdatasync", "fsync"])
def test_without_room_for_it_nothing_is_promised(
    custody: Custody, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(packs.os, call, refuse)
        assert [type(answer) for answer in together(custody, 100_000, 100_000, 100_000, 100_000)] == [StorageFull]
    assert custody.files() == []
    assert together(custody, 100_000, 100_000, 100_000, 100_000) == [None]


def test_messages_whose_pack_cannot_be_synced_are_kept_one_by_one_in_their_rows(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    custody.spool._writer._out = True  # so that all are in one batch
    changes = [add(a_deposit(id, octets_of(id))) for id in IDS]
    answers = [custody.spool.commit(change) for change in changes]
    custody.spool._writer._out = False
    with monkeypatch.context() as patch:
        patch.setattr(packs.os, "fdatasync", refuse)
        custody.spool._writer.wake()
    assert [answer.result for answer in answers] == [None] * 4
    assert set(paths(custody)) == {None}
    assert custody.files() == []
    assert custody.journal.names == ["disk_fails"]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("spool/0/bodies/abcdefgh", ("spool/0/bodies/abcdefgh", None)),
        ("spool/0/bodies/abcdefgh#0", ("spool/0/bodies/abcdefgh", 0)),
        ("../sp#1/bodies/abcdefgh#123", ("../sp#1/bodies/abcdefgh", 123)),
        ("../sp#1/bodies/abcdefgh", ("../sp#1/bodies/abcdefgh", None)),
    ],
)
def test_a_path_says_where_a_body_begins(path: str, place: tuple[str, int | None]) -> None:
    assert place_of(path) == place
