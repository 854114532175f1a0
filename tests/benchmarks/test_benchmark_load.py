"""The load itself: it comes, is counted, and ends, against a real smtp-sink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from requiring import impossible

from benchmarks.load import Load, Plan, stranger
from benchmarks.peers import NotHere, Sink

pytestmark = pytest.mark.system


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    try:
        sink = Sink(tmp_path)
    except NotHere as reason:
        impossible(str(reason))
    yield sink
    sink.stop()


@pytest.mark.parametrize("per_connection", [1, 7])
def test_every_message_of_a_load_is_counted_once_on_both_sides(sink: Sink, per_connection: int) -> None:
    result = Load(Plan(sink.port, 5, 100, per_connection=per_connection)).run()
    assert (result["done"], result["begun"], result["errors"]) == (100, 100, {})
    assert sink.wait_for(100)
    assert sink.count() == 100


def test_a_load_that_ends_by_the_clock_has_begun_no_more_than_it_finished(sink: Sink) -> None:
    result = Load(Plan(sink.port, 5, 1_000_000, seconds=0.05)).run()
    assert 5 <= result["done"] == result["begun"] < 1_000_000


def test_a_letter_larger_than_a_socket_holds_arrives_whole(sink: Sink) -> None:
    result = Load(Plan(sink.port, 2, 3, size=8 * 2**20)).run()
    assert (result["done"], result["errors"]) == (3, {})


def test_a_refusal_is_counted_where_it_is_wanted_and_told_where_it_is_not(sink: Sink) -> None:
    result = Load(Plan(sink.port, 1, 2, refused=True)).run()
    assert result["done"] == 0
    assert result["errors"] == {"rcpt: 250": 2}


def test_strangers_have_addresses_of_the_range_for_benchmarks_and_names_of_their_own() -> None:
    told = [stranger(number) for number in range(2000)]
    assert len(set(told)) == 2000
    assert told[0] == ("198.18.0.1", "d0.cold.example")
    assert told[250] == ("198.18.1.1", "d250.cold.example")
