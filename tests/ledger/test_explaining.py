"""A story tells everything that was recorded, known or not, and nothing in it can move a cursor."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.ledger.explaining import Event, instant, plain, tell

STRANGER = {"ip": "192.0.2.1", "helo": "mx.sender.example", "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384"}
OPINIONS = {
    "checks": [["wanted", "match", 15.0, "Subject: buy now"], ["spf", "softfail", 2.5, ""], ["bad", "error", "defer"]],
    "score": 17.5,
    "blocking": 0.0,
    "spam_level": "low",
}


def test_a_refusal_is_told_whole() -> None:
    refused = Event(
        1_700_000_000.1234,
        "refused",
        {
            "verb": "DATA",
            "reply": "550 5.7.1 No. 0abc",
            **STRANGER,
            "sender": "",
            "recipient": "bob@a.test",
            **OPINIONS,
        },
    )
    assert tell("0abc", [refused], [], 1_700_000_100.0) == [
        "The story of 0abc",
        "",
        "2023-11-14T22:13:20.123Z  refused at DATA",
        "    from         192.0.2.1 (helo mx.sender.example, TLSv1.3 TLS_AES_256_GCM_SHA384)",
        "    sender       <> (the null sender)",
        "    recipient    bob@a.test",
        "    check        wanted=match(15)  Subject: buy now",
        "    check        spf=softfail(2.5)",
        "    check        bad=error(defer)",
        "    sums         filtering 17.5, blocking 0",
        "    level        low",
        "    our reply    550 5.7.1 No. 0abc",
        "",
        "now: not in the spool; the last word on it is 'refused'",
    ]


def test_what_came_later_is_told_in_order_with_the_hosts_own_words() -> None:
    events = [
        Event(30.0, "delivered", {"entry": "e1", "host": "192.0.2.9:25", "recipients": ["b@a"], "reply": "250 ok"}),
        Event(10.0, "spooled", {**STRANGER, "entry": "e1", "sender": "a@sender.example", "reason": "primary is down",
                                "recipients": ["b@a.test", "c@a.test"], "size": 4096, "reply": "250 2.0.0 ok e1"}),
        Event(20.0, "deferred", {"entry": "e1", "host": "192.0.2.9:25", "reply": "451 busy", "next_attempt_at": 29.5}),
    ]  # fmt: skip
    text = "\n".join(tell("e1", events, [], 40.0))
    order = ("taken into the spool", "not delivered yet", "delivered to 192.0.2.9:25")
    headlines = [text.index(headline) for headline in order]
    assert headlines == sorted(headlines)
    assert "our reply    250 2.0.0 ok e1" in text
    assert "their reply  451 busy" in text and "their reply  250 ok" in text
    assert "recipients   b@a.test\n                 c@a.test" in text
    assert "next attempt 1970-01-01T00:00:29.500Z" in text
    assert "reason       primary is down" in text


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        (["deliver"], ["    action       deliver"]),
        (('tag "SPAM:"', "deliver"), ['    action       tag "SPAM:", deliver']),
        ([], []),
    ],
)
def test_actions_are_told_as_the_ini_has_them(actions: Any, told: list[str]) -> None:
    lines = tell("e1", [Event(1.0, "spooled", {"actions": actions})], [], 2.0)
    assert [line for line in lines if "action" in line] == told


def test_words_of_ours_are_not_called_theirs() -> None:
    deferred = {"entry": "e1", "host": "192.0.2.9:25", "reply": "451 4.4.1 no connection", "trouble": "refused"}
    lines = tell("e1", [Event(1.0, "deferred", deferred)], [], 2.0)
    assert "    outcome      451 4.4.1 no connection" in lines and "    trouble      refused" in lines
    assert not any("entry" in line for line in lines)
    assert "    entry        e1" in tell("m1", [Event(1.0, "deferred", deferred)], [], 2.0)


def test_a_handover_names_the_host_and_its_reply() -> None:
    fields = {**STRANGER, "host": "127.0.0.1:2526", "reply": "250 2.0.0 saved as 7", "seconds": 0.0123}
    lines = tell("e1", [Event(1.0, "handed_over", fields)], [], 2.0)
    assert "1970-01-01T00:00:01.000Z  handed over to 127.0.0.1:2526" in lines
    assert "    took         0.012 s" in lines
    assert "    their reply  250 2.0.0 saved as 7" in lines


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (None, "now: the spool could not be asked"),
        ([], "now: not in the spool; the last word on it is 'weird thing'"),
        (
            [{"id": "e1", "state": "active", "attempts": 2, "next_attempt_at": 70.0, "recipients": []}],
            "now: active in the spool as e1, 2 attempts made, next attempt 1970-01-01T00:01:10.000Z (in 60 s)",
        ),
        (
            [{"id": "e1", "state": "active", "attempts": 0, "next_attempt_at": 9.0, "recipients": []}],
            "now: active in the spool as e1, 0 attempts made, next attempt 1970-01-01T00:00:09.000Z (due)",
        ),
        (
            [{"id": "e1", "state": "quarantined", "attempts": 0, "next_attempt_at": None, "recipients": []}],
            "now: quarantined in the spool as e1",
        ),
    ],
)
def test_what_it_is_now(entries: Any, expected: str) -> None:
    assert tell("e1", [Event(1.0, "weird_thing", {})], entries, 10.0)[-1] == expected


def test_each_recipient_in_the_spool_is_told_with_its_last_answer() -> None:
    recipients = [
        {"address": "b@a.test", "status": "pending", "last_reply": "451 busy"},
        {"address": "c@a.test", "status": "delivered", "last_reply": None},
    ]
    entry = {"id": "e1", "state": "active", "attempts": 1, "next_attempt_at": 20.0, "recipients": recipients}
    assert tell("e1", [], [entry], 10.0)[-2:] == ["     b@a.test pending: 451 busy", "     c@a.test delivered"]


@pytest.mark.parametrize(
    ("event", "fields", "headline"),
    [
        ("refused", {}, "refused"),
        ("handed_over", {}, "handed over"),
        ("delivered", {"host": ""}, "delivered"),
        ("deleted", {"asked_by": "ann (uid 7)"}, "deleted by ann (uid 7)"),
        ("deleted", {}, "deleted"),
        ("from_a_later_version", {}, "from a later version"),
    ],
)
def test_headlines_want_no_field(event: str, fields: dict[str, Any], headline: str) -> None:
    assert tell("x", [Event(0.0, event, fields)], [], 0.0)[2] == f"1970-01-01T00:00:00.000Z  {headline}"


def test_unknown_fields_and_odd_values_are_told_plainly() -> None:
    fields = {"checks": ["odd", 7], "score": "high", "size": "big", "recipients": "b@a.test", "colour": {"red": 1}}
    text = "\n".join(tell("x", [Event(0.0, "spooled", fields)], [], 0.0))
    for told in ("check        odd", "check        7", "filtering high", "size         big", 'colour       {"red": 1}'):
        assert told in text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELD_NAMES = st.sampled_from(
    ["verb", "host", "ip", "helo", "tls", "checks", "score", "blocking", "recipients", "reply", "seconds", "size",
     "sender", "next_attempt_at", "asked_by", "other"]
)  # fmt: skip
EVENT_NAMES = st.sampled_from(["refused", "spooled", "handed_over", "delivered", "deleted"]) | st.text(max_size=8)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(FIELD_NAMES, VALUES, max_size=6), EVENT_NAMES)
def test_whatever_was_recorded_every_line_is_printable(fields: dict[str, Any], event: str) -> None:
    for line in tell("x", [Event(0.0, event, fields)], [], 0.0):
        assert line.isprintable()


@pytest.mark.parametrize("at", [float("inf"), float("nan"), 1e300, -1e300])
def test_an_instant_that_is_none_is_told_as_it_is(at: float) -> None:
    assert f"next attempt {plain(at)}" in "\n".join(tell("x", [Event(0.0, "deferred", {"next_attempt_at": at})], [], 0))


def test_long_text_is_cut_and_instants_have_milliseconds() -> None:
    assert len(plain("x" * 10_000)) < 600
    assert plain("a\nb\x1b[1m\u202e") == "a / b\N{REPLACEMENT CHARACTER}[1m\N{REPLACEMENT CHARACTER}"
    assert instant(1_700_000_000.9999) == "2023-11-14T22:13:20.999Z"


def test_the_walk_through_gateways_is_told_step_by_step() -> None:
    steps = [
        ["203.0.113.1", "198.51.100.7", "mx\x1b.example", True, "no gateway"],
        ["203.0.113.1", "", "", False, "there is no further field"],
        "odd",
    ]
    text = "\n".join(tell("m", [Event(0.0, "refused", {"origin": "198.51.100.7", "walk": steps})], [], 1.0))
    assert "    came from    198.51.100.7\n" in text
    assert "received     at 203.0.113.1 from 198.51.100.7 (helo mx\N{REPLACEMENT CHARACTER}.example): no" in text
    assert "at 203.0.113.1: there is no further field, not believed" in text
