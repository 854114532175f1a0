"""Bodies on their way in, and as files."""

from __future__ import annotations

import errno
import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest

from inboundmx.model.message import SMALL_BODY
from inboundmx.ports import Damaged, StorageFull, Unavailable
from inboundmx.spool.bodies import BodyFiles, FileDraft, SpoolBodies
from inboundmx.spool.store import digest_of


def a_draft(data: Path, id: str = "0000000000aa") -> FileDraft:
    return SpoolBodies(str(data / "spool" / "0"), str(data)).draft(id)


@pytest.mark.parametrize("size", [0, 1, SMALL_BODY - 1, SMALL_BODY])
def test_a_small_body_stays_in_memory(tmp_path: Path, size: int) -> None:
    octets = os.urandom(size)
    draft = a_draft(tmp_path)
    for at in range(0, size, 50_000):
        draft.write(octets[at : at + 50_000])
    body = draft.finish()
    assert (body.size, body.head, body.path) == (size, octets, None)
    assert not body.digest, "a body that is only handed over is not hashed"
    assert digest_of(body) == hashlib.sha256(octets).digest()
    assert not list((tmp_path / "spool" / "0" / "incoming").iterdir())


@pytest.mark.parametrize("chunk", [1000, 65536, 10**7])
@pytest.mark.parametrize("size", [SMALL_BODY + 1, 700_001])
def test_a_large_body_is_a_file(tmp_path: Path, size: int, chunk: int) -> None:
    octets = os.urandom(size)
    draft = a_draft(tmp_path)
    for at in range(0, size, chunk):
        draft.write(octets[at : at + chunk])
    body = draft.finish()
    assert body.path == "spool/0/incoming/0000000000aa"
    assert (tmp_path / body.path).read_bytes() == octets
    assert (tmp_path / body.path).stat().st_mode & 0o777 == 0o600
    assert (body.size, body.head, body.digest) == (size, octets[:SMALL_BODY], hashlib.sha256(octets).digest())
    draft.discard()
    assert not (tmp_path / body.path).exists()
    draft.discard()


def test_large_bodies_that_come_at_the_same_time_have_so_many_files_and_no_more(tmp_path: Path) -> None:
    bodies = SpoolBodies(str(tmp_path / "spool" / "0"), str(tmp_path))
    bodies.places.most = 2
    large = bytes(SMALL_BODY + 1)
    one, two = bodies.draft("0000000000aa"), bodies.draft("0000000000ab")
    one.write(large)
    two.write(large)
    late, small = bodies.draft("0000000000ac"), bodies.draft("0000000000ad")
    with pytest.raises(Unavailable, match="Too many open files"):
        late.write(large)
    late.discard()
    small.write(large[1:])
    assert small.finish().size == SMALL_BODY
    for ended in (one.finish, two.discard):
        ended()
        third = bodies.draft(f"0000000000{bodies.places.taken}b")
        third.write(large)
        third.finish()
    assert bodies.places.taken == 0


def test_thirty_megabytes_do_not_stay_in_memory(tmp_path: Path) -> None:
    draft = a_draft(tmp_path)
    tracemalloc.start()
    try:
        for _ in range(480):
            draft.write(bytes(65536))
        body = draft.finish()
        assert tracemalloc.get_traced_memory()[1] < 1_100_000
    finally:
        tracemalloc.stop()
    assert body.size == 480 * 65536


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, Unavailable)]
)
def test_a_draft_that_cannot_be_written_is_lost_but_takes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    draft = a_draft(tmp_path)
    draft.write(bytes(SMALL_BODY))
    with monkeypatch.context() as patch:

        def refuse(*arguments: object) -> int:
            raise OSError(code, os.strerror(code))

        patch.setattr(os, "write", refuse)
        with pytest.raises(kind) as caught:
            draft.write(b"x")
    assert type(caught.value) is kind
    draft.write(b"more")
    with pytest.raises(kind):
        draft.finish()
    assert not list((tmp_path / "spool" / "0" / "incoming").iterdir())


def test_files_are_moved_only_together(tmp_path: Path) -> None:
    files = BodyFiles(str(tmp_path / "s"), str(tmp_path))
    files.prepare()
    (tmp_path / "s" / "incoming" / "aaaaaaaa").write_bytes(b"a")
    with pytest.raises(FileNotFoundError):
        files.keep(["s/incoming/aaaaaaaa", "s/incoming/bbbbbbbb"])
    assert (tmp_path / "s" / "incoming" / "aaaaaaaa").exists()
    assert files.keep(["s/incoming/aaaaaaaa"]) == {"s/incoming/aaaaaaaa": "s/bodies/aaaaaaaa"}
    assert files.keep(["s/bodies/aaaaaaaa"]) == {}


@pytest.mark.parametrize(
    ("octets", "size", "digest_of"), [(b"abd", 3, b"abc"), (b"ab", 3, b"abc"), (b"abcd", 3, b"abc"), (b"", 3, b"abc")]
)
def test_an_altered_file_is_found_out(tmp_path: Path, octets: bytes, size: int, digest_of: bytes) -> None:
    files = BodyFiles(str(tmp_path), str(tmp_path))
    (tmp_path / "f").write_bytes(octets)
    with pytest.raises(Damaged):
        files.check("f", size, hashlib.sha256(digest_of).digest())
    with pytest.raises(Damaged):
        files.check("absent", size, hashlib.sha256(digest_of).digest())


def test_sweeping_removes_only_what_is_ours_and_nobodys(tmp_path: Path) -> None:
    files = BodyFiles(str(tmp_path), str(tmp_path))
    files.prepare()
    for name in ("incoming/aaaaaaaa1", "bodies/aaaaaaaa2", "bodies/aaaaaaaa3", "bodies/NOTES.txt"):
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "incoming" / "fifofifo1")
    (tmp_path / "incoming" / "dirdirdir").mkdir()
    (tmp_path / "bodies" / "linklink1").symlink_to(tmp_path / "bodies" / "NOTES.txt")
    assert files.sweep(None) == 2, "when rows are missing, no body is removed"
    assert files.sweep({"bodies/aaaaaaaa2"}) == 2
    assert sorted(p.name for p in (tmp_path / "bodies").iterdir()) == ["NOTES.txt", "aaaaaaaa2"]
    assert [p.name for p in (tmp_path / "incoming").iterdir()] == ["dirdirdir"]
