"""spamd's words: a score is a number or there is none, and an answer is as long as it says."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.services import Outcome, Services, body
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.net.scoring import RULES_LIMIT
from inboundmx.net.spamd import ANSWER_LIMIT
from inboundmx.ports import SPAM_SCORE_LIMIT, TooLarge

MAIL = b"Subject: hello\r\n\r\nhello\r\n"
TRACE = b"Received: from a ([192.0.2.1])\r\n\tby b with ESMTP id c;\r\n\tSat, 21 Nov 2026 12:00:00 +0000\r\n"
SMALL = body(MAIL)
KB = 1024


def answer(spam: bytes = b"True ; 1000.0 / 5.0", rules: bytes = b"GTUBE,NO_RELAYS", **fields: bytes) -> bytes:
    fields = {"Content-length": b"%d" % len(rules), "Spam": spam} | {
        name.replace("_", "-"): value for name, value in fields.items()
    }
    head = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in fields.items())
    return b"SPAMD/1.1 0 EX_OK\r\n" + head + b"\r\n" + rules


class Spamd(Services):
    def __init__(self, *servers: str, attempts: int = 1, at_once: int = 2, seconds: float = 10.0) -> None:
        super().__init__()
        servers = servers or ("tcp:one.test:783",)
        self.scorer = self.scanners.spam(servers, 300 * KB, attempts, at_once, seconds)

    def score(self, what: Any = SMALL) -> Outcome:
        return Outcome(self.scorer.score(what, TRACE))


def test_a_message_is_scored() -> None:
    spamd = Spamd()
    outcome, line = spamd.score(), spamd.accept()
    whole = TRACE + MAIL
    assert line.heard() == b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(whole) + whole
    assert line.wire.half_closed
    line.says(answer())
    assert outcome.value == (1000.0, ("GTUBE", "NO_RELAYS"))
    assert line.wire.aborted
    assert spamd.notes == [("spamd one.test:783", True, "")]
    assert spamd.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("piece", [1, 5, 33])
def test_an_answer_may_come_in_pieces(piece: int) -> None:
    spamd = Spamd()
    outcome, line = spamd.score(), spamd.accept()
    line.says(answer(b"False ; -0.0 / 5.0"), piece)
    assert outcome.value == (0.0, ("GTUBE", "NO_RELAYS"))


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (answer(b"True ; 5.2 / 5.0"), (5.2, ("GTUBE", "NO_RELAYS"))),
        (answer(b"False ; -100 / 5.0", b""), (-100.0, ())),
        (answer(b"Yes ; 7 / 5", b" A , B_2,"), (7.0, ("A", "B_2"))),
        (answer(rules=b"A,\xff\n,<b>,B C,2X,D"), (1000.0, ("A", "D"))),
        (answer(rules=b",".join(b"R%d" % n for n in range(999))), (1000.0, tuple(f"R{n}" for n in range(RULES_LIMIT)))),
        (answer(DidntSet=b"x"), (1000.0, ("GTUBE", "NO_RELAYS"))),
        (answer().replace(b"1.1", b"1.5"), (1000.0, ("GTUBE", "NO_RELAYS"))),
    ],
)
def test_proper_answers(said: bytes, heard: object) -> None:
    spamd = Spamd()
    outcome, line = spamd.score(), spamd.accept()
    line.says(said)
    assert outcome.value == heard


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SPAMD/1.0 76 Bad header line: FOO\r\n",
        b"SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled\r\n",
        b"SPAMD/9999999999.1 0 EX_OK\r\nContent-length: 0\r\nSpam: True ; 5.0 / 5.0\r\n\r\n",
        b"SPAMD 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-length: 0\r\nSpam: True ; 5.0 / 5.0\r\n\r\n",
        answer().replace(b"\r\n", b"\n"),
        answer().replace(b"EX_OK", b"\xff\0"),
        answer(b"True ; nan / 5.0"),
        answer(b"True ; inf / 5.0"),
        answer(b"True ; -inf / 5.0"),
        answer(b"True ; 1e9 / 5.0"),
        answer(b"True ; 5,2 / 5.0"),
        answer(b"True ; 0x10 / 5.0"),
        answer(b"True ; \xd9\xa1 / 5.0"),
        answer(b"True ; 1_0 / 5.0"),
        answer(b"True ; 10001 / 5.0"),
        answer(b"False ; -999999999 / 5.0"),
        answer(b"True ; / 5.0"),
        answer(b"True ; 5.0"),
        answer(b"True"),
        answer(b""),
        answer(spam=b"True ; 5.0 / 5.0", SPAM=b"False ; 0.0 / 5.0"),
        answer(Content_length=b"3"),
        answer(Content_length=b"1000"),
        answer(Content_length=b"-1"),
        answer(Content_length=b"1e3"),
        answer(Content_length=b""),
        answer(Content_length=b"999999999"),
        answer().replace(b"Content-length: 15\r\n", b""),
        answer().replace(b"Spam:", b"Ham:"),
        answer() + b"more",
        answer()[:-1],
        b"SPAMD/1.1 0 EX_OK\r\nno colon\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\n" + b"X: y\r\n" * 2_000_000,
        b"x" * 100_000,
        answer(rules=b"x" * ANSWER_LIMIT),
    ],
)
def test_anything_else_is_no_score(said: bytes) -> None:
    spamd = Spamd()
    outcome, line = spamd.score(), spamd.accept()
    line.says(said)
    line.closes()
    assert outcome.unavailable.startswith("spamd one.test:783 ")
    assert outcome.unavailable.isprintable() and len(outcome.unavailable) < 200
    assert spamd.notes[0][:2] == ("spamd one.test:783", False)


@given(st.binary(max_size=20), st.text("0123456789.+-einfaEx_,  ", max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_score_is_always_a_finite_number(word: bytes, number: str) -> None:
    spamd = Spamd()
    outcome, line = spamd.score(), spamd.accept()
    line.says(answer(b"True ; " + number.encode() + b" / 5.0" + word.replace(b"\r", b"")))
    line.closes()
    assert outcome.done
    if outcome.error is None:
        assert -SPAM_SCORE_LIMIT <= outcome.value[0] <= SPAM_SCORE_LIMIT


def test_a_message_that_is_larger_than_allowed_is_not_sent() -> None:
    spamd = Spamd()
    assert isinstance(spamd.score(body(b"x" * (300 * KB + 1))).error, TooLarge)
    assert spamd.waiting == 0


def test_a_large_body_is_read_first() -> None:
    spamd = Spamd()
    spamd.disk.octets = b"x" * (300 * KB)
    outcome = spamd.score(body(spamd.disk.octets))
    assert spamd.waiting == 0
    spamd.disk.turn()
    line = spamd.accept()
    assert line.heard().endswith(TRACE + spamd.disk.octets)
    line.says(answer())
    assert outcome.done and outcome.error is None


def test_never_more_requests_than_children() -> None:
    spamd = Spamd(at_once=2)
    outcomes = [spamd.score() for _ in range(7)]
    for _ in range(3):
        assert spamd.waiting == 2
        for line in (spamd.accept(), spamd.accept()):
            line.says(answer())
    spamd.accept().says(answer())
    assert [outcome.value[0] for outcome in outcomes] == [1000.0] * 7


@pytest.mark.parametrize(("attempts", "asked"), [(1, 1), (2, 2), (3, 3)])
def test_attempts(attempts: int, asked: int) -> None:
    spamd = Spamd("tcp:one.test:783", "tcp:two.test:783", attempts=attempts)
    outcome = spamd.score()
    for _ in range(asked):
        assert not outcome.done
        spamd.refuse()
    assert outcome.done and spamd.waiting == 0
    assert spamd.asked() == ["one.test", "two.test", "one.test"][:asked]


def test_hanging_up_gives_the_place_back() -> None:
    spamd = Spamd(at_once=1)
    first, second = spamd.score(), spamd.score()
    line = spamd.accept()
    first.deferred.cancel()
    assert line.wire.aborted
    spamd.accept().says(answer())
    assert second.value[0] == 1000.0
    assert spamd.reactor.getDelayedCalls() == []
