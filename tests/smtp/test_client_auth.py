"""Authentication: what is said to which server, and that nobody reads the password where it does not belong."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest
from fakes.smtp_wire import HOST, Line, Network, Outcome, parcel

from inboundmx.model.custody import Host
from inboundmx.model.reply import Reply
from inboundmx.smtp.client_auth import Exchange, mechanisms

USER, PASSWORD = "gateway", "grün geheim 1"
CHALLENGE = b"<1896.697170952@mx.primary.example>"


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


PLAIN = b64(f"\0{USER}\0{PASSWORD}".encode())
DIGEST = hmac.new(PASSWORD.encode(), CHALLENGE, "md5").hexdigest()


@pytest.mark.parametrize(
    ("extensions", "encrypted", "clear"),
    [
        ({"AUTH": "CRAM-MD5 LOGIN PLAIN"}, ["PLAIN", "LOGIN", "CRAM-MD5"], ["CRAM-MD5", "PLAIN", "LOGIN"]),
        ({"AUTH": "login plain"}, ["PLAIN", "LOGIN"], ["PLAIN", "LOGIN"]),
        ({"AUTH=LOGIN": ""}, ["LOGIN"], ["LOGIN"]),
        ({"AUTH": "LOGIN", "AUTH=LOGIN": "PLAIN"}, ["PLAIN", "LOGIN"], ["PLAIN", "LOGIN"]),
        ({"AUTH": "GSSAPI SCRAM-SHA-256"}, [], []),
        ({"AUTH": ""}, [], []),
        ({"AUTHENTICATE": "PLAIN"}, [], []),
        ({}, [], []),
    ],
)
def test_the_best_of_what_is_offered(extensions: dict[str, str], encrypted: list[str], clear: list[str]) -> None:
    assert mechanisms(extensions, encrypted=True) == encrypted
    assert mechanisms(extensions, encrypted=False) == clear


class Login:
    """A connection on which authentication is due, in the clear as we were told to."""

    def __init__(self, offer: bytes = b"AUTH PLAIN", host: Host = HOST, password: str = PASSWORD) -> None:
        self.network = Network()
        self.outcome: Outcome = self.network.dial(
            host, tls="opportunistic", username=USER, password=password, auth_without_tls=True
        )
        self.line: Line = self.network.answer()
        self.line.says(b"220 hi\r\n")
        self.said = self.line.says(b"250-mx\r\n250-PIPELINING\r\n250 " + offer + b"\r\n")

    @property
    def error(self) -> Any:
        assert self.line.wire.disconnecting
        return self.outcome.error


def test_plain() -> None:
    login = Login(b"AUTH LOGIN PLAIN")
    assert login.said == b"AUTH PLAIN " + PLAIN + b"\r\n"
    assert not login.outcome.fired
    login.line.says(b"235 2.7.0 welcome\r\n")
    assert login.outcome.value.usable
    assert login.outcome.value.extensions == {"PIPELINING": "", "AUTH": "LOGIN PLAIN"}


@pytest.mark.parametrize("offer", [b"AUTH LOGIN", b"AUTH=LOGIN"])
def test_login(offer: bytes) -> None:
    login = Login(offer)
    assert login.said == b"AUTH LOGIN\r\n"
    assert login.line.says(b"334 VXNlcm5hbWU6\r\n") == b64(USER.encode()) + b"\r\n"
    assert login.line.says(b"334\r\n") == b64(PASSWORD.encode()) + b"\r\n"
    login.line.says(b"235 in\r\n")
    assert login.outcome.value.usable


def test_cram_md5() -> None:
    login = Login(b"AUTH PLAIN LOGIN CRAM-MD5")
    assert login.said == b"AUTH CRAM-MD5\r\n"
    said = login.line.says(b"334 " + b64(CHALLENGE) + b"\r\n")
    assert base64.b64decode(said) == f"{USER} {DIGEST}".encode()
    login.line.says(b"235 in\r\n")
    assert login.outcome.value.usable


def test_the_example_of_rfc_2195() -> None:
    exchange = Exchange("CRAM-MD5", "tim", "tanstaaftanstaaf")
    challenge = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
    assert exchange.answer(challenge) == "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"


def test_lmtp_authenticates_too() -> None:
    assert Login(host=Host("192.0.2.10", 24, "lmtp")).said == b"AUTH PLAIN " + PLAIN + b"\r\n"


def test_a_first_response_too_long_for_its_line_is_said_when_asked_for() -> None:
    password = "p" * 600
    login = Login(password=password)
    assert login.said == b"AUTH PLAIN\r\n"
    assert login.line.says(b"334 \r\n") == b64(f"\0{USER}\0{password}".encode()) + b"\r\n"
    login.line.says(b"235 in\r\n")
    assert login.outcome.value.usable


@pytest.mark.parametrize("code", [b"504 5.5.4", b"534 5.7.9"])
def test_another_mechanism_when_one_will_not_do(code: bytes) -> None:
    login = Login(b"AUTH LOGIN PLAIN CRAM-MD5")
    assert login.line.says(code + b" not that one\r\n") == b"AUTH PLAIN " + PLAIN + b"\r\n"
    assert login.line.says(code + b" nor that\r\n") == b"AUTH LOGIN\r\n"
    login.line.says(code + b" nor this\r\n")
    assert login.error.trouble == "rejects_us"


@pytest.mark.parametrize("offer", [b"SIZE 1000", b"AUTH", b"AUTH GSSAPI NTLM"])
def test_a_server_without_authentication_we_know(offer: bytes) -> None:
    login = Login(offer)
    assert login.said == b""
    assert (login.error.trouble, login.error.phase, login.error.reply) == ("rejects_us", "auth", None)
    assert "PLAIN" in login.error.detail


def test_a_server_that_knows_only_helo() -> None:
    network = Network()
    outcome = network.dial(username=USER, password=PASSWORD, auth_without_tls=True)
    line = network.answer()
    line.says(b"220 hi\r\n")
    line.says(b"502 what\r\n")
    line.says(b"250 mx AUTH PLAIN\r\n")
    assert outcome.error.trouble == "rejects_us"


@pytest.mark.parametrize(
    ("answer", "trouble", "code"),
    [
        (b"535 5.7.8 no\r\n", "rejects_us", 535),
        (b"535-5.7.8 no\r\n535 5.7.8 see elsewhere\r\n", "rejects_us", 535),
        (b"500 what\r\n", "rejects_us", 500),
        (b"454 4.7.0 later\r\n", "lost", 454),
        (b"421 closing\r\n", "lost", 421),
        (b"250 ok\r\n", "garbage", 250),
        (b"354 go\r\n", "garbage", 354),
        (b"334 more?\r\n", "garbage", None),
        (b"yes\r\n", "garbage", None),
        (b"235 in\r\n250 more\r\n", "garbage", None),
        (b"334-\r\n" * 10_000, "garbage", None),
    ],
)
def test_not_let_in(answer: bytes, trouble: str, code: int | None) -> None:
    login = Login()
    login.line.says(answer)
    assert (login.error.trouble, login.error.phase) == (trouble, "auth")
    assert (login.error.reply.code if login.error.reply else None) == code
    login.line.hangs_up()
    assert login.network.timers == 0


@pytest.mark.parametrize("challenge", [b"***", b"334", b"\xff\xfe", b"A", "grün".encode()])
def test_a_challenge_that_is_none(challenge: bytes) -> None:
    login = Login(b"AUTH CRAM-MD5")
    assert login.line.says(b"334 " + challenge + b"\r\n") == b""
    assert login.error.trouble == "garbage"


def test_silence_and_a_lost_line() -> None:
    login = Login()
    login.network.reactor.advance(5.1)
    assert (login.error.trouble, login.error.phase) == ("timeout", "auth")
    login = Login()
    login.line.hangs_up()
    assert (login.outcome.error.trouble, login.outcome.error.phase) == ("lost", "auth")


# --- what is told of it ---


def told(login: Login) -> str:
    refused = login.error
    return f"{refused} {refused!r} {refused.detail} {refused.reply} {refused.reply!r}"


@pytest.mark.parametrize(
    "echo",
    [
        PASSWORD.encode(),
        PASSWORD.upper().encode(),
        b"not  a user: " + USER.encode() + b":" + PASSWORD.encode() + b"!",
        b"unknown command: " + PLAIN,
        b"unknown command: AUTH PLAIN " + PLAIN[:20],
        b"x" * 390 + PASSWORD.encode(),
    ],
)
@pytest.mark.parametrize("code", [b"535 5.7.8", b"454 4.7.0", b"421", b"250"])
def test_the_server_may_say_the_password_but_we_do_not(code: bytes, echo: bytes) -> None:
    login = Login()
    login.line.says(code + b" " + echo + b"\r\n")
    said = told(login).casefold()
    assert "geheim" not in said
    assert PLAIN.decode().casefold()[:20] not in said
    assert str(login.error.reply).startswith(code.decode())


@pytest.mark.parametrize("mechanism", ["LOGIN", "CRAM-MD5"])
def test_nor_what_it_was_told_instead(mechanism: str) -> None:
    login = Login(b"AUTH " + mechanism.encode())
    said = login.line.says(b"334 " + b64(CHALLENGE) + b"\r\n")
    if mechanism == "LOGIN":
        said = login.line.says(b"334 UGFzc3dvcmQ6\r\n")
    login.line.says(b"501 5.5.2 cannot decode " + said.strip() + b"\r\n")
    assert said.strip().decode() not in told(login)
    assert str(login.error.reply) == "501 5.5.2 (the server's words are left out)"


def test_what_gives_nothing_away_is_kept() -> None:
    login = Login()
    login.line.says(b"535 5.7.8 Error: authentication failed: see https://mx.primary.example/help\r\n")
    assert "see https://mx.primary.example/help" in login.error.detail


@pytest.mark.parametrize(("password", "text", "kept"), [("", "no", True), ("x", "six", False), ("x", "no", True)])
def test_short_passwords(password: str, text: str, kept: bool) -> None:
    cut = Exchange("LOGIN", USER, password).cut(Reply(535, "5.7.8", text))
    assert (cut.text == text) is kept


def test_terms_do_not_show_the_password() -> None:
    login = Login()
    login.line.says(b"235 in\r\n")
    connection = login.outcome.value
    assert PASSWORD in connection.terms.password
    assert PASSWORD not in f"{connection.terms}{connection!r}{vars(connection)}"


def test_mail_goes_over_the_connection() -> None:
    login = Login()
    login.line.says(b"235 in\r\n")
    login.outcome.value.transmit(parcel(), answer_seconds=5.0, dot_seconds=5.0)
    assert login.line.heard().startswith(b"MAIL FROM:<sender@a.example>\r\nRCPT TO:<ann@b.example>\r\nDATA\r\n")
