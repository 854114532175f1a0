"""The state store's own business: batches, memory in front, processes, bounds, damaged files."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import NOW, TestClock, result

from inboundmx.ports import Fact, Unavailable
from inboundmx.storage import counting, state_file
from inboundmx.storage import state as module
from inboundmx.storage.state import SqliteStateStore
from inboundmx.storage.writer import InlineLane, at_once

SPACE = "grey"


class Held:
    """A lane that does nothing until it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def __call__(self, job: Any) -> None:
        self.jobs.append(job)

    def stop(self) -> None:
        pass

    def run(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


class Process:
    """One process's store on a shared folder, on a shared clock."""

    def __init__(self, data: Path, clock: TestClock, lane: Any = None) -> None:
        self.clock = clock
        self.path = data / "state.sqlite"
        self.reports: list[str] = []
        self.store = SqliteStateStore(
            str(data), clock, at_once, lambda event, fields: self.reports.append(event), lambda _: lane or InlineLane()
        )

    def get(self, key: str) -> Fact | None:
        with pytest.raises(StopIteration) as stop:
            self.store.get(SPACE, key).send(None)
        found: Fact | None = stop.value.value
        return found

    def put(self, key: str, value: float = 1.0, lives: float = 1000.0) -> None:
        self.store.put(SPACE, key, Fact((value,), self.clock.now(), self.clock.now() + lives))

    def value(self, key: str) -> float | None:
        fact = self.get(key)
        return None if fact is None else fact.values[0]

    def flush(self) -> None:
        self.clock.task.advance(module.FLUSH_SECONDS)

    def close(self) -> None:
        assert result(self.store.close()) is None

    def rows(self) -> set[str]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return {key for (key,) in connection.execute("SELECT key FROM fact")}


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def one(tmp_path: Path, clock: TestClock) -> Iterator[Process]:
    process = Process(tmp_path, clock)
    yield process
    if not process.store._closing:
        process.close()


def test_writes_wait_for_a_batch(one: Process) -> None:
    one.put("a")
    one.clock.task.advance(0.19)
    assert one.rows() == set()
    one.clock.task.advance(0.01)
    assert one.rows() == {"a"}
    for number in range(state_file.BATCH_FACTS):
        one.put(str(number))
    assert len(one.rows()) == state_file.BATCH_FACTS + 1


def test_closing_writes_what_waits(one: Process, tmp_path: Path, clock: TestClock) -> None:
    for number in range(2 * state_file.BATCH_FACTS + 7):
        one.put(str(number))
    one.close()
    assert len(one.rows()) == 2 * state_file.BATCH_FACTS + 7
    assert Process(tmp_path, clock).value("7") == 1.0


def test_a_fact_is_read_while_it_is_being_written(tmp_path: Path, clock: TestClock, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 0)
    lane = Held()
    process = Process(tmp_path, clock, lane)
    process.put("a", 1)
    process.flush()
    assert len(lane.jobs) == 1 and process.value("a") == 1
    process.put("a", 2)
    assert process.value("a") == 2
    lane.run()
    assert process.value("a") == 2
    process.flush()
    lane.run()
    assert process.value("a") == 2


def test_two_processes_share_the_file(one: Process, tmp_path: Path, clock: TestClock) -> None:
    other = Process(tmp_path, clock)
    assert other.value("a") is None
    one.put("a", 1)
    one.flush()
    assert other.value("a") is None, "an absent key is remembered for a moment"
    clock.task.advance(module.FRESH_ABSENT_SECONDS)
    assert other.value("a") == 1
    one.put("a", 2)
    one.flush()
    assert other.value("a") == 1
    clock.task.advance(module.FRESH_SECONDS)
    assert other.value("a") == 2
    other.put("b")
    clock.task.advance(module.FRESH_ABSENT_SECONDS)
    assert one.value("b") == 1
    assert (one.reports, other.reports) == ([], [])
    other.close()


def test_what_others_wrote_is_read_anew_when_something_is_to_be_forgotten(
    one: Process, tmp_path: Path, clock: TestClock
) -> None:
    other = Process(tmp_path, clock)
    one.put("a", 1)
    one.flush()
    assert other.value("a") == 1
    one.put("a", 2)
    one.flush()
    assert other.value("a") == 1
    done = other.store.forget(SPACE, "no key holds this")
    other.flush()
    assert (result(done), other.value("a")) == (0, 2)
    other.close()


def test_memory_is_bounded_and_answers_without_the_file(one: Process, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    for key in "abcd":
        assert one.value(key) is None
    assert [name for _, name in one.store._known] == ["b", "c", "d"]
    monkeypatch.setattr(one.store, "_look_up", lambda name: pytest.fail("asked the file"))
    assert one.value("d") is None


def test_what_waits_is_bounded(tmp_path: Path, clock: TestClock, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "WAITING_FACTS", 50)
    process = Process(tmp_path, clock, Held())
    for number in range(60):
        process.put(str(number))
    assert (len(process.store._waiting), process.store.dropped) == (50, 10)
    assert next(iter(process.store._waiting)) == (SPACE, "10")


def test_names_that_meet_in_one_number_are_told_apart(one: Process, monkeypatch: Any) -> None:
    for each in (module, state_file):
        monkeypatch.setattr(each, "number_of", lambda name: 7)
    one.put("a", 1)
    one.flush()
    one.store._known.clear()
    assert (one.value("a"), one.value("b")) == (1, None)
    one.put("b", 2)
    one.flush()
    one.store._known.clear()
    assert (one.value("a"), one.value("b")) == (None, 2)


def test_expired_facts_leave_the_disk(one: Process) -> None:
    one.put("short", lives=5)
    one.put("long", lives=500)
    one.flush()
    one.clock.task.advance(5)
    one.put("other")
    one.flush()
    assert one.rows() == {"long", "other"}


def test_a_flood_drives_out_what_would_expire_first(tmp_path: Path, clock: TestClock, monkeypatch: Any) -> None:
    monkeypatch.setattr(state_file, "ROWS", 200)
    process = Process(tmp_path, clock)
    for number in range(50):
        process.put(f"passed {number}", lives=1e6)
    for number in range(500):
        process.put(f"stranger {number}", lives=100)
        if number % 40 == 0:
            process.flush()
    process.flush()
    rows = process.rows()
    assert 150 <= len(rows) <= 200
    assert {f"passed {number}" for number in range(50)} <= rows
    process.close()
    # Counted anew when the file is opened anew, and when another process has written.
    again = Process(tmp_path, clock)
    for number in range(60):
        again.put(f"later {number}", lives=200)
    again.flush()
    assert len(again.rows()) <= 200


WEEK = 7 * 86400.0


def flood(process: Process, kind: str, many: int) -> None:
    """Comes while all is well; who is written last expires last."""
    for number in range(many):
        if kind == "counted":
            count(process, f"{kind} {number}")
        else:
            process.put(f"{kind} {number}", lives=WEEK if kind == "lasting" else 20_000.0)
        if number % 40 == 39:
            process.flush()
    process.flush()


@pytest.mark.parametrize(
    ("first", "then", "left"),
    [
        # Those that would expire first are not those that go first.
        ({"counted": 20, "lasting": 20}, "brief", {"counted": 20, "lasting": 20}),
        ({"counted": 20, "brief": 20}, "lasting", {"counted": 20, "brief": 0}),
        ({"lasting": 60, "brief": 20}, "counted", {"lasting": 60, "brief": 0}),
        ({"counted": 160}, "lasting", {"counted": 40}),
        ({"lasting": 190}, "counted", {"lasting": 140}),
    ],
)
def test_what_a_flood_drives_out(
    tmp_path: Path, clock: TestClock, monkeypatch: Any, first: dict[str, int], then: str, left: dict[str, int]
) -> None:
    monkeypatch.setattr(state_file, "ROWS", 200)
    monkeypatch.setattr(state_file, "_STEP", 40)
    monkeypatch.setattr(state_file, "_COUNTED_EVERY", 1)
    process = Process(tmp_path, clock)
    for kind, many in first.items():
        flood(process, kind, many)
    # The whole of it within the windows of what is counted.
    flood(process, then, 2000)
    rows = process.rows()
    assert 150 <= len(rows) <= 240
    kept = {kind: sum(key.startswith(kind) for key in rows) for kind in left}
    for kind, many in left.items():
        assert kept[kind] == many if many in (first[kind], 0) else kept[kind] >= many, kept
    process.close()


def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path, clock: TestClock) -> None:
    process = Process(tmp_path, clock)
    process.put("old", lives=WEEK)
    process.close()
    with contextlib.closing(sqlite3.connect(process.path)) as connection:
        connection.execute("DROP INDEX fact_goes")
        connection.execute("ALTER TABLE fact DROP COLUMN goes")
        connection.execute("CREATE INDEX fact_expires_at ON fact(expires_at)")
        connection.execute("PRAGMA user_version=1")
        connection.commit()
    one, other = Process(tmp_path, clock), Process(tmp_path, clock)
    assert (one.value("old"), other.value("old")) == (1, 1)
    one.put("new")
    one.flush()
    with contextlib.closing(sqlite3.connect(process.path)) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["fact", "fact_goes"]
        assert connection.execute("SELECT goes FROM fact ORDER BY goes").fetchall() == [(0,), (1,)]
    assert one.reports == other.reports == []
    one.close()
    other.close()


def test_two_processes_that_find_too_much_sweep_once(tmp_path: Path, clock: TestClock, monkeypatch: Any) -> None:
    monkeypatch.setattr(state_file, "ROWS", 1000)
    monkeypatch.setattr(state_file, "_STEP", 5)
    monkeypatch.setattr(state_file, "_COUNTED_EVERY", 1)
    one, other = Process(tmp_path, clock), Process(tmp_path, clock)
    for number in range(1002):
        (one, other)[number % 2].put(f"a {number}", lives=1000 + number)
    one.flush()
    for number in range(30):
        (one, other)[number % 2].put("again", lives=9000)
        clock.task.advance(module.FLUSH_SECONDS)
    assert len(one.rows()) == 980
    for process in (one, other):
        process.close()


def test_the_size_of_the_file_is_a_bound_too(one: Process, monkeypatch: Any) -> None:
    for number in range(900):
        one.put(f"{number} {'x' * 400}", lives=100 + number)
    one.flush()
    monkeypatch.setattr(state_file, "OCTETS", 200_000)
    for _ in range(12):
        one.put("again", lives=1e6)
        one.flush()
    rows = one.rows()
    assert 50 < len(rows) < 700 and "again" in rows and f"899 {'x' * 400}" in rows


# --- files that are not as they were ----------------------------------------------------------------------------------


def forced_out(process: Process) -> None:
    """Into the main file, so that damage to it is damage to the facts."""
    for number in range(600):
        process.put(f"fact {number} {'.' * 100}")
    process.flush()
    process.close()


def broken_in_the_middle(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    for start in range(4096, len(octets), 4096):
        octets[start : start + 16] = b"\xff" * 16
    path.write_bytes(octets)


DAMAGES = {
    "not a database": lambda path: path.write_bytes(b"mail " * 2000),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 100]),
    "empty": lambda path: path.write_bytes(b""),
    "pages": broken_in_the_middle,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(damage: str, tmp_path: Path, clock: TestClock) -> None:
    process = Process(tmp_path, clock)
    forced_out(process)
    DAMAGES[damage](process.path)
    process = Process(tmp_path, clock)
    # Whatever is found first, by reading or by writing: unavailable for a moment, and never a fault.
    get_all(process, (f"fact {number} {'.' * 100}" for number in range(600)))
    process.put("new")
    process.flush()
    clock.task.advance(module.FRESH_SECONDS)
    assert process.value("new") == 1
    expected = [] if damage == "empty" else ["state_damaged"]
    assert process.reports == expected
    assert len(list(tmp_path.glob("state.sqlite.damaged-*[0-9]"))) == len(expected)
    process.close()
    assert "new" in process.rows()


@pytest.mark.parametrize("seed", range(8))
def test_octets_that_change_are_never_more_than_unavailable(seed: int, tmp_path: Path, clock: TestClock) -> None:
    process = Process(tmp_path, clock)
    forced_out(process)
    chance = random.Random(seed)
    octets = bytearray(process.path.read_bytes())
    # Beyond the two octets in the header that say who may read and write: nobody may then is what they would say.
    for _ in range(64 + 500 * (seed % 2)):
        octets[chance.randrange(20, len(octets))] = chance.randrange(256)
    process.path.write_bytes(octets)
    process = Process(tmp_path, clock)
    keys = [f"fact {number} {'.' * 100}" for number in range(600)]
    for _ in range(3):
        get_all(process, keys)
        process.store.facts(SPACE, "", 1000).addErrback(lambda failure: failure.trap(Unavailable))
        for key in keys[::7]:
            process.put(key, 2)
        clock.task.advance(module.RETRY_SECONDS)
    process.put("new")
    process.flush()
    process.store._known.clear()
    assert process.value("new") == 1 and process.value(keys[7]) == 2
    assert process.reports.count("state_damaged") <= 2
    process.close()


@pytest.mark.parametrize(
    "statement", ["DROP TABLE fact", "UPDATE fact SET data = 'x'", "UPDATE fact SET expires_at = 'soon'",
                  "UPDATE fact SET data = x'00'", "UPDATE fact SET key = CAST(x'ff' AS TEXT)"],
)  # fmt: skip
def test_rows_that_are_not_ours_are_absent(one: Process, statement: str) -> None:
    one.put("a")
    one.flush()
    with contextlib.closing(sqlite3.connect(one.path)) as connection:
        connection.execute(statement)
        connection.commit()
    one.store._known.clear()
    with contextlib.suppress(Unavailable):
        assert one.get("a") is None
    one.put("a", 2)
    one.flush()
    one.store._known.clear()
    assert one.value("a") == 2
    assert one.reports == (["state_damaged"] if statement.startswith("DROP") else [])


def get_all(process: Process, keys: Any) -> None:
    for key in keys:
        with contextlib.suppress(Unavailable, StopIteration):
            process.store.get(SPACE, key).send(None)


def test_two_processes_that_find_the_damage_begin_one_new_file(tmp_path: Path, clock: TestClock) -> None:
    forced_out(Process(tmp_path, clock))
    one, other = Process(tmp_path, clock), Process(tmp_path, clock)
    broken_in_the_middle(one.path)
    for process in (one, other):
        get_all(process, (f"fact {number} {'.' * 100}" for number in range(600)))
        process.put("from one" if process is one else "from other")
        process.flush()
    assert (one.reports, other.reports) == (["state_damaged"], ["state_damaged"])
    assert len(list(tmp_path.glob("state.sqlite.damaged-*[0-9]"))) == 1
    assert one.rows() == {"from one", "from other"}
    one.close()
    other.close()


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm")])
def test_a_file_that_is_removed_is_begun_anew(one: Process, suffixes: tuple[str, ...]) -> None:
    one.put("a")
    one.flush()
    for suffix in suffixes:
        Path(f"{one.path}{suffix}").unlink()
    one.put("b")
    one.flush()
    assert one.rows() == {"b"} and (one.value("a"), one.value("b")) == (None, 1)
    one.put("c")
    one.flush()
    assert one.rows() == {"b", "c"} and one.reports == []


def test_a_file_that_cannot_be_opened_is_tried_again(tmp_path: Path, clock: TestClock) -> None:
    (tmp_path / "state.sqlite").mkdir()
    process = Process(tmp_path, clock)
    with pytest.raises(Unavailable, match="cannot be read"):
        process.store.get(SPACE, "a").send(None)
    process.put("a")
    assert process.value("a") == 1, "what this process put it knows"
    forgotten = process.store.forget(SPACE, "x")
    assert isinstance(result(forgotten), Unavailable)
    for _ in range(3):
        clock.task.advance(module.RETRY_SECONDS)
    assert process.reports == ["state_failing"]
    (tmp_path / "state.sqlite").rmdir()
    clock.task.advance(module.RETRY_SECONDS)
    assert process.reports == ["state_failing", "state_recovered"]
    assert process.rows() == {"a"} and process.value("b") is None
    process.close()


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path, clock: TestClock, monkeypatch: Any) -> None:
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: pytest.fail("opened"))
    os.mkfifo(tmp_path / "state.sqlite", 0o400)
    process = Process(tmp_path, clock)
    assert process.reports == ["state_failing"]
    process.put("a")
    assert process.value("a") == 1


