"""SPF evaluated by replay: the suite of RFC 7208, its bounds, and records that strangers write."""

from __future__ import annotations

from typing import Any

import pytest
import spf
from fakes import rfc7208_suite
from fakes.resolver import FakeResolver
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.checks import spf_replay
from inboundmx.checks.questions import Questions
from inboundmx.checks.spf_record import RECORD_LIMIT, TERM_LIMIT
from inboundmx.checks.spf_replay import EAGER, QUESTIONS, evaluate
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly

IP = "192.0.2.1"


def evaluated(
    resolver: FakeResolver, sender: str = "ann@a.example", hello: str = "mx.a.example", ip: str = IP
) -> tuple[str, str]:
    questions = Questions(resolver)
    came: list[Any] = []
    waiting = promptly(evaluate(questions, ip, sender, hello, "mx.gateway.example"), came.append, came.append)
    while not came:
        assert waiting is not None
        resolver.release()
    questions.close()
    if not isinstance(came[0], tuple):
        came[0].raiseException()
    return came[0]


def record(text: str | bytes, **more: Any) -> FakeResolver:
    zone: dict[str, Any] = {"a.example": {"TXT": [text]}}
    return FakeResolver(zone | {name.replace("_", "."): rows for name, rows in more.items()})


@pytest.mark.parametrize("holding", [False, True], ids=["cached", "awaited"])
@pytest.mark.parametrize("case", rfc7208_suite.cases(), ids=[case.name for case in rfc7208_suite.cases()])
def test_the_suite_of_rfc_7208(case: rfc7208_suite.Case, holding: bool) -> None:
    resolver = FakeResolver(case.zone, holding=holding)

    outcome, explanation = evaluated(resolver, case.sender, case.hello, case.ip)

    assert outcome == case.results[0]
    if case.explanation not in (None, "DEFAULT"):
        assert explanation == case.explanation


def test_the_suite_is_whole() -> None:
    assert len(rfc7208_suite.cases()) == 203


def test_nothing_of_the_library_catches_a_missing_answer() -> None:
    assert not issubclass(spf_replay._Missing, Exception)
    assert spf.DNSLookup is spf_replay._look_up


def test_what_a_record_shows_is_asked_for_together() -> None:
    resolver = FakeResolver(
        {
            "a.example": {"TXT": ["v=spf1 include:b.example include:c.example a:mail.a.example mx -all"], "MX": []},
            "b.example": {"TXT": ["v=spf1 -all"]},
            "c.example": {"TXT": ["v=spf1 -all"]},
            "mail.a.example": {"A": [IP]},
        },
        holding=True,
    )
    rounds = 0
    questions = Questions(resolver)
    came: list[Any] = []
    promptly(evaluate(questions, IP, "ann@a.example", "a.example", "x"), came.append, came.append)
    while not came:
        rounds += 1
        resolver.release()

    assert came[0][0] == "pass"
    assert rounds == 2
    assert resolver.asked[1:] == [
        ("b.example", "TXT"), ("c.example", "TXT"), ("mail.a.example", "A"), ("a.example", "MX"),
    ]  # fmt: skip


def test_what_is_asked_ahead_is_not_waited_for() -> None:
    """A dead name that is not needed does not hold an answer up; it is given up in the end."""
    resolver = record("v=spf1 include:b.example include:dead.example -all", b_example={"TXT": [f"v=spf1 ip4:{IP}"]})
    resolver.holding = True
    questions = Questions(resolver)
    came: list[Any] = []
    promptly(evaluate(questions, IP, "ann@a.example", "a.example", "x"), came.append, came.append)
    resolver.release()
    held = resolver._held
    assert resolver.asked[1:] == [("b.example", "TXT"), ("dead.example", "TXT")]

    held[0].callback(None)

    assert came == [("pass", "sender SPF authorized")]
    questions.close()
    assert held[1].called


@pytest.mark.parametrize(
    ("zone", "outcome"),
    [
        ({"a.example": Unavailable("SERVFAIL")}, "temperror"),
        ({"a.example": {"TXT": ["v=spf1 include:b.example -all"]}, "b.example": Unavailable("silence")}, "temperror"),
        ({"a.example": {"TXT": ["v=spf1 ip4:192.0.2.1 include:b.example"]}, "b.example": Unavailable("-")}, "pass"),
        ({"a.example": {"TXT": ["v=spf1 -all exp=why.example"]}, "why.example": Unavailable("-")}, "fail"),
        ({"a.example": {"TXT": ["v=spf1 ptr ~all"]}, "1.2.0.192.in-addr.arpa": Unavailable("-")}, "softfail"),
        (
            {
                "a.example": {"TXT": ["v=spf1 ptr -all"], "A": [IP]},
                "1.2.0.192.in-addr.arpa": {"PTR": ["dead.a.example", "a.example"]},
                "dead.a.example": Unavailable("-"),
            },
            "pass",
        ),
        ({"a.example": {"TXT": ["v=spf1 -all", "v=spf1 +all"]}}, "permerror"),
        ({"a.example": {"TXT": ["v=spf10 -all"]}}, "none"),
        ({}, "none"),
    ],
)
def test_dns_trouble_is_never_a_fail(zone: Any, outcome: str) -> None:
    assert evaluated(FakeResolver(zone))[0] == outcome


# --- bounds -----------------------------------------------------------------------------------------------------------


