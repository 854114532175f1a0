"""The file of lists: every process reads what any has written, a change is whole or not there, damage is told."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.listing import Difference, Key, Listed
from inboundmx.ports import Unavailable
from inboundmx.storage import lists_file
from inboundmx.storage.lists_file import ListsFile

NOW = 1_800_000_000.0
BAD = Listed("blacklist", "192.0.2.66", (), "spam run", "ann (uid 7)", NOW, NOW + 60)
ODD = Listed("blocked-sender", "x'||(select 1)||'@a.test", (), "%'; drop table entry--\u2028", "bob", NOW, None)
GOOD = Listed("whitelist", "2001:db8::/32", ("smtp", "greylisting"), "", "bob", NOW, None)


def kept(folder: Path, now: float = NOW) -> list[Listed]:
    """What a process that starts finds."""
    news = ListsFile(str(folder)).look(now)
    assert not news.damage
    assert all(each.gone is None for each in news.differences)
    return [each.come for each in news.differences if each.come is not None]


def test_what_was_added_is_found_by_whoever_starts_and_whoever_runs(tmp_path: Path) -> None:
    one, other = ListsFile(str(tmp_path)), ListsFile(str(tmp_path))
    assert one.look(NOW).differences == []
    assert other.look(NOW).differences == []
    assert one.change([BAD, ODD], [], NOW).differences == [Difference(None, BAD), Difference(None, ODD)]
    assert other.look(NOW).differences == [Difference(None, BAD), Difference(None, ODD)]
    assert other.look(NOW).differences == [], "once"
    assert other.change([GOOD], [ODD.key], NOW).differences == [Difference(ODD, None), Difference(None, GOOD)]
    assert one.look(NOW).differences == [Difference(ODD, None), Difference(None, GOOD)]
    assert kept(tmp_path) == [BAD, GOOD]
    assert (tmp_path / "lists.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_others_changed_is_told_to_who_changes_as_well(tmp_path: Path) -> None:
    one, other = ListsFile(str(tmp_path)), ListsFile(str(tmp_path))
    one.change([BAD], [], NOW)
    again = Listed("blacklist", BAD.value, reason="still", since_at=NOW)
    assert other.change([again], [], NOW).differences == [Difference(None, BAD), Difference(BAD, again)]
    assert one.look(NOW).differences == [Difference(BAD, again)]
    assert one.change([], [("blacklist", "192.0.2.1")], NOW).differences == []


def test_a_change_that_the_power_cut_short_was_never_made(tmp_path: Path) -> None:
    ListsFile(str(tmp_path)).change([BAD], [], NOW)
    whole = (tmp_path / "lists.jsonl").read_bytes()
    ListsFile(str(tmp_path)).change([ODD], [], NOW)
    longer = (tmp_path / "lists.jsonl").read_bytes()
    for cut in range(len(whole), len(longer)):
        (tmp_path / "lists.jsonl").write_bytes(longer[:cut])
        assert kept(tmp_path) == [BAD], cut
    ListsFile(str(tmp_path)).change([GOOD], [], NOW)
    assert kept(tmp_path) == [BAD, GOOD]
    assert sorted(os.listdir(tmp_path)) == ["lists.jsonl", "lists.lock"], "nothing was damaged"


@pytest.mark.parametrize(
    ("place", "left"), [(0, [BAD, ODD]), (1, [ODD]), (2, [BAD])], ids=["the first line", "an entry", "the last entry"]
)
def test_a_damaged_line_is_told_and_the_rest_holds(tmp_path: Path, place: int, left: list[Listed]) -> None:
    running = ListsFile(str(tmp_path))
    running.change([BAD], [], NOW)
    running.change([ODD], [], NOW)
    lines = (tmp_path / "lists.jsonl").read_bytes().splitlines(keepends=True)
    lines[place] = lines[place].replace(b"1", b"7", 1).replace(b"0", b"9", 1)
    damaged = b"".join(lines)
    (tmp_path / "lists.jsonl").write_bytes(damaged)
    news = ListsFile(str(tmp_path)).look(NOW + 5)
    assert [each.come for each in news.differences] == left
    assert news.damage == "1 of 3 lines of lists.jsonl are damaged: what they said is lost"
    aside = f"lists.jsonl.damaged-{int(NOW + 5)}"
    assert aside in news.done
    assert (tmp_path / aside).read_bytes() == damaged
    assert kept(tmp_path) == left, "it is told once, and the file is whole again"
    running.look(NOW)
    assert running.change([GOOD], [], NOW).differences[-1:] == [Difference(None, GOOD)]
    assert kept(tmp_path) == [*left, GOOD]


@pytest.mark.parametrize("octets", [b"", b"\0" * 4096, b"\xff\n" * 9, b"[1]\n", b"0 {}\n"], ids=range(5))
def test_a_file_that_makes_no_sense_is_set_aside(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "lists.jsonl").write_bytes(octets)
    news = ListsFile(str(tmp_path)).look(NOW)
    assert news.differences == []
    assert "damaged" in news.damage
    ListsFile(str(tmp_path)).change([BAD], [], NOW)
    assert kept(tmp_path) == [BAD]


def test_a_line_that_says_what_no_entry_can_be_is_damage(tmp_path: Path) -> None:
    file = ListsFile(str(tmp_path))
    file.change([BAD], [], NOW)
    for said in (
        {"add": [{"kind": "blacklist"}]},
        {"add": [lists_file._row(BAD) | {"value": "192.0.2"}]},
        {"add": [lists_file._row(BAD) | {"kind": "greylist"}]},
        {"add": [lists_file._row(GOOD) | {"ticks": ["relay"]}]},
        {"add": [lists_file._row(ODD) | {"value": "nobody"}]},
        {"add": 7},
        {"remove": ["x"]},
        [],
    ):
        with (tmp_path / "lists.jsonl").open("ab") as out:
            out.write(lists_file._line(said))  # type: ignore[arg-type]
        assert file.look(NOW).damage, said
        assert kept(tmp_path) == [BAD]


def test_what_is_over_is_dropped_when_the_file_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists_file, "SPARE_LINES", 10)
    file, other = ListsFile(str(tmp_path)), ListsFile(str(tmp_path))
    file.change([BAD, GOOD], [], NOW)
    other.look(NOW)
    for number in range(40):
        file.change([Listed("blacklist", "192.0.2.1", reason=str(number), since_at=NOW)], [], NOW + 100)
    assert len((tmp_path / "lists.jsonl").read_bytes().splitlines()) < 25
    last = Listed("blacklist", "192.0.2.1", reason="39", since_at=NOW)
    assert kept(tmp_path) == [GOOD, last]
    assert other.look(NOW + 100).differences == [Difference(BAD, None), Difference(None, last)]


def test_a_lock_that_is_held_for_too_long_is_trouble_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists_file, "LOCK_SECONDS", 0.0)
    file = ListsFile(str(tmp_path))
    file.change([BAD], [], NOW)
    with (tmp_path / "lists.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another process"):
            file.change([GOOD], [], NOW)
    assert kept(tmp_path) == [BAD]
    assert file.change([GOOD], [], NOW).differences == [Difference(None, GOOD)]


def test_a_disk_that_fails_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    file = ListsFile(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(Unavailable):
            file.change([BAD], [], NOW)
    assert kept(tmp_path) == []
    file.change([BAD], [], NOW)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(Unavailable):
            file.change([GOOD], [], NOW)
    assert kept(tmp_path) == [BAD]
    assert file.look(NOW).differences == []
    file.change([ODD], [], NOW)
    assert kept(tmp_path) == [BAD, ODD]


def test_what_is_no_file_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "lists.jsonl").mkdir()
    file = ListsFile(str(tmp_path))
    with pytest.raises(Unavailable):
        file.look(NOW)
    with pytest.raises(Unavailable):
        file.change([BAD], [], NOW)
    with pytest.raises(Unavailable):
        ListsFile(str(tmp_path / "gone")).change([BAD], [], NOW)


def test_what_was_kept_is_synced_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def recorded_fsync(descriptor: int) -> None:
        calls.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def recorded_rename(old: str, new: str) -> None:
        calls.append(f"rename {os.path.basename(new)}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    file = ListsFile(str(tmp_path))
    file.change([BAD], [], NOW)
    file.change([GOOD], [], NOW)
    assert calls == ["fsync lists.jsonl.new", "rename lists.jsonl", f"fsync {tmp_path.name}", "fsync lists.jsonl"]


_VALUES = st.sampled_from(["192.0.2.1", "192.0.2.0/24", "192.0.2.1-192.0.2.7", "2001:db8::1"])
_ENTRIES = st.builds(
    Listed,
    st.just("blacklist"),
    _VALUES,
    reason=st.text(max_size=8),
    since_at=st.just(NOW),
    until_at=st.one_of(st.none(), st.floats(NOW - 10, NOW + 10)),
)
_KEYS = st.tuples(st.just("blacklist"), _VALUES)
_CHANGES = st.lists(
    st.tuples(st.integers(0, 2), st.lists(_ENTRIES, max_size=3), st.lists(_KEYS, max_size=2)), max_size=12
)


@given(_CHANGES)
@settings(deadline=None, max_examples=60)
def test_processes_that_change_it_in_turns_all_know_the_same(
    changes: list[tuple[int, list[Listed], list[Key]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(lists_file, "SPARE_LINES", 2):
        files = [ListsFile(folder) for _ in range(3)]
        known: list[dict[Key, Listed]] = [{} for _ in files]
        truth: dict[Key, Listed] = {}

        def hear(number: int, differences: list[Difference]) -> None:
            for gone, come in differences:
                if gone is not None:
                    assert known[number].pop(gone.key) == gone
                if come is not None:
                    known[number][come.key] = come

        for number, come, gone in changes:
            hear(number, files[number].change(come, gone, NOW).differences)
            for key in gone:
                truth.pop(key, None)
            truth.update({entry.key: entry for entry in come})
        for number, file in enumerate([*files, ListsFile(folder)]):
            if number == len(known):
                known.append({})
            hear(number, file.look(NOW).differences)
            # What is over may be gone already.
            assert known[number].items() <= truth.items()
            assert all(entry.over(NOW) for key, entry in truth.items() if key not in known[number])