def test_a_file_that_is_locked_is_not_waited_for(one: Process, monkeypatch: Any) -> None:
    monkeypatch.setattr(state_file, "_BUSY_SECONDS", 0.0)
    one.put("a")
    one.flush()
    one.store._file.close()
    with contextlib.closing(sqlite3.connect(one.path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        one.put("b")
        one.flush()
        one.put("b", 2)
        assert one.reports == ["state_failing"]
        one.store._known.clear()
        assert (one.value("a"), one.value("b")) == (1, 2), "a writer does not keep readers out"
        holder.execute("ROLLBACK")
    one.clock.task.advance(module.RETRY_SECONDS)
    assert one.reports == ["state_failing", "state_recovered"] and one.rows() == {"a", "b"}
    assert one.value("b") == 2


def test_a_disk_that_fails_in_closing_does_not_keep_the_gateway(one: Process, monkeypatch: Any) -> None:
    def fail(facts: Any, now: float) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    one.put("a")
    monkeypatch.setattr(one.store._file, "_keep", fail)
    one.close()
    assert one.reports == ["state_failing"]


def test_it_is_for_the_gateways_user_alone(tmp_path: Path, clock: TestClock) -> None:
    data = tmp_path / "data"
    Process(data, clock).close()
    assert os.stat(data).st_mode & 0o077 == 0


def test_the_clock_put_back_keeps_facts(one: Process) -> None:
    one.put("a", lives=100)
    one.flush()
    one.clock.task.advance(-10_000)
    one.put("b")
    one.flush()
    one.store._known.clear()
    assert one.value("a") == 1 and one.clock.now() < NOW


def count(process: Process, key: str, amount: float = 1) -> float:
    return process.store.add("rate", key, amount, 600)


def test_processes_count_together(one: Process, tmp_path: Path, clock: TestClock) -> None:
    two = Process(tmp_path, clock)
    assert [count(each, "a") for each in (one, two, one)] == [1, 1, 2]
    one.flush()
    two.flush()
    # Each knows what the other had added when it last wrote.
    assert sorted(count(each, "a") for each in (one, two)) == [3, 4]
    one.flush()
    clock.task.advance(module.FRESH_COUNTER_SECONDS)
    assert count(one, "a", 0) == count(two, "a", 0) == 5
    two.close()


def test_a_process_that_counts_late_joins_the_window_under_way(one: Process, tmp_path: Path, clock: TestClock) -> None:
    two = Process(tmp_path, clock)
    count(one, "a", 7)
    one.flush()
    clock.task.advance(590)
    assert count(two, "a") == 8
    two.flush()
    clock.task.advance(10)
    assert count(one, "a") == 1
    two.close()


def test_what_is_added_while_a_batch_is_written_is_counted_once(tmp_path: Path, clock: TestClock) -> None:
    lane = Held()
    process = Process(tmp_path, clock, lane)
    assert count(process, "a") == 1
    process.flush()
    assert len(lane.jobs) == 1 and count(process, "a") == 2
    lane.run()
    assert count(process, "a") == 3
    process.flush()
    lane.run()
    clock.task.advance(module.FRESH_COUNTER_SECONDS)
    assert count(process, "a", 0) == 3
    other = Process(tmp_path, clock)
    assert count(other, "a", 0) == 3


def test_nothing_is_counted_while_the_file_is_locked_and_what_was_is_kept(
    one: Process, clock: TestClock, monkeypatch: Any
) -> None:
    monkeypatch.setattr(state_file, "_BUSY_SECONDS", 0.0)
    count(one, "before", 3)
    one.flush()
    with contextlib.closing(sqlite3.connect(one.path, isolation_level=None)) as holder:
        one.store._file._connection.execute("PRAGMA busy_timeout=0")
        holder.execute("BEGIN IMMEDIATE")
        assert count(one, "a", 2) == 2
        one.flush()
        assert one.reports == ["state_failing"]
        with pytest.raises(Unavailable):
            count(one, "a")
        holder.execute("ROLLBACK")
    clock.task.advance(module.RETRY_SECONDS)
    assert one.reports == ["state_failing", "state_recovered"]
    assert count(one, "a") == 3 and count(one, "before") == 4


def test_nothing_is_counted_while_the_disk_is_full(one: Process, clock: TestClock) -> None:
    count(one, "before", 3)
    one.flush()
    connection = one.store._file._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    for number in range(300):
        count(one, f"{number:0200}")
    one.flush()
    assert one.reports == ["state_failing"]
    with pytest.raises(Unavailable):
        count(one, "before")
    clock.task.advance(module.RETRY_SECONDS)
    assert one.reports[-1] == "state_recovered" and count(one, "before") == 4


def test_a_million_counters_take_no_more_room_than_thousands(one: Process, monkeypatch: Any) -> None:
    monkeypatch.setattr(state_file, "ROWS", 500)
    monkeypatch.setattr(module, "REMEMBERED", 100)
    monkeypatch.setattr(state_file, "_COUNTED_EVERY", 1)
    for number in range(20_000):
        count(one, str(number))
    one.flush()
    assert len(one.rows()) <= 500 + state_file.BATCH_FACTS
    assert len(one.store._known) <= 100 and len(one.store._additions) < state_file.BATCH_FACTS


def test_additions_that_cannot_be_written_are_bounded(tmp_path: Path, clock: TestClock, monkeypatch: Any) -> None:
    monkeypatch.setattr(counting, "WAITING_COUNTERS", 100)
    monkeypatch.setattr(module, "BATCH_FACTS", 10)
    process = Process(tmp_path, clock, Held())
    for number in range(1000):
        count(process, str(number))
    assert len(process.store._additions) == 100 and process.store._additions.dropped == 1000 - 110


def test_a_file_that_was_set_aside_counts_from_nothing(one: Process) -> None:
    count(one, "a", 5)
    one.flush()
    one.path.write_bytes(b"no database " * 1000)
    one.store._file.condemned = "broken"
    one.clock.task.advance(2)
    with contextlib.suppress(Unavailable):
        count(one, "b")
    one.flush()
    one.clock.task.advance(module.RETRY_SECONDS)
    assert count(one, "a") == 1
