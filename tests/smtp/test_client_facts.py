"""XFORWARD and XCLIENT: what a host that trusts us is told of clients, and that it never takes one for another."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.smtp_wire import ANN, HOST, Line, Network, Outcome, parcel
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.custody import Client, DeliveryAttempt, Phase
from inboundmx.smtp.client_facts import xclient, xforward, xtext

ALL = "NAME ADDR PORT PROTO HELO IDENT SOURCE"
ONE, TWO = Client("192.0.2.7", "one.example", "helo.one.example"), Client("2001:db8::7", "", "two")
ONCE = b"MAIL FROM:<sender@a.example>\r\nRCPT TO:<ann@b.example>\r\nDATA\r\n"
CONTENT = b"Subject: x\r\n\r\nhello\r\n.\r\n"
TAKEN = (b"250 a\r\n250 b\r\n354 c\r\n", b"250 d\r\n")

# --- how the commands are written ---


@pytest.mark.parametrize(
    ("client", "offered", "expected"),
    [
        (
            ONE,
            ALL,
            "NAME=one.example ADDR=192.0.2.7 PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=helo.one.example",
        ),
        (ONE, "addr helo", "ADDR=192.0.2.7 HELO=helo.one.example"),
        (TWO, "NAME ADDR HELO", "NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7 HELO=two"),
        (Client(), "NAME ADDR HELO", "NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] HELO=[UNAVAILABLE]"),
        (Client("192.0.2.7", "", "a b=c+d"), "HELO", "HELO=a+20b+3Dc+2Bd"),
        (Client("192.0.2.7", "", "grün"), "HELO", "HELO=gr+C3+BCn"),
        (Client("192.0.2.7", "", "[192.0.2.9]"), "HELO", "HELO=[192.0.2.9]"),
        (Client("192.0.2.7", "", "x\r\nRSET"), "HELO", "HELO=[UNAVAILABLE]"),
        (Client("192.0.2.7", "", "x" * 256), "HELO", "HELO=[UNAVAILABLE]"),
        (Client("nonsense", "no host name", ""), "ADDR NAME", "NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE]"),
        (Client("192.0.2.7", "a..b", ""), "NAME", "NAME=[UNAVAILABLE]"),
        (Client("192.0.2.7", "-a.b", ""), "NAME", "NAME=[UNAVAILABLE]"),
        (Client("192.0.2.7", "n" * 250, "ü" * 200), "NAME HELO", "NAME=" + "n" * 250 + " HELO=[UNAVAILABLE]"),
    ],
)
def test_xforward(client: Client, offered: str, expected: str) -> None:
    assert xforward(client, offered) == f"XFORWARD {expected}"


def test_a_host_that_lists_nothing_we_know() -> None:
    assert xforward(ONE, "") == xforward(ONE, "IDENT SOURCE") == ""
    assert xclient(ONE, "") == xclient(ONE, "NAME HELO LOGIN") == ""


def test_xclient() -> None:
    offered = "NAME ADDR PROTO HELO LOGIN PORT DESTADDR DESTPORT"
    assert xclient(ONE, offered) == "XCLIENT ADDR=192.0.2.7 NAME=one.example HELO=helo.one.example"
    assert xclient(TWO, offered) == "XCLIENT ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE] HELO=two"
    assert xclient(ONE, "ADDR PORT") == "XCLIENT ADDR=192.0.2.7"


@given(st.text(st.characters(codec="utf-8")))
def test_xtext_is_one_word_and_says_the_same(text: str) -> None:
    written = xtext(text)
    assert all("!" <= c <= "~" and c != "=" for c in written)
    head, *parts = written.split("+")
    octets = head.encode() + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in parts)
    assert octets.decode() == text


@given(st.builds(Client, *[st.text(st.characters(codec="utf-8"), max_size=300)] * 3))
def test_no_client_breaks_out_of_its_line(client: Client) -> None:
    for line in (xforward(client, ALL), xclient(client, ALL)):
        assert len(line) <= 510
        assert line.isascii()
        assert line.isprintable()
        assert line.count("=") == len(line.split()) - 1


# --- XFORWARD ---


class Talk:
    def __init__(self, offer: bytes, facts: str, pipelining: bool = True, **terms: Any) -> None:
        more = (b"PIPELINING",) * pipelining + (b"AUTH PLAIN",) * bool(terms)
        self.ehlo = b"250-mx\r\n" + b"".join(b"250-%s\r\n" % line for line in more) + b"250 " + offer + b"\r\n"
        self.network = Network()
        self.line: Line
        if terms:
            outcome = self.network.dial(HOST, client_facts=facts, **terms)
            self.line = self.network.answer()
            self.line.says(b"220 hi\r\n")
            self.line.says(self.ehlo)
            self.line.says(b"235 in\r\n")
            self.connection = outcome.value
        else:
            self.connection, self.line = self.network.connection(self.ehlo, client_facts=facts)

    def send(self, client: Client | None, **options: Any) -> bytes:
        made = parcel(ANN, client=client, **options)
        self.transmission = self.connection.transmit(made, answer_seconds=10.0, dot_seconds=60.0)
        self.outcome = Outcome(self.transmission.done)
        return self.line.heard()

    def says(self, octets: bytes) -> bytes:
        return self.line.says(octets)

    def deliver(self) -> None:
        for answers in TAKEN:
            self.says(answers)
        assert self.attempt.delivered

    @property
    def attempt(self) -> DeliveryAttempt:
        return self.outcome.value  # type: ignore[no-any-return]


def forwarding(pipelining: bool = True) -> Talk:
    return Talk(b"XFORWARD NAME ADDR HELO", "xforward", pipelining)


SAID = b"XFORWARD NAME=one.example ADDR=192.0.2.7 HELO=helo.one.example\r\n"


@pytest.mark.parametrize(
    ("offer", "facts", "client"),
    [
        (b"XFORWARD NAME ADDR", "none", ONE),
        (b"XFORWARD NAME ADDR", "xclient", ONE),
        (b"XFORWARD NAME ADDR", "xforward", None),
        (b"XFORWARD IDENT", "xforward", ONE),
        (b"SIZE", "xforward", ONE),
        (b"XCLIENT NAME ADDR", "none", ONE),
        (b"XCLIENT NAME ADDR", "xforward", ONE),
        (b"XCLIENT NAME ADDR", "xclient", None),
        (b"XCLIENT NAME", "xclient", ONE),
        (b"SIZE", "xclient", ONE),
    ],
)
def test_nobody_is_named_unless_asked_for_and_offered(offer: bytes, facts: str, client: Client | None) -> None:
    talk = Talk(offer, facts)
    assert talk.send(client).replace(b" SIZE=21", b"") == ONCE
    talk.deliver()
    assert talk.connection.usable


def test_xforward_goes_with_mail_in_one_write_before_each_transaction() -> None:
    talk = forwarding()
    for _ in range(2):
        assert talk.send(ONE) == SAID + ONCE
        assert talk.says(b"250 noted\r\n" + TAKEN[0]) == CONTENT
        talk.says(TAKEN[1])
        assert talk.attempt.delivered
    assert talk.send(None) == ONCE


def test_xforward_step_by_step() -> None:
    talk = forwarding(pipelining=False)
    assert talk.send(ONE) == SAID
    assert talk.says(b"250 noted\r\n") == b"MAIL FROM:<sender@a.example>\r\n"
    assert talk.says(b"250 a\r\n") == b"RCPT TO:<ann@b.example>\r\n"
    assert talk.says(b"550 b\r\n") == b""
    assert talk.attempt.phase is Phase.RECIPIENT
    assert talk.send(ONE) == b"RSET\r\n"
    assert talk.says(b"250 reset\r\n") == SAID
    assert talk.says(b"250 noted\r\n") == b"MAIL FROM:<sender@a.example>\r\n"


def test_rset_goes_before_xforward() -> None:
    talk = forwarding()
    talk.send(ONE)
    talk.says(b"250 noted\r\n250 a\r\n550 b\r\n554 c\r\n")
    assert talk.send(ONE) == b"RSET\r\n" + SAID + ONCE
    assert talk.says(b"250 reset\r\n250 noted\r\n" + TAKEN[0]) == CONTENT


@pytest.mark.parametrize("code", [b"500", b"501", b"503", b"521", b"530", b"550", b"450"])
@pytest.mark.parametrize("pipelining", [True, False])
def test_a_host_that_refuses_xforward_gets_the_message_and_is_not_told_again(code: bytes, pipelining: bool) -> None:
    talk = forwarding(pipelining)
    talk.send(ONE)
    said = talk.says(code + b" what\r\n")
    if pipelining:
        talk.deliver()
    else:
        assert said == b"MAIL FROM:<sender@a.example>\r\n"
        talk.says(b"250 a\r\n")
        talk.says(b"250 b\r\n")
        talk.says(b"354 c\r\n")
        talk.says(b"250 d\r\n")
        assert talk.attempt.delivered
    assert talk.connection.usable
    assert talk.send(ONE).startswith(b"MAIL")


@pytest.mark.parametrize(
    ("answer", "trouble"), [(b"421 closing\r\n", "lost"), (b"354 go\r\n", "garbage"), (b"x\r\n", "garbage")]
)
def test_xforward_answered_with_trouble(answer: bytes, trouble: str) -> None:
    talk = forwarding()
    talk.send(ONE)
    talk.says(answer)
    assert (talk.attempt.trouble, talk.attempt.phase) == (trouble, Phase.MAIL)
    assert not talk.connection.usable


def test_answers_that_speak_of_us_still_do_so_at_mail() -> None:
    talk = forwarding()
    talk.send(ONE)
    talk.says(b"530 first STARTTLS\r\n530 first STARTTLS\r\n")
    assert talk.attempt.trouble == "rejects_us"


# --- XCLIENT ---

TOLD_ONE = b"XCLIENT ADDR=192.0.2.7 NAME=one.example HELO=helo.one.example\r\n"
TOLD_TWO = b"XCLIENT ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE] HELO=two\r\n"


def introducing(**terms: Any) -> Talk:
    return Talk(b"XCLIENT NAME ADDR HELO LOGIN", "xclient", **terms)


def introduced(client: Client, said: bytes) -> Talk:
    """A connection that has delivered a message of this client."""
    talk = introducing()
    assert talk.send(client) == said
    assert talk.says(b"220 mx again\r\n") == f"EHLO {client.hello}\r\n".encode()
    assert talk.says(talk.ehlo) == ONCE
    talk.deliver()
    return talk


def test_xclient_then_a_new_greeting_and_ehlo() -> None:
    talk = introduced(ONE, TOLD_ONE)
    assert talk.connection.usable


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        ("one.example", "one.example"),
        ("[192.0.2.7]", "[192.0.2.7]"),
        ("[IPv6:2001:db8::7]", "[IPv6:2001:db8::7]"),
        ("", "gateway.example"),
        ("grün.example", "gateway.example"),
        ("two words", "gateway.example"),
        ("x\r\nQUIT", "gateway.example"),
        ("x" * 256, "gateway.example"),
    ],
)
def test_ehlo_is_said_in_the_clients_name_where_it_has_a_proper_one(hello: str, said: str) -> None:
    talk = introducing()
    talk.send(Client("192.0.2.7", "", hello))
    assert talk.says(b"220 mx again\r\n") == f"EHLO {said}\r\n".encode()


def test_the_same_client_is_told_once_and_another_anew() -> None:
    talk = introduced(ONE, TOLD_ONE)
    assert talk.send(ONE) == ONCE
    talk.deliver()
    assert talk.send(TWO) == TOLD_TWO
    talk.says(b"220 mx again\r\n")
    assert talk.says(talk.ehlo) == ONCE
    talk.deliver()
    assert talk.send(ONE) == TOLD_ONE


def test_what_the_new_ehlo_says_holds() -> None:
    talk = introducing()
    talk.send(ONE)
    talk.says(b"220 mx again\r\n")
    assert talk.says(b"250-mx\r\n250 SIZE 20\r\n") == b""
    assert [reply.code for _, reply in talk.attempt.replies] == [552]
    assert talk.connection.extensions == {"SIZE": "20"}
    # And so it cannot be told of anybody else.
    assert talk.send(TWO) == b"QUIT\r\n"
    assert talk.attempt.trouble == "lost"


def test_an_open_transaction_is_reset_first() -> None:
    talk = introduced(ONE, TOLD_ONE)
    talk.send(ONE)
    talk.says(b"250 a\r\n550 b\r\n554 c\r\n")
    assert talk.send(TWO) == b"RSET\r\n"
    assert talk.says(b"250 reset\r\n") == TOLD_TWO
    talk.says(b"220 mx again\r\n")
    assert talk.says(talk.ehlo) == ONCE


def test_mail_of_our_own_does_not_go_as_somebody_elses() -> None:
    """The connection ends as one that had been closed meanwhile: whoever sends takes a fresh one (delivery.answers)."""
    talk = introduced(ONE, TOLD_ONE)
    assert talk.send(None) == b"QUIT\r\n"
    assert (talk.attempt.trouble, talk.attempt.phase, talk.attempt.dot_sent) == ("lost", Phase.MAIL, False)
    assert not talk.connection.usable
    talk.line.hangs_up()
    assert talk.network.timers == 0


@pytest.mark.parametrize("code", [b"500", b"501", b"530", b"550", b"554", b"450"])
def test_a_host_that_refuses_xclient_gets_the_message_and_is_not_told_again(code: bytes) -> None:
    talk = introducing()
    assert talk.send(ONE) == TOLD_ONE
    assert talk.says(code + b" what\r\n") == ONCE
    talk.deliver()
    assert talk.connection.usable
    assert talk.send(TWO) == ONCE
    talk.deliver()


@pytest.mark.parametrize("refusal", ["554 5.7.1 client blocked", "450 4.7.1 client unknown as yet"])
def test_a_host_that_refuses_the_client_by_its_greeting(refusal: str) -> None:
    """It looks like a refusal of the command, until it refuses MAIL too. Nobody else is sent that way."""
    talk = introducing()
    talk.send(ONE)
    assert talk.says(f"{refusal}\r\n".encode()) == ONCE
    talk.says(b"503 5.7.0 access denied\r\n" * 3)
    assert [str(reply) for _, reply in talk.attempt.replies] == [refusal]
    assert talk.attempt.trouble == ""
    assert not talk.connection.usable


def test_a_refused_command_does_not_speak_for_a_refused_sender() -> None:
    talk = introducing()
    talk.send(ONE)
    talk.says(b"501 what\r\n")
    talk.says(b"550 5.1.8 bad sender\r\n503 no\r\n503 no\r\n")
    assert [str(reply) for _, reply in talk.attempt.replies] == ["550 5.1.8 bad sender"]


def test_one_client_is_never_taken_for_another() -> None:
    talk = introduced(ONE, TOLD_ONE)
    assert talk.send(TWO) == TOLD_TWO
    assert talk.says(b"501 bad address\r\n") == b"QUIT\r\n"
    assert (talk.attempt.trouble, talk.attempt.phase) == ("lost", Phase.MAIL)
    assert not talk.connection.usable


@pytest.mark.parametrize(
    ("code", "trouble"), [(b"550 5.7.1", ""), (b"521 5.7.1", ""), (b"450 4.7.1", ""), (b"421 4.7.0", "lost")]
)
def test_a_host_that_refuses_the_client_at_ehlo(code: bytes, trouble: str) -> None:
    """It says nothing of us: the answer is the message's."""
    talk = introducing()
    talk.send(ONE)
    talk.says(b"220 mx again\r\n")
    assert talk.says(code + b" not from there\r\n") == b"QUIT\r\n"
    assert [str(reply) for _, reply in talk.attempt.replies] == [f"{code.decode()} not from there"]
    assert talk.attempt.trouble == trouble
    assert not talk.connection.usable


