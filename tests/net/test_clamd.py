"""clamd's words, and the order, places and patience with which any server is asked."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.services import Line, Outcome, Services, body
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.net.clamd import ANSWER_LIMIT, AT_ONCE, CHUNK
from inboundmx.net.servers import FAILURES, PROBE_SECONDS, WAITING
from inboundmx.ports import TooLarge, Unavailable

MAIL = b"Subject: hello\r\n\r\nhello\r\n"
SMALL = body(MAIL)
FRAMED = b"zINSTREAM\0" + len(MAIL).to_bytes(4, "big") + MAIL + bytes(4)
MB = 2**20
ONE = ("tcp:one.test:3310",)
TWO = ("tcp:one.test:3310", "tcp:two.test:3310")


class Clamd(Services):
    def __init__(self, *servers: str, seconds: float = 10.0) -> None:
        super().__init__()
        self.scanner = self.scanners.viruses(servers or ONE, MB, seconds)

    def scan(self, what: Any = SMALL) -> Outcome:
        return Outcome(self.scanner.scan(what))

    def scan_large(self, octets: int = 2 * CHUNK + 1000) -> tuple[Outcome, Line]:
        self.disk.octets = bytes(range(256)) * (octets // 256 + 1)
        self.disk.octets = self.disk.octets[:octets]
        return self.scan(body(self.disk.octets)), self.accept()

    def fail(self, times: int) -> None:
        for _ in range(times):
            outcome = self.scan()
            self.refuse()
            assert outcome.done


def test_a_clean_message() -> None:
    clamd = Clamd()
    outcome, line = clamd.scan(), clamd.accept()
    assert line.heard() == FRAMED
    assert not outcome.done
    line.says(b"stream: OK\0")
    assert (outcome.value, outcome.error) == ("", None)
    assert line.wire.aborted and line.wire.handle.closed
    assert clamd.notes == [("clamd one.test:3310", True, "")]
    assert clamd.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_an_infected_message(piece: int) -> None:
    clamd = Clamd()
    outcome, line = clamd.scan(), clamd.accept()
    line.says(b"stream: Win.Test.EICAR_HDB-1 FOUND\0", piece)
    assert outcome.value == "Win.Test.EICAR_HDB-1"


def test_a_unix_socket_is_asked_by_its_path() -> None:
    clamd = Clamd("unix:/run/clamav/clamd.ctl")
    clamd.scan()
    assert clamd.reactor.unixClients[0][0] == "/run/clamav/clamd.ctl"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"stream: OK",
        b"stream: OK\n",
        b"stream: Eicar FOUND",
        b"\0",
        b"OK\0",
        b" stream: OK\0",
        b"stream: OK \0",
        b"stream: ok\0",
        b"stream: OK\n\0",
        b"stream:  FOUND\0",
        b"stream: \xff\xfe FOUND\0",
        b"stream: a\nb FOUND\0",
        b"stream: Can't allocate memory ERROR\0",
        b"stream: OK\0stream: OK\0",
        b"stream: OK\0stream: Eicar FOUND\0",
        b"INSTREAM size limit exceeded. ERROR",
        b"UNKNOWN COMMAND\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 mx.example ESMTP\r\n",
        b"stream: " + b"x" * 201 + b" FOUND\0",
        b"x" * ANSWER_LIMIT + b"\0",
        b"x" * 100_000,
    ],
)
def test_no_other_answer_is_a_clean_bill(answer: bytes) -> None:
    clamd = Clamd()
    outcome, line = clamd.scan(), clamd.accept()
    line.says(answer)
    line.closes()
    assert outcome.unavailable.startswith("clamd one.test:3310 ") and outcome.unavailable.isprintable()
    assert clamd.notes[0][:2] == ("clamd one.test:3310", False)


@given(st.binary(max_size=80) | st.sampled_from([b"stream: OK", b"stream: X FOUND"]).flatmap(
    lambda word: st.tuples(st.just(word), st.binary(max_size=3)).map(b"".join)))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_only_the_one_sentence_is_clean(answer: bytes) -> None:
    clamd = Clamd()
    outcome, line = clamd.scan(), clamd.accept()
    line.says(answer)
    line.closes()
    assert outcome.done
    assert (outcome.value == "") == (answer == b"stream: OK\0")


def test_an_endless_answer_is_cut_off() -> None:
    clamd = Clamd()
    outcome, line = clamd.scan(), clamd.accept()
    told = 0
    while not line.wire.aborted and told < 2**30:
        line.protocol.dataReceived(b"x" * 65536)
        told += 65536
    assert told == 65536
    assert "without an end" in outcome.unavailable


def test_larger_than_we_are_allowed_is_not_even_tried() -> None:
    clamd = Clamd()
    assert isinstance(clamd.scan(body(b"x" * (MB + 1))).error, TooLarge)
    assert clamd.waiting == 0
    clamd.scan_large(MB)


def test_a_large_body_goes_in_chunks() -> None:
    clamd = Clamd()
    outcome, line = clamd.scan_large()
    for _ in range(2):
        clamd.disk.turn()
    sent = line.heard()
    assert sent.startswith(b"zINSTREAM\0") and sent.endswith(bytes(4))
    at, whole = 10, b""
    while length := int.from_bytes(sent[at : at + 4], "big"):
        whole += sent[at + 4 : at + 4 + length]
        at += 4 + length
    assert at == len(sent) - 4
    assert whole == clamd.disk.octets
    line.says(b"stream: OK\0")
    assert outcome.value == ""


def test_nothing_is_read_while_the_server_does_not_take_it() -> None:
    clamd = Clamd()
    outcome, line = clamd.scan_large(4 * CHUNK - 10)
    line.protocol._wrappedProtocol.pauseProducing()
    clamd.disk.turn()
    line.heard()
    assert clamd.disk.waiting == []
    line.protocol._wrappedProtocol.resumeProducing()
    assert len(clamd.disk.waiting) == 1
    clamd.disk.turn()
    clamd.disk.turn()
    line.says(b"stream: OK\0")
    assert outcome.value == ""


@pytest.mark.parametrize("answer", [b"stream: OK\0", b"stream: X FOUND\0"])
def test_who_answers_before_he_has_heard_all_is_not_believed(answer: bytes) -> None:
    clamd = Clamd()
    outcome, line = clamd.scan_large()
    line.says(answer)
    assert "before it has heard all" in outcome.unavailable
    clamd.disk.turn()


def test_too_large_for_the_server() -> None:
    clamd = Clamd()
    outcome, line = clamd.scan_large()
    line.says(b"INSTREAM size limit exceeded. ERROR\0")
    assert isinstance(outcome.error, TooLarge)
    assert line.wire.aborted
    assert clamd.notes == [("clamd one.test:3310", True, "")]
    clamd.disk.turn()


def test_an_answer_that_lies_unread_when_the_write_fails_counts() -> None:
    clamd = Clamd()
    outcome, line = clamd.scan_large()
    line.wire.handle.left = b"INSTREAM size limit exceeded. ERROR\0"
    line.closes()
    assert isinstance(outcome.error, TooLarge)
    assert line.wire.handle.closed


@pytest.mark.parametrize("trouble", ["short", "busy"])
def test_a_body_that_cannot_be_read_is_not_the_server_s_fault(trouble: str) -> None:
    clamd = Clamd(*TWO)
    outcome, line = clamd.scan_large()
    if trouble == "short":
        clamd.disk.octets = clamd.disk.octets[:CHUNK]
    else:
        clamd.disk.busy = True
    clamd.disk.turn()
    clamd.disk.turn()
    assert outcome.unavailable in ("the stored body is cut short", "too much waits for a thread")
    assert line.wire.aborted and not line.heard().endswith(bytes(4))
    assert clamd.asked() == ["one.test"]
    assert clamd.notes == []


def test_hanging_up_ends_the_scan() -> None:
    clamd = Clamd(*TWO)
    outcome, line = clamd.scan_large()
    outcome.deferred.cancel()
    assert outcome.done and not isinstance(outcome.error, Unavailable)
    assert line.wire.aborted and line.wire.handle.closed
    assert clamd.asked() == ["one.test"]
    assert clamd.notes == []
    assert clamd.reactor.getDelayedCalls() == []
    clamd.disk.turn()


def test_hanging_up_while_connecting() -> None:
    clamd = Clamd(*TWO)
    outcome = clamd.scan()
    outcome.deferred.cancel()
    assert outcome.done and not isinstance(outcome.error, Unavailable)
    assert clamd.asked() == ["one.test"]
    assert clamd.notes == []


# --- several servers --------------------------------------------------------------------------------------------------


def test_the_next_server_is_asked_when_one_fails() -> None:
    clamd = Clamd(*TWO)
    outcome = clamd.scan()
    clamd.refuse()
    clamd.accept().says(b"stream: OK\0")
    assert outcome.value == ""
    assert clamd.asked() == ["one.test", "two.test"]


def test_silence_is_given_its_share_of_the_time() -> None:
    clamd = Clamd(*TWO, seconds=10.0)
    outcome, silent = clamd.scan(), clamd.accept()
    clamd.reactor.advance(4.4)
    assert clamd.waiting == 0
    clamd.reactor.advance(0.2)
    assert silent.wire.aborted
    slow = clamd.accept()
    clamd.reactor.advance(4.3)
    assert not outcome.done
    clamd.reactor.advance(0.2)
    assert outcome.unavailable == "clamd two.test:3310 does not answer"
    assert slow.wire.aborted
    assert clamd.reactor.seconds() < 10.0


def test_one_octet_in_five_seconds_is_silence() -> None:
    clamd = Clamd(seconds=10.0)
    outcome, line = clamd.scan(), clamd.accept()
    for octet in b"stream: OK\0":
        if not outcome.done:
            clamd.reactor.advance(5.0)
            line.says(bytes([octet]))
    assert outcome.unavailable == "clamd one.test:3310 does not answer"


def test_a_server_that_fails_again_and_again_is_left_alone() -> None:
    clamd = Clamd()
    clamd.fail(FAILURES)
    assert clamd.scan().unavailable.startswith("clamd one.test:3310 is left alone for now: ")
    assert len(clamd.asked()) == FAILURES
    assert [well for _, well, _ in clamd.notes] == [False] * FAILURES


def test_one_message_in_ten_seconds_tries_it_again() -> None:
    clamd = Clamd()
    clamd.fail(FAILURES)
    assert clamd.scan().done
    for _ in range(3):
        clamd.reactor.advance(PROBE_SECONDS)
        probe = clamd.scan()
        assert not probe.done
        assert clamd.scan().done
        clamd.refuse()
        assert probe.done
        assert clamd.scan().done
    assert len(clamd.asked()) == FAILURES + 3
    clamd.reactor.advance(PROBE_SECONDS)
    probe = clamd.scan()
    clamd.accept().says(b"stream: OK\0")
    assert probe.value == ""
    again = clamd.scan()
    clamd.accept().says(b"stream: OK\0")
    assert again.value == ""


def test_failures_that_do_not_follow_one_another_do_not_add_up() -> None:
    clamd = Clamd()
    for _ in range(3):
        clamd.fail(FAILURES - 1)
        outcome = clamd.scan()
        clamd.accept().says(b"stream: OK\0")
        assert outcome.value == ""
    reason = "clamd one.test:3310 cannot be reached: Connection was refused by other side."
    assert clamd.notes[0] == ("clamd one.test:3310", False, reason)


def test_no_more_are_asked_at_once_than_there_are_places() -> None:
    clamd = Clamd()
    outcomes = [clamd.scan() for _ in range(AT_ONCE * (1 + WAITING) + 1)]
    assert clamd.waiting == AT_ONCE
    assert outcomes.pop().unavailable == "clamd one.test:3310 is busy"
    outcomes[AT_ONCE].deferred.cancel()
    lines = [clamd.accept() for _ in range(AT_ONCE)]
    assert clamd.waiting == 0
    for line in lines:
        line.says(b"stream: OK\0")
    assert [outcome.done for outcome in outcomes[: AT_ONCE + 2]] == [True] * (AT_ONCE + 1) + [False]
    assert clamd.waiting == AT_ONCE
    while clamd.waiting:
        clamd.accept().says(b"stream: OK\0")
    assert all(outcome.done for outcome in outcomes)
    assert len(clamd.asked()) == len(outcomes) - 1


def test_who_waits_too_long_for_a_place_is_told_that_it_is_busy() -> None:
    clamd = Clamd(seconds=10.0)
    for _ in range(AT_ONCE):
        clamd.scan()
    lines = [clamd.accept() for _ in range(AT_ONCE)]
    hasty = Outcome(clamd.scanners.viruses(ONE, MB, 2.0).scan(SMALL))
    clamd.reactor.advance(2.0)
    assert hasty.unavailable == "clamd one.test:3310 is busy"
    assert clamd.notes == []
    lines[0].says(b"stream: OK\0")
    assert clamd.waiting == 0


def test_a_server_with_a_free_place_goes_first() -> None:
    clamd = Clamd(*TWO)
    for _ in range(AT_ONCE + 1):
        clamd.scan()
    assert clamd.asked() == ["one.test"] * AT_ONCE + ["two.test"]


def test_a_server_is_one_for_all_who_ask_it() -> None:
    clamd = Clamd()
    clamd.fail(FAILURES)
    clamd.scanner = clamd.scanners.viruses(ONE, MB, 5.0)
    assert "left alone" in clamd.scan().unavailable
