"""Transactions: what is written when, and what each answer means, against a server played by the test."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.smtp_wire import ANN, BOB, EHLO, EVE, HOST, Line, Network, Outcome, parcel, unstuffed

from inboundmx.model.address import Address
from inboundmx.model.custody import DeliveryAttempt, Host, Parcel, Phase

ONE = b"MAIL FROM:<sender@a.example> SIZE=21\r\nRCPT TO:<ann@b.example>\r\nDATA\r\n"
CONTENT = b"Subject: x\r\n\r\nhello\r\n.\r\n"
PLAIN = b"250 mx.primary.example\r\n"
LMTP = Host("192.0.2.10", 24, "lmtp")


class Talk:
    """One connection and its transactions."""

    def __init__(self, ehlo: bytes = EHLO, host: Host = HOST, folder: str = "") -> None:
        self.network = Network(folder)
        self.line: Line
        self.connection: Any
        self.connection, self.line = self.network.connection(ehlo, host)

    def send(self, a_parcel: Parcel) -> bytes:
        self.transmission = self.connection.transmit(a_parcel, answer_seconds=10.0, dot_seconds=60.0)
        self.outcome = Outcome(self.transmission.done)
        return self.line.heard()

    def says(self, octets: bytes) -> bytes:
        return self.line.says(octets)

    @property
    def attempt(self) -> DeliveryAttempt:
        return self.outcome.value  # type: ignore[no-any-return]

    @property
    def codes(self) -> list[int]:
        return [reply.code for _, reply in self.attempt.replies]


# --- one recipient, with PIPELINING ---


def test_one_recipient_goes_in_one_write() -> None:
    talk = Talk()
    assert talk.send(parcel()) == ONE
    assert not talk.connection.usable
    assert talk.says(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n") == CONTENT
    assert talk.transmission.dot_sent
    assert not talk.outcome.fired
    talk.says(b"250 2.0.0 queued as 7\r\n")
    attempt = talk.attempt
    assert attempt.delivered
    assert (attempt.phase, attempt.trouble, attempt.dot_sent, attempt.host) == (Phase.DOT, "", True, HOST)
    assert [(str(to), str(reply)) for to, reply in attempt.replies] == [("ann@b.example", "250 2.0.0 queued as 7")]
    assert talk.connection.usable


def test_the_connection_serves_the_next_parcel_without_rset() -> None:
    talk = Talk()
    for _ in range(3):
        assert talk.send(parcel()) == ONE
        assert talk.says(b"250 a\r\n250 b\r\n354 c\r\n") == CONTENT
        talk.says(b"250 d\r\n")
        assert talk.attempt.delivered


def test_the_answers_may_come_in_any_pieces() -> None:
    talk = Talk()
    talk.send(parcel())
    answers = b"250-2.1.0 a\r\n250 2.1.0 b\r\n250 2.1.5 Ok\r\n354 go\r\n"
    for octet in answers[:-1]:
        assert talk.says(bytes([octet])) == b""
    assert talk.says(answers[-1:]) == CONTENT


@pytest.mark.parametrize("code", [450, 452, 550, 554])
def test_a_refused_recipient_and_a_lone_dot(code: int) -> None:
    talk = Talk()
    talk.send(parcel())
    assert talk.says(b"250 a\r\n%d 5.1.1 no\r\n354 go\r\n" % code) == b".\r\n"
    assert not talk.transmission.dot_sent
    talk.says(b"554 nobody\r\n")
    assert talk.codes == [code]
    assert (talk.attempt.phase, talk.attempt.trouble, talk.attempt.dot_sent) == (Phase.RECIPIENT, "", False)
    assert talk.connection.usable
    assert talk.send(parcel()) == ONE


def test_a_refused_recipient_and_a_refused_data_leave_a_transaction_open() -> None:
    talk = Talk()
    talk.send(parcel())
    assert talk.says(b"250 a\r\n550 5.1.1 no\r\n503 no recipients\r\n") == b""
    assert talk.codes == [550]
    assert talk.connection.usable
    assert talk.send(parcel()) == b"RSET\r\n" + ONE
    assert talk.says(b"250 reset\r\n250 a\r\n250 b\r\n354 c\r\n") == CONTENT
    talk.says(b"250 d\r\n")
    assert talk.attempt.delivered
    assert talk.send(parcel()) == ONE


@pytest.mark.parametrize("ehlo", [PLAIN, EHLO])
@pytest.mark.parametrize("said", ["500 what", "502 5.5.1 not here", "503 5.5.1 bad sequence", "503 no"])
@pytest.mark.parametrize("accepted", [0, 1, 2])
def test_a_host_out_of_step_has_said_nothing_of_the_message(ehlo: bytes, said: str, accepted: int) -> None:
    talk = Talk(ehlo)
    talk.send(parcel())
    answers = ["250 ok"] * accepted + [said] * (3 - accepted)
    if ehlo is EHLO:
        talk.says("".join(f"{answer}\r\n" for answer in answers).encode())
    else:
        for answer in answers[: accepted + 1]:
            talk.says(f"{answer}\r\n".encode())
    attempt = talk.attempt
    assert (attempt.trouble, attempt.dot_sent, talk.codes) == ("garbage", False, [451])
    assert said in str(attempt.replies[0][1])
    assert attempt.phase is [Phase.MAIL, Phase.RECIPIENT, Phase.DATA][accepted]
    assert not talk.connection.usable


def test_what_was_refused_before_a_host_fell_out_of_step_is_refused() -> None:
    talk = Talk()
    talk.send(parcel(ANN, BOB))
    talk.says(b"250 a\r\n550 5.1.1 no\r\n503 what\r\n")
    assert (talk.codes, talk.attempt.trouble) == ([550, 451], "garbage")


@pytest.mark.parametrize(
    "said", ["501 5.1.3 no address", "504 5.5.2 need a full name", "503 5.7.1 spam", "550 5.5.1 x"]
)
def test_other_refusals_are_of_the_message(said: str) -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(f"250 a\r\n{said}\r\n503 b\r\n".encode())
    assert (str(talk.attempt.replies[0][1]), talk.attempt.trouble) == (said, "")


@pytest.mark.parametrize("data", [b"503 what\r\n", b"354 go\r\n"])
def test_a_refused_sender(data: bytes) -> None:
    talk = Talk()
    talk.send(parcel())
    lone_dot = talk.says(b"550 5.7.1 bad sender\r\n503 no\r\n" + data)
    assert lone_dot == (b".\r\n" if data.startswith(b"354") else b"")
    if lone_dot:
        talk.says(b"250 an empty message to nobody\r\n")
    assert [str(reply) for _, reply in talk.attempt.replies] == ["550 5.7.1 bad sender"]
    assert (talk.attempt.phase, talk.attempt.trouble) == (Phase.MAIL, "")
    assert talk.send(parcel()) == ONE


def test_a_lost_line_while_only_the_lone_dot_is_unanswered_changes_nothing() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"250 a\r\n550 5.1.1 no\r\n354 go\r\n")
    talk.line.hangs_up()
    assert (talk.codes, talk.attempt.trouble, talk.attempt.phase) == ([550], "", Phase.RECIPIENT)


def test_data_refused() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"250 a\r\n250 b\r\n554 5.7.1 no content wanted\r\n")
    assert (talk.codes, talk.attempt.phase, talk.attempt.trouble) == ([554], Phase.DATA, "")
    assert talk.send(parcel()).startswith(b"RSET\r\n")


@pytest.mark.parametrize("code", [450, 552, 554])
def test_the_dot_refused(code: int) -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"250 a\r\n250 b\r\n354 c\r\n")
    talk.says(b"%d no\r\n" % code)
    assert (talk.codes, talk.attempt.phase, talk.attempt.trouble) == ([code], Phase.DOT, "")
    assert talk.attempt.dot_sent
    assert not talk.attempt.delivered
    assert talk.send(parcel()) == ONE


# --- several recipients ---


def test_several_recipients_all_accepted() -> None:
    talk = Talk()
    assert talk.send(parcel(ANN, BOB, all_or_nothing=True)) == (
        b"MAIL FROM:<sender@a.example> SIZE=21\r\nRCPT TO:<ann@b.example>\r\nRCPT TO:<bob@b.example>\r\n"
    )
    assert talk.says(b"250 a\r\n250 b\r\n") == b""
    assert talk.says(b"250 c\r\n") == b"DATA\r\n"
    assert talk.says(b"354 d\r\n") == CONTENT
    talk.says(b"250 e\r\n")
    assert talk.attempt.delivered
    assert talk.codes == [250, 250]


def test_mixed_answers_with_all_or_nothing() -> None:
    talk = Talk()
    talk.send(parcel(ANN, BOB, EVE, all_or_nothing=True))
    assert talk.says(b"250 a\r\n250 b\r\n550 5.1.1 c\r\n450 4.2.0 d\r\n") == b""
    assert talk.codes == [250, 550, 450]
    assert (talk.attempt.phase, talk.attempt.trouble) == (Phase.RECIPIENT, "")
    assert not talk.attempt.delivered
    assert talk.send(parcel()) == b"RSET\r\n" + ONE


def test_mixed_answers_without() -> None:
    talk = Talk()
    talk.send(parcel(ANN, BOB, EVE))
    assert talk.says(b"250 a\r\n550 5.1.1 b\r\n250 c\r\n450 4.2.0 d\r\n") == b"DATA\r\n"
    assert talk.says(b"354 e\r\n") == CONTENT
    talk.says(b"250 2.0.0 f\r\n")
    assert talk.codes == [550, 250, 450]
    assert talk.attempt.phase is Phase.DOT


def test_nobody_accepted() -> None:
    talk = Talk()
    talk.send(parcel(ANN, BOB))
    assert talk.says(b"250 a\r\n550 b\r\n550 c\r\n") == b""
    assert talk.codes == [550, 550]
    assert talk.attempt.phase is Phase.RECIPIENT


def test_a_refused_sender_of_several() -> None:
    talk = Talk()
    talk.send(parcel(ANN, BOB))
    talk.says(b"450 4.7.1 later\r\n503 a\r\n")
    assert not talk.outcome.fired
    talk.says(b"250 b\r\n")
    assert talk.codes == [450, 450]
    assert talk.attempt.phase is Phase.MAIL
    assert talk.send(parcel()) == ONE


# --- without PIPELINING ---


def test_step_by_step() -> None:
    talk = Talk(PLAIN)
    assert talk.send(parcel(ANN, BOB, EVE)) == b"MAIL FROM:<sender@a.example>\r\n"
    assert talk.says(b"250 a\r\n") == b"RCPT TO:<ann@b.example>\r\n"
    assert talk.says(b"250 b\r\n") == b"RCPT TO:<bob@b.example>\r\n"
    assert talk.says(b"550 c\r\n") == b"RCPT TO:<eve@b.example>\r\n"
    assert talk.says(b"250 d\r\n") == b"DATA\r\n"
    assert talk.says(b"354 e\r\n") == CONTENT
    talk.says(b"250 f\r\n")
    assert talk.codes == [250, 550, 250]


def test_step_by_step_refusals() -> None:
    talk = Talk(PLAIN)
    talk.send(parcel())
    assert talk.says(b"550 a\r\n") == b""
    assert (talk.codes, talk.attempt.phase) == ([550], Phase.MAIL)
    talk.send(parcel())
    talk.says(b"250 a\r\n")
    assert talk.says(b"550 b\r\n") == b""
    assert (talk.codes, talk.attempt.phase) == ([550], Phase.RECIPIENT)
    assert talk.send(parcel()) == b"RSET\r\n"
    assert talk.says(b"250 reset\r\n") == b"MAIL FROM:<sender@a.example>\r\n"


@pytest.mark.parametrize("ehlo", [PLAIN, EHLO])
def test_a_refused_rset_ends_the_connection(ehlo: bytes) -> None:
    talk = Talk(ehlo)
    talk.send(parcel(ANN, BOB))
    if ehlo is PLAIN:
        talk.says(b"250 a\r\n")
        talk.says(b"550 b\r\n")
    else:
        talk.says(b"250 a\r\n550 b\r\n")
    talk.says(b"550 c\r\n")
    talk.send(parcel())
    talk.says(b"500 what\r\n")
    assert talk.attempt.trouble == "garbage"


# --- LMTP ---


def test_an_lmtp_host_out_of_step_has_said_nothing_of_the_message() -> None:
    talk = Talk(EHLO, LMTP)
    talk.send(parcel())
    talk.says(b"250 a\r\n503 b\r\n503 c\r\n")
    assert (talk.codes, talk.attempt.trouble) == ([451], "garbage")


def test_lmtp_answers_for_each_recipient() -> None:
    talk = Talk(EHLO, LMTP)
    talk.send(parcel(ANN, BOB, EVE))
    talk.says(b"250 a\r\n250 b\r\n550 5.1.1 c\r\n250 d\r\n")
    talk.says(b"354 e\r\n")
    talk.says(b"250 2.0.0 f\r\n")
    assert not talk.outcome.fired
    talk.says(b"452 4.2.2 full\r\n")
    assert talk.codes == [250, 550, 452]
    assert (talk.attempt.trouble, talk.attempt.phase) == ("", Phase.DOT)
    assert talk.connection.usable


def test_lmtp_answers_after_the_dot_each_have_their_time() -> None:
    talk = Talk(EHLO, LMTP)
    talk.send(parcel(ANN, BOB))
    talk.says(b"250 a\r\n250 b\r\n250 c\r\n")
    talk.says(b"354 d\r\n")
    talk.network.reactor.advance(59.0)
    talk.says(b"250 e\r\n")
    talk.network.reactor.advance(59.0)
    talk.says(b"250 f\r\n")
    assert talk.attempt.delivered


def test_lmtp_lost_half_way_keeps_what_was_answered() -> None:
    talk = Talk(EHLO, LMTP)
    talk.send(parcel(ANN, BOB))
    talk.says(b"250 a\r\n250 b\r\n250 c\r\n")
    talk.says(b"354 d\r\n")
    talk.says(b"250 e\r\n")
    talk.line.hangs_up()
    assert talk.codes == [250, 451]
    assert (talk.attempt.trouble, talk.attempt.dot_sent) == ("lost", True)


# --- what the host offers and the parcel needs ---


def test_the_null_sender() -> None:
    assert Talk().send(parcel(sender=None)).startswith(b"MAIL FROM:<> SIZE=21\r\n")


@pytest.mark.parametrize(
    ("ehlo", "expected"), [(EHLO, b" SIZE=21 BODY=8BITMIME\r\n"), (b"250-mx\r\n250 PIPELINING\r\n", b"\r\n")]
)
def test_eight_bit_content_is_declared_where_possible_and_sent_as_it_is(ehlo: bytes, expected: bytes) -> None:
    talk = Talk(ehlo)
    octets = "Subject: x\r\n\r\ngrün\r\n".encode()
    assert talk.send(parcel(octets=octets, eight_bit=True)).split(b">", 1)[1].startswith(expected)
    assert talk.says(b"250 a\r\n250 b\r\n354 c\r\n") == octets + b".\r\n"


GRÜN = Address("grün", "b.example")
UTF8_HEADER = "Subject: grün\r\n\r\nhello\r\n".encode()


@pytest.mark.parametrize(
    ("made", "needed"),
    [
        (parcel(GRÜN, utf8=True), True),
        (parcel(ANN, sender=GRÜN, utf8=True), True),
        (parcel(utf8=True, octets=UTF8_HEADER), True),
        (parcel(utf8=True, prefix="X-Spam-Checks: grün\r\n".encode()), True),
        (parcel(utf8=True), False),
        (parcel(utf8=True, octets="Subject: x\r\n\r\ngrün\r\n".encode()), False),
        (parcel(utf8=True, prefix=b"Subject: y\r\n", octets=UTF8_HEADER, skip=16), False),
        (parcel(octets=UTF8_HEADER), False),
    ],
)
def test_smtputf8_only_where_it_is_needed(made: Parcel, needed: bool) -> None:
    talk = Talk()
    assert (b" SMTPUTF8\r\n" in talk.send(made)) is needed
    talk = Talk(b"250-mx\r\n250 PIPELINING\r\n")
    sent = talk.send(made)
    if not needed:
        assert sent
        return
    assert sent == b""
    assert [str(reply)[:9] for _, reply in talk.attempt.replies] == ["553 5.6.7"]
    assert (talk.attempt.trouble, talk.attempt.phase) == ("unable", Phase.MAIL)
    assert talk.connection.usable


def test_addresses_are_written_as_utf8() -> None:
    assert "RCPT TO:<grün@b.example>\r\n".encode() in Talk().send(parcel(GRÜN, utf8=True))


def test_a_message_larger_than_the_host_takes() -> None:
    talk = Talk(b"250-mx\r\n250-PIPELINING\r\n250 SIZE 20\r\n")
    assert talk.send(parcel(ANN, BOB)) == b""
    assert [str(reply)[:9] for _, reply in talk.attempt.replies] == ["552 5.3.4"] * 2
    assert (talk.attempt.trouble, talk.attempt.phase, talk.attempt.delivered) == ("", Phase.MAIL, False)
    assert talk.connection.usable


@pytest.mark.parametrize("size", [b"", b" 0", b" 21", b" huge", b" -5"])
def test_sizes_that_are_no_obstacle(size: bytes) -> None:
    talk = Talk(b"250-mx\r\n250-PIPELINING\r\n250 SIZE%s\r\n" % size)
    assert talk.send(parcel()).startswith(b"MAIL FROM:<sender@a.example> SIZE=21\r\n")


@pytest.mark.parametrize("local", ["a\r\nRCPT TO:<x@y.example>", "a\nb", "a\x00b", "a\x7f"])
def test_no_address_breaks_out_of_its_line(local: str) -> None:
    for made in (parcel(Address(local, "b.example")), parcel(sender=Address(local, "a.example"))):
        talk = Talk()
        assert talk.send(made) == b""
        assert (talk.codes, talk.attempt.trouble) == ([553], "unable")


# --- trouble ---

ANSWERS = [b"250 a\r\n", b"250 b\r\n", b"354 c\r\n", b"250 d\r\n"]


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("code", [530, 535, 538, 521])
def test_answers_that_speak_of_us(step: int, code: int) -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:step]))
    talk.says(b"%d 5.7.0 \x1bAuthenticate\r\n" % code)
    attempt = talk.attempt
    assert attempt.trouble == "rejects_us"
    assert attempt.dot_sent is (step == 3)
    ((_, reply),) = attempt.replies
    assert reply.code == 451
    assert str(code) in reply.text
    assert reply.text.isprintable()
    assert not talk.connection.usable
    assert talk.line.wire.disconnecting


@pytest.mark.parametrize("step", range(4))
def test_421_anywhere(step: int) -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:step]))
    talk.says(b"421 4.3.2 closing\r\n")
    assert talk.codes == [421]
    # At the final dot it is the host's own answer to the message.
    assert talk.attempt.trouble == ("" if step == 3 else "lost")
    assert talk.attempt.phase is [Phase.MAIL, Phase.RECIPIENT, Phase.DATA, Phase.DOT][step]
    assert not talk.connection.usable
    assert talk.line.wire.disconnecting


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize(
    "garbage",
    [b"\x00\r\n", b"hello there\r\n", b"250-a\r\n550 b\r\n", b"250-a\r\n" * 10_000, b"\xff" * 5000, b"334 odd\r\n"],
)
def test_garbage(step: int, garbage: bytes) -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:step]))
    talk.says(garbage)
    assert talk.attempt.trouble == "garbage"
    assert talk.attempt.dot_sent is (step == 3)
    assert talk.codes == [451]
    assert talk.line.wire.aborted


def test_2xx_to_data_is_garbage() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"250 a\r\n250 b\r\n250 c\r\n")
    assert talk.attempt.trouble == "garbage"


@pytest.mark.parametrize("early", [b"250 d\r\n", b"2"])
def test_an_answer_before_the_question(early: bytes) -> None:
    """An answer to a dot that was not sent yet would make us forget a message nobody has."""
    talk = Talk()
    talk.send(parcel())
    assert talk.says(b"250 a\r\n250 b\r\n354 c\r\n" + early) == b""
    assert (talk.attempt.trouble, talk.attempt.dot_sent) == ("garbage", False)


def test_one_answer_too_many_spoils_the_connection_and_not_the_outcome() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"250 a\r\n250 b\r\n354 c\r\n")
    talk.says(b"250 d\r\n250 e\r\n")
    assert talk.attempt.delivered
    assert not talk.connection.usable
    assert talk.line.wire.aborted


def test_the_next_parcel_never_hears_answers_to_the_last() -> None:
    talk = Talk()
    seen = []
    transmission = talk.connection.transmit(parcel(), answer_seconds=10.0, dot_seconds=60.0)
    transmission.done.addCallback(lambda _: seen.append(talk.connection.usable))
    talk.says(b"250 a\r\n250 b\r\n354 c\r\n")
    talk.says(b"250 d\r\n250 e\r\n250 f\r\n354 g\r\n")
    assert seen == [False]


@pytest.mark.parametrize("step", range(4))
def test_a_lost_connection(step: int) -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:step]))
    talk.line.hangs_up()
    assert (talk.attempt.trouble, talk.attempt.dot_sent) == ("lost", step == 3)
    assert talk.codes == [451]
    assert not talk.connection.usable
    assert talk.network.timers == 0


@pytest.mark.parametrize(("step", "seconds"), [(0, 10.0), (1, 10.0), (2, 10.0), (3, 60.0)])
def test_silence(step: int, seconds: float) -> None:
    talk = Talk()
    talk.send(parcel())
    talk.network.reactor.advance(6.0)
    talk.says(b"".join(ANSWERS[:step]))
    if step == 0:
        seconds -= 6.0
    talk.network.reactor.pump([seconds / 8 - 0.05] * 8)
    assert not talk.outcome.fired
    talk.network.reactor.advance(0.5)
    assert (talk.attempt.trouble, talk.attempt.dot_sent) == ("timeout", step == 3)
    assert talk.codes == [451]
    assert talk.line.wire.aborted
    assert talk.attempt.ended_at > talk.attempt.started_at
    talk.line.hangs_up()
    assert talk.network.timers == 0


def test_an_answer_that_drips_has_no_more_time_than_another() -> None:
    talk = Talk()
    talk.send(parcel())
    for octet in b"250 Slow":
        talk.network.reactor.advance(1.0)
        talk.says(bytes([octet]))
    assert not talk.outcome.fired
    talk.network.reactor.advance(2.1)
    assert talk.attempt.trouble == "timeout"


def test_little_is_held_of_an_endless_line() -> None:
    talk = Talk()
    talk.send(parcel())
    for _ in range(1000):
        talk.says(b"250-" + b"x" * 1000)
        if talk.outcome.fired:
            break
    assert talk.attempt.trouble == "garbage"
    assert len(talk.connection._parser._buffer) < 10_000


def test_nuls_are_harmless_in_words() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"250 \x00a\r\n550 5.1.1 no\x00body\r\n503 \x00\r\n")
    assert [str(reply) for _, reply in talk.attempt.replies] == ["550 5.1.1 no body"]


def test_an_idle_connection_has_no_deadline() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:3]))
    talk.says(ANSWERS[3])
    talk.network.reactor.pump([30.0] * 20)
    assert talk.connection.usable
    assert talk.network.timers == 0
    talk.send(parcel())
    talk.network.reactor.advance(10.1)
    assert talk.attempt.trouble == "timeout"


def test_a_long_wait_does_not_lengthen_the_next_one() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:3]))
    talk.network.reactor.advance(20.0)
    talk.says(ANSWERS[3])
    talk.send(parcel())
    talk.network.reactor.advance(10.1)
    assert talk.attempt.trouble == "timeout"


def test_trouble_keeps_definite_answers() -> None:
    talk = Talk()
    talk.send(parcel(ANN, BOB, EVE))
    talk.says(b"250 a\r\n550 5.1.1 no\r\n250 b\r\n")
    talk.line.hangs_up()
    assert talk.codes == [550, 451, 451]
    assert talk.attempt.trouble == "lost"


# --- abandoning and closing ---


@pytest.mark.parametrize("step", range(3))
def test_abandoned_before_the_dot(step: int) -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:step]))
    talk.transmission.abandon()
    talk.transmission.abandon()
    assert (talk.attempt.trouble, talk.attempt.dot_sent) == ("abandoned", False)
    assert talk.codes == [451]
    assert talk.line.wire.aborted


def test_abandoning_after_the_dot_does_nothing() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:3]))
    talk.transmission.abandon()
    assert not talk.outcome.fired
    talk.says(ANSWERS[3])
    assert talk.attempt.delivered
    talk.transmission.abandon()
    assert talk.connection.usable


def test_cancelling_done_abandons() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.outcome.deferred.cancel()
    assert talk.attempt.trouble == "abandoned"


def test_close_before_the_dot_abandons() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.connection.close()
    assert talk.attempt.trouble == "abandoned"
    assert talk.line.wire.aborted


def test_close_after_the_dot_waits_for_the_answer() -> None:
    talk = Talk()
    talk.send(parcel())
    talk.says(b"".join(ANSWERS[:3]))
    talk.connection.close()
    assert talk.says(ANSWERS[3]) == b"QUIT\r\n"
    assert talk.attempt.delivered
    assert not talk.connection.usable


def test_a_busy_connection_takes_no_second_parcel_and_the_first_goes_on() -> None:
    talk = Talk()
    talk.send(parcel())
    first = talk.outcome
    assert talk.send(parcel(BOB)) == b""
    assert talk.attempt.trouble == "lost"
    assert talk.says(b"".join(ANSWERS[:3])) == CONTENT
    talk.says(ANSWERS[3])
    assert first.value.delivered


def test_content_arrives_as_it_was() -> None:
    talk = Talk()
    talk.send(parcel(prefix=b"Received: x\r\n", octets=b"Old: y\r\nSubject: x\r\n\r\n.\r\n..dots\r\nend", skip=8))
    wire = talk.says(b"".join(ANSWERS[:3]))
    assert unstuffed(wire) == b"Received: x\r\nSubject: x\r\n\r\n.\r\n..dots\r\nend\r\n"


# --- questions ---


def test_a_question_says_no_data_and_the_next_message_begins_anew() -> None:
    talk = Talk()
    assert talk.send(parcel(sender=None, question=True)) == b"MAIL FROM:<>\r\nRCPT TO:<ann@b.example>\r\n"
    assert talk.says(b"250 a\r\n250 b\r\n") == b""
    assert (talk.attempt.phase, talk.codes, talk.connection.usable) == (Phase.RECIPIENT, [250], True)
    assert talk.send(parcel(BOB, sender=None, question=True)).startswith(b"RSET\r\nMAIL FROM:<>\r\n")
    assert talk.says(b"250 a\r\n250 b\r\n550 5.1.1 c\r\n") == b""
    assert talk.codes == [550]
    assert talk.send(parcel()) == b"RSET\r\n" + ONE


def test_a_question_refused_at_mail_is_no_answer_about_anybody() -> None:
    talk = Talk()
    talk.send(parcel(sender=None, question=True))
    talk.says(b"550 5.7.1 no null senders\r\n503 no mail\r\n")
    assert (talk.attempt.phase, talk.codes, talk.connection.usable) == (Phase.MAIL, [550], True)


def test_a_question_without_pipelining_goes_one_at_a_time() -> None:
    talk = Talk(PLAIN)
    assert talk.send(parcel(sender=None, question=True)) == b"MAIL FROM:<>\r\n"
    assert talk.says(b"250 a\r\n") == b"RCPT TO:<ann@b.example>\r\n"
    assert talk.says(b"250 b\r\n") == b""
    assert talk.codes == [250]


def test_a_question_that_is_given_up_ends_the_connection() -> None:
    talk = Talk()
    talk.send(parcel(sender=None, question=True))
    talk.transmission.done.cancel()
    assert (talk.attempt.trouble, talk.connection.usable) == ("abandoned", False)
