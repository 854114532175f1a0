"""What is asked of several workers: who is asked, how rows are joined while they come, and who is named instead."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs

from inboundmx.app.answers import NotUnderstood
from inboundmx.app.questions import ROWS_WAITING, Question
from inboundmx.app.view import View
from inboundmx.model.settings import Settings
from inboundmx.ports import Unavailable


class Workers(Clock):
    """A reactor that connects to nobody: what is asked lands in ``asked``, by worker."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, list[tuple[Question, StringTransport]]] = {}
        self.states = {"0": "ready", "1": "ready"}
        self.away: set[str] = set()
        self.view = View(self, Path("/data"), self.rows, lambda: Settings(fingerprint="abc"))

    def rows(self) -> list[dict[str, Any]]:
        return [{"worker": name, "pid": 1, "state": state} for name, state in self.states.items()]

    def connectUNIX(self, address: str, factory: Any, timeout: float) -> None:
        name = address.removesuffix(".sock").rpartition("-")[2]
        if name in self.away:
            factory.clientConnectionFailed(None, None)
            return
        question, transport = factory.buildProtocol(None), StringTransport()
        question.makeConnection(transport)
        self.asked.setdefault(name, []).append((question, transport))

    def request(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.asked[name][-1][1].value())
        return found

    def say(self, name: str, *rows: Any, end: Any = None) -> None:
        lines = [{"row": row} for row in rows] + ([] if end is None else [end])
        encoded = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
        self.asked[name][-1][0].dataReceived(encoded)

    def ask(self, operation: str, **arguments: Any) -> list[Any]:
        """What comes of it, once it does: rows to be read, or an exception."""
        got: list[Any] = []
        Deferred.fromCoroutine(self.view.perform(operation, arguments, "ann")).addBoth(got.append)
        return got


END = {"end": True}


@pytest.fixture
def workers() -> Workers:
    return Workers()


def told(rows: Iterable[Any]) -> list[Any]:
    """Rows that are all there."""
    return [json.loads(row) if isinstance(row, str) else row for row in rows]


def entry(id: str) -> dict[str, str]:
    return {"id": id, "state": "active"}


def test_lists_are_joined_in_the_order_of_time(workers: Workers) -> None:
    got = workers.ask("spool.list", domain="a.example")
    assert workers.request("0") == workers.request("1")
    assert workers.request("0") == {
        "operation": "spool.list", "arguments": {"domain": "a.example"}, "on_behalf_of": "ann",
    }  # fmt: skip
    workers.say("0", entry("000000001zzzzzz"), entry("000000004aaaaaa"), end=END)
    workers.say("1", entry("000000002aaaaaa"), entry("000000003aaaaaa"), end=END)
    assert [row["id"][8] for row in told(got[0])] == ["1", "2", "3", "4"]


def test_a_limit_is_one_for_all(workers: Workers) -> None:
    got = workers.ask("spool.list", limit=3)
    for name in ("0", "1"):
        workers.say(name, *(entry(f"00000000{n}aaaaaa") for n in range(3)), end=END)
    assert len(told(got[0])) == 3


def test_rows_are_told_while_others_are_being_made(workers: Workers) -> None:
    got = workers.ask("spool.release", ids=["a"])
    workers.say("0", {"n": 1})
    assert got == [], "the other has not begun"
    workers.say("1", {"n": 3}, end=END)
    rows = iter(got[0])
    assert json.loads(next(rows)) == {"n": 1}
    waiting = next(rows)
    assert isinstance(waiting, Deferred) and not waiting.called
    workers.say("0", {"n": 2}, end=END)
    assert waiting.called
    assert told(rows) == [{"n": 2}, {"n": 3}]


def test_who_says_nothing_is_named_after_five_seconds(workers: Workers) -> None:
    got = workers.ask("spool.list")
    workers.say("1", entry("000000001aaaaaa"), end=END)
    workers.advance(4.9)
    assert not got
    workers.advance(0.2)
    rows = iter(got[0])
    assert json.loads(next(rows))["id"] == "000000001aaaaaa"
    with pytest.raises(Unavailable, match="worker 0 did not answer within 5 seconds"):
        next(rows)


