"""rspamd's words: what it is told, a score that is a number, and an answer that is as long as it says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.services import Outcome, Services, body
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.net.rspamd import ANSWER_LIMIT, opinion
from inboundmx.net.scoring import RULES_LIMIT
from inboundmx.net.servers import Fault
from inboundmx.ports import SPAM_SCORE_LIMIT, TooLarge

MAIL = b"Subject: hello\r\n\r\nhello\r\n"
KB = 1024
FACTS = [("IP", "192.0.2.9"), ("From", "<a@b.test>"), ("Rcpt", "<x@here.example>"), ("Rcpt", "<y@here.example>")]


def said(**fields: Any) -> bytes:
    symbols = {"MARKED": {"name": "MARKED", "score": 7.5}, "R_SPF_ALLOW": {}}
    whole = {"score": 7.5, "required_score": 15.0, "action": "add header", "symbols": symbols} | fields
    return json.dumps(whole).encode()


def answer(content: bytes = said(), status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content)


class Rspamd(Services):
    def __init__(self, password: str = "", attempts: int = 1) -> None:
        super().__init__()
        self.scorer = self.scanners.rspamd(("tcp:one.test:11333",), 300 * KB, attempts, 2, 10.0, password)

    def score(self, what: Any = None, facts: Any = FACTS) -> Outcome:
        return Outcome(self.scorer.score(what or body(MAIL), facts))


def test_a_message_is_scored() -> None:
    rspamd = Rspamd()
    outcome, line = rspamd.score(), rspamd.accept()
    assert line.heard() == (
        b"POST /checkv2 HTTP/1.1\r\nHost: rspamd\r\nIP: 192.0.2.9\r\nFrom: <a@b.test>\r\nRcpt: <x@here.example>\r\n"
        b"Rcpt: <y@here.example>\r\nContent-Length: 25\r\nConnection: close\r\n\r\n" + MAIL
    )
    line.says(answer(), 3)
    assert outcome.value == (7.5, ("MARKED", "R_SPF_ALLOW"))
    assert line.wire.aborted
    assert rspamd.notes == [("rspamd one.test:11333", True, "")]
    assert rspamd.reactor.getDelayedCalls() == []


def test_a_password_is_said_before_anything_a_stranger_says() -> None:
    rspamd = Rspamd("secret")
    outcome = rspamd.score(facts=[("Helo", "a\r\nPassword: x\r\n\r\n\0b\x7f"), ("From", "<p\u00e9\udcff@b.test>")])
    head, _, content = rspamd.accept().heard().partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[1:5] == [
        b"Host: rspamd", b"Password: secret", b"Helo: a??Password: x?????b?", "From: <p\u00e9?@b.test>".encode(),
    ]  # fmt: skip
    assert content == MAIL
    outcome.deferred.cancel()


def test_a_large_body_is_read_whole_and_a_larger_one_is_not_asked_about() -> None:
    rspamd = Rspamd()
    rspamd.disk.octets = b"x" * (280 * KB)
    outcome = rspamd.score(body(rspamd.disk.octets))
    rspamd.disk.turn()
    line = rspamd.accept()
    assert line.heard().endswith(rspamd.disk.octets)
    line.says(answer())
    assert outcome.value[0] == 7.5
    assert isinstance(rspamd.score(body(b"x" * (301 * KB))).error, TooLarge)


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        (b"", "closes without an answer"),
        (answer()[:-1], "ends in the middle of its answer"),
        (answer(status=b"403 Forbidden"), "refuses our password (403)"),
        (answer(b'{"error":"x"}', b"400 Bad"), "answers 400"),
        (b"SPAMD/1.1 0 EX_OK\r\n\r\n", "does not speak HTTP"),
        (answer(b"x" * ANSWER_LIMIT), "says more than anybody should"),
        (answer(b"pong"), "answers no JSON with a score"),
        (answer(b"[" * 100_000), "answers no JSON with a score"),
        (answer(b"\xff\xfe\x00"), "answers no JSON with a score"),
        (answer(b"[1]"), "answers no JSON with a score"),
        (answer(b"{}"), "answers no JSON with a score"),
        (answer(said(score=None)), "gives no proper score"),
        (answer(said(score=True)), "gives no proper score"),
        (answer(said(score="7.5")), "gives no proper score"),
        (answer(said(score=float("nan"))), "gives no proper score"),
        (answer(said(score=float("inf"))), "gives no proper score"),
        (answer(said(score=10**400)), "gives no proper score"),
        (answer(said(score=-SPAM_SCORE_LIMIT - 1)), "gives no proper score"),
        (answer(b'{"score": ' + b"9" * 5000 + b"}"), "answers no JSON with a score"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_answer_is_trouble(heard: bytes, why: str) -> None:
    rspamd = Rspamd()
    outcome, line = rspamd.score(), rspamd.accept()
    line.says(heard)
    if not outcome.done:
        line.closes()
    assert outcome.unavailable == f"rspamd one.test:11333 {why}"
    assert rspamd.notes == [("rspamd one.test:11333", False, outcome.unavailable)]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"score": -3}, (-3.0, ("MARKED", "R_SPF_ALLOW"))),
        ({"symbols": {"A b": {}, "<x>": {}, "OK": 1, "\u00e9": {}}}, (7.5, ("OK",))),
        ({"symbols": None}, (7.5, ())),
        ({"symbols": ["A"]}, (7.5, ())),
        ({"symbols": {f"S{n}": {} for n in range(999)}}, (7.5, tuple(f"S{n}" for n in range(RULES_LIMIT)))),
    ],
)
def test_proper_answers(fields: dict[str, Any], found: Any) -> None:
    assert opinion(said(**fields)) == found


@settings(max_examples=100)
@given(st.binary(max_size=300) | st.recursive(st.none() | st.floats() | st.text(), lambda each: st.lists(each)).map(
    lambda value: json.dumps({"score": value}).encode()
))  # fmt: skip
def test_whatever_is_said(content: bytes) -> None:
    try:
        score, symbols = opinion(content)
    except Fault:
        return
    assert abs(score) <= SPAM_SCORE_LIMIT and symbols == ()