@pytest.mark.parametrize("step", range(3))
@pytest.mark.parametrize(
    ("answer", "trouble"), [(b"354 go\r\n", "garbage"), (b"x" * 5000, "garbage"), (b"421 closing\r\n", "lost")]
)
def test_trouble_while_being_introduced(step: int, answer: bytes, trouble: str) -> None:
    talk = introduced(TWO, TOLD_TWO)
    talk.send(TWO)
    talk.says(b"250 a\r\n550 b\r\n554 c\r\n")
    talk.send(ONE)
    for good in [b"250 reset\r\n", b"220 again\r\n"][:step]:
        talk.says(good)
    talk.says(answer)
    assert (talk.attempt.trouble, talk.attempt.phase, talk.attempt.dot_sent) == (trouble, Phase.MAIL, False)
    assert not talk.connection.usable


@pytest.mark.parametrize("how", ["silence", "lost", "abandon", "close", "cancel"])
def test_an_introduction_that_is_not_finished(how: str) -> None:
    talk = introducing()
    talk.send(ONE)
    talk.says(b"220 again\r\n")
    if how == "silence":
        talk.network.reactor.advance(9.9)
        assert not talk.outcome.fired
        talk.network.reactor.advance(0.2)
    {
        "silence": lambda: None,
        "lost": talk.line.hangs_up,
        "abandon": talk.transmission.abandon,
        "close": talk.connection.close,
        "cancel": talk.outcome.deferred.cancel,
    }[how]()
    assert talk.attempt.trouble == {"silence": "timeout", "lost": "lost"}.get(how, "abandoned")
    assert not talk.connection.usable
    if how != "lost":
        assert talk.line.wire.aborted
        talk.line.hangs_up()
    assert talk.network.timers == 0


