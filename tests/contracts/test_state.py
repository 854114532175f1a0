"""What every state store promises (ports.StateStore): one suite, the real one and the fake."""

from __future__ import annotations

import queue
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.disk import NOW, TestClock, result
from fakes.state import FakeStateStore
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inboundmx.ports import Fact, Unavailable
from inboundmx.storage.state import SqliteStateStore
from inboundmx.storage.writer import InlineLane, ThreadLane, at_once


def now_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that never waits."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


class Sqlite:
    """The real store on a real file. ``threads``: with its thread, which hands back through a queue."""

    def __init__(self, folder: Path, threads: bool) -> None:
        self.folder = folder
        self.threads = threads
        self.calls: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.clock = TestClock()
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.open()

    def open(self) -> None:
        self.store: Any = SqliteStateStore(
            str(self.folder),
            self.clock,
            (lambda *call: self.calls.put(call)) if self.threads else at_once,
            lambda event, fields: self.reports.append((event, dict(fields))),
            ThreadLane if self.threads else (lambda name: InlineLane()),
        )

    def settle(self) -> None:
        """Until nothing is on its way; time passes so that what was to be soon has been."""
        self.clock.task.advance(0.25)
        while self.threads and not self.store._writer.idle:
            call, *arguments = self.calls.get(timeout=30)
            call(*arguments)

    def reopen(self) -> None:
        self.close()
        self.open()

    def close(self) -> None:
        closed = self.store.close()
        while not closed.called:
            call, *arguments = self.calls.get(timeout=30)
            call(*arguments)
        assert result(closed) is None


