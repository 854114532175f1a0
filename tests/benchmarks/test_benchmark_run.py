"""A run goes on when a peer or a scenario fails, and tells both; peers are made-up here, and nothing is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks.catalogue import SCENARIOS, Apart, Scenario
from benchmarks.peers import Failed, NotHere
from benchmarks.promises import PROMISES
from benchmarks.scenarios import Effort

EFFORT = Effort(scale=1.0, repeats=3, seconds=0.0)


class MadeUp:
    """Counts how often it was made, measured and stopped."""

    def __init__(self, journal: list[str], name: str) -> None:
        self.journal, self.name = journal, name
        journal.append(f"{name} made")

    def stop(self) -> None:
        self.journal.append(f"{self.name} stopped")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> command.Run:
    monkeypatch.setattr(command, "introduce", lambda peer: None)
    return command.Run(EFFORT, tmp_path)


def scenario(journal: list[str], measure: Callable[[Any, Effort], dict[str, float]], **more: Any) -> Scenario:
    own = {name: lambda folder, name=name: MadeUp(journal, name) for name in ("postfix", "inboundmx")}
    return Scenario("made up", "nothing", 1.0, ("postfix", "inboundmx"), measure, own=own | more.pop("own", {}), **more)


def test_peers_take_turns_at_going_first_and_are_stopped(started: command.Run) -> None:
    order: list[str] = []
    journal: list[str] = []

    def measure(peer: Any, effort: Effort) -> dict[str, float]:
        order.append(peer.name)
        return {"rate": 2.0 if peer.name == "inboundmx" else 1.0}

    (found,) = started.measure(scenario(journal, measure))
    assert order == ["postfix", "inboundmx", "inboundmx", "postfix", "postfix", "inboundmx"]
    assert sorted(journal) == ["inboundmx made", "inboundmx stopped", "postfix made", "postfix stopped"]
    assert found["compare"] == [("inboundmx", "postfix")]
    assert found["figures"] == {"postfix": {"rate": 1.0}, "inboundmx": {"rate": 2.0}}
    assert started.trouble == []


def test_one_that_must_be_fresh_is_made_for_each_repeat(started: command.Run) -> None:
    journal: list[str] = []
    started.measure(scenario(journal, lambda peer, effort: {"rate": 1.0}, fresh=True, at_most=2))
    assert journal.count("postfix made") == journal.count("postfix stopped") == 2


def test_a_peer_that_fails_is_told_and_the_other_is_measured_on(started: command.Run) -> None:
    def measure(peer: Any, effort: Effort) -> dict[str, float]:
        if peer.name == "postfix":
            raise OSError("gone")
        return {"rate": 3.0}

    journal: list[str] = []
    (found,) = started.measure(scenario(journal, measure))
    assert found["figures"] == {"inboundmx": {"rate": 3.0}}
    assert len(found["every"]["inboundmx"]) == 3
    assert started.trouble == ["made up: postfix: OSError: gone"]
    assert journal.count("postfix made") == journal.count("postfix stopped") == 1


def test_a_peer_that_is_not_there_is_left_out_by_name_and_is_no_failure(started: command.Run) -> None:
    def absent(folder: Path) -> Any:
        raise NotHere("apt-get install it")

    (found,) = started.measure(scenario([], lambda peer, effort: {"rate": 1.0}, own={"postfix": absent}))
    assert list(found["figures"]) == ["inboundmx"]
    assert (started.left_out, started.trouble) == ({"postfix": "apt-get install it"}, [])


def test_what_one_scenario_lacks_for_a_peer_is_no_reason_to_leave_it_out_of_others(started: command.Run) -> None:
    tried = []

    def without_compiler(folder: Path) -> Any:
        tried.append(folder)
        raise NotHere("apt-get install gcc")

    lacking = scenario([], lambda peer, effort: {"rate": 1.0}, own={"postfix": without_compiler})
    started.measure(lacking)
    (found,) = started.measure(scenario([], lambda peer, effort: {"rate": 1.0}))
    assert list(found["figures"]) == ["postfix", "inboundmx"]
    started.measure(lacking)
    assert len(tried) == 1


def test_a_peer_that_does_not_start_is_not_tried_again(started: command.Run) -> None:
    tried = []

    def broken(folder: Path) -> Any:
        tried.append(folder)
        raise Failed("no")

    one = scenario([], lambda peer, effort: {"rate": 1.0}, own={"postfix": broken})
    started.measure(one)
    started.measure(one)
    assert len(tried) == 1
    assert started.trouble == ["made up: postfix: Failed: no", "made up: postfix: Failed: did not start before"]


def test_lost_messages_are_trouble_though_their_figures_are_kept(started: command.Run) -> None:
    started.measure(scenario([], lambda peer, effort: {"rate": 1.0, "failed": float(peer.name == "inboundmx")}))
    assert started.trouble == ["made up: inboundmx: 3 messages failed"]
    assert len(started.results) == 1


def test_one_apart_compares_those_that_it_could_measure_and_tells_of_the_others(started: command.Run) -> None:
    found = {
        "scenario": "apart, measured", "what": "something", "figures": {}, "every": {"a": [{"rate": 1.0}], "b": []},
        "compare": [["a", "b"], ["a", "c"]], "left_out": {"c": "not installed"}, "trouble": ["d did not start"],
    }  # fmt: skip
    (result,) = started.measure(Apart("apart", "nothing", 1.0, lambda effort, folder: [found]))
    assert result["compare"] == [["a", "b"]]
    assert (started.left_out, started.trouble) == ({"c": "not installed"}, ["apart: d did not start"])


@pytest.mark.parametrize("fault", [NotHere("no clamd"), Failed("it died"), KeyError("rate")])
def test_a_scenario_that_cannot_be_measured_is_told(started: command.Run, fault: Exception) -> None:
    def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
        raise fault

    assert started.measure(Apart("apart", "nothing", 1.0, measured)) == []
    assert len(started.trouble) == 1
    assert started.trouble[0].startswith("apart: ")


@pytest.mark.parametrize(
    "only, named, chosen",
    [
        ("50x1", [], ["50x1"]),
        ("dead,idle", [], ["dead 50x1 4 KB", "dead 10x1 100 KB", "idle"]),
        ("50x", ["idle"], ["50x1", "50x10", "idle"]),
        ("", ["idle"], ["idle"]),
        ("nothing of the kind", [], []),
        ("", [], [each.name for each in SCENARIOS]),
    ],
)
def test_some_scenarios_are_chosen_by_their_names(only: str, named: list[str], chosen: list[str]) -> None:
    assert [each.name for each in command.chosen_of(only, named)] == chosen


def test_progress_tells_which_of_how_many_and_how_much_is_left() -> None:
    total = sum(each.seconds for each in SCENARIOS)
    # All but the last one took twice as long as was thought.
    instants = iter([100.0, 100.0, 100.0 + 2 * (total - SCENARIOS[-1].seconds)])
    progress = command.Progress(SCENARIOS, 1.0, lambda: next(instants))
    first = progress.at(0)
    assert first.startswith(f"1 of {len(SCENARIOS)}: 1x1 (")
    assert first.endswith(f"0:00 gone, about {command.clock(total)} to go")
    assert progress.at(len(SCENARIOS) - 1).endswith(f"about {command.clock(2 * SCENARIOS[-1].seconds)} to go")


def test_all_of_it_takes_no_longer_than_was_said() -> None:
    assert sum(each.seconds for each in SCENARIOS) <= 30 * 60


def test_every_promise_is_of_a_scenario_that_measures_whom_it_is_about() -> None:
    together = {each.name: each for each in SCENARIOS if isinstance(each, Scenario)}
    names = {each.name for each in SCENARIOS}
    for promise in PROMISES:
        assert promise.scenario in names
        if promise.scenario in together:
            assert {promise.ours, promise.theirs} - {""} <= set(together[promise.scenario].peers)