def test_a_busy_connection_stays_busy_while_being_introduced() -> None:
    talk = introducing()
    talk.send(ONE)
    first = talk.outcome
    assert not talk.connection.usable
    assert talk.send(TWO) == b""
    assert talk.attempt.trouble == "lost"
    talk.outcome = first
    talk.says(b"220 again\r\n")
    talk.says(talk.ehlo)
    talk.deliver()


def test_something_heard_too_early_is_garbage() -> None:
    talk = introducing()
    talk.send(ONE)
    talk.says(b"220 again\r\n250 mx\r\n")
    assert talk.attempt.trouble == "garbage"


# --- XCLIENT and authentication ---


def authenticated() -> Talk:
    return Talk(
        b"XCLIENT NAME ADDR HELO", "xclient", username="gateway", password="secret", auth_without_tls=True
    )


@pytest.mark.parametrize("answer", [b"235 in\r\n", b"503 5.5.1 already authenticated\r\n"])
def test_authenticates_again_after_xclient(answer: bytes) -> None:
    talk = authenticated()
    talk.send(ONE)
    talk.says(b"220 again\r\n")
    assert talk.says(talk.ehlo).startswith(b"AUTH PLAIN ")
    assert talk.says(answer) == ONCE
    talk.deliver()


def test_not_let_in_after_xclient() -> None:
    talk = authenticated()
    talk.send(ONE)
    talk.says(b"220 again\r\n")
    talk.says(talk.ehlo)
    talk.says(b"535 5.7.8 secret is wrong\r\n")
    assert talk.attempt.trouble == "rejects_us"
    ((_, reply),) = talk.attempt.replies
    assert reply.code == 451
    assert "535" in reply.text
    assert "secret" not in reply.text
    assert not talk.connection.usable