def test_a_change_may_take_longer(workers: Workers) -> None:
    got = workers.ask("spool.delete", domain="a.example")
    workers.advance(60)
    for name in ("0", "1"):
        workers.say(name, end=END)
    assert told(got[0]) == []


@pytest.mark.parametrize("how", ["starting", "gone", "cut"])
def test_who_is_not_there_is_named(workers: Workers, how: str) -> None:
    if how == "starting":
        workers.states["1"] = "starting"
    if how == "gone":
        workers.away.add("1")
    got = workers.ask("spool.show", ids=["a"])
    workers.say("0", entry("000000001aaaaaa"), end=END)
    if how == "cut":
        workers.asked["1"][0][0].connectionLost()
    rows = iter(got[0])
    next(rows)
    with pytest.raises(Unavailable, match="worker 1"):
        next(rows)


def test_what_is_wrong_with_the_question_is_said_once(workers: Workers) -> None:
    got = workers.ask("spool.show")
    for name in ("0", "1"):
        workers.say(name, end={"error": "show needs ids", "usage": True})
    assert isinstance(got[0].value, NotUnderstood)
    assert str(got[0].value) == "show needs ids"


def test_what_all_share_is_asked_of_one(workers: Workers) -> None:
    workers.states["0"] = "down"
    got = workers.ask("greylist.list")
    assert set(workers.asked) == {"1"}
    workers.say("1", {"network": "192.0.2.0/24"}, end=END)
    assert told(got[0]) == [{"network": "192.0.2.0/24"}]


def test_a_pause_goes_to_one_after_the_other(workers: Workers) -> None:
    got = workers.ask("spool.pause", domain="a.example")
    assert set(workers.asked) == {"0"}
    workers.say("0", {"outcome": "paused", "by": 0}, end=END)
    assert not got
    workers.say("1", {"outcome": "paused", "by": 1}, end=END)
    assert told(got[0]) == [{"outcome": "paused", "by": 0}]


def test_what_was_forgotten_is_added_up(workers: Workers) -> None:
    got = workers.ask("greylist.forget", matching="a")
    # What each has in hand is written first: of what two have, one would forget it before the other writes it.
    for name in ("0", "1"):
        assert workers.request(name)["operation"] == "greylist.list"
        workers.say(name, {"network": "x"}, end=END)
    assert workers.request("0")["operation"] == "greylist.forget"
    workers.say("0", {"forgotten": 3}, end=END)
    workers.say("1", {"forgotten": 1}, end=END)
    assert told(got[0]) == [{"forgotten": 4}]


def test_each_hears_who_is_let_through_and_the_first_tells(workers: Workers) -> None:
    got = workers.ask("greylist.release", matching="a")
    for name in ("0", "1"):
        assert workers.request(name)["operation"] == "greylist.list"
        workers.say(name, {"network": "x"}, end=END)
    assert workers.request("0")["operation"] == "greylist.release"
    workers.say("0", {"network": "x"}, end=END)
    # The others only forget what they remember of it.
    assert workers.request("1")["operation"] == "greylist.look"
    workers.say("1", end=END)
    assert told(got[0]) == [{"network": "x"}]


def test_where_nothing_waits_nobody_is_let_through(workers: Workers) -> None:
    got = workers.ask("greylist.release", matching="a")
    for name in ("0", "1"):
        workers.say(name, end=END)
    for name in ("0", "1"):
        workers.say(name, end=END)
    assert told(got[0]) == []


def test_a_dry_run_of_it_asks_one(workers: Workers) -> None:
    got = workers.ask("greylist.forget", matching="a", dry_run=True)
    assert set(workers.asked) == {"0"}
    workers.say("0", {"network": "x"}, end=END)
    assert told(got[0]) == [{"network": "x"}]


def test_one_changes_the_lists_and_the_others_look(workers: Workers) -> None:
    got = workers.ask("lists.add", kind="blacklist", values=["192.0.2.1"])
    assert list(workers.asked) == ["0"], "one after the other"
    assert workers.request("0")["operation"] == "lists.add"
    workers.say("0", {"outcome": "added"}, end=END)
    assert workers.request("1") == {"operation": "lists.look", "arguments": {}, "on_behalf_of": "ann"}
    workers.say("1", end=END)
    assert told(got[0]) == [{"outcome": "added"}]