def amplifier() -> FakeResolver:
    """Ten mx of ten hosts each: the dearest record that RFC 7208 4.6.4 allows."""
    terms = " ".join(f"mx:m{n}.example" for n in range(10))
    zone: dict[str, Any] = {"a.example": {"TXT": [f"v=spf1 {terms} -all"]}}
    for n in range(10):
        zone[f"m{n}.example"] = {"MX": [(host, f"h{host}.m{n}.example") for host in range(10)]}
        for host in range(10):
            zone[f"h{host}.m{n}.example"] = {"A": ["198.51.100.1"]}
    return FakeResolver(zone)


def test_the_dearest_record_asks_no_more_than_the_limit() -> None:
    resolver = amplifier()
    assert evaluated(resolver)[0] == "permerror"
    assert len(resolver.asked) <= QUESTIONS


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("v=spf1 " + " ".join(f"include:i{n}.example" for n in range(60)), EAGER),
        ("v=spf1 " + " ".join(f"exists:%{{i}}.e{n}.example" for n in range(60)), 4),
        ("v=spf1 a:v1.test a:v2.test a:v3.test a:v4.test -all", 5),
        ("v=spf1 include:a.example", 1),
    ],
)
def test_look_ups_are_bounded(text: str, asked: int) -> None:
    resolver = record(text)
    assert evaluated(resolver)[0] == "permerror"
    assert len(resolver.asked) <= asked


def test_an_endless_chain_ends_after_ten() -> None:
    zone = {f"r{n}.example": {"TXT": [f"v=spf1 redirect=r{n + 1}.example"]} for n in range(40)}
    resolver = FakeResolver(zone)
    assert evaluated(resolver, "ann@r0.example")[0] == "permerror"
    assert len(resolver.asked) <= 12


@pytest.mark.parametrize(
    "text",
    [
        b"v=spf1 " + b"ip4:192.0.2.0/24 " * (RECORD_LIMIT // 17 + 1) + b"-all",
        b"v=spf1 a:" + b"a" * TERM_LIMIT + b" -all",
    ],
)
def test_a_record_that_is_dear_to_read_is_not_read(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(spf.query, "check0", lambda self, record, recursion: read.append(record))

    assert evaluated(record(text)) == ("permerror", "SPF Permanent Error: the record is too large: a.example")
    assert read == []


@pytest.mark.parametrize(
    ("ip", "sender", "hello"),
    [
        ("2001:db8::1", "ann@a.example", "x"),
        ("::ffff:192.0.2.1", "ann@a.example", "x"),
        (IP, '"a b"@a.example', "x"),
        (IP, "änn@a.example", "x"),
        (IP, '"b@b.example"@a.example', "x"),
    ],
)
def test_odd_clients_and_senders(ip: str, sender: str, hello: str) -> None:
    resolver = record("v=spf1 exists:%{l1r-}.%{s}.b.example ip4:192.0.2.1 ip6:2001:db8::1 -all")
    assert evaluated(resolver, sender, hello, ip)[0] == "pass"


WORDS = st.sampled_from(
    ["v=spf1", " ", "include:", "a", "mx", "ptr", "exists:", "redirect=", "exp=", "ip4:", "ip6:", "%{", "}", "%{d1r-}",
     "%{p}", "%{d99999999999}", "/", "//", "-", "~", "a.example", "b.example", "192.0.2.1", "::1", "\x00", "é", "=",
     "all"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(WORDS, max_size=20))
def test_no_record_makes_it_fail(words: list[str]) -> None:
    text = "v=spf1 " + "".join(words)
    outcome, explanation = evaluated(record(text, b_example={"TXT": [text], "A": [IP], "MX": [(1, "a.example")]}))
    assert outcome in {"pass", "fail", "softfail", "neutral", "none", "permerror", "temperror"}
    assert isinstance(explanation, str)


# --- what holds everybody up ------------------------------------------------------------------------------------------


def test_what_is_remembered_is_evaluated_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[object] = []
    run = spf_replay._run
    monkeypatch.setattr(spf_replay, "_run", lambda *arguments: (runs.append(1), run(*arguments))[1])
    zone = {f"i{n}.example": {"TXT": [f"v=spf1 include:i{n + 1}.example ?all"]} for n in range(8)}
    zone |= {"i8.example": {"TXT": [f"v=spf1 ip4:{IP} -all"]}, "a.example": {"TXT": ["v=spf1 include:i0.example -all"]}}
    assert evaluated(FakeResolver(zone))[0] == "pass"
    assert len(runs) == 1


def test_records_are_bounded_together() -> None:
    def chain(octets: int) -> FakeResolver:
        filling = "ip4:192.0.2.77 " * (octets // 15)
        zone = {f"i{n}.example": {"TXT": [f"v=spf1 {filling}include:i{n + 1}.example ?all"]} for n in range(5)}
        zone |= {"i5.example": {"TXT": [f"v=spf1 ip4:{IP} -all"]}, "a.example": {"TXT": ["v=spf1 redirect=i0.example"]}}
        return FakeResolver(zone)

    assert evaluated(chain(3000))[0] == "pass"
    assert evaluated(chain(3600))[0] == "permerror"


def test_of_very_many_addresses_the_first_count() -> None:
    rows = [f"198.51.100.{n}" for n in range(spf_replay.ROWS_LIMIT)]
    assert evaluated(record("v=spf1 a -all"))[0] == "fail"
    for before, outcome in ((rows[1:], "pass"), (rows, "fail")):
        zone = {"a.example": {"TXT": ["v=spf1 a -all"], "A": [*before, IP]}}
        assert evaluated(FakeResolver(zone))[0] == outcome