def test_no_authentication_offered_after_xclient() -> None:
    talk = authenticated()
    talk.send(ONE)
    talk.says(b"220 again\r\n")
    assert talk.says(b"250-mx\r\n250-XCLIENT ADDR\r\n250 PIPELINING\r\n") == ONCE
    talk.deliver()


# --- whatever the host says ---

GOOD = {b"EHLO": b"", b"XCLIENT": b"220 again", b"AUTH": b"235 in", b"DATA": b"354 go", b".": b"250 taken"}
REFUSED = [b"450 x", b"501 x", b"554 x"]
BAD = [b"220 x", b"250 x", b"354 x", b"421 x", b"450 x", b"501 x", b"503 x", b"530 x", b"554 x", b"334 x", b"nonsense"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_message_ever_goes_as_another_clients(data: st.DataObject) -> None:
    talk = authenticated()
    offers = [talk.ehlo, talk.ehlo, b"250 mx\r\n"]
    taken_for: Client | None = None
    clients = {client.ip: client for client in (ONE, TWO)}
    for client in data.draw(st.lists(st.sampled_from([ONE, TWO, None]), min_size=2, max_size=5)):
        asked = talk.send(client).split(b"\r\n")[:-1]
        in_content = False
        while asked and not talk.outcome.fired:
            line = asked.pop(0)
            verb = line.split(b" ")[0]
            if in_content and line != b".":
                continue
            bad = data.draw(st.integers(0, 1 if verb == b"XCLIENT" else 19)) == 0
            good = GOOD.get(verb, b"250 ok") + b"\r\n"
            if verb == b"EHLO":
                good = data.draw(st.sampled_from(offers))
            answer = data.draw(st.sampled_from(REFUSED if verb == b"XCLIENT" else BAD)) + b"\r\n" if bad else good
            if verb == b"XCLIENT" and answer.startswith(b"220"):
                ip = line.split(b"ADDR=")[1].split(b" ")[0].decode().removeprefix("IPV6:")
                taken_for = clients[ip]
            in_content = verb == b"DATA" and answer.startswith(b"354")
            asked += talk.says(answer).split(b"\r\n")[:-1]
        if talk.outcome.fired and talk.attempt.delivered:
            assert taken_for in (client, None)
        if not talk.connection.usable:
            break
    talk.line.hangs_up()
    assert talk.outcome.fired
    assert talk.network.timers == 0
