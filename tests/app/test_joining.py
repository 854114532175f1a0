"""Several workers' status as one."""

from __future__ import annotations

from typing import Any

from inboundmx.app.joining import health_word, joined_status


def row(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "running": True,
        "spool": {"active": number, "held": 1},
        "spool_octets": 100,
        "oldest_seconds": float(number),
        "free_octets": 1000 - number,
        "primaries": [],
        "settings": "abc",
        "queues": {"a.example": {"later": 1, "due": 0, "running": number}},
        "claimed": number,
        "throttled": {},
        "workers": [{"worker": str(number), "pid": number, "connections": 2, "trouble": ""}],
        "connections": 2,
        "services": [],
        "paused": [],
        **changed,
    }


def host(name: str, state: str, connections: int, error: str = "") -> dict[str, Any]:
    return {
        "host": name, "state": state, "last_error": error, "connections": connections, "busy": 0, "opening": 0,
        "waiting": 1, "backlog_waiting": 0, "service_seconds": connections / 10,
    }  # fmt: skip


def service(state: str, last_at: float, answered: int) -> dict[str, Any]:
    return {"service": "zen", "state": state, "since_at": 1.0, "last_at": last_at, "answered": answered, "failed": 1, "detail": None}  # noqa: E501 - fmt: skip


def test_counts_are_summed_and_what_all_share_is_told_once() -> None:
    told = joined_status([row(1), row(3)], [{"worker": "1"}, {"worker": "3"}], "abc")
    assert told["spool"] == {"active": 4, "held": 2}
    assert (told["spool_octets"], told["oldest_seconds"], told["free_octets"]) == (200, 3.0, 997)
    assert told["queues"] == {"a.example": {"later": 2, "due": 0, "running": 4}}
    assert (told["claimed"], told["connections"], told["settings"]) == (4, 4, "abc")
    assert told["workers"] == [{"worker": "1"}, {"worker": "3"}]


def test_a_pause_is_one() -> None:
    pause = {"domain": None, "reason": "x"}
    assert joined_status([row(1), row(2, paused=[pause])], [], "")["paused"] == [pause]


def test_a_primary_has_one_line_with_the_worst_that_is_known_of_it() -> None:
    mine = [host("b:25", "closed", 2), host("a:25", "closed", 1)]
    yours = [host("a:25", "open", 3, "connection refused")]
    told = joined_status([row(1, primaries=mine), row(2, primaries=yours)], [], "")["primaries"]
    assert [each["host"] for each in told] == ["a:25", "b:25"]
    assert told[0] == host("a:25", "open", 4, "connection refused") | {"waiting": 2, "service_seconds": 0.3}


def test_a_service_is_as_who_asked_it_last_saw_it() -> None:
    rows = [row(1, services=[service("up", 10.0, 5)]), row(2, services=[service("down", 20.0, 1)])]
    assert joined_status(rows, [], "")["services"] == [service("down", 20.0, 6) | {"failed": 2}]


def test_nobody_there_yet_has_the_same_shape() -> None:
    assert set(joined_status([], [], "abc")) == set(joined_status([row(1)], [], "abc"))


def test_health_is_the_first_trouble_of_any() -> None:
    full = row(2)
    full["workers"][0]["trouble"] = "disk-full"
    assert health_word([row(1)]) == ""
    assert health_word([row(1), full]) == "disk-full"
    assert health_word([]) == "no-worker"