class Fake:
    def __init__(self) -> None:
        self.clock = TestClock()
        self.store: Any = FakeStateStore(self.clock)

    def settle(self) -> None:
        self.clock.task.advance(0.25)

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture(params=["sqlite", "sqlite-threads", "fake"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = Fake() if request.param == "fake" else Sqlite(tmp_path, request.param == "sqlite-threads")
    yield made
    made.close()


def fact(*values: float, at: float = NOW, lives: float = 1000.0) -> Fact:
    return Fact(values, at, at + lives)


def get(kept: Any, key: str, space: str = "grey") -> Fact | None:
    found: Fact | None = now_of(kept.store.get(space, key))
    return found


def asked(kept: Any, deferred: Any) -> Any:
    kept.settle()
    return result(deferred)


def listed(kept: Any, matching: str = "", limit: int = 10, space: str = "grey") -> list[str]:
    return [key for key, _ in asked(kept, kept.store.facts(space, matching, limit))]


def test_what_was_never_written_is_nothing(kept: Any) -> None:
    assert get(kept, "a") is None and listed(kept) == []


@pytest.mark.parametrize("values", [(), (1.5,), (NOW, -0.0, 1e300, float("inf"))])
def test_a_fact_is_read_back_at_once_and_for_good(kept: Any, values: tuple[float, ...]) -> None:
    kept.store.put("grey", "a", fact(*values))
    assert get(kept, "a") == fact(*values)
    kept.settle()
    kept.clock.task.advance(60)
    assert get(kept, "a") == fact(*values)
    kept.reopen()
    assert get(kept, "a") == fact(*values)


def test_the_last_fact_holds(kept: Any) -> None:
    kept.store.put("grey", "a", fact(1))
    assert get(kept, "a") == fact(1)
    kept.settle()
    kept.store.put("grey", "a", fact(2))
    kept.store.put("grey", "a", fact(3))
    assert get(kept, "a") == fact(3)
    kept.settle()
    kept.reopen()
    assert get(kept, "a") == fact(3) and listed(kept) == ["a"]


def test_an_absent_key_can_be_written_after_it_was_asked_for(kept: Any) -> None:
    assert get(kept, "a") is None
    kept.store.put("grey", "a", fact(1))
    assert get(kept, "a") == fact(1)


def test_spaces_are_apart(kept: Any) -> None:
    kept.store.put("grey", "a", fact(1))
    kept.store.put("rate", "a", fact(2))
    kept.store.put("gre", "ya", fact(3))
    assert (get(kept, "a"), get(kept, "a", "rate"), get(kept, "ya", "gre")) == (fact(1), fact(2), fact(3))
    assert asked(kept, kept.store.forget("rate", "")) == 1
    assert (get(kept, "a"), get(kept, "a", "rate")) == (fact(1), None)


def test_a_fact_ends_when_it_expires(kept: Any) -> None:
    kept.store.put("grey", "a", fact(1, lives=10))
    kept.store.put("grey", "b", fact(1, lives=90))
    kept.clock.task.advance(9.5)
    assert get(kept, "a") == fact(1, lives=10)
    kept.clock.task.advance(0.5)
    assert get(kept, "a") is None and listed(kept) == ["b"]
    kept.store.put("grey", "c", fact(2))
    kept.settle()
    assert get(kept, "a") is None


def test_facts_are_listed_newest_first_and_no_more_than_asked_for(kept: Any) -> None:
    for number in (2, 9, 4):
        kept.store.put("grey", f"key {number}", fact(number, at=NOW - 10 + number))
    assert listed(kept) == ["key 9", "key 4", "key 2"]
    assert listed(kept, limit=2) == ["key 9", "key 4"]
    assert asked(kept, kept.store.facts("grey", "9", 5)) == [("key 9", fact(9, at=NOW - 1))]


def test_facts_are_listed_by_how_many_numbers_they_have(kept: Any) -> None:
    for key, values in {"none": (), "one": (1.0,), "also one": (2.0,), "three": (1.0, 2.0, 3.0)}.items():
        kept.store.put("grey", key, fact(*values))

    def having(numbers: int) -> list[str]:
        return [key for key, _ in asked(kept, kept.store.facts("grey", "", 10, numbers))]

    assert (having(0), having(1), having(2), having(3)) == (["none"], ["also one", "one"], [], ["three"])


ODD = ["100%", "a_b", "axb", "it's", "x'||(select 1)||'@a.test", "Straße", "q\"q", "back\\slash", "star*"]


def test_matching_is_literal(kept: Any) -> None:
    for matching in (*ODD, "%", "_", "'", "*", ""):
        space = f"for {matching}"
        for key in ODD:
            kept.store.put(space, key, fact(1))
        meant = sorted(key for key in ODD if matching in key)
        assert sorted(listed(kept, matching, 100, space)) == meant
        assert asked(kept, kept.store.forget(space, matching)) == len(meant)
        assert sorted(listed(kept, "", 100, space)) == sorted(set(ODD) - set(meant))
        assert all((get(kept, key, space) is None) == (key in meant) for key in ODD)


def test_what_was_only_just_put_is_forgotten_too_and_can_come_again(kept: Any) -> None:
    kept.store.put("grey", "a", fact(1))
    assert asked(kept, kept.store.forget("grey", "a")) == 1
    assert get(kept, "a") is None
    kept.store.put("grey", "a", fact(2))
    kept.settle()
    kept.reopen()
    assert get(kept, "a") == fact(2)


def test_keys_that_contain_any_of_several_texts_are_forgotten_in_one(kept: Any) -> None:
    for key in ("a 1 ", "a 1 x", "a 10 ", "b 2 ", "c 3 "):
        kept.store.put("grey", key, fact(1))
    kept.store.put("other", "a 1 ", fact(1))
    assert asked(kept, kept.store.forget("grey", " 1 ", " 2 ", *(f" {number} " for number in range(100, 1300)))) == 3
    assert sorted(listed(kept)) == ["a 10 ", "c 3 "]
    assert asked(kept, kept.store.forget("grey")) == 0 and listed(kept, "", 9, "other") == ["a 1 "]


def test_many_are_kept_and_forgotten(kept: Any) -> None:
    for number in range(2500):
        kept.store.put("grey", f"{number:05}", fact(number))
    kept.settle()
    kept.reopen()
    assert get(kept, "01234") == fact(1234)
    assert asked(kept, kept.store.forget("grey", "0")) == 2500
    assert listed(kept) == []


def test_what_is_added_in_a_window_is_counted_together(kept: Any) -> None:
    assert [kept.store.add("rate", "a", 1, 60) for _ in range(3)] == [1, 2, 3]
    assert kept.store.add("rate", "b", 2.5, 60) == 2.5 and kept.store.add("grey", "a", 1, 60) == 1
    kept.clock.task.advance(30)
    kept.settle()
    assert kept.store.add("rate", "a", 2, 60) == 5
    assert kept.store.add("rate", "a", -1, 60) == 4


def test_a_window_begins_with_the_first_addition_and_ends_by_itself(kept: Any) -> None:
    kept.store.add("rate", "a", 5, 60)
    kept.clock.task.advance(59)
    assert kept.store.add("rate", "a", 1, 60) == 6
    kept.clock.task.advance(1)
    assert kept.store.add("rate", "a", 1, 60) == 1
    kept.settle()
    assert kept.store.add("rate", "a", 1, 60) == 2
    kept.clock.task.advance(59)
    assert kept.store.add("rate", "a", 1, 60) == 3


def test_a_counter_goes_on_after_a_restart(kept: Any) -> None:
    for _ in range(4):
        kept.store.add("rate", "a", 1, 60)
    kept.settle()
    kept.store.add("rate", "a", 1, 60)
    kept.reopen()
    assert kept.store.add("rate", "a", 1, 60) == 6
    kept.clock.task.advance(60)
    kept.reopen()
    assert kept.store.add("rate", "a", 1, 60) == 1


def test_a_counter_is_a_fact_that_is_listed_and_forgotten(kept: Any) -> None:
    kept.store.add("rate", "a", 3, 60)
    assert get(kept, "a", "rate") == Fact((3,), NOW, NOW + 60)
    kept.settle()
    assert get(kept, "a", "rate") == Fact((3,), NOW, NOW + 60) and listed(kept, space="rate") == ["a"]
    kept.store.add("rate", "a", 1, 60)
    assert asked(kept, kept.store.forget("rate", "a")) == 1
    assert kept.store.add("rate", "a", 1, 60) == 1


def test_a_clock_that_is_put_back_does_not_make_a_window_longer(kept: Any) -> None:
    kept.store.add("rate", "a", 9, 60)
    kept.settle()
    kept.clock.jump(-3600)
    assert kept.store.add("rate", "a", 1, 60) == 1
    kept.settle()
    kept.clock.task.advance(59)
    assert kept.store.add("rate", "a", 1, 60) == 2


def test_many_counters_are_kept(kept: Any) -> None:
    for _ in range(2):
        assert {kept.store.add("rate", f"{number:04}", 1, 600) for number in range(2500)} <= {1.0, 2.0}
    kept.settle()
    kept.reopen()
    assert {kept.store.add("rate", f"{number:04}", 1, 600) for number in range(2500)} == {3.0}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.sampled_from([20, 50])),
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(0, 50)),
        st.tuples(st.just("forget"), st.sampled_from(["a", "b", ""]), st.just(0)),
        st.tuples(st.just("pass"), st.just(""), st.integers(0, 40)),
        st.tuples(st.just("reopen"), st.just(""), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@example(steps=[("add", "b", 20), ("add", "b", 50), ("forget", "a", 0)])
@example(steps=[("add", "a", 50), ("reopen", "", 0), ("add", "a", 20), ("pass", "", 20)])
def test_the_real_one_is_as_the_fake(steps: list[tuple[str, str, int]], tmp_path_factory: Any) -> None:
    real, fake = Sqlite(tmp_path_factory.mktemp("state"), threads=False), Fake()
    for number, (verb, key, length) in enumerate(steps):
        seen = []
        for each in (real, fake):
            if verb == "put":
                each.store.put("grey", key, fact(number, at=each.clock.now(), lives=length))
            elif verb == "add":
                seen.append(each.store.add("rate", key, 1, length))
            elif verb == "forget":
                asked(each, each.store.forget("grey", key))
            elif verb == "pass":
                each.clock.task.advance(length)
            else:
                each.reopen()
            seen.append([get(each, name, space) for name in "abc" for space in ("grey", "rate")])
        assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]
    real.close()


def test_nothing_is_read_from_a_closed_store(tmp_path: Path) -> None:
    real = Sqlite(tmp_path, threads=False)
    real.close()
    real.store.put("grey", "a", fact(1))
    with pytest.raises(Unavailable):
        real.store.add("rate", "a", 1, 60)
    with pytest.raises(Unavailable):
        now_of(real.store.get("grey", "a"))
    assert isinstance(result(real.store.forget("grey", "")), Unavailable)