def test_before_a_block_is_removed_all_forget_what_they_counted(workers: Workers) -> None:
    got = workers.ask("blocks.remove", values=["192.0.2.1"])
    for name in ("0", "1"):
        assert workers.request(name)["operation"] == "blocks.forget"
        assert workers.request(name)["arguments"] == {"values": ["192.0.2.1"]}
    workers.say("1", end=END)
    assert len(workers.asked["0"]) == 1
    workers.say("0", end=END)
    assert workers.request("0")["operation"] == "blocks.remove"
    workers.say("0", {"outcome": "removed"}, end=END)
    assert workers.request("1")["operation"] == "blocks.look"
    workers.say("1", end=END)
    assert told(got[0]) == [{"outcome": "removed"}]


def test_when_the_first_cannot_change_the_lists_the_next_one_does(workers: Workers) -> None:
    workers.away.add("0")
    got = workers.ask("lists.remove", kind="blacklist", values=["192.0.2.1"])
    assert workers.request("1")["operation"] == "lists.remove"
    workers.say("1", {"outcome": "removed"}, end=END)
    assert isinstance(got[0].value, Unavailable), "one has not heard of it yet"


def test_the_lists_are_told_by_one(workers: Workers) -> None:
    workers.states["1"] = "starting"
    got = workers.ask("lists.list")
    workers.say("0", {"value": "192.0.2.1"}, end=END)
    assert told(got[0]) == [{"value": "192.0.2.1"}]
    assert "1" not in workers.asked


def test_a_pause_that_one_did_not_hear_of_is_not_done(workers: Workers) -> None:
    got = workers.ask("spool.pause")
    workers.say("0", {"outcome": "paused"}, end=END)
    workers.say("1", end={"error": "not done: disk full", "usage": False})
    assert isinstance(got[0].value, Unavailable)
    assert "worker 1: not done: disk full" in str(got[0].value)


def test_many_rows_are_not_all_kept(workers: Workers) -> None:
    got = workers.ask("spool.release", ids=["a"])
    workers.say("1", *({"n": n} for n in range(ROWS_WAITING)))
    transport = workers.asked["1"][0][1]
    assert transport.producerState == "paused"
    workers.advance(1000)
    assert transport.producerState == "paused", "who is not read is not silent"
    workers.asked["0"][0][0].connectionLost()
    rows = iter(got[0])
    for _ in range(ROWS_WAITING // 2 + 1):
        next(rows)
    assert transport.producerState == "producing"


def status(number: int) -> dict[str, Any]:
    return {
        "spool": {"active": number}, "spool_octets": 1, "oldest_seconds": 0.0, "free_octets": 1, "primaries": [],
        "connections": number, "workers": [{"worker": str(number), "trouble": ""}],
    }  # fmt: skip


def test_a_status_names_who_is_silent_and_tells_the_rest(workers: Workers) -> None:
    workers.states["2"] = "starting"
    got = workers.ask("status")
    workers.say("1", status(1), end=END)
    workers.advance(5)
    (row,) = got[0]
    assert [(each["worker"], each["state"], each.get("connections")) for each in row["workers"]] == [
        ("0", "silent", None),
        ("1", "ready", 1),
        ("2", "starting", None),
    ]
    assert row["spool"] == {"active": 1}


def test_programs_that_ask_often_are_answered_from_one_look(workers: Workers) -> None:
    assert workers.view.trouble() == "no-worker"
    waiting = [workers.view.refresh() for _ in range(3)]
    assert len(workers.asked["0"]) == 1
    for name in ("0", "1"):
        workers.say(name, status(int(name)), end=END)
    assert all(each is not None and each.called for each in waiting)
    assert workers.view.refresh() is None
    assert workers.view.trouble() == ""
    assert workers.view.status()["connections"] == 1
    workers.advance(1.1)
    assert workers.view.refresh() is not None


def test_a_look_that_fails_is_in_the_log(workers: Workers) -> None:
    waiting = workers.view.refresh()
    with capturedLogs() as logged:
        for name in ("0", "1"):
            workers.say(name, {"worker": "says nothing of its spool"}, end=END)
    assert waiting is not None and waiting.called
    assert [event["log_failure"].type for event in logged] == [KeyError]
